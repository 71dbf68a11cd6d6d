"""Cuts for groups whose sizes and order are given."""

from collections.abc import Callable, Sequence

import numpy as np

from chiplan.ir import Certificate

from .group_arcs import Arcs, build_arcs
from .group_problem import GroupPlan, GroupProblem

_NEVER = np.int64(1 << 60)


def plan_sequence(problem: GroupProblem, shapes: Sequence[Sequence[int]]) -> GroupPlan | None:
    """The best cut into len(shapes) stages, stage k on one of the shapes `shapes[k]`; None when none fits.

    Exact: over stages and positions. Throughput minimises the longest interval, then latency; the other
    objectives latency, then nothing.
    """
    arcs = build_arcs(problem)
    quantity, value = "latency", 0
    if problem.objective == "throughput":
        steady = _best_path(arcs, shapes, arcs.interval, np.maximum)
        if steady is None:
            return None
        quantity, value = "interval", max(int(arcs.interval[row]) for row in steady)
        arcs = arcs.where(arcs.interval <= value)
    path = _best_path(arcs, shapes, arcs.latency, np.add)
    if path is None:
        return None
    latency = int(arcs.latency[path].sum())
    value = value or latency
    proof = Certificate(f"groups as asked for: estimated {quantity}", "optimal", value, value, 0.0, 0.0)
    return GroupPlan(
        tuple(map(arcs.arc, path)),
        latency,
        int(arcs.interval[path].max()),
        int(arcs.chips[path].sum()),
        proof,
    )


def _best_path(
    arcs: Arcs,
    shapes: Sequence[Sequence[int]],
    cost: np.ndarray,
    join: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> list[int] | None:
    """Rows of the stages of least joined cost, one a stage, from the first position to the last."""
    best = np.full(arcs.positions, _NEVER)
    best[0] = 0
    chosen: list[np.ndarray] = []
    for wanted in shapes:
        rows = np.flatnonzero(np.isin(arcs.size_index, list(wanted)) & (best[arcs.first] < _NEVER))
        if not len(rows):
            return None
        total = join(best[arcs.first[rows]], cost[rows])
        order = np.lexsort((rows, total, arcs.last[rows]))
        ends, firsts = np.unique(arcs.last[rows][order], return_index=True)
        best = np.full(arcs.positions, _NEVER)
        best[ends] = total[order][firsts]
        link = np.full(arcs.positions, -1, dtype=np.int64)
        link[ends] = rows[order][firsts]
        chosen.append(link)
    path: list[int] = []
    position = arcs.positions - 1
    for link in reversed(chosen):
        row = int(link[position])
        if row < 0:
            return None
        path.append(row)
        position = int(arcs.first[row])
    return path[::-1]
