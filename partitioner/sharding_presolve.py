"""Smaller sharding problems with the same answer, without values that fit nothing or are never better."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .sharding import Link, ShardingProblem, Variable

_LOOKS = 2
"""How often a variable's values are compared with each other."""


class Kept:
    """Which values of every variable remain; raises no error when none does (the caller sees it).
    `best_alone`: values that are never better than another may go as well as those that fit nothing.
    `fitting`: so may values that are beyond the capacity beside the smallest of all others."""

    def __init__(self, problem: ShardingProblem, best_alone: bool, fitting: bool) -> None:
        self.problem, self._looks = problem, _LOOKS if best_alone else 0
        self.values = [np.ones(variable.values, dtype=bool) for variable in problem.variables]
        self._touching: list[list[tuple[int, np.ndarray]]] = [[] for _ in problem.variables]
        for link in problem.links:
            self._touching[link.first].append((link.second, link.allowed))
            self._touching[link.second].append((link.first, link.allowed.T))
        self._reduce()
        if fitting and self._drop_too_large():
            self._reduce()

    def _drop_too_large(self) -> bool:
        """Drop values that are beyond the capacity even beside the smallest of all others; not where nothing
        is within it, since then the fewest bytes are wanted."""
        if self.problem.capacity is None or not all(values.any() for values in self.values):
            return False
        nbytes = [variable.nbytes for variable in self.problem.variables]
        least = [int(column[values].min()) for column, values in zip(nbytes, self.values, strict=True)]
        room = self.problem.capacity - sum(least)
        if room < 0:
            return False
        large = [column - smallest > room for column, smallest in zip(nbytes, least, strict=True)]
        dropped = any((values & beyond).any() for values, beyond in zip(self.values, large, strict=True))
        for values, beyond in zip(self.values, large, strict=True):
            values &= ~beyond
        return dropped

    def _reduce(self) -> None:
        waiting = deque(range(len(self.values)))
        queued = set(waiting)
        looks = [0] * len(self.values)
        while waiting:
            index = waiting.popleft()
            queued.discard(index)
            before = int(self.values[index].sum())
            self._drop_unsupported(index)
            # Neighbours' values that are gone make more comparable, but less and less.
            if looks[index] < self._looks:
                looks[index] += 1
                self._drop_dominated(index)
            if int(self.values[index].sum()) < before:
                for other, _ in self._touching[index]:
                    if other not in queued:
                        queued.add(other)
                        waiting.append(other)

    def _drop_unsupported(self, index: int) -> None:
        for other, allowed in self._touching[index]:
            self.values[index] &= allowed[:, self.values[other]].any(axis=1)

    def _drop_dominated(self, index: int) -> None:
        """Drop a value where another costs no more in anything and goes with all that it goes with."""
        live = np.flatnonzero(self.values[index])
        if len(live) < 2:
            return
        variable = self.problem.variables[index]
        costs = np.stack([variable.cycles, variable.nbytes, variable.rank])[:, live]
        better = (costs[:, :, None] <= costs[:, None, :]).all(axis=0)
        for other, allowed in self._touching[index]:
            rows = allowed[np.ix_(live, np.flatnonzero(self.values[other]))].astype(np.int32)
            # a covers b when b goes with nothing that a does not go with.
            better &= rows @ rows.T == rows.sum(axis=1)[None, :]
        equal = better & better.T
        # Of equal values the first stays.
        better &= ~equal | np.triu(np.ones_like(equal), 1)
        np.fill_diagonal(better, False)
        self.values[index][live[better.any(axis=0)]] = False


def presolve(
    problem: ShardingProblem, best_alone: bool = True, fitting: bool = True
) -> tuple[ShardingProblem, list[np.ndarray]]:
    """The problem with the remaining values alone, and which they are (int64[remaining] a variable): those
    of some best answer, or (`best_alone` False) those of any that fits. With `fitting` nothing consistent
    may remain where nothing is within the capacity."""
    kept = [np.flatnonzero(values) for values in Kept(problem, best_alone, fitting).values]
    variables = tuple(
        Variable(old.name, old.cycles[values], old.nbytes[values], old.rank[values])
        for old, values in zip(problem.variables, kept, strict=True)
    )
    links = tuple(
        Link(link.first, link.second, allowed)
        for link in problem.links
        if not (allowed := link.allowed[np.ix_(kept[link.first], kept[link.second])]).all()
    )
    return replace(problem, variables=variables, links=links), kept


def original_values(chosen: Sequence[int], kept: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Values of the problem before `presolve`."""
    return tuple(int(values[value]) for value, values in zip(chosen, kept, strict=True))
