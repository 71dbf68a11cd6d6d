"""Is everything that is read or sent in the chip's SRAM by then?

Ready times do not depend on what is read, so every tensor of every stage is examined on its own: its
ready times are made, its readers and senders are held against them, and the array is dropped.

The chips of a group read in the same cycles, so first the latest of all chips is asked for. Where that
is too late each chip is looked at by itself: it may have a piece that the others wait for, or its
iterations may end before what it lacks.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from chiplan.ir import MeshPlace, Operand, Operator, Role, Unit, View, apply_view

from .faults import Fault, first_rows
from .groups import Place
from .readiness import Readiness, ReadyTimes
from .ready_times import operand_needs
from .tiles import tile_fault
from .timeline import OperatorRun, Timeline


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
    sends = timeline.groups.sends
    for place in sorted(readiness.readers.keys() | sends.keys()):
        if tensors[place[1]].role is Role.WEIGHT and place not in sends:
            continue
        times = readiness.at(place)
        yield from _late_reads(timeline, readiness, place, times)
        if place in sends:
            yield from _late_sends(timeline, readiness, place, times)


def _late_reads(timeline: Timeline, readiness: Readiness, place: Place, times: ReadyTimes) -> Iterator[Fault]:
    # An operand that is read alike by several operators is seen through its view once.
    viewed: dict[View, np.ndarray] = {}
    for run, position in readiness.readers.get(place, []):
        operand = timeline.operator(run).operands[position]
        if operand.view not in viewed:
            viewed[operand.view] = times.seen(operand.view)
        reads = _read_cycles(timeline, run, position)
        if not (operand_needs(viewed[operand.view], run.tiling, operand) > reads).any():
            continue
        ranks = _suspects(times, run, operand, reads)
        by_chip = np.stack([
            np.broadcast_to(_needs_on(timeline, run, position, times, rank), reads.shape).ravel()
            for rank in ranks
        ])  # fmt: skip
        for tile in first_rows(by_chip.max(axis=0) > reads.ravel()):
            worst, read = int(by_chip[:, tile].argmax()), int(reads.flat[tile])
            ready = int(by_chip[worst, tile])
            yield _read_fault(timeline, readiness, run, tile, place, ranks[worst], ready, read)


def _suspects(times: ReadyTimes, run: OperatorRun, operand: Operand, reads: np.ndarray) -> Sequence[int]:
    """Ranks of the chips that may read too early: all, or where the others do not, those to which a part
    never comes."""
    if times.lacking:
        needs = operand_needs(times.seen(operand.view, lenient=True), run.tiling, operand)
        if not (needs > reads).any():
            return times.lacking
    return range(len(times.places))


def _read_cycles(timeline: Timeline, run: OperatorRun, position: int) -> np.ndarray:
    """Cycle in which every tile starts to read an operand, on the tile grid in the tiling's order."""
    operator = timeline.operator(run)
    tensor = timeline.graph.tensors[operator.operands[position].tensor]
    reads = timeline.tiles.start[run.first : run.last]
    if operator.unit is Unit.MATRIX and position > 0 and tensor.role is not Role.WEIGHT:
        reads = reads - timeline.tiles.load[run.first : run.last]
    grid = run.tiling.grid(operator)
    return reads.reshape([grid[f] for f in run.tiling.order])


def _needs_on(
    timeline: Timeline, run: OperatorRun, position: int, times: ReadyTimes, rank: int
) -> np.ndarray:
    """What tiles wait for on one chip, in the iterations that it executes."""
    operator = timeline.operator(run)
    operand = operator.operands[position]
    place = times.places[rank]
    viewed = apply_view(operand.view, times.on(rank), place)
    return operand_needs(_executed(operator, operand.axes, viewed, place), run.tiling, operand)


def _executed(
    operator: Operator, axes: tuple[int | None, ...], viewed: np.ndarray, place: MeshPlace
) -> np.ndarray:
    """`viewed` with nothing to wait for where a chip's piece of a factor has ended."""
    for split in operator.splits:
        part = operator.factors[split.factor].extent
        real = split.real(part, place)
        if real == part:
            continue
        viewed = viewed.copy()
        region = [slice(None)] * viewed.ndim
        if split.factor in axes:
            region[axes.index(split.factor)] = slice(real, None)
        if split.factor in axes or real == 0:
            viewed[tuple(region)] = np.iinfo(viewed.dtype).min
    return viewed


def _read_fault(
    timeline: Timeline,
    readiness: Readiness,
    run: OperatorRun,
    tile: int,
    place: Place,
    rank: int,
    ready: int,
    read: int,
) -> Fault:
    chip, tensor = int(timeline.plan.stages[place[0]].chips[rank]), place[1]
    where = f"tile {tile} of operator {timeline.operator(run).name} reads {tensor} at cycle {read}"
    row = run.first + tile
    if ready == readiness.never:
        message = f"{where}, but part of it is neither written on chip {chip} nor arrives there"
        return tile_fault(timeline, "receive_without_arrival", message, row, cycle=read,
                          tensor=tensor, chip=chip)  # fmt: skip
    message = f"{where}, but it is ready at cycle {ready} on chip {chip}"
    return tile_fault(timeline, "read_before_ready", message, row, ready, read, read, tensor, chip)


def _late_sends(timeline: Timeline, readiness: Readiness, place: Place, times: ReadyTimes) -> Iterator[Fault]:
    transfers, rows = timeline.plan.transfers, timeline.groups.sends[place]
    ready, start = times.sendable(), transfers.start[rows]
    for number in first_rows((ready > start) | (start < 0)):
        row, cycle = int(rows[number]), int(ready[number])
        chip = int(transfers.source[row])
        never = cycle == readiness.never
        cause = "part of them is never on that chip" if never else f"they are ready at cycle {cycle}"
        message = (
            f"transfer {row} sends elements {transfers.first[row]}..{transfers.last[row]} of {place[1]} from "
            f"chip {chip} at cycle {start[number]}, but {cause}"
        )
        yield Fault("send_before_ready", message, chip=chip, cycle=int(start[number]), tensor=place[1],
                    expected=None if never else cycle, found=int(start[number]))  # fmt: skip
