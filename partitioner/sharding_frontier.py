"""The trade of cycles against bytes: solutions between the fastest and the smallest."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .sharding import ShardingProblem
from .sharding_presolve import original_values, presolve
from .sharding_solve import ShardingSolution, solve_sharding

_HIGHEST_PRICE = 1 << 16
_ROUNDS = 2
_WORTH = 16


def sharding_frontier(problem: ShardingProblem) -> tuple[ShardingSolution, ...]:
    """Solutions of ever fewer bytes, the fastest first, each the best at some price of a MiB (on the lower
    hull of cycles and bytes). One that saves less than a sixteenth of the bytes is left out. Empty where no
    values are consistent."""
    return _frontier(problem, *presolve(problem)) or _frontier(problem, *presolve(problem, fitting=False))


def _frontier(
    problem: ShardingProblem, small: ShardingProblem, kept: Sequence[np.ndarray]
) -> tuple[ShardingSolution, ...]:
    """The frontier of `problem` by what its presolve has `kept`."""
    fastest = solve_sharding(small)
    smallest = solve_sharding(replace(small, price=_HIGHEST_PRICE))
    if fastest is None or smallest is None:
        return ()
    worth = [fastest]
    for solution in (*_between(small, fastest, smallest, _ROUNDS), smallest):
        if solution.nbytes <= worth[-1].nbytes - worth[-1].nbytes // _WORTH - 1:
            worth.append(solution)
    return tuple(
        replace(
            solution,
            problem=replace(problem, price=solution.problem.price),
            values=original_values(solution.values, kept),
        )
        for solution in worth
    )


def _between(
    problem: ShardingProblem, faster: ShardingSolution, smaller: ShardingSolution, rounds: int
) -> list[ShardingSolution]:
    """Solutions below the line from one to the other, by ascending price."""
    saved, slower = faster.nbytes - smaller.nbytes, smaller.cycles - faster.cycles
    if saved <= 0 or slower <= 0 or not rounds:
        return []
    priced = replace(problem, price=max(1, (slower << 20) // saved))
    middle = solve_sharding(priced)
    if middle is None or middle.values in (faster.values, smaller.values):
        return []
    if priced.cost(middle.values) >= min(priced.cost(s.values) for s in (faster, smaller)):
        return []
    before = _between(problem, faster, middle, rounds - 1)
    return [*before, middle, *_between(problem, middle, smaller, rounds - 1)]
