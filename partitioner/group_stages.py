"""Cuts and group shapes together: the best pipeline of groups, exactly, and the frontier of good ones.

A stage over items [first, last) on a group of some shape is an arc; a pipeline is a path of arcs within
the chips. Objectives, in the order in which ties are broken:

    throughput   interval, latency, chips
    latency      latency, chips, interval
    chips        chips, interval, latency      (within max_latency and max_interval)
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from chiplan.ir import Certificate

from .group_arcs import Arcs, build_arcs
from .group_paths import Path, fastest, fewest_chips, lightest_between, near, smallest_interval
from .group_problem import GroupPlan, GroupProblem

_POINTS = 20
"""At most so many points of a frontier."""

_INTERVALS = 10
"""Intervals between the shortest and that of the fastest plan for which a frontier is searched."""


_DEPTH = 2
"""How often the chips between the fastest and the smallest plan of an interval are halved."""


def plan_groups(problem: GroupProblem) -> GroupPlan | None:
    """The best plan by the problem's objective, proved; None when nothing fits within the limits."""
    return _plan(problem, build_arcs(problem))


def plan_counts(problem: GroupProblem, counts: Sequence[int]) -> list[GroupPlan]:
    """The best plan on at most so many chips, for every count in turn; those that fit."""
    arcs = build_arcs(problem)
    plans = (
        _plan(replace(problem, chips=chips), arcs.where(arcs.chips <= chips)) for chips in sorted(set(counts))
    )
    return [plan for plan in plans if plan is not None]


def smallest_chips(problem: GroupProblem) -> int | None:
    """The fewest chips with which there is a plan within the limits, however many the problem has;
    None when no number of chips would do."""
    path = _within_latency(build_arcs(problem), problem.max_latency)
    return None if path is None else path.chips


def frontier(problem: GroupProblem) -> list[GroupPlan]:
    """Plans of which none is at least as good as another in chips, latency and interval alike; by chips.

    Has the best plan of each objective. In between it is a choice: for some intervals, plans of least
    latency and chips at every price of a chip.
    """
    arcs = build_arcs(problem)
    best = [_plan(replace(problem, objective=name), arcs) for name in ("throughput", "latency", "chips")]
    ends = [plan for plan in best if plan is not None]
    if not ends:
        return []
    intervals = sorted(plan.interval for plan in ends)
    plans = list(ends)
    for interval in sorted({*intervals, *np.geomspace(intervals[0], intervals[-1], _INTERVALS).astype(int)}):
        plans += _trades(arcs.where(arcs.interval <= interval), problem)
    return _chosen(_nondominated(plans), ends)


def _plan(problem: GroupProblem, arcs: Arcs) -> GroupPlan | None:
    if problem.objective == "throughput":
        return _for_throughput(problem, arcs)
    return _for_latency(problem, arcs) if problem.objective == "latency" else _for_chips(problem, arcs)


def _for_throughput(problem: GroupProblem, arcs: Arcs) -> GroupPlan | None:
    steady = smallest_interval(arcs, problem.chips, problem.max_latency)
    if steady is None:
        return None
    within = arcs.where(arcs.interval <= steady.interval)
    return _as_plan(fastest(within, problem.chips), "interval", steady.interval)


def _for_latency(problem: GroupProblem, arcs: Arcs) -> GroupPlan | None:
    path = fastest(arcs, problem.chips)
    if path is None or (problem.max_latency is not None and path.latency > problem.max_latency):
        return None
    return _as_plan(_steadier(arcs, path), "latency", path.latency)


def _for_chips(problem: GroupProblem, arcs: Arcs) -> GroupPlan | None:
    path = _within_latency(arcs, problem.max_latency)
    if path is None or path.chips > problem.chips:
        return None
    steady = smallest_interval(arcs, path.chips, problem.max_latency)
    assert steady is not None
    within = arcs.where(arcs.interval <= steady.interval)
    return _as_plan(fastest(within, path.chips), "chips", path.chips)


def _steadier(arcs: Arcs, path: Path) -> Path:
    """As fast, on as many chips, with the smallest interval that this allows."""
    close = near(arcs, path.price, path.latency, path.chips)
    steady = smallest_interval(close, path.chips, path.latency)
    assert steady is not None
    return steady


def _within_latency(arcs: Arcs, latency: int | None) -> Path | None:
    """The path of fewest chips within a latency."""
    path = fewest_chips(arcs)
    if path is None or latency is None or path.latency <= latency:
        return path
    quickest = fastest(arcs, int(arcs.chips.max(initial=0)) * arcs.positions)
    if quickest is None or quickest.latency > latency:
        return None
    low, best = path.chips, quickest
    while low < best.chips:
        middle = (low + best.chips) // 2
        path = fastest(arcs, middle, latency)
        if path is not None and path.latency <= latency:
            best = path
        else:
            low = middle + 1
    return best


def _trades(arcs: Arcs, problem: GroupProblem) -> list[GroupPlan]:
    """The fastest and the smallest plan and some between, each with its smallest interval."""
    fast, small = fastest(arcs, problem.chips), fewest_chips(arcs)
    if fast is None or small is None:
        return []
    paths = [fast, *lightest_between(arcs, fast, small, _DEPTH), small]
    steady = [
        _steadier(arcs, path) for path in paths if path.latency <= (problem.max_latency or path.latency)
    ]
    return [_as_plan(path, "interval", path.interval) for path in steady]


def _as_plan(path: Path | None, quantity: str, value: int) -> GroupPlan:
    assert path is not None
    proof = Certificate(f"groups: estimated {quantity}", "optimal", value, value, 0.0, 0.0)
    return GroupPlan(path.arcs, path.latency, path.interval, path.chips, proof)


def _nondominated(plans: Iterable[GroupPlan]) -> list[GroupPlan]:
    """By chips, then latency, then interval; of equal figures the first."""
    distinct = {(plan.chips, plan.latency, plan.interval): plan for plan in reversed(list(plans))}
    kept: list[tuple[int, int, int]] = []
    for figures in sorted(distinct):
        if not any(other[1] <= figures[1] and other[2] <= figures[2] for other in kept):
            kept.append(figures)
    return [distinct[figures] for figures in kept]


def _chosen(plans: list[GroupPlan], ends: list[GroupPlan]) -> list[GroupPlan]:
    """At most `_POINTS` of the plans, those with the figures of `ends` always, the rest evenly by chips."""
    figures = {(plan.chips, plan.latency, plan.interval) for plan in ends}
    fixed = [plan for plan in plans if (plan.chips, plan.latency, plan.interval) in figures]
    rest = [plan for plan in plans if (plan.chips, plan.latency, plan.interval) not in figures]
    count = min(len(rest), _POINTS - len(fixed))
    even = [rest[index] for index in np.linspace(0, len(rest) - 1, count).astype(int)] if count else []
    return sorted([*fixed, *even], key=lambda plan: (plan.chips, plan.latency, plan.interval))
