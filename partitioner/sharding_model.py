"""A sharding problem as a CP-SAT model: one boolean a value, exactly one true a variable."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from chiplan.ir import Certificate

from .sharding import ShardingProblem
from .solver import CpModel, IntVar, LinearExpr, Solution, solve

DETERMINISTIC_LIMIT = 2.0
"""For the cycles; bytes and rank get a quarter of it, and keep what they have when it is over."""


def solve_by_model(
    problem: ShardingProblem, hint: Sequence[int] | None, limit: float = DETERMINISTIC_LIMIT
) -> tuple[tuple[int, ...] | None, Certificate]:
    """Least cycles, then bytes and rank together, within the capacity; the certificate speaks of cycles.

    Without a capacity that anything is within: the fewest bytes, and a certificate of those.
    """
    ranks = 1 + sum(int(variable.rank.max()) for variable in problem.variables)
    cycles = [problem.priced_cycles(variable) for variable in problem.variables]
    rest = [variable.nbytes * ranks + variable.rank for variable in problem.variables]
    name = problem.titled("cycles")
    found = _solve_twice(problem, (cycles, rest), name, hint, limit)
    if found[0] is not None or problem.capacity is None or found[1].status != "infeasible":
        return found
    nbytes = [variable.nbytes for variable in problem.variables]
    free = replace(problem, capacity=None)
    return _solve_twice(free, (nbytes, cycles), problem.titled("bytes"), None, limit)


def _solve_twice(
    problem: ShardingProblem,
    objectives: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    name: str,
    hint: Sequence[int] | None,
    limit: float,
) -> tuple[tuple[int, ...] | None, Certificate]:
    """Least of the first objective, then of the second."""
    built = _Model(problem)
    first, second = (built.total(costs) for costs in objectives)
    built.hint(hint)
    built.model.minimize(first)
    known = None
    if hint is not None:
        known = sum(int(costs[value]) for costs, value in zip(objectives[0], hint, strict=True))
    best = solve(built.model, name, limit, known=known)
    if not best.found:
        return (None if hint is None else tuple(hint)), best.certificate
    chosen = built.values(best)
    built.model.add(first <= best.certificate.objective)
    built.hint(chosen)
    built.model.minimize(second)
    tied = solve(built.model, name, limit / 4)
    return (built.values(tied) if tied.found else chosen), best.certificate


class _Model:
    """Booleans, links, and the bytes that must fit."""

    def __init__(self, problem: ShardingProblem) -> None:
        self.problem, self.model = problem, CpModel()
        self.chosen = [
            [self.model.new_bool_var(f"{number}.{value}") for value in range(variable.values)]
            for number, variable in enumerate(problem.variables)
        ]
        for booleans in self.chosen:
            self.model.add_exactly_one(booleans)
        for link in problem.links:
            self._add_link(self.chosen[link.first], self.chosen[link.second], link.allowed)
            self._add_link(self.chosen[link.second], self.chosen[link.first], link.allowed.T)
        if problem.capacity is not None:
            self.model.add(self.total([v.nbytes for v in problem.variables]) <= problem.capacity)

    def _add_link(self, first: list[IntVar], second: list[IntVar], allowed: np.ndarray) -> None:
        """A value of `first` asks for one of `second` that goes with it. Values that go with the same ones
        make one constraint: tighter than one each, since only one of them is chosen."""
        rows, group = np.unique(allowed, axis=0, return_inverse=True)
        for number, row in enumerate(rows):
            if not row.all():
                asking = sum(first[value] for value in np.flatnonzero(group.ravel() == number))
                self.model.add(asking <= sum(second[value] for value in np.flatnonzero(row)))

    def total(self, costs: Sequence[np.ndarray]) -> LinearExpr:
        return sum(
            int(cost) * boolean
            for booleans, column in zip(self.chosen, costs, strict=True)
            for boolean, cost in zip(booleans, column.tolist(), strict=True)
            if cost
        )

    def hint(self, chosen: Sequence[int] | None) -> None:
        clear: Callable[[], None] = self.model.clear_hints
        clear()
        for booleans, value in zip(self.chosen, chosen or (), strict=False):
            for number, boolean in enumerate(booleans):
                self.model.add_hint(boolean, number == value)

    def values(self, solution: Solution) -> tuple[int, ...]:
        return tuple(
            next(number for number, boolean in enumerate(booleans) if solution.value(boolean))
            for booleans in self.chosen
        )
