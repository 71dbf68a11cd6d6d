"""Mutants of the tile columns: when, where and in which order tiles run."""

import numpy as np

from chiplan.ir import Plan, Tiling, Unit

from .mutant_editing import Kind, amount, cells, names, pick, rows, some_stage, with_program

TIMES = (
    "unit_overlap read_before_ready receive_without_arrival send_before_ready accumulation_interrupted "
    "buffer_lifetime wrong_latency output_not_held"
)
COVER = "not_covered no_cycle_rule"


def _shifted(plan: Plan, random: np.random.Generator) -> Plan:
    number, stage = some_stage(plan, random)
    tiles = stage.program.tiles
    row, by = pick(random, len(tiles.start)), amount(random)
    moved = cells(tiles, row, start=int(tiles.start[row]) + by, end=int(tiles.end[row]) + by)
    return with_program(plan, number, tiles=moved)


def _operator_shifted(plan: Plan, random: np.random.Generator) -> Plan:
    number, stage = some_stage(plan, random)
    tiles, by = stage.program.tiles, amount(random)
    mine = tiles.operator == pick(random, len(stage.program.operators))
    start, end = (np.where(mine, column + by, column) for column in (tiles.start, tiles.end))
    return with_program(plan, number, tiles=type(tiles)(tiles.operator, tiles.tile, tiles.unit,
                                                        tiles.instance, start, end))  # fmt: skip


def _resized(plan: Plan, random: np.random.Generator) -> Plan:
    number, stage = some_stage(plan, random)
    tiles = stage.program.tiles
    row, by = pick(random, len(tiles.start)), amount(random)
    name = "end" if random.random() < 0.5 else "start"
    moved = cells(tiles, row, **{name: int(getattr(tiles, name)[row]) + by})
    return with_program(plan, number, tiles=moved)


def _dropped(plan: Plan, random: np.random.Generator) -> Plan:
    number, stage = some_stage(plan, random)
    tiles = stage.program.tiles
    kept = np.delete(np.arange(len(tiles.start)), pick(random, len(tiles.start)))
    return with_program(plan, number, tiles=rows(tiles, kept))


def _duplicated(plan: Plan, random: np.random.Generator) -> Plan:
    number, stage = some_stage(plan, random)
    tiles = stage.program.tiles
    index = np.sort(np.append(np.arange(len(tiles.start)), pick(random, len(tiles.start))))
    return with_program(plan, number, tiles=rows(tiles, index))


def _renumbered(plan: Plan, random: np.random.Generator) -> Plan:
    number, stage = some_stage(plan, random)
    tiles = stage.program.tiles
    row = pick(random, len(tiles.start))
    name = "tile" if random.random() < 0.5 else "operator"
    value = max(0, int(getattr(tiles, name)[row]) + int(random.choice([-1, 1, 2])))
    if value == int(getattr(tiles, name)[row]):
        value += 1
    return with_program(plan, number, tiles=cells(tiles, row, **{name: value}))


def _swapped(plan: Plan, random: np.random.Generator) -> Plan | None:
    """Two tiles of different operators, or of one whose tiles differ, change places."""
    number, stage = some_stage(plan, random)
    tiles = stage.program.tiles
    one, other = pick(random, len(tiles.start)), pick(random, len(tiles.start))
    if one == other or tiles.start[one] == tiles.start[other]:
        return None
    changed = tiles
    for to, source in ((one, other), (other, one)):
        length = int(tiles.end[to] - tiles.start[to])
        start = int(tiles.start[source])
        changed = cells(changed, to, start=start, end=start + length)
    return with_program(plan, number, tiles=changed)


def _instance(plan: Plan, random: np.random.Generator) -> Plan:
    number, stage = some_stage(plan, random)
    tiles = stage.program.tiles
    row = pick(random, len(tiles.start))
    value = (int(tiles.instance[row]) + 1 + pick(random, 2)) % 4
    return with_program(plan, number, tiles=cells(tiles, row, instance=value))


def _unit(plan: Plan, random: np.random.Generator) -> Plan:
    number, stage = some_stage(plan, random)
    tiles = stage.program.tiles
    row = pick(random, len(tiles.start))
    value = (int(tiles.unit[row]) + 1 + pick(random, len(Unit) - 1)) % len(Unit)
    return with_program(plan, number, tiles=cells(tiles, row, unit=value))


def _with_tiling(plan: Plan, number: int, position: int, tiling: Tiling) -> Plan:
    tilings = list(plan.stages[number].program.tilings)
    tilings[position] = tiling
    return with_program(plan, number, tilings=tuple(tilings))


