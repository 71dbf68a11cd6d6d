"""`compile --verify-each`: the verifier behind a pass; what it finds is a bug of that pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice

from chiplan.ir import Finding, Graph, InternalFault, Plan, Problem, verify_graph, verify_plan

MOST_SAID = 10
"""Findings that a refusal lists; one mistake often breaks many places."""
_verified: ContextVar[set[str] | None] = ContextVar("verified", default=None)


@contextmanager
def noting_passes() -> Iterator[set[str]]:
    """Gives a set that holds, inside, the names of the passes that were verified so far."""
    names: set[str] = set()
    token = _verified.set(names)
    try:
        yield names
    finally:
        _verified.reset(token)


def check_graph(name: str, graph: Graph) -> None:
    """Raises InternalFault where the graph that the pass `name` made breaks a rule."""
    _check(name, verify_graph(graph))


def check_plan(plan: Plan) -> None:
    """Raises InternalFault where a plan breaks a rule."""
    _check("assemble", verify_plan(plan))


def _check(name: str, findings: Iterator[Finding]) -> None:
    problems = [
        Problem(f"rule_{finding.rule}", f"behind the pass {name}: {finding}")
        for finding in islice(findings, MOST_SAID)
    ]
    if problems:
        raise InternalFault(problems)
    noted = _verified.get()
    if noted is not None:
        noted.add(name)
