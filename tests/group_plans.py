"""Plans for groups of chips, made by a scheduler so naive that its plans are right.

Stages and their operators run one after the other, every tensor has its own bytes; what an operator
has written is exchanged, and sent to the groups that read it, before the next one starts. Any two
chips have a link.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from chiplan.ir import (
    BufferColumns,
    ChipId,
    Cycle,
    DType,
    ExchangeKind,
    Graph,
    HopColumns,
    Plan,
    Role,
    Stage,
    Target,
    TileColumns,
    TileProgram,
    Tiling,
    TransferColumns,
    Unit,
    mesh_peers,
    tile_timing,
)

from .handmade import ring_target

_FLIGHT, _PAUSE = 20, 40


def ragged_tiling(operator) -> Tiling:
    """Blocks that divide nothing; what is reduced on another unit than the matrix unit stays whole."""
    blocks = tuple(
        f.extent
        if f.gathered or (f.reducer and operator.unit is not Unit.MATRIX)
        else min(f.extent, 3 + i % 2)
        for i, f in enumerate(operator.factors)
    )
    return Tiling(blocks, tuple(range(len(blocks))))


@dataclass
class _GroupMaker:
    graph: Graph
    target: Target
    clock: int = 8
    transfers: list[tuple[int, ...]] = field(default_factory=list)

    def number(self, tensor: str) -> int:
        return sorted(self.graph.tensors).index(tensor)

    def program(self, operators, members, mesh, readers) -> TileProgram:
        """Run the operators; `readers` are (tensor, chips) to send to when it is written."""
        rows, tilings = [], []
        for position, number in enumerate(operators):
            operator = self.graph.operators[number]
            tilings.append(ragged_tiling(operator))
            timing = tile_timing(operator, tilings[-1], self.graph.tensors, self.target.chip)
            gap = int(timing.load.max())
            self.clock += gap
            for tile, busy in enumerate(timing.occupancy.tolist()):
                rows.append(
                    (position, tile, list(Unit).index(operator.unit), 0, self.clock, self.clock + busy)
                )
                self.clock += max(busy, gap)
            self.clock += timing.depth
            for result in operator.results:
                self.exchange(result.tensor, members, mesh)
                for chips in readers.get(result.tensor, ()):
                    self.send_across(result, members, mesh, chips)
        columns = np.array(rows, dtype=np.int64).T
        kinds = (np.int32, np.int32, np.uint8, np.int16, np.int64, np.int64)
        tiles = TileColumns(*(column.astype(kind) for column, kind in zip(columns, kinds, strict=True)))
        return TileProgram(tuple(operators), tuple(tilings), tiles)

    def exchange(self, tensor, members, mesh) -> None:
        for exchange in self.graph.exchanges:
            if exchange.source == tensor:
                for peers in mesh_peers(mesh, exchange.axes):
                    self.carry(exchange, [members[rank] for rank in peers])
                if exchange.target != tensor:
                    self.exchange(exchange.target, members, mesh)

    def carry(self, exchange, chips) -> None:
        elements, count = self.graph.tensors[exchange.source].elements, len(chips)
        for c, d in ((c, d) for c in range(count) for d in range(count) if c != d):
            pair = (exchange.source, exchange.target, chips[c], chips[d])
            if exchange.kind is ExchangeKind.GATHER:
                piece = elements // count
                self.send(*pair, c * piece, (c + 1) * piece, c * piece)
            elif exchange.kind is ExchangeKind.SCATTER:
                part = self.graph.tensors[exchange.target].elements // (count - 1)
                row = (c - d - 1) % count
                self.send(*pair, d * part, min((d + 1) * part, elements), row * part)
            elif d == (c + exchange.by) % count:
                self.send(*pair, 0, elements, 0)
        self.clock += _PAUSE

    def send_across(self, result, members, mesh, chips) -> None:
        """A tensor to another group: piece c of what each chip has its own piece of from chip c."""
        elements, name = self.graph.tensors[result.tensor].elements, result.tensor
        owners = mesh_peers(mesh, result.own)[0] if result.own else (0,)
        piece = elements // len(owners)
        for c, rank in enumerate(owners):
            for chip in chips:
                self.send(name, name, members[rank], chip, c * piece, (c + 1) * piece, c * piece)
        self.clock += _PAUSE

    def send(self, tensor, into, source, destination, first, last, at) -> None:
        if last > first:
            numbers = (
                self.number(tensor),
                source,
                destination,
                first,
                last,
                self.clock,
                self.number(into),
                at,
            )
            self.transfers.append(numbers)

    def columns(self) -> tuple[TransferColumns, HopColumns]:
        rows = sorted(self.transfers, key=lambda row: (row[5], row[1], row[2], row[0], row[3]))
        table = np.array(rows, dtype=np.int64).reshape(-1, 8).T
        index, start = np.arange(len(rows)), table[5]
        hops = HopColumns(index, np.zeros_like(index), np.zeros_like(index), start, start + _FLIGHT)
        return TransferColumns(*table), hops

    def buffers(self, stages: Sequence[tuple[Sequence[int], tuple[int, ...]]], heads) -> BufferColumns:
        rows = []
        for (operators, _), head in zip(stages, heads, strict=True):
            used = {o.tensor for i in operators for o in self.graph.operators[i].operands}
            used |= {r.tensor for i in operators for r in self.graph.operators[i].results}
            address = 0
            for name in sorted(used):
                tensor = self.graph.tensors[name]
                death = -1 if tensor.role in (Role.WEIGHT, Role.STATE) else self.clock + _PAUSE
                rows.append((self.number(name), head, address, tensor.nbytes, 1, 0, death))
                address += -(-tensor.nbytes // 32) * 32
        return BufferColumns(*np.array(rows, dtype=np.int64).T)


def _target(chips: int) -> Target:
    """A ring whose units know the types of the test graphs, all at the same cost."""
    target = ring_target(chips)
    (rules,) = target.chip.matrix.rules.values()
    kinds = (DType.FP32, DType.FP16, DType.INT8)
    matrix = replace(target.chip.matrix, rules=dict.fromkeys(kinds, rules))
    vector = replace(target.chip.vector, cycles=dict.fromkeys((*kinds, DType.INT32), 1))
    return replace(target, chip=replace(target.chip, matrix=matrix, vector=vector))


def group_plan(graph: Graph, stages: Sequence[tuple[Sequence[int], tuple[int, ...]]]) -> Plan:
    """A plan of a device graph; `stages` are operators and meshes, on successive chips."""
    counts = [prod(mesh) for _, mesh in stages]
    firsts = [sum(counts[:i]) for i in range(len(counts))]
    members = [tuple(range(first, first + n)) for first, n in zip(firsts, counts, strict=True)]
    maker = _GroupMaker(graph, _target(max(2, sum(counts))))
    made = []
    for index, (operators, mesh) in enumerate(stages):
        here = {r.tensor for i in operators for r in graph.operators[i].results}
        readers: dict[str, list[tuple[int, ...]]] = {}
        for other, (later, _) in enumerate(stages):
            read = {o.tensor for i in later for o in graph.operators[i].operands}
            for name in sorted(read & here) if other != index else ():
                readers.setdefault(name, []).append(members[other])
        program = maker.program(operators, members[index], mesh, readers)
        made.append(Stage(tuple(map(ChipId, members[index])), mesh, program))
    transfers, hops = maker.columns()
    latency = maker.clock + _PAUSE
    return Plan(
        target=maker.target,
        graph=graph,
        stages=tuple(made),
        transfers=transfers,
        hops=hops,
        buffers=maker.buffers(stages, [chips[0] for chips in members]),
        latency=Cycle(latency),
        interval=Cycle(latency + _PAUSE),
        users=1,
        batch=1,
        sequence=1,
        precision="model",
        objective="latency",
        model_fingerprint="",
        tensor_names=tuple(sorted(graph.tensors)),
    )
