"""Is everything that is read or sent in the chip's SRAM by then?

Ready times follow from the tiles that write and the transfers that arrive, not from what is read, so
every tensor of every chip is examined on its own: its ready times are built, its readers and
senders are held against them, and the array is dropped.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from chiplan.ir import Result, Role, Tensor, Unit, apply_view

from .faults import Fault, first_rows
from .ready_times import (
    arrived,
    operand_needs,
    range_maxima,
    result_grid,
    spread,
)
from .tiles import tile_fault
from .timeline import OperatorRun, Timeline

Place = tuple[int, str]
"""A tensor on a chip."""


class Readiness:
    """Ready times of every tensor on every chip, made on demand.

    `never` stands for an element that neither a tile writes nor a transfer brings.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        last = max(
            int(timeline.tiles.ready.max(initial=0)),
            int(timeline.arrival.max(initial=0)),
        )
        kind = np.int32 if last < np.iinfo(np.int32).max else np.int64
        self.dtype = np.dtype(kind)
        self.never = int(np.iinfo(kind).max)
        self._ready = timeline.tiles.ready.astype(self.dtype)

    @cached_property
    def writers(self) -> dict[Place, list[tuple[OperatorRun, Result]]]:
        writers = defaultdict(list)
        for run in self._timeline.runs:
            for result in self._timeline.operator(run).results:
                writers[run.chip, result.tensor].append((run, result))
        return writers

    @cached_property
    def readers(self) -> dict[Place, list[tuple[OperatorRun, int]]]:
        """Runs and operand positions that read a tensor on a chip."""
        readers = defaultdict(list)
        for run in self._timeline.runs:
            for position, operand in enumerate(self._timeline.operator(run).operands):
                readers[run.chip, operand.tensor].append((run, position))
        return readers

    @cached_property
    def sends(self) -> dict[Place, np.ndarray]:
        """Rows of the transfers that leave with a tensor from a chip."""
        return self._transfers_by(self._timeline.plan.transfers.source)

    @cached_property
    def arrivals(self) -> dict[Place, np.ndarray]:
        """Rows of the transfers that bring a tensor to a chip."""
        return self._transfers_by(self._timeline.plan.transfers.destination)

    def _transfers_by(self, chips: np.ndarray) -> dict[Place, np.ndarray]:
        plan = self._timeline.plan
        order = np.lexsort((plan.transfers.tensor, chips))
        keys = np.column_stack([chips, plan.transfers.tensor])[order]
        cuts = np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1
        groups = np.split(order, cuts) if len(order) else []
        return {
            (int(chips[rows[0]]), plan.tensor_names[plan.transfers.tensor[rows[0]]]): rows for rows in groups
        }

    def times(self, place: Place) -> np.ndarray:
        """Ready cycle of every element of a tensor on a chip, with the tensor's shape."""
        tensor = self._timeline.graph.tensors[place[1]]
        # An input comes from the host, but on a chip that gets it over links.
        if tensor.role is Role.WEIGHT or (tensor.role is Role.INPUT and place not in self.arrivals):
            return np.broadcast_to(np.zeros((), self.dtype), tensor.shape)
        produced = self.produced(place)
        rows = self.arrivals.get(place)
        if rows is None:
            return produced
        transfers = self._timeline.plan.transfers
        cycles = arrived(
            transfers.first[rows], transfers.last[rows], self._timeline.arrival[rows],
            tensor.elements, self.never, self.dtype,
        ).reshape(tensor.shape)  # fmt: skip
        return np.minimum(cycles, produced) if place in self.writers or tensor.role is Role.STATE else cycles

    def produced(self, place: Place) -> np.ndarray:
        """The same without what transfers bring: what is resident, and what tiles on the chip write."""
        tensor = self._timeline.graph.tensors[place[1]]
        writers = self.writers.get(place, [])
        if len(writers) == 1 and tensor.role is Role.VALUE:
            box = self._written(*writers[0])
            if box.shape == tensor.shape:
                return box
        cycles = np.full(tensor.shape, self.never, dtype=self.dtype)
        if tensor.role is Role.STATE and tensor.resident_rows is not None:
            axis, rows = tensor.resident_rows
            cycles[(slice(None),) * axis + (slice(0, rows),)] = 0
        for run, result in writers:
            box = self._written(run, result)
            region = tuple(
                slice(low, low + size) for low, size in zip(result.offsets, box.shape, strict=True)
            )
            cycles[region] = box
        return cycles

    def _written(self, run: OperatorRun, result: Result) -> np.ndarray:
        operator = self._timeline.operator(run)
        blocks = result_grid(self._ready[run.first : run.last], operator, run.tiling, result)
        return spread(blocks, operator, run.tiling, result)


