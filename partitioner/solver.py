"""The only door to OR-Tools: build a CP-SAT model, solve it under deterministic limits, certify it."""

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
    status = solver.solve(model)
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
