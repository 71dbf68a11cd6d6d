"""Exact elimination: the least cost of a problem whose links are nearly a chain, one variable at a time.

Eliminating a variable adds up the tables that it is in, and keeps, for all values of its neighbours, the
least cost and where it is (bucket elimination, Dechter 1999). Exact whatever the order; the order of
smallest tables first keeps them small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from .sharding import ShardingProblem

_LARGEST_TABLE = 1 << 24
NEVER = 1 << 61
"""The cost of what links forbid."""


@dataclass(frozen=True)
class _Table:
    """cost: int64, one axis a variable of `scope`."""

    scope: tuple[int, ...]
    cost: np.ndarray


@dataclass(frozen=True)
class Step:
    """An eliminated variable. total: int64[*values of `scope`, values of `variable`], the sum of the tables
    that it was in."""

    variable: int
    scope: tuple[int, ...]
    total: np.ndarray


def eliminate(problem: ShardingProblem, costs: Sequence[np.ndarray]) -> tuple[int, ...] | None:
    """The values of least total cost, links kept, capacity not looked at; `costs` is int64[values] a
    variable, sums below 2^60. None where there are none, or where a table would grow too large."""
    steps = eliminate_all(problem, costs)
    return None if steps is None else _read_back(steps)


def eliminate_all(problem: ShardingProblem, costs: Sequence[np.ndarray]) -> list[Step] | None:
    """The tables of every variable in the order of elimination, as above."""
    if not all(variable.values for variable in problem.variables):
        return None
    tables = _Tables(problem, costs)
    steps: list[Step] = []
    for _ in costs:
        variable, scope = tables.cheapest()
        if tables.size_with(variable) > _LARGEST_TABLE:
            return None
        total = tables.take(variable, scope)
        least = total.min(axis=-1)
        if not scope and int(least) >= NEVER:
            return None
        steps.append(Step(variable, scope, total))
        tables.add(_Table(scope, least))
    return steps


class _Tables:
    """Tables by variable, and which variables share one."""

    def __init__(self, problem: ShardingProblem, costs: Sequence[np.ndarray]) -> None:
        self.sizes = [variable.values for variable in problem.variables]
        self._of: list[list[_Table]] = [[_Table((index,), cost)] for index, cost in enumerate(costs)]
        self._around: dict[int, set[int]] = {index: {index} for index in range(len(costs))}
        self._weight = dict(enumerate(self.sizes))
        for link in problem.links:
            self.add(_Table((link.first, link.second), np.where(link.allowed, 0, NEVER)))

    def cheapest(self) -> tuple[int, tuple[int, ...]]:
        """The variable whose elimination makes the smallest table, and the scope of that table."""
        best = min(self._weight, key=lambda variable: (self._weight[variable], variable))
        return best, tuple(sorted(self._around[best] - {best}))

    def size_with(self, variable: int) -> int:
        """Entries of the table over a variable and all that share a table with it."""
        return self._weight[variable]

    def add(self, table: _Table) -> None:
        for variable in table.scope:
            self._of[variable].append(table)
            self._around[variable].update(table.scope)
        self._weigh(table.scope)

    def take(self, variable: int, scope: tuple[int, ...]) -> np.ndarray:
        """The sum of all tables with `variable`, int64[*scope, variable], which are then gone."""
        axes = (*scope, variable)
        total = np.zeros([self.sizes[axis] for axis in axes], dtype=np.int64)
        for table in self._of[variable]:
            order = sorted(range(len(table.scope)), key=lambda d: axes.index(table.scope[d]))
            shape = [self.sizes[axis] if axis in table.scope else 1 for axis in axes]
            total += table.cost.transpose(order).reshape(shape)
            np.minimum(total, NEVER, out=total)
        for other in scope:
            self._of[other] = [table for table in self._of[other] if variable not in table.scope]
            self._around[other].discard(variable)
        del self._around[variable], self._weight[variable]
        self._weigh(scope)
        return total

    def _weigh(self, variables: Sequence[int]) -> None:
        for variable in variables:
            self._weight[variable] = prod(self.sizes[other] for other in self._around[variable])


def _read_back(steps: list[Step]) -> tuple[int, ...]:
    chosen = [0] * len(steps)
    for step in reversed(steps):
        chosen[step.variable] = int(step.total[tuple(chosen[other] for other in step.scope)].argmin())
    return tuple(chosen)
