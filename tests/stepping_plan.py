"""What a plan asks of every chip, written out: one object a tile, a transfer and a copy of a buffer.

This is the half of the stepping simulator that reads the plan. It shares no code with `runtime_sim`; of
`ir` it takes views, tilings, durations and meshes. Everything is a plain object, and nothing is clever:
a chip of a group has tiles of its own, a read is the list of the element numbers that it touches.
"""

from dataclasses import dataclass, field
from math import ceil, prod

import numpy as np

from chiplan.ir import (
    MeshPlace,
    Operator,
    Plan,
    Role,
    Tensor,
    Unit,
    apply_view,
    matrix_factors,
    matrix_rules,
    mesh_places,
    shard,
    tile_timing,
    unit_instances,
)

UNITS = list(Unit)


class Wrong(Exception):
    """What the plan asks for cannot be, in words."""


def expect(holds: bool, problem: str) -> None:
    if not holds:
        raise Wrong(problem)


@dataclass(frozen=True)
class Touch:
    """Elements of a tensor (numbers in row-major order) that a tile reads or writes."""

    tensor: str
    elements: np.ndarray


@dataclass(frozen=True)
class Tile:
    """One tile on one chip. `block`: the sum that a matrix tile adds to, of `terms` tiles in all."""

    name: str
    chip: int
    unit: str
    instance: int
    start: int
    occupancy: int
    load: int
    depth: int
    reads: tuple[Touch, ...]
    loads: tuple[Touch, ...]
    writes: tuple[Touch, ...]
    block: tuple[object, ...] | None
    terms: int

    @property
    def end(self) -> int:
        return self.start + self.occupancy

    @property
    def ready(self) -> int:
        return self.end + self.depth


@dataclass(frozen=True)
class Transfer:
    """Flits that follow one another over `links`; flit f of hop h enters its link at
    `start + h * step + f * cycles_per_flit`."""

    name: str
    source: int
    destination: int
    sent: Touch
    brought: Touch
    start: int
    flits: int
    links: tuple[int, ...]
    cycles_per_flit: int
    hop_latency: int

    def enters(self, hop: int) -> int:
        return self.start + hop * (self.cycles_per_flit + self.hop_latency)

    def leaves(self, hop: int) -> int:
        return self.enters(hop) + self.flits * self.cycles_per_flit

    @property
    def first_arrival(self) -> int:
        return self.enters(len(self.links))

    @property
    def arrival(self) -> int:
        return self.leaves(len(self.links) - 1) + self.hop_latency


@dataclass(frozen=True)
class Buffer:
    """A tensor's bytes on one chip; `stride` bytes from a copy to the next."""

    tensor: Tensor
    chip: int
    address: int
    nbytes: int
    stride: int
    copies: int
    birth: int
    death: int


