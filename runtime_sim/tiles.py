"""Do the tiles of every program cover every operator's iteration space exactly once?"""

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from chiplan.ir import (
    BadInput,
    Operator,
    Result,
    Role,
    Stage,
    Tensor,
    Tiling,
    Unit,
    matrix_factors,
    matrix_rules,
)

from .faults import Fault, first_rows
from .groups import Place
from .timeline import UNITS, Timeline


def check_cover(timeline: Timeline) -> Iterator[Fault]:
    """not_covered, no_cycle_rule: tilings are grids over the whole space, each tile is there once,
    and the target can run it."""
    for number, stage in enumerate(timeline.plan.stages):
        operators = stage.program.operators
        if list(operators) != sorted(set(operators)):
            message = f"stage {number}: the operators are not distinct and ascending"
            yield Fault("not_covered", message, chip=int(stage.chips[0]), stage=number)
        else:
            yield from _check_stage(timeline, number, stage)


def _check_stage(timeline: Timeline, number: int, stage: Stage) -> Iterator[Fault]:
    program = stage.program
    graph = timeline.graph
    missing = {position: (tile, found) for position, tile, found in _miscounted(timeline, stage)}
    for position, (index, tiling) in enumerate(zip(program.operators, program.tilings, strict=True)):
        operator = graph.operators[index]
        fault = partial(
            Fault, chip=int(stage.chips[0]), stage=number, unit=operator.unit.value, operator=operator.name
        )
        try:
            problem = _tiling_problem(timeline, operator, tiling)
            if problem is None and position not in missing:
                timeline.timing(number, position)
        except BadInput as refusal:
            yield fault("no_cycle_rule", str(refusal))
            continue
        if problem is not None:
            yield fault("not_covered", f"operator {operator.name}: {problem}")
        elif position in missing:
            tile, found = missing[position]
            expected = tiling.tiles(operator)
            message = (
                f"operator {operator.name} needs tiles 0..{expected - 1} once each and in order; the plan "
                f"has {found} tiles and goes wrong at tile {tile}"
            )
            yield fault("not_covered", message, tile=tile, expected=expected, found=found)


def _miscounted(timeline: Timeline, stage: Stage) -> Iterator[tuple[int, int, int]]:
    """(position, first wrong tile, tiles found) of every operator whose tile numbers are not
    0..n-1 in contiguous rows in the order of the program."""
    program = stage.program
    tiles = program.tiles
    graph = timeline.graph
    row = 0
    found = np.bincount(tiles.operator, minlength=len(program.operators))
    for position, (index, tiling) in enumerate(zip(program.operators, program.tilings, strict=True)):
        operator = graph.operators[index]
        if not _is_grid(operator, tiling):
            continue
        expected = tiling.tiles(operator)
        numbers = tiles.tile[tiles.operator == position] if found[position] != expected else None
        if numbers is None:
            numbers = tiles.tile[row : row + expected]
            numbers = np.where(tiles.operator[row : row + expected] == position, numbers, -1)
        agree = numbers[:expected] == np.arange(min(len(numbers), expected))
        if len(numbers) != expected or not agree.all():
            yield (
                position,
                int(agree.argmin()) if not agree.all() else min(len(agree), expected),
                len(numbers),
            )
        row += int(found[position])


def _is_grid(operator: Operator, tiling: Tiling) -> bool:
    return (
        len(tiling.blocks) == len(operator.factors)
        and sorted(tiling.order) == list(range(len(operator.factors)))
        and all(1 <= b <= f.extent for b, f in zip(tiling.blocks, operator.factors, strict=True))
    )


def _tiling_problem(timeline: Timeline, operator: Operator, tiling: Tiling) -> str | None:
    """Why a tiling cannot cut this operator, or None. Raises BadInput without a cycle rule."""
    if not _is_grid(operator, tiling):
        return (
            f"blocks {tiling.blocks} in order {tiling.order} are no grid over the extents "
            f"{tuple(factor.extent for factor in operator.factors)}"
        )
    for factor, block in zip(operator.factors, tiling.blocks, strict=True):
        undivided = factor.whole or factor.gathered
        undivided |= factor.reducer is not None and operator.unit is Unit.VECTOR
        if undivided and block != factor.extent:
            return f"factor {factor.name} may not be tiled: it needs a block of {factor.extent}, not {block}"
    return _block_problem(timeline, operator, tiling) if operator.unit is Unit.MATRIX else None


def _block_problem(timeline: Timeline, operator: Operator, tiling: Tiling) -> str | None:
    """A matrix tile holds one stationary block of a shape that the unit can take."""
    rules = matrix_rules(operator, timeline.graph.tensors, timeline.chip)
    factors = matrix_factors(operator)
    rows = prod(tiling.blocks[f] for f in factors.reduced)
    columns = prod(tiling.blocks[f] for f in factors.columns)
    if not any(rows <= rule.rows and columns <= rule.columns for rule in rules):
        shapes = ", ".join(f"{rule.rows} x {rule.columns}" for rule in rules)
        return f"a stationary block of {rows} x {columns} fits none of {shapes}"
    if any(tiling.blocks[f] != 1 for f in factors.batch):
        return "a tile spans several batches, each with its own stationary block"
    return None


