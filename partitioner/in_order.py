"""Cuts of the topological order itself: fast first answers for the solver, by bisection and by
dynamic programming over prefixes."""

from math import ceil

import numpy as np

from .problem import PartitionProblem


def cut_in_order(problem: PartitionProblem, load: int) -> list[int] | None:
    """Fill stage after stage in topological order up to `load` cycles a unit; None if it takes more
    stages than there are."""
    users = _residents_of(problem)
    sizes = [resident.nbytes for resident in problem.resident]
    stage, used, held, full, active = 0, np.zeros(problem.work.shape[1], dtype=np.int64), set[int](), 0, 0
    placed: list[int] = []
    for item, work in enumerate(problem.work):
        need = int(problem.activations[item])
        grown = full + sum(sizes[r] for r in users[item] if r not in held)
        if (used + work > load).any() or grown + max(active, need) > problem.capacity:
            stage, used, held, active = stage + 1, np.zeros_like(used), set(), 0
            grown = sum(sizes[r] for r in users[item])
            if stage == problem.stages or (work > load).any() or grown + need > problem.capacity:
                return None
        used, full, active = used + work, grown, max(active, need)
        held.update(users[item])
        placed.append(stage)
    return placed


def _residents_of(problem: PartitionProblem) -> list[list[int]]:
    users: list[list[int]] = [[] for _ in range(problem.items)]
    for index, resident in enumerate(problem.resident):
        for item in resident.items:
            users[item].append(index)
    return users


def least_load(problem: PartitionProblem) -> int:
    """A load that no cut can stay below: all work spread evenly, or the largest item."""
    even = ceil(int(problem.work.sum(axis=0).max(initial=0)) / problem.stages)
    return max(even, int(problem.work.max(initial=0)))


def smallest_in_order(problem: PartitionProblem) -> list[int] | None:
    """The in-order cut with the smallest load, by bisection; None when memory does not allow any."""
    low, high = least_load(problem), max(1, int(problem.work.sum(axis=0).max(initial=0)))
    best = cut_in_order(problem, high)
    if best is None:
        return None
    while low < high:
        middle = (low + high) // 2
        cut = cut_in_order(problem, middle)
        if cut is None:
            low = middle + 1
        else:
            best, high = cut, middle
    return best


def cheapest_in_order(problem: PartitionProblem, load: int, fill: int) -> list[int] | None:
    """The in-order cut with the fewest link cycles crossed whose stages stay within `load`, and within
    `fill` unless one of their items alone is larger; None if there is none.

    cost[k, j] = least crossing of a cut of the first j items into k stages.
    """
    count = problem.items
    allowed = _allowed_segments(problem, load, fill)
    crossing = _crossing_at(problem)
    cost = np.full((problem.stages + 1, count + 1), np.inf)
    origin = np.zeros((problem.stages + 1, count + 1), dtype=np.int64)
    cost[0, 0] = 0
    for stage in range(1, problem.stages + 1):
        through = np.where(allowed, (cost[stage - 1] + crossing)[:, None], np.inf)
        origin[stage] = through.argmin(axis=0)
        cost[stage] = through.min(axis=0)
    stages = int(cost[:, count].argmin())
    if not np.isfinite(cost[stages, count]):
        return None
    placed, end = [0] * count, count
    for stage in range(stages, 0, -1):
        start = int(origin[stage, end])
        placed[start:end] = [stage - 1] * (end - start)
        end = start
    return placed


def _crossing_at(problem: PartitionProblem) -> np.ndarray:
    """Link cycles that cross a cut in front of item i, int64[items + 1]."""
    steps = np.zeros(problem.items + 2, dtype=np.int64)
    for carried in problem.carried:
        steps[carried.producer + 1] += carried.cycles
        steps[max(carried.consumers) + 1] -= carried.cycles
    crossing: np.ndarray = np.cumsum(steps)[: problem.items + 1]
    return crossing


def _allowed_segments(problem: PartitionProblem, load: int, fill: int) -> np.ndarray:
    """Whether items [i, j) may be one stage, bool[items + 1, items + 1]."""
    extra = sum(
        (np.array(entry.work) for entry in problem.recomputed),
        np.zeros(problem.work.shape[1], dtype=np.int64),
    )
    zero = np.zeros((1, problem.work.shape[1]), dtype=np.int64)
    total = np.concatenate([zero, np.cumsum(problem.work, axis=0)])
    loads = (total[None, :, :] - total[:, None, :] + extra).max(axis=2)
    giants = np.concatenate([[0], np.cumsum(problem.work.max(axis=1) > fill)])
    limit = np.where(giants[None, :] > giants[:, None], load, min(load, fill))
    fits = (loads <= limit) & (_resident_bytes(problem) + _active_bytes(problem) <= problem.capacity)
    return np.triu(fits, k=1)


def _active_bytes(problem: PartitionProblem) -> np.ndarray:
    """Largest activations of items [i, j), int64[items + 1, items + 1]."""
    active = np.zeros((problem.items + 1, problem.items + 1), dtype=np.int64)
    for first in range(problem.items):
        active[first, first + 1 :] = np.maximum.accumulate(problem.activations[first:])
    return active


def _resident_bytes(problem: PartitionProblem) -> np.ndarray:
    """Bytes that a stage of items [i, j) holds, int64[items + 1, items + 1]."""
    count = problem.items + 1
    single = np.zeros(count, dtype=np.int64)
    held = np.zeros((count, count), dtype=np.int64)
    for resident in problem.resident:
        if not resident.items:
            continue
        if len(resident.items) == 1:
            single[resident.items[0] + 1] += resident.nbytes
            continue
        items = np.array([*resident.items, count])
        following = items[np.searchsorted(items, np.arange(count))]
        held += resident.nbytes * (following[:, None] < np.arange(count))
    total = np.cumsum(single)
    return held + total[None, :] - total[:, None]