def check_readiness(timeline: Timeline, readiness: Readiness) -> Iterator[Fault]:
    """read_before_ready, receive_without_arrival, send_before_ready."""
    table = timeline.tiles
    tensors = timeline.graph.tensors
    constant = np.array(
        [all(tensors[o.tensor].role is Role.WEIGHT for o in op.operands) for op in timeline.graph.operators],
        dtype=bool,
    )
    for row in first_rows((table.start < 0) & constant[table.operator]):
        message = f"tile {table.tile[row]} starts before its micro-batch, at cycle 0"
        yield tile_fault(timeline, "read_before_ready", message, row, 0, int(table.start[row]))
    for place in sorted(readiness.readers.keys() | readiness.sends.keys()):
        sends = readiness.sends.get(place)
        if tensors[place[1]].role is Role.WEIGHT and sends is None:
            continue
        cycles = readiness.times(place)
        # An operand that is read alike by several operators is seen through its view once.
        viewed: dict[object, np.ndarray] = {}
        for run, position in readiness.readers.get(place, []):
            view = timeline.operator(run).operands[position].view
            if view not in viewed:
                viewed[view] = apply_view(view, cycles)
            yield from _late_reads(timeline, readiness, run, position, viewed[view])
        if sends is not None:
            yield from _late_sends(timeline, readiness, place, sends, cycles)


def _late_reads(
    timeline: Timeline, readiness: Readiness, run: OperatorRun, position: int, viewed: np.ndarray
) -> Iterator[Fault]:
    operator = timeline.operator(run)
    operand = operator.operands[position]
    tensor = timeline.graph.tensors[operand.tensor]
    needs = operand_needs(viewed, run.tiling, operand)
    reads = timeline.tiles.start[run.first : run.last]
    if operator.unit is Unit.MATRIX and position > 0 and tensor.role is not Role.WEIGHT:
        reads = reads - timeline.tiles.load[run.first : run.last]
    grid = run.tiling.grid(operator)
    reads = reads.reshape([grid[f] for f in run.tiling.order])
    late = needs > reads
    if not late.any():
        return
    wanted = np.broadcast_to(needs, reads.shape).ravel()
    for tile in first_rows(late.ravel()):
        yield _read_fault(timeline, readiness, run, tile, tensor, int(wanted[tile]), int(reads.flat[tile]))


def _read_fault(
    timeline: Timeline,
    readiness: Readiness,
    run: OperatorRun,
    tile: int,
    tensor: Tensor,
    ready: int,
    read: int,
) -> Fault:
    where = f"tile {tile} of operator {timeline.operator(run).name} reads {tensor.name} at cycle {read}"
    if ready == readiness.never:
        message = f"{where}, but part of it is neither written on chip {run.chip} nor arrives there"
        return tile_fault(timeline, "receive_without_arrival", message, run.first + tile, cycle=read,
                          tensor=tensor.name)  # fmt: skip
    message = f"{where}, but it is ready at cycle {ready}"
    return tile_fault(
        timeline, "read_before_ready", message, run.first + tile, ready, read, read, tensor.name
    )


def _late_sends(
    timeline: Timeline, readiness: Readiness, place: Place, rows: np.ndarray, cycles: np.ndarray
) -> Iterator[Fault]:
    transfers = timeline.plan.transfers
    ready = range_maxima(cycles.ravel(), transfers.first[rows], transfers.last[rows])
    start = transfers.start[rows]
    for number in first_rows((ready > start) | (start < 0)):
        row, cycle = int(rows[number]), int(ready[number])
        never = cycle == readiness.never
        cause = "part of them is never on that chip" if never else f"they are ready at cycle {cycle}"
        message = (
            f"transfer {row} sends elements {transfers.first[row]}..{transfers.last[row]} of {place[1]} from "
            f"chip {place[0]} at cycle {start[number]}, but {cause}"
        )
        yield Fault("send_before_ready", message, chip=place[0], cycle=int(start[number]), tensor=place[1],
                    expected=None if never else cycle, found=int(start[number]))  # fmt: skip
