"""The verifier: what every graph and every plan must be. An error names rule, place, expected and found."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from .plan import Plan
from .plan_validity import first_problem
from .verify_broken import Broken
from .verify_graph import Finding, verify_graph
from .verify_plan import (
    operators_ascending,
    operators_executed,
    rows_sorted,
    stage_chips,
    tile_cycles,
    tile_instances,
    tile_numbers,
    tile_units,
    tilings_cut,
)

PlanRule: TypeAlias = Callable[[Plan], Iterator[Broken]]

PLAN_RULES: tuple[PlanRule, ...] = (
    stage_chips,
    operators_ascending,
    operators_executed,
    tilings_cut,
    tile_numbers,
    tile_units,
    tile_instances,
    tile_cycles,
    rows_sorted,
)


def verify_plan(plan: Plan) -> Iterator[Finding]:
    """What is wrong with a plan; nothing, if it holds. Whether it is right is the simulator's verdict."""
    graph = list(verify_graph(plan.graph))
    if graph:
        yield from graph
    elif (problem := first_problem(plan)) is not None:
        yield Finding("plan_references", "plan", "references to what is there", problem)
    else:
        for rule in PLAN_RULES:
            for broken in rule(plan):
                yield Finding(rule.__name__, *broken)
