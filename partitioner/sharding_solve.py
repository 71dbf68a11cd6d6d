"""Solve a sharding problem, prove it, and say what forbidding a choice would cost.

Without a capacity that binds, exact elimination both finds the optimum and proves it. Where bytes must
fit, or a table of the elimination would be too large, CP-SAT solves, with the elimination's best answer
as its hint.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from chiplan.ir import Certificate

from .sharding import ShardingProblem
from .sharding_elimination import NEVER, eliminate
from .sharding_marginals import Marginals, find_marginals
from .sharding_model import solve_by_model
from .sharding_presolve import original_values, presolve

_PRICES = 24
_MOST = 1 << 60


@dataclass(frozen=True)
class ShardingSolution:
    """A value a variable. fits: whether the bytes are within the capacity; if nothing does, the values are
    those of fewest bytes."""

    problem: ShardingProblem
    values: tuple[int, ...]
    cycles: int
    nbytes: int
    fits: bool
    certificate: Certificate

    def next_best(self, variable: int) -> tuple[int, int] | None:
        """The best other value of a variable, and how many more cycles all takes with it; None if it has no
        other that goes with the rest."""
        if self._weighed is None:
            return self._next_best_solved(variable)
        marginals, kept = self._weighed
        offered = kept[variable]
        least = np.where(offered == self.values[variable], NEVER, marginals.least[variable])
        if not len(offered) or int(least.min()) >= NEVER:
            return None
        other = int(least.argmin())
        values = original_values(marginals.best_with(variable, other), kept)
        if not _fits(self.problem, values):
            return self._next_best_solved(variable)
        return int(offered[other]), self.problem.totals(values)[0] - self.cycles

    @cached_property
    def _weighed(self) -> tuple[Marginals, list[np.ndarray]] | None:
        """What every value costs at best, capacity not looked at, and the values that have a part in it."""
        small, kept = presolve(self.problem, best_alone=False, fitting=self.fits)
        marginals = find_marginals(small, _weights(small, "cycles"))
        return None if marginals is None else (marginals, kept)

    def _next_best_solved(self, variable: int) -> tuple[int, int] | None:
        """The same by a search without the value chosen."""
        others = [v for v in range(self.problem.variables[variable].values) if v != self.values[variable]]
        forbidden = solve_sharding(self.problem.restricted(variable, others)) if others else None
        if forbidden is None or not forbidden.fits:
            return None
        return others[forbidden.values[variable]], forbidden.cycles - self.cycles


def solve_sharding(problem: ShardingProblem) -> ShardingSolution | None:
    """The consistent values of least cycles, then bytes, then rank, within the capacity if any are; None
    where no values are consistent."""
    found = _solved(problem, *presolve(problem))
    if found is None and problem.capacity is not None:
        # What is left of values that may fit does not go together: those of fewest bytes are wanted.
        found = _solved(problem, *presolve(problem, fitting=False))
    return found


def _solved(
    problem: ShardingProblem, small: ShardingProblem, kept: Sequence[np.ndarray]
) -> ShardingSolution | None:
    """The solution of `problem` by what its presolve has `kept`."""
    if not all(variable.values for variable in small.variables):
        return None
    chosen = eliminate(small, _weights(small, "cycles"))
    if chosen is not None and _fits(small, chosen):
        cost = small.cost(chosen)
        proof = Certificate(problem.titled("cycles"), "optimal", cost, cost, 0.0, 0.0)
        return _solution(problem, original_values(chosen, kept), proof)
    if chosen is not None:
        fewest = eliminate(small, _weights(small, "nbytes"))
        assert fewest is not None
        if not _fits(small, fewest):
            return _too_large(problem, original_values(fewest, kept))
        chosen = _priced(small, fewest)
    values, certificate = solve_by_model(small, chosen)
    return None if values is None else _solution(problem, original_values(values, kept), certificate)


def _solution(problem: ShardingProblem, values: tuple[int, ...], proof: Certificate) -> ShardingSolution:
    cycles, nbytes, _ = problem.totals(values)
    return ShardingSolution(problem, values, cycles, nbytes, _fits(problem, values), proof)


def _too_large(problem: ShardingProblem, values: tuple[int, ...]) -> ShardingSolution:
    nbytes = problem.totals(values)[1]
    proof = Certificate(problem.titled("bytes"), "optimal", nbytes, nbytes, 0.0, 0.0)
    return _solution(problem, values, proof)


def _fits(problem: ShardingProblem, chosen: Sequence[int]) -> bool:
    return problem.capacity is None or problem.totals(chosen)[1] <= problem.capacity


def _weights(problem: ShardingProblem, first: str) -> list[np.ndarray]:
    """Cycles, bytes and rank as one number a value, `first` before the others."""
    pairs = [(problem.priced_cycles(v), v.nbytes) for v in problem.variables]
    pairs = pairs if first == "cycles" else [(nbytes, cycles) for cycles, nbytes in pairs]
    ranks = 1 + sum(int(v.rank.max(initial=0)) for v in problem.variables)
    majors = 1 + sum(int(major.max(initial=0)) for major, _ in pairs)
    minors = 1 + sum(int(minor.max(initial=0)) for _, minor in pairs)
    # Ties are broken by coarser figures where exact ones would not fit a number of 60 bits.
    shift = max(0, (majors * minors * ranks // _MOST).bit_length())
    scale = (minors >> shift) + len(pairs) + 1
    return [
        (major * scale + (minor >> shift)) * ranks + variable.rank
        for (major, minor), variable in zip(pairs, problem.variables, strict=True)
    ]


def _priced(problem: ShardingProblem, fewest: tuple[int, ...]) -> tuple[int, ...]:
    """Values that fit, found by a price on bytes: the least of a bisection, or the fewest bytes."""
    best, low, high = fewest, 0, _PRICES
    free = replace(problem, capacity=None)
    while low < high:
        price = (low + high) // 2
        costs = [(problem.priced_cycles(v) << 20) + (v.nbytes << price >> 4) for v in problem.variables]
        chosen = eliminate(free, costs)
        if chosen is None:
            break
        if _fits(problem, chosen):
            best = min(best, chosen, key=lambda values: problem.totals(values)[:2])
            high = price
        else:
            low = price + 1
    return best
