"""`compile --verify-each`: the verifier behind a pass; what it finds is a bug of that pass."""

from collections.abc import Iterator
from itertools import islice

from chiplan.ir import Finding, Graph, InternalFault, Plan, Problem, verify_graph, verify_plan

MOST_SAID = 10
"""Findings that a refusal lists; one mistake often breaks many places."""


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