def check_missing(timeline: Timeline) -> Iterator[Fault]:
    """missing_operator: a needed operator that no stage executes."""
    graph = timeline.graph
    executed = {index for stage in timeline.plan.stages for index in stage.program.operators}
    needed = {operand.tensor for operator in graph.operators for operand in operator.operands}
    needed |= {output.tensor for output in graph.outputs} | {state.tensor for state in graph.states}
    for index, operator in enumerate(graph.operators):
        if index not in executed and any(result.tensor in needed for result in operator.results):
            message = f"operator {operator.name} is executed on no chip, but its results are needed"
            yield Fault("missing_operator", message, operator=operator.name, unit=operator.unit.value)


def check_units(timeline: Timeline) -> Iterator[Fault]:
    """wrong_unit, wrong_instance: tiles run on the operator's kind of unit, on an instance there is."""
    table = timeline.tiles
    kinds = np.array([UNITS.index(operator.unit) for operator in timeline.graph.operators], dtype=np.int64)
    counts = np.array([timeline.instances(unit) for unit in range(len(UNITS))])
    wanted = kinds[table.operator]
    for row in first_rows(table.unit != wanted):
        unit, right = UNITS[table.unit[row]].value, UNITS[wanted[row]].value
        name = timeline.graph.operators[table.operator[row]].name
        message = f"operator {name} needs the {right} unit; its tile is on the {unit} unit"
        yield tile_fault(timeline, "wrong_unit", message, row)
    for row in first_rows((table.instance < 0) | (table.instance >= counts[table.unit])):
        count, unit = int(counts[table.unit[row]]), UNITS[table.unit[row]].value
        message = f"the chip has {count} instances of the {unit} unit; a tile is on {table.instance[row]}"
        yield tile_fault(timeline, "wrong_instance", message, row, count - 1, int(table.instance[row]))


def check_durations(timeline: Timeline) -> Iterator[Fault]:
    """wrong_duration: end - start is what the target's cycle rule says."""
    table = timeline.tiles
    stated = table.end - table.start
    for row in first_rows(stated != table.occupancy):
        expected, found = int(table.occupancy[row]), int(stated[row])
        name = timeline.graph.operators[table.operator[row]].name
        message = f"tile {table.tile[row]} of operator {name} takes {expected} cycles; the plan says {found}"
        yield tile_fault(timeline, "wrong_duration", message, row, expected, found)


class _Box(NamedTuple):
    """What a result writes: a range of every dimension, on the chips with the coordinates `only`."""

    ranges: tuple[range, ...]
    only: tuple[tuple[int, int], ...]


def check_producers(timeline: Timeline) -> Iterator[Fault]:
    """written_twice: on one chip every element has one producer, and what is resident has none."""
    boxes: dict[Place, list[_Box]] = {}
    tensors = timeline.graph.tensors
    for run in timeline.runs:
        operator = timeline.operator(run)
        for result in operator.results:
            box = _written_box(operator, result, tensors[result.tensor])
            tensor = tensors[result.tensor]
            others = boxes.setdefault((run.stage, result.tensor), [])
            resident = tensor.role in (Role.INPUT, Role.WEIGHT)
            if tensor.role is Role.STATE and tensor.resident_rows is not None:
                resident = box.ranges[tensor.resident_rows[0]].start < tensor.resident_rows[1]
            if resident or any(_boxes_meet(box, other) for other in others):
                cause = "which is resident" if resident else "which another operator writes there as well"
                message = f"operator {operator.name} writes elements of {result.tensor}, {cause}"
                yield tile_fault(timeline, "written_twice", message, run.first, tensor=result.tensor)
            others.append(box)


def _written_box(operator: Operator, result: Result, tensor: Tensor) -> _Box:
    extents = [1 if axis is None else operator.factors[axis].extent for axis in result.axes]
    ranges = [range(low, low + size) for low, size in zip(result.offsets, extents, strict=True)]
    if result.own:
        # Whichever piece it is on a chip, all that write their own piece write the same one.
        ranges[0] = range(tensor.shape[0])
    return _Box(tuple(ranges), result.only)


def _boxes_meet(box: _Box, other: _Box) -> bool:
    coordinates = dict(box.only)
    if any(coordinates.get(axis, c) != c for axis, c in other.only):
        return False
    return all(
        max(a.start, b.start) < min(a.stop, b.stop) for a, b in zip(box.ranges, other.ranges, strict=True)
    )


def tile_fault(
    timeline: Timeline,
    name: str,
    message: str,
    row: int,
    expected: int | None = None,
    found: int | None = None,
    cycle: int | None = None,
    tensor: str | None = None,
    chip: int | None = None,
) -> Fault:
    """A fault with every coordinate of one row of the tile table; `chip` if it is that of one chip of
    the group, and not of all."""
    table = timeline.tiles
    return Fault(
        name,
        message,
        chip=int(table.chip[row]) if chip is None else chip,
        stage=int(table.stage[row]),
        unit=UNITS[table.unit[row]].value,
        instance=int(table.instance[row]),
        cycle=int(table.start[row]) if cycle is None else cycle,
        operator=timeline.graph.operators[table.operator[row]].name,
        tile=int(table.tile[row]),
        tensor=tensor,
        expected=expected,
        found=found,
    )
