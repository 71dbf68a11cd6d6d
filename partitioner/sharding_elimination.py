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
_NEVER = 1 << 61


@dataclass(frozen=True)
class _Table:
    """cost: int64, one axis a variable of `scope` (ascending)."""

    scope: tuple[int, ...]
    cost: np.ndarray


@dataclass(frozen=True)
class _Step:
    """`variable` takes value best[values of `scope`]."""

    variable: int
    scope: tuple[int, ...]
    best: np.ndarray


def eliminate(problem: ShardingProblem, costs: Sequence[np.ndarray]) -> tuple[int, ...] | None:
    """The values of least total cost, links kept, capacity not looked at; `costs` is int64[values] a
    variable, sums below 2^60. None where there are none, or where a table would grow too large."""
    tables = [_Table((index,), cost) for index, cost in enumerate(costs)]
    for link in problem.links:
        cost = np.where(link.allowed, 0, _NEVER)
        ascending = link.first < link.second
        pair = (link.first, link.second) if ascending else (link.second, link.first)
        tables.append(_Table(pair, cost if ascending else cost.T))
    sizes = [variable.values for variable in problem.variables]
    if not all(sizes):
        return None
    steps: list[_Step] = []
    waiting = set(range(len(sizes)))
    while waiting:
        variable, scope = _cheapest(waiting, tables, sizes)
        if prod(sizes[other] for other in scope) * sizes[variable] > _LARGEST_TABLE:
            return None
        total, others = _joined(variable, scope, tables, sizes)
        least = total.min(axis=-1)
        if not scope and int(least) >= _NEVER:
            return None
        steps.append(_Step(variable, scope, total.argmin(axis=-1)))
        tables = [*others, _Table(scope, least)] if scope else others
        waiting.discard(variable)
    return _read_back(steps, len(sizes))


def _cheapest(waiting: set[int], tables: list[_Table], sizes: list[int]) -> tuple[int, tuple[int, ...]]:
    """The variable whose elimination makes the smallest table, and the scope of that table."""
    around: dict[int, set[int]] = {variable: set() for variable in waiting}
    for table in tables:
        for variable in table.scope:
            around[variable].update(table.scope)
    best = min(waiting, key=lambda v: (prod(sizes[other] for other in around[v]), v))
    return best, tuple(sorted(around[best] - {best}))


def _joined(
    variable: int, scope: tuple[int, ...], tables: list[_Table], sizes: list[int]
) -> tuple[np.ndarray, list[_Table]]:
    """The sum of all tables with `variable`, int64[*scope, variable], and the other tables."""
    axes = (*scope, variable)
    total = np.zeros([sizes[axis] for axis in axes], dtype=np.int64)
    others = []
    for table in tables:
        if variable not in table.scope:
            others.append(table)
            continue
        order = sorted(range(len(table.scope)), key=lambda d: axes.index(table.scope[d]))
        shape = [sizes[axis] if axis in table.scope else 1 for axis in axes]
        total += table.cost.transpose(order).reshape(shape)
        np.minimum(total, _NEVER, out=total)
    return total, others


def _read_back(steps: list[_Step], variables: int) -> tuple[int, ...]:
    chosen = [0] * variables
    for step in reversed(steps):
        chosen[step.variable] = int(step.best[tuple(chosen[other] for other in step.scope)])
    return tuple(chosen)
