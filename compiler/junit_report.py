"""A check as a JUnit file, which CI servers read: one test case a figure."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from chiplan.ir import Problem

from .baseline_check import Check, Verdict
from .cli_check import changes, headline, node_rows, problems
from .quantities import grouped


def check_junit(check: Check) -> str:
    """Every figure passes or fails; where the two are incomparable, that is the one error."""
    if check.verdict is Verdict.INCOMPARABLE:
        return refusal_junit(check.model, problems(check))
    suite = _suite(len(check.judgements), failures=sum(item.beyond for item in check.judgements), errors=0)
    details = [f"{row[0]}: {row[-1]} cycles" for row in node_rows(check)] + changes(check)
    for item in check.judgements:
        case = _case(suite, check.model, item.quantity)
        if item.beyond:
            message = f"{grouped(item.before)} → {grouped(item.after)}, allowed {item.allowed}"
            failure = SubElement(case, "failure", message=message, type=Verdict.WORSE.value)
            failure.text = "\n".join((headline(check), *details))
    return _text(suite)


def refusal_junit(model: str, refused: Sequence[Problem]) -> str:
    """A model that could not be held against its baseline."""
    suite = _suite(1, failures=0, errors=1)
    case = _case(suite, model, "comparable")
    message = " ".join(problem.message for problem in refused)
    SubElement(case, "error", message=_legal(message), type=refused[0].code)
    return _text(suite)


def _suite(tests: int, failures: int, errors: int) -> Element:
    counts = {"tests": str(tests), "failures": str(failures), "errors": str(errors)}
    return Element("testsuite", {"name": "chiplan check", **counts})


def _case(suite: Element, model: str, name: str) -> Element:
    return SubElement(suite, "testcase", {"classname": f"chiplan.{_legal(model)}", "name": name})


def _legal(text: str) -> str:
    """Without the characters that no XML file may hold."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def _text(suite: Element) -> str:
    indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(suite, encoding="unicode")}\n'
