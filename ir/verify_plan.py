"""Rules of the verifier: stages, their tile programs, and the order of columns."""

import itertools
from collections.abc import Iterator

import numpy as np

from .bandwidth import unit_instances
from .graph import Operator, Unit
from .plan import Plan, Stage
from .tiling import Tiling
from .verify_broken import Broken, place_of

_UNITS = tuple(Unit)


def stage_chips(plan: Plan) -> Iterator[Broken]:
    """A chip works for one stage."""
    owner: dict[int, int] = {}
    for number, stage in enumerate(plan.stages):
        for chip in stage.chips:
            if chip in owner:
                yield Broken(
                    f"stage {number}", f"chips of its own, not {chip} of stage {owner[chip]}", f"{chip}"
                )
            owner[chip] = number


def operators_ascending(plan: Plan) -> Iterator[Broken]:
    """A program has its operators in the order of the graph, each once; what it recomputes is among them."""
    for number, stage in enumerate(plan.stages):
        operators = stage.program.operators
        if any(before >= after for before, after in itertools.pairwise(operators)):
            yield Broken(f"stage {number}", "operators ascending", f"{operators}")
        if strange := set(stage.recomputed) - set(operators):
            yield Broken(f"stage {number}", "recomputed operators of its own", f"{sorted(strange)}")


def operators_executed(plan: Plan) -> Iterator[Broken]:
    """Every operator is in the program of some stage."""
    executed = {operator for stage in plan.stages for operator in stage.program.operators}
    for number, operator in enumerate(plan.graph.operators):
        if number not in executed:
            yield Broken(place_of("operator", operator.name), "a stage that executes it", "none")


def _programs(plan: Plan) -> Iterator[tuple[str, Stage, int, Operator, Tiling]]:
    """(place in words, stage, place in its program, operator, tiling)."""
    for number, stage in enumerate(plan.stages):
        tilings = zip(stage.program.operators, stage.program.tilings, strict=True)
        for place, (index, tiling) in enumerate(tilings):
            operator = plan.graph.operators[index]
            yield f"stage {number}, {place_of('operator', operator.name)}", stage, place, operator, tiling


def tilings_cut(plan: Plan) -> Iterator[Broken]:
    """A tiling cuts every factor once into blocks of at least one iteration; what is whole stays whole."""
    for where, _, _, operator, tiling in _programs(plan):
        extents = [factor.extent for factor in operator.factors]
        if not _cuts(operator, tiling):
            found = f"{tiling.blocks} in the order {tiling.order}"
            yield Broken(where, f"blocks of the extents {extents}, all factors in some order", found)


def _cuts(operator: Operator, tiling: Tiling) -> bool:
    factors = operator.factors
    return (
        len(tiling.blocks) == len(factors)
        and sorted(tiling.order) == list(range(len(factors)))
        and all(1 <= block <= f.extent for block, f in zip(tiling.blocks, factors, strict=True))
        and all(
            block == f.extent or not (f.whole or f.gathered)
            for block, f in zip(tiling.blocks, factors, strict=True)
        )
    )


def tile_numbers(plan: Plan) -> Iterator[Broken]:
    """A program has every tile of every operator once, sorted by operator and number."""
    for number, stage in enumerate(plan.stages):
        program = stage.program
        graph_operators = [plan.graph.operators[index] for index in program.operators]
        if not all(map(_cuts, graph_operators, program.tilings)):
            continue
        counts = [t.tiles(operator) for operator, t in zip(graph_operators, program.tilings, strict=True)]
        owner = np.repeat(np.arange(len(counts)), counts)
        tile = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        same = np.array_equal(owner, program.tiles.operator) and np.array_equal(tile, program.tiles.tile)
        if not same:
            expected = f"the {len(owner)} tiles of its tilings in order"
            yield Broken(f"stage {number}", expected, f"{len(program.tiles.tile)} others")


def _tiles_of(stage: Stage, place: int) -> np.ndarray:
    return np.flatnonzero(stage.program.tiles.operator == place)


def tile_units(plan: Plan) -> Iterator[Broken]:
    """A tile runs on its operator's unit."""
    for where, stage, place, operator, _ in _programs(plan):
        units = np.unique(stage.program.tiles.unit[_tiles_of(stage, place)])
        strange = [_UNITS[unit].value for unit in units if _UNITS[unit] is not operator.unit]
        if strange:
            yield Broken(where, f"tiles on the {operator.unit.value} unit", f"{strange[0]}")


def tile_instances(plan: Plan) -> Iterator[Broken]:
    """A tile runs on an instance that its chip has."""
    for where, stage, place, operator, _ in _programs(plan):
        count = unit_instances(plan.target.chip, operator.unit)
        instances = stage.program.tiles.instance[_tiles_of(stage, place)]
        if instances.size and not 0 <= instances.min() <= instances.max() < count:
            yield Broken(where, f"instances below {count}", f"{int(instances.max())}")


def tile_cycles(plan: Plan) -> Iterator[Broken]:
    """A tile starts at cycle 0 or later, and takes a cycle at least."""
    for number, stage in enumerate(plan.stages):
        tiles = stage.program.tiles
        wrong = np.flatnonzero((tiles.start < 0) | (tiles.end <= tiles.start))
        if wrong.size:
            row = int(wrong[0])
            place = f"stage {number}, tile row {row}"
            yield Broken(place, "cycles from 0 on, at least one", f"[{tiles.start[row]}, {tiles.end[row]})")


def rows_sorted(plan: Plan) -> Iterator[Broken]:
    """Transfers, hops and buffers are in the order that the plan file has them in."""
    orders = (
        ("transfers", plan.transfers, ("first", "tensor", "destination", "source", "start")),
        ("hops", plan.hops, ("hop", "transfer")),
        ("buffers", plan.buffers, ("tensor", "address", "chip")),
    )
    for table, columns, keys in orders:
        order = np.lexsort([getattr(columns, key) for key in keys])
        wrong = np.flatnonzero(order != np.arange(len(order)))
        if wrong.size:
            expected = f"rows by {', '.join(reversed(keys))}"
            yield Broken(f"{table}, row {wrong[0]}", expected, f"row {order[wrong[0]]} in its place")
