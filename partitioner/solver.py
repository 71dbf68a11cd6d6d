"""The only door to OR-Tools: build a CP-SAT model, solve it under deterministic limits, certify it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ortools.sat.python import cp_model

from chiplan.ir import Certificate

LinearExpr = cp_model.LinearExpr | cp_model.IntVar | int
"""What a model adds up: variables, sums of them, constants."""
IntVar = cp_model.IntVar
CpModel = cp_model.CpModel
LOWEST_MIN_FIRST, IN_ORDER = cp_model.CHOOSE_LOWEST_MIN, cp_model.CHOOSE_FIRST
SMALLEST_VALUE = cp_model.SELECT_MIN_VALUE
"""How a search branches: on the variable that could be lowest or the next in order, to its smallest value."""

_STATUS = {
    cp_model.OPTIMAL: "optimal",
    cp_model.FEASIBLE: "feasible",
    cp_model.INFEASIBLE: "infeasible",
    cp_model.UNKNOWN: "unknown",
    cp_model.MODEL_INVALID: "invalid",
}


Watcher = Callable[[str], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Inside, every better solution and bound that a solver finds is told in words. What is found does not
    depend on who watches."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class _Telling(cp_model.CpSolverSolutionCallback):
    """Says how far a solver has come."""

    def __init__(self, problem: str, tell: Watcher) -> None:
        super().__init__()
        self._problem, self._tell = problem, tell

    def on_solution_callback(self) -> None:
        best, bound = round(self.objective_value), max(0, round(self.best_objective_bound))
        self._tell(f"solving {self._problem}: best {best:,}, bound {bound:,}")


@dataclass(frozen=True)
class Solution:
    """What came out. `solver` is only asked for values when `found`."""

    solver: cp_model.CpSolver
    certificate: Certificate
    found: bool

    def value(self, expression: LinearExpr) -> int:
        return int(self.solver.value(expression))


def solve(
    model: CpModel,
    problem: str,
    deterministic_limit: float,
    *,
    minimising: bool = True,
    known: int | None = None,
    workers: int = 2,
    fixed_search: bool = False,
    seconds: float | None = None,
) -> Solution:
    """Solve with a fixed seed, a fixed number of interleaved workers and a deterministic limit, so that
    the same model gives the same answer on every machine.

    `known` is the objective of a solution that the caller has already; the certificate speaks of it
    when the limit comes before the solver's own. `fixed_search` decides variables in the model's own
    order alone. `seconds` is a stop by the clock, for benchmarks: answers may differ between machines.
    """
    solver = cp_model.CpSolver()
    solver.parameters.random_seed = 1
    solver.parameters.num_workers = workers
    solver.parameters.interleave_search = workers > 1
    if fixed_search:
        solver.parameters.search_branching = cp_model.FIXED_SEARCH
    if seconds is not None:
        solver.parameters.max_time_in_seconds = seconds
    solver.parameters.max_deterministic_time = deterministic_limit
    tell = _watcher.get()
    if tell is not None:
        tell(f"solving {problem}")
    telling = _Telling(problem, tell) if tell is not None and minimising else None
    status = solver.solve(model, telling)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    if not found and known is not None:
        name, objective = "feasible", known
    else:
        name, objective = _STATUS[status], round(solver.objective_value) if found and minimising else 0
    bound = max(0, round(solver.best_objective_bound)) if minimising and status != cp_model.INFEASIBLE else 0
    gap = (objective - bound) / max(1, bound)
    spent = round(solver.response_proto.deterministic_time, 6)
    certificate = Certificate(problem, name, objective, bound, gap, spent)
    return Solution(solver, certificate, found)
