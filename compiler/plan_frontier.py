"""The frontier of chips, latency and interval: plans along it, scheduled, simulated and compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chiplan.ir import Plan
from chiplan.partitioner import GroupArc, GroupPlan
from chiplan.runtime_sim import Report, figures

from .addresses import OutOfSram
from .interval_search import pace
from .plan_choice import PlanChoice, Planned

_EFFORT, _FEWEST_POINTS, _MOST_POINTS = 10_000, 3, 8
"""Operators that are scheduled in all, and the points of the frontier at the least and the most."""

_TWO_WAYS = 5
"""How much longer it takes to look for a short interval as well."""

_ROUNDS = 3
"""How often the frontier is estimated anew with more SRAM left free, where a point did not fit."""


@dataclass(frozen=True)
class FrontierPoint:
    """A plan as simulated. meshes: of the groups of all stages. Latency and interval in cycles; estimated_*
    are those of the solver, None for a pipeline of single chips that was cut by operators. rate: tokens a
    second of one user, or inferences a second. is_nondominated: no other point is as good in chips, latency
    and cycles a micro-batch alike. is_chosen: the plan that was written."""

    chips: int
    meshes: tuple[tuple[int, ...], ...]
    latency: int
    interval: int
    pace: int
    estimated_latency: int | None
    estimated_interval: int | None
    rate: float
    total_rate: float
    is_nondominated: bool
    is_chosen: bool


def explore(choice: PlanChoice) -> list[Planned]:
    """Schedules plans along the estimated frontier, from the fewest chips to the most, which `choice` may
    then choose from."""
    if choice.chips < 2:
        return []
    found = _known(choice)
    before, spare = len(found), 0
    for _ in range(_ROUNDS):
        shortage, points = 0, wanted(_worth_a_try(choice, spare), is_alone=_is_alone(choice))
        for number, (plan, objective) in enumerate(points, 1):
            choice.progress(f"frontier: point {number} of {len(points)}, {plan.chips} chips, {objective}")
            try:
                if (plan.arcs, objective) not in found:
                    found[plan.arcs, objective] = choice.add(choice.planner.realise(plan, objective))
            except OutOfSram as error:
                shortage = max(shortage, error.needed - error.available)
        if not shortage:
            break
        spare += max(shortage, int(choice.target.chip.usable_bytes) // 64)
    return list(found.values())[before:]


def _known(choice: PlanChoice) -> dict[tuple[tuple[GroupArc, ...], str], Planned]:
    """What was scheduled already, by what it was made from and for."""
    objective = choice.options.objective
    return {(p.candidate.plan.arcs, objective): p for p in choice.found if p.candidate}


def wanted(plans: Sequence[GroupPlan], *, is_alone: bool) -> list[tuple[GroupPlan, str]]:
    """Plans to schedule, each for what it is estimated to be best in: the latency where none of as few chips
    has a lower one, the interval likewise. is_alone: one user's steps follow each other, so that both are
    the same."""
    if is_alone:
        return [(plan, "latency") for plan in plans]
    quick = set(_nondominated([(plan.chips, plan.latency) for plan in plans]))
    steady = set(_nondominated([(plan.chips, plan.interval) for plan in plans]))
    return [
        (plan, objective)
        for number, plan in enumerate(plans)
        for objective, best in (("throughput", steady), ("latency", quick))
        if number in best
    ]


def _is_alone(choice: PlanChoice) -> bool:
    """Whether there is one user, whose steps follow each other."""
    return bool(choice.graph.states) and choice.options.users == 1


def _worth_a_try(choice: PlanChoice, spare: int) -> list[GroupPlan]:
    """A bounded number of the points of the estimated frontier, evenly by chips. Where users wait for their
    last step, an interval shorter than that is no gain."""
    has_states, users = bool(choice.graph.states), choice.options.users
    plans = choice.planner.frontier(spare)
    kept = _nondominated(
        [(p.chips, p.latency, pace(p.interval, p.latency, users, has_states)) for p in plans]
    )
    effort = len(choice.graph.operators) * (1 if _is_alone(choice) else _TWO_WAYS)
    most = max(_FEWEST_POINTS, min(_MOST_POINTS, _EFFORT // effort))
    if not kept:
        return []
    return [plans[kept[index]] for index in np.linspace(0, len(kept) - 1, min(most, len(kept))).astype(int)]


def _nondominated(rows: Sequence[tuple[int, ...]]) -> list[int]:
    """Positions of rows of which no other is as small everywhere; of equal rows the first."""
    return [
        index
        for index, row in enumerate(rows)
        if not any(
            all(a <= b for a, b in zip(other, row, strict=True)) and (other != row or position < index)
            for position, other in enumerate(rows)
        )
    ]


def trade_offs(points: Sequence[Planned], others: Sequence[Planned]) -> list[Planned]:
    """What a frontier shows: `points`, and of `others` those that nothing dominates; by chips, then latency.
    Of plans with the same figures the first."""
    everything, kept = [*points, *others], {id(planned) for planned in others}
    figures_of = [(p.chips, p.schedule.latency, p.schedule.interval) for p in everything]
    best = set(_nondominated(figures_of))
    shown = {
        figures_of[index]: planned
        for index, planned in reversed(list(enumerate(everything)))
        if id(planned) in kept and (index < len(points) or index in best)
    }
    return [shown[key] for key in sorted(shown)]


def frontier_point(planned: Planned, plan: Plan, report: Report, *, is_chosen: bool) -> FrontierPoint:
    """The figures of a plan that the simulator accepted."""
    measured: dict[str, Any] = figures(plan, report)
    rate = measured["tokens_per_second_user"]
    estimate = planned.candidate.plan if planned.candidate else None
    return FrontierPoint(
        chips=planned.chips,
        meshes=tuple(stage.mesh for stage in plan.stages),
        latency=measured["latency_cycles"],
        interval=measured["interval_cycles"],
        pace=pace(
            measured["interval_cycles"], measured["latency_cycles"], plan.users, bool(plan.graph.states)
        ),
        estimated_latency=estimate.latency if estimate else None,
        estimated_interval=estimate.interval if estimate else None,
        rate=measured["inferences_per_second"] if rate is None else rate,
        total_rate=measured["inferences_per_second"] if rate is None else measured["tokens_per_second_total"],
        is_nondominated=False,
        is_chosen=is_chosen,
    )


def mark_nondominated(points: Sequence[FrontierPoint]) -> tuple[FrontierPoint, ...]:
    """The points, each with whether another is as good in everything."""
    best = set(_nondominated([(p.chips, p.latency, p.pace) for p in points]))
    return tuple(replace(point, is_nondominated=index in best) for index, point in enumerate(points))
