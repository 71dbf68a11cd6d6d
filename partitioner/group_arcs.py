"""Every stage that fits its group, as columns: from where to where, on which shape, at what cost."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .group_problem import GroupArc, GroupProblem


@dataclass(frozen=True)
class Arcs:
    """One row a possible stage, sorted by (last, first, size_index); int64[arcs] each.

    first, last: positions. chips, latency, interval: what the stage takes of each.
    """

    positions: int
    first: np.ndarray
    last: np.ndarray
    size_index: np.ndarray
    chips: np.ndarray
    latency: np.ndarray
    interval: np.ndarray

    def where(self, kept: np.ndarray) -> "Arcs":
        """Those rows alone, bool[arcs]."""
        columns = (self.first, self.last, self.size_index, self.chips, self.latency, self.interval)
        return Arcs(self.positions, *(column[kept] for column in columns))

    @cached_property
    def into(self) -> np.ndarray:
        """int64[positions + 1]: the arcs that end at position p are rows [into[p], into[p + 1])."""
        return np.searchsorted(self.last, np.arange(self.positions + 1))

    @cached_property
    def by_first(self) -> np.ndarray:
        """Rows in the order of `first`."""
        return np.argsort(self.first, kind="stable")

    @cached_property
    def out_of(self) -> np.ndarray:
        """int64[positions + 1]: the arcs that begin at p are `by_first[out_of[p]:out_of[p + 1]]`."""
        return np.searchsorted(self.first[self.by_first], np.arange(self.positions + 1))

    def arc(self, row: int) -> GroupArc:
        return GroupArc(int(self.first[row]), int(self.last[row]), int(self.size_index[row]))


def build_arcs(problem: GroupProblem) -> Arcs:
    """All stages within a chip's bytes, the chips there are, and the limits on latency and interval."""
    parts = [_arcs_of_shape(problem, shape) for shape in range(len(problem.sizes))]
    columns = np.concatenate(parts, axis=1) if parts else np.zeros((6, 0), dtype=np.int64)
    columns = columns[:, np.lexsort((columns[2], columns[0], columns[1]))]
    return Arcs(problem.items + 1, *columns)


def _arcs_of_shape(problem: GroupProblem, shape: int) -> np.ndarray:
    """int64[6, arcs]: the columns of `Arcs` for one shape."""
    first, last = _ranges_that_fit(problem, shape)
    latency = problem.latency[shape, last] - problem.latency[shape, first] + problem.crossing[shape, first]
    busy = problem.work[shape][:, last] - problem.work[shape][:, first]
    if problem.crossing_work is not None:
        busy = busy + problem.crossing_work[shape][:, first]
    interval = busy.max(axis=0, initial=0)
    chips = np.full_like(first, problem.sizes[shape])
    kept = np.ones(len(first), dtype=bool)
    for column, limit in ((latency, problem.max_latency), (interval, problem.max_interval)):
        if limit is not None:
            kept &= column <= limit
    return np.stack([first, last, np.full_like(first, shape), chips, latency, interval])[:, kept]


def _ranges_that_fit(problem: GroupProblem, shape: int) -> tuple[np.ndarray, np.ndarray]:
    """(first, last) of all ranges between allowed cuts whose bytes fit a chip."""
    held = problem.resident[shape]
    if problem.states is not None:
        held = held + problem.users * problem.states[shape]
    stops = _allowed_positions(problem)
    reach = np.searchsorted(held[stops], held[stops] + problem.capacity, side="right")
    counts = np.maximum(reach - np.arange(len(stops)) - 1, 0)
    begin = np.repeat(np.arange(len(stops)), counts)
    end = begin + 1 + np.arange(len(begin)) - np.repeat(np.cumsum(counts) - counts, counts)
    first, last = stops[begin], stops[end]
    most = _range_maximum(problem.activations[shape], first, last)
    fit = held[last] - held[first] + most <= problem.capacity
    return first[fit], last[fit]


def _allowed_positions(problem: GroupProblem) -> np.ndarray:
    allowed = np.ones(problem.items + 1, dtype=bool) if problem.allowed is None else problem.allowed.copy()
    allowed[[0, -1]] = True
    return np.flatnonzero(allowed)


def _range_maximum(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """max(values[first:last]) of many ranges, from the maxima of all runs of 2^k values."""
    runs = [values]
    while 2 ** len(runs) <= len(values):
        half = 2 ** (len(runs) - 1)
        runs.append(np.maximum(runs[-1][:-half], runs[-1][half:]))
    result = np.zeros(len(first), dtype=np.int64)
    level = np.log2(np.maximum(last - first, 1)).astype(np.int64)
    for k, run in enumerate(runs):
        here = level == k
        result[here] = np.maximum(run[first[here]], run[last[here] - 2**k])
    return result