def _blocks(plan: Plan, random: np.random.Generator) -> Plan | None:
    number, stage = some_stage(plan, random)
    position = pick(random, len(stage.program.tilings))
    old = stage.program.tilings[position]
    if not old.blocks:
        return None
    blocks, axis = list(old.blocks), pick(random, len(old.blocks))
    blocks[axis] += int(random.choice([-2, -1, 1, 2]))
    return _with_tiling(plan, number, position, Tiling(tuple(blocks), old.order))


def _order(plan: Plan, random: np.random.Generator) -> Plan | None:
    """Two factors of more than one piece change places in the loop order."""
    number, stage = some_stage(plan, random)
    position = pick(random, len(stage.program.tilings))
    old, operator = stage.program.tilings[position], plan.graph.operators[stage.program.operators[position]]
    grid = old.grid(operator)
    cut = [place for place, f in enumerate(old.order) if grid[f] > 1]
    if len(cut) < 2:
        return None
    one, other = random.choice(cut, 2, replace=False)
    order = list(old.order)
    order[one], order[other] = order[other], order[one]
    return _with_tiling(plan, number, position, Tiling(old.blocks, tuple(order)))


def _dependents(plan: Plan, random: np.random.Generator) -> Plan | None:
    """An operator and one that reads its result change places in time."""
    number, stage = some_stage(plan, random)
    program, operators = stage.program, plan.graph.operators
    pairs = [
        (a, b)
        for a, i in enumerate(program.operators)
        for b, j in enumerate(program.operators)
        if {r.tensor for r in operators[i].results} & {o.tensor for o in operators[j].operands}
    ]
    if not pairs:
        return None
    first, second = pairs[pick(random, len(pairs))]
    tiles = program.tiles
    start, end = tiles.start.copy(), tiles.end.copy()
    mine, other = tiles.operator == first, tiles.operator == second
    span = int(tiles.start[other].min() - tiles.start[mine].min())
    for which, by in ((mine, span), (other, -span)):
        start[which] += by
        end[which] += by
    if span == 0:
        return None
    moved = type(tiles)(tiles.operator, tiles.tile, tiles.unit, tiles.instance, start, end)
    return with_program(plan, number, tiles=moved)


def _operator_dropped(plan: Plan, random: np.random.Generator) -> Plan:
    number, stage = some_stage(plan, random)
    program = stage.program
    position = pick(random, len(program.operators))
    tiles = rows(program.tiles, np.flatnonzero(program.tiles.operator != position))
    tiles = type(tiles)(tiles.operator - (tiles.operator > position), *[
        getattr(tiles, name) for name in ("tile", "unit", "instance", "start", "end")
    ])  # fmt: skip
    keep = [i for i in range(len(program.operators)) if i != position]
    return with_program(plan, number, tiles=tiles, operators=tuple(program.operators[i] for i in keep),
                        tilings=tuple(program.tilings[i] for i in keep))  # fmt: skip


_SLACK = "nothing waits for the tile in the cycles by which it moves, and its instance is free in them"

KINDS = (
    Kind("shift a tile", _shifted, names(TIMES), reason=_SLACK),
    Kind("shift an operator", _operator_shifted, names(TIMES), reason=_SLACK),
    Kind("shorten or lengthen a tile", _resized, names("wrong_duration")),
    Kind("drop a tile", _dropped, names("not_covered")),
    Kind("repeat a tile", _duplicated, names("not_covered")),
    Kind("renumber a tile", _renumbered, names("not_covered")),
    Kind("swap two tiles", _swapped, names(TIMES),
         reason="two tiles of one operator that wait for the same, and are waited for together"),
    Kind("change an instance", _instance, names("wrong_instance unit_overlap accumulation_interrupted"),
         reason="the other instance of that unit is free in these cycles"),
    Kind("change a unit", _unit, names("wrong_unit")),
    Kind("change a tiling's blocks", _blocks, names(f"{COVER} wrong_duration {TIMES}")),
    Kind("change a tiling's order", _order, names(f"{COVER} wrong_duration {TIMES}"),
         reason="tiles of equal length that wait for the same: the numbers change, what is done does not"),
    Kind("reorder dependents", _dependents, names(TIMES)),
    Kind("drop an operator", _operator_dropped, names(f"missing_operator not_covered {TIMES} wrong_exchange"
                                                      " missing_output")),
)  # fmt: skip