@dataclass
class Script:
    """All that the chips do for one micro-batch, in cycles of it. `groups`: chips of every stage."""

    plan: Plan
    groups: list[tuple[int, ...]] = field(default_factory=list)
    places: dict[int, MeshPlace] = field(default_factory=dict)
    tiles: list[Tile] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stage in self.plan.stages:
            chips = tuple(map(int, stage.chips))
            self.groups.append(chips)
            for chip, place in zip(chips, mesh_places(stage.mesh), strict=True):
                expect(chip not in self.places, f"chip {chip} works for two stages or twice for one")
                self.places[chip] = place
        for number in range(len(self.plan.stages)):
            self._read_stage(number)
        self._read_transfers()
        self._read_buffers()

    def _read_stage(self, number: int) -> None:
        """Every tile of every operator, on every chip of the group."""
        program, tensors = self.plan.stages[number].program, self.plan.graph.tensors
        expect(len(set(program.operators)) == len(program.operators), "an operator is executed twice")
        columns = program.tiles
        for position, (index, tiling) in enumerate(zip(program.operators, program.tilings, strict=True)):
            operator = self.plan.graph.operators[index]
            ranges = _tile_ranges(operator, tiling)
            rows = [row for row in range(len(columns.tile)) if int(columns.operator[row]) == position]
            numbers = [int(columns.tile[row]) for row in rows]
            expect(sorted(numbers) == list(range(len(ranges))), f"{operator.name}: tiles missing or twice")
            _check_block(operator, tiling, self.plan)
            timing = tile_timing(operator, tiling, tensors, self.plan.target.chip)
            for chip in self.groups[number]:
                seen = _Seen(operator, tensors, self.places[chip])
                for row, tile in zip(rows, numbers, strict=True):
                    unit, instance = UNITS[columns.unit[row]], int(columns.instance[row])
                    start, end = int(columns.start[row]), int(columns.end[row])
                    occupancy = int(timing.occupancy[tile])
                    expect(unit is operator.unit, f"{operator.name} is on the {unit.value} unit")
                    count = unit_instances(self.plan.target.chip, unit)
                    expect(0 <= instance < count, f"there is no {unit.value} instance {instance}")
                    expect(end - start == occupancy, f"{operator.name} takes {occupancy} cycles a tile")
                    reads, loads, writes = seen.touches(ranges[tile])
                    block, terms = _block(operator, tiling, ranges[tile])
                    self.tiles.append(
                        Tile(f"tile {tile} of {operator.name} on chip {chip}", chip, unit.value, instance,
                             start, occupancy, int(timing.load[tile]), timing.depth, reads, loads, writes,
                             block and (chip, index, *block), terms)
                    )  # fmt: skip

    def _read_transfers(self) -> None:
        columns, hops, plan = self.plan.transfers, self.plan.hops, self.plan
        rule, links = plan.target.link, plan.target.topology.links
        for row in range(len(columns.tensor)):
            name, into = (plan.tensor_names[int(c[row])] for c in (columns.tensor, columns.into))
            tensor = plan.graph.tensors[name]
            first, last, at = (int(c[row]) for c in (columns.first, columns.last, columns.at))
            expect(0 <= first < last <= tensor.elements, f"transfer {row} carries no range of {name}")
            room = plan.graph.tensors[into].elements
            expect(at >= 0 and at + last - first <= room, f"transfer {row} brings more than {into} holds")
            flits = ceil((last - first) * tensor.dtype.itemsize / rule.flit_bytes)
            mine = [h for h in range(len(hops.transfer)) if int(hops.transfer[h]) == row]
            transfer = Transfer(
                f"transfer {row} of {name}", int(columns.source[row]), int(columns.destination[row]),
                Touch(name, np.arange(first, last)), Touch(into, np.arange(at, at + last - first)),
                int(columns.start[row]), flits, tuple(int(hops.link[h]) for h in mine),
                int(rule.cycles_per_flit), int(rule.hop_latency),
            )  # fmt: skip
            here = transfer.source
            for number, h in enumerate(mine):
                link = links[transfer.links[number]]
                expect(int(link.source) == here, f"{transfer.name} is not where hop {number} begins")
                here = int(link.destination)
                stated = int(hops.start[h]), int(hops.end[h])
                real = transfer.enters(number), transfer.leaves(number)
                expect(stated == real, f"hop {number} of {transfer.name} is at {real}, not {stated}")
            expect(here == transfer.destination and bool(mine), f"{transfer.name} does not get there")
            self.transfers.append(transfer)

    def _read_buffers(self) -> None:
        columns, chip_kind = self.plan.buffers, self.plan.target.chip
        heads = {chips[0]: chips for chips in self.groups}
        known: set[tuple[int, str]] = set()
        for row in range(len(columns.tensor)):
            name, head = self.plan.tensor_names[int(columns.tensor[row])], int(columns.chip[row])
            address, nbytes, copies, birth, death = (
                int(c[row])
                for c in (columns.address, columns.nbytes, columns.copies, columns.birth, columns.death)
            )
            tensor, alignment = self.plan.graph.tensors[name], int(chip_kind.alignment)
            stride = ceil(nbytes / alignment) * alignment
            where = f"the buffer of {name} on chip {head}"
            expect(head in heads, f"{where} is of no group's first chip")
            expect((head, name) not in known, f"{where} is there twice")
            known.add((head, name))
            expect(copies >= 1 and nbytes >= tensor.nbytes, f"{where} is too small")
            expect(address >= 0 and address % alignment == 0, f"{where} is at {address}")
            top = address + (copies - 1) * stride + nbytes
            expect(top <= chip_kind.usable_bytes, f"{where} ends at {top}")
            if tensor.role is Role.WEIGHT:
                expect((birth, death) == (0, -1), f"{where} is a weight's and lives {birth}..{death}")
            if tensor.role is Role.STATE:
                expect(death == -1 and copies >= self.plan.users, f"{where} is a state's: {copies}, {death}")
            for chip in heads[head]:
                self.buffers.append(Buffer(tensor, chip, address, nbytes, stride, copies, birth, death))

    def given(self, tensor: Tensor, chip: int) -> np.ndarray:
        """Which elements of an input or a state are on a chip when a micro-batch starts."""
        if tensor.role is Role.INPUT:
            brought = any(t.destination == chip and t.brought.tensor == tensor.name for t in self.transfers)
            return np.full(tensor.elements, not brought)
        there = np.zeros(tensor.whole_shape, dtype=bool)
        axis, rows = tensor.resident_rows or (0, tensor.shape[0])
        whole, part = there.shape[axis], tensor.shape[axis]
        if whole != part:
            # The chip that appends is the last one that has any row.
            rows += (whole - 1) // part * part
        there[(slice(None),) * axis + (slice(0, rows),)] = True
        if tensor.sharding is None:
            return there.ravel()
        # Behind the end of a short piece are zeros, which are there too.
        return ~shard(~there, tensor.sharding, self.places[chip]).ravel()


