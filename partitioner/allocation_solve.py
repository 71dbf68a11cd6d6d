"""A portfolio of searches for addresses, in a fixed order, with budgets of deterministic time that grow.

On hard instances every search is either done at once or lost for long, and which one it is differs: so each
gets little, then each again more. The same problem gives the same addresses on every machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np

from chiplan.ir import Certificate

from .allocation_model import AllocationModel, AllocationRules
from .allocation_problem import AllocationProblem
from .solver import solve


@dataclass(frozen=True)
class Search:
    """A member of the portfolio. order: by what buffers are sorted. fixed: they are decided in that order
    alone; otherwise the solver's own search begins with it."""

    name: str
    order: str
    fixed: bool


SEARCHES = (
    Search("area, then free", "a", fixed=False),
    Search("section-lifetime-area", "sla", fixed=True),
    Search("section-area-lifetime", "sal", fixed=True),
    Search("lifetime-area, then free", "las", fixed=False),
)
DEFAULT_RULES = AllocationRules()
FIRST_BUDGET, GROWTH = 0.006, 12.0
"""Deterministic time of every member in the first round, and how much more it gets in each next one."""


@dataclass(frozen=True)
class Allocation:
    """addresses: int64[buffers], or None. certificate: its objective is the byte behind the last buffer, its
    bound the most that is alive at once; status `infeasible` is a proof. search: the member that found it.
    tries: searches run. stopped_by_clock: the limit in seconds came first, so another machine may find more.
    """

    addresses: np.ndarray | None
    certificate: Certificate
    search: str
    tries: int
    stopped_by_clock: bool = False


class _Clock:
    """A stop by the clock, for benchmarks; None: never."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else monotonic() + seconds

    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - monotonic())

    @property
    def is_over(self) -> bool:
        return self._end is not None and monotonic() >= self._end


def allocate(
    problem: AllocationProblem,
    deterministic_limit: float,
    name: str = "SRAM addresses",
    rules: AllocationRules = DEFAULT_RULES,
    searches: tuple[Search, ...] = SEARCHES,
    seconds: float | None = None,
) -> Allocation:
    """Addresses within the capacity, if they are found within the limit, or before so many seconds."""
    clock, bound = _Clock(seconds), problem.peak

    def ended(status: str, spent: float, tries: int, search: str = "") -> Allocation:
        certificate = Certificate(name, status, 0, bound, 0.0, round(spent, 6))
        return Allocation(None, certificate, search, tries, clock.is_over)

    if bound > problem.capacity:
        return ended("infeasible", 0.0, 0)
    spent, tries = 0.0, 0
    for limit, search in _turns(searches, deterministic_limit):
        limit = min(limit, deterministic_limit - spent)
        if limit <= 0 or clock.is_over:
            break
        model = AllocationModel(problem, rules, search.order)
        solution = solve(
            model.model,
            name,
            limit,
            minimising=False,
            workers=1,
            fixed_search=search.fixed,
            seconds=clock.left(),
        )
        tries, spent = tries + 1, spent + solution.certificate.deterministic_time
        if solution.found:
            return _found(problem, model.addresses(solution), name, (spent, tries, search.name))
        if solution.certificate.status == "infeasible":
            return ended("infeasible", spent, tries, search.name)
    return ended("unknown", spent, tries)


def _turns(searches: Sequence[Search], most: float) -> Iterator[tuple[float, Search]]:
    """Who searches next, and for how long, until one has had all there is."""
    budget = FIRST_BUDGET
    while budget < most * GROWTH:
        yield from ((budget, search) for search in searches)
        budget *= GROWTH


def _found(
    problem: AllocationProblem, addresses: np.ndarray, name: str, effort: tuple[float, int, str]
) -> Allocation:
    spent, tries, search = effort
    top, bound = problem.top(addresses), problem.peak
    status = "optimal" if top == bound else "feasible"
    certificate = Certificate(name, status, top, bound, (top - bound) / max(1, bound), round(spent, 6))
    return Allocation(addresses, certificate, search, tries)
