"""Does every functional unit instance do one thing at a time, in every micro-batch?"""

from collections.abc import Iterator

import numpy as np

from chiplan.ir import Unit, matrix_factors

from .circle import Neighbours, circular_neighbours
from .faults import Fault, first_rows
from .steady_state import Rhythm, repeated, rhythms, shifted
from .tiles import tile_fault
from .timeline import UNITS, OperatorRun, Timeline


def _neighbours(timeline: Timeline, rhythm: Rhythm) -> Neighbours:
    """Tiles that follow each other on an instance; with several micro-batches a period, position
    k * rows + row stands for the tile of `row` in the k-th of them."""
    resource = repeated(timeline.resource, rhythm)
    return circular_neighbours(resource, shifted(timeline.tiles.start, rhythm), rhythm.period)


def check_overlap(timeline: Timeline) -> Iterator[Fault]:
    """unit_overlap: start[i] >= start[i-1] + max(occupancy[i-1], load[i]) on every instance, also
    between micro-batches."""
    table = timeline.tiles
    rows = len(table.start)
    for rhythm in rhythms(timeline.plan, timeline.interval):
        pairs = _neighbours(timeline, rhythm)
        first, second = pairs.first % max(rows, 1), pairs.second % max(rows, 1)
        needed = np.maximum(table.occupancy[first], table.load[second])
        for pair in first_rows(pairs.gap < needed):
            before, row = int(first[pair]), int(second[pair])
            origin = int(table.start[before])
            names = [timeline.graph.operators[table.operator[r]].name for r in (before, row)]
            message = (
                f"{timeline.instance_name(row)}: tile {table.tile[row]} of {names[1]} starts "
                f"{pairs.gap[pair]} cycles after tile {table.tile[before]} of {names[0]}, which needs "
                f"{needed[pair]} (time repeats every {rhythm.period} cycles)"
            )
            expected, found = origin + int(needed[pair]), origin + int(pairs.gap[pair])
            yield tile_fault(timeline, "unit_overlap", message, row, expected, found, cycle=found)


def check_accumulation(timeline: Timeline) -> Iterator[Fault]:
    """accumulation_interrupted: the tiles that sum into one output block follow each other on one
    instance, with no other tile between them, also of another micro-batch."""
    continues = np.zeros(len(timeline.tiles.start), dtype=bool)
    for run in timeline.runs:
        if timeline.operator(run).unit is not Unit.MATRIX:
            continue
        depth = _accumulated_tiles(timeline, run)
        if depth == 0:
            name = timeline.operator(run).name
            message = f"operator {name}: its reduced factor is not the innermost of the tiling's order"
            yield tile_fault(timeline, "accumulation_interrupted", message, run.first)
        else:
            continues[run.first : run.last] = np.arange(run.last - run.first) % depth != 0
    for rhythm in rhythms(timeline.plan, timeline.interval):
        yield from _interruptions(timeline, rhythm, np.flatnonzero(continues))


def _accumulated_tiles(timeline: Timeline, run: OperatorRun) -> int:
    """Consecutive tiles that sum into one block; 0 when the order scatters them."""
    operator = timeline.operator(run)
    grid = run.tiling.grid(operator)
    reduced = set(matrix_factors(operator).reduced)
    depth = 1
    order = [f for f in run.tiling.order if grid[f] > 1]
    while order and order[-1] in reduced:
        depth *= grid[order.pop()]
    return 0 if reduced & set(order) else depth


def _interruptions(timeline: Timeline, rhythm: Rhythm, continuing: np.ndarray) -> Iterator[Fault]:
    """Tiles of `continuing` whose predecessor on the instance is not the tile one row before."""
    table = timeline.tiles
    rows = len(table.start)
    pairs = _neighbours(timeline, rhythm)
    previous, gap = np.empty_like(pairs.second), np.empty_like(pairs.gap)
    previous[pairs.second], gap[pairs.second] = pairs.first, pairs.gap
    for micro_batch in range(len(rhythm.shifts)):
        row = continuing + micro_batch * rows
        wait = table.start[continuing] - table.start[continuing - 1]
        bad = (previous[row] != row - 1) | (gap[row] != wait)
        for place in first_rows(bad):
            tile, other = int(continuing[place]), int(previous[row[place]] % rows)
            name, between = (timeline.graph.operators[table.operator[r]].name for r in (tile, other))
            message = (
                f"{UNITS[table.unit[tile]].value} tile {table.tile[tile]} of {name} adds to the block of the "
                f"tile before it, but follows tile {table.tile[other]} of {between} on its instance"
            )
            yield tile_fault(timeline, "accumulation_interrupted", message, tile)