class _Seen:
    """An operator as one chip sees it: which element numbers stand where in its operands and results."""

    def __init__(self, operator: Operator, tensors: dict[str, Tensor], place: MeshPlace) -> None:
        self.operator, self._tensors, self._place = operator, tensors, place
        self._operands = []
        for operand in operator.operands:
            shape = tensors[operand.tensor].shape
            numbers = np.arange(prod(shape)).reshape(shape)
            self._operands.append(apply_view(operand.view, numbers, place))
        self._real = [factor.extent for factor in operator.factors]
        for split in operator.splits:
            part = operator.factors[split.factor].extent
            position = 0
            for axis in split.axes:
                expect(axis < len(place.mesh), f"{operator.name} is split over an axis that is not there")
                position = position * place.mesh[axis] + place.coordinates[axis]
            self._real[split.factor] = max(0, min(part, split.extent - position * part))

    def touches(
        self, tile: tuple[range, ...]
    ) -> tuple[tuple[Touch, ...], tuple[Touch, ...], tuple[Touch, ...]]:
        """What is read while the tile runs, what while its block is loaded, and what is written."""
        real = [range(r.start, max(r.start, min(r.stop, e))) for r, e in zip(tile, self._real, strict=True)]
        reads, loads = [], []
        for position, (operand, seen) in enumerate(zip(self.operator.operands, self._operands, strict=True)):
            if not all(real):
                continue
            where = [slice(None) if f is None else slice(real[f].start, real[f].stop) for f in operand.axes]
            touch = Touch(operand.tensor, np.unique(seen[(*where, ...)]))
            is_loaded = self.operator.unit is Unit.MATRIX and position > 0
            (loads if is_loaded else reads).append(touch)
        return tuple(reads), tuple(loads), tuple(self._writes(tile))

    def _writes(self, tile: tuple[range, ...]) -> list[Touch]:
        """The boxes of the results; padding behind a short piece counts as written, with nothing in it."""
        found = []
        for result in self.operator.results:
            shape = self._tensors[result.tensor].shape
            if any(self._place.coordinates[axis] != wanted for axis, wanted in result.only):
                continue
            ranges = [range(1) if f is None else tile[f] for f in result.axes]
            box = [slice(o + r.start, o + r.stop) for o, r in zip(result.offsets, ranges, strict=True)]
            if result.own:
                piece = self._place.piece(result.own)
                expect(piece < shape[0], f"{result.tensor} has no piece {piece}")
                box[0] = slice(piece, piece + 1)
            found.append(Touch(result.tensor, np.arange(prod(shape)).reshape(shape)[(*box, ...)].ravel()))
        return found


def _tile_ranges(operator: Operator, tiling) -> list[tuple[range, ...]]:
    """The iterations of every tile, in tile order, counted by hand like an odometer."""
    factors = operator.factors
    expect(len(tiling.blocks) == len(factors) and sorted(tiling.order) == list(range(len(factors))),
           f"{operator.name}: the tiling has other factors")  # fmt: skip
    expect(all(1 <= b <= f.extent for b, f in zip(tiling.blocks, factors, strict=True)),
           f"{operator.name}: a block is larger than its factor")  # fmt: skip
    for factor, block in zip(factors, tiling.blocks, strict=True):
        undivided = factor.whole or factor.gathered
        undivided |= factor.reducer is not None and operator.unit is Unit.VECTOR
        expect(not undivided or block == factor.extent, f"{operator.name}: {factor.name} may not be cut")
    tiles: list[dict[int, range]] = [{}]
    for f in tiling.order:
        extent, block = factors[f].extent, tiling.blocks[f]
        pieces = [range(low, min(low + block, extent)) for low in range(0, extent, block)]
        tiles = [{**tile, f: piece} for tile in tiles for piece in pieces]
    return [tuple(tile[f] for f in range(len(factors))) for tile in tiles]


def _check_block(operator: Operator, tiling, plan: Plan) -> None:
    """A matrix tile holds one block that the unit can take."""
    if operator.unit is not Unit.MATRIX:
        return
    roles = matrix_factors(operator)
    rows = prod(tiling.blocks[f] for f in roles.reduced)
    columns = prod(tiling.blocks[f] for f in roles.columns)
    rules = matrix_rules(operator, plan.graph.tensors, plan.target.chip)
    expect(any(rows <= r.rows and columns <= r.columns for r in rules), f"{operator.name}: no such block")
    expect(all(tiling.blocks[f] == 1 for f in roles.batch), f"{operator.name}: a tile of several batches")


def _block(operator: Operator, tiling, tile: tuple[range, ...]) -> tuple[tuple[int, ...] | None, int]:
    """Which sum a matrix tile adds to, and of how many tiles; (None, 1) for other units."""
    if operator.unit is not Unit.MATRIX:
        return None, 1
    reduced = [f for f, factor in enumerate(operator.factors) if factor.reducer is not None]
    terms = prod(ceil(operator.factors[f].extent / tiling.blocks[f]) for f in reduced)
    return tuple(r.start for f, r in enumerate(tile) if f not in reduced), terms
