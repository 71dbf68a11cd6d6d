"""`chiplan check` as a page, as Markdown for a pull request, or as one object."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from chiplan.ir import ExitCode, Problem

from .baseline import Baseline
from .baseline_check import Check, Difference, Judgement, Measured, Verdict
from .cli_tables import print_table, print_text, table
from .diff_table import growth, simulated_words
from .figure_words import figure_label
from .markdown import markdown_code, markdown_table, markdown_text
from .plan_profile import NodeCost
from .quantities import grouped

UNBLAMED = "No node costs more cycles: the schedule is longer, not the work."
_BLAME = "What costs most more, in cycles of one micro-batch"
_FIGURES = ("figure", "baseline", "now", "change", "allowed", "verdict")
_NODES = ("ONNX nodes", "units", "links", "before", "now", "more")

EXIT_CODES = {
    Verdict.SAME: ExitCode.DONE,
    Verdict.BETTER: ExitCode.DONE,
    Verdict.WORSE: ExitCode.CHECK_FAILED,
    Verdict.INCOMPARABLE: ExitCode.INCOMPARABLE,
}


def headline(check: Check) -> str:
    """The verdict in one line."""
    return f"{check.model} on {check.target}: {check.verdict.value}"


def print_check(console: Console, check: Check) -> None:
    """Verdict, figures, what changed, and the nodes that cost most more, of two that are comparable."""
    print_text(console, headline(check), style="bold")
    console.print(_simulated(check.measured))
    console.print()
    print_table(console, "Figures", table(_FIGURES, figure_rows(check)))
    for line in changes(check):
        print_text(console, line)
    if check.verdict is Verdict.WORSE or check.blamed:
        console.print()
        print_table(console, _BLAME, table((f"<{_NODES[0]}", *_NODES[1:]), node_rows(check)))
        if not check.blamed:
            print_text(console, UNBLAMED)


def figure_rows(check: Check) -> list[tuple[str, ...]]:
    """One row a figure: baseline, now, by how much it grew, what is allowed, what that means."""
    return [
        (
            figure_label(item.quantity),
            grouped(item.before),
            grouped(item.after),
            growth(item.before, item.after) or "0",
            item.allowed,
            judged(item),
        )
        for item in check.judgements
    ]


def judged(item: Judgement) -> str:
    """A figure's verdict in a word."""
    if item.verdict is Verdict.WORSE and not item.beyond:
        return "allowed"
    return item.verdict.value


def node_rows(check: Check) -> list[tuple[str, ...]]:
    """One row for nodes that cost more: where the cycles are, and how many there were."""
    return [_node_row(before, after) for before, after in check.blamed]


def _node_row(before: NodeCost | None, after: NodeCost | None) -> tuple[str, ...]:
    now = after.cycles if after else 0
    was = before.cycles if before else 0
    return (
        after.label if after else "",
        grouped(after.unit_cycles if after else 0),
        grouped(after.link_cycles if after else 0),
        grouped(was) if before else "new",
        grouped(now),
        f"{now - was:+,}",
    )


def changes(check: Check) -> list[str]:
    """In words: whether the model, chiplan and what was allowed changed since the baseline."""
    changed = {item.name.removeprefix("tool "): item for item in check.changed}
    lines = []
    for name, words in (("model", "The model"), ("chiplan", "chiplan"), ("ortools", "The solver (ortools)")):
        item = changed.get(name)
        if item is None:
            lines.append(f"{words} is the baseline's.")
        elif name == "model":
            lines.append(f"{words} changed: sha256 {item.before[:12]} → {item.after[:12]}.")
        else:
            lines.append(f"{words} changed: {item.before} → {item.after}.")
    return [*lines, *(f"Allowed: {item.words}." for item in check.allowed)]


def check_markdown(check: Check) -> str:
    """A table and the nodes that cost most more, for the summary of a pull request."""
    title = f"{markdown_code(check.model)} on {markdown_code(check.target)} is {check.verdict.value}"
    parts = [f"### chiplan: {title}\n"]
    if check.verdict is Verdict.INCOMPARABLE:
        parts += ["Differs from the measuring stick:\n", *_items(check.refused)]
        return "\n".join(parts) + "\n"
    parts.append(markdown_table(_FIGURES, figure_rows(check)))
    if check.blamed:
        parts += ["", f"{_BLAME}:\n", markdown_table(_NODES, node_rows(check))]
    elif check.verdict is Verdict.WORSE:
        parts += ["", UNBLAMED]
    parts += ["", *(f"- {markdown_text(line)}" for line in changes(check)), "", _simulated(check.measured)]
    return "\n".join(parts) + "\n"


def _items(differences: Sequence[Difference]) -> list[str]:
    return [f"- {markdown_text(item.words)}" for item in differences]


def problems(check: Check) -> tuple[Problem, ...]:
    """Why the two are incomparable, as a refusal states it."""
    return tuple(_problem(item) for item in check.refused)


def _problem(item: Difference) -> Problem:
    cure = (
        "leave --same out, or update the baseline"
        if item.part in ("model", "tool")
        else f"update the baseline, or compare all the same with --allow {item.part}"
    )
    return Problem(f"baseline_{item.part.replace('-', '_')}", f"incomparable, {item.words}; {cure}")


def check_document(check: Check) -> dict[str, object]:
    """What `check --json` prints; with the errors of a refusal where the two are incomparable."""
    code = EXIT_CODES[check.verdict]
    return {
        "ok": code is ExitCode.DONE,
        "exit_code": int(code),
        "verdict": check.verdict.value,
        "model": check.model,
        "target": check.target,
        "latency_includes_host": check.measured and check.measured.includes_host,
        "figures": {item.quantity: _figure_document(item) for item in check.judgements},
        "changed": [asdict(item) for item in check.changed],
        "allowed": [asdict(item) for item in check.allowed],
        "costs_more": [_node_document(*pair) for pair in check.blamed],
        "errors": [asdict(problem) for problem in problems(check)],
    }


def _figure_document(item: Judgement) -> dict[str, object]:
    return {"before": item.before, "after": item.after, "allowed": item.allowed, "verdict": judged(item)}


def _node_document(before: NodeCost | None, after: NodeCost | None) -> dict[str, object]:
    known = after or before
    old, new = (
        {"unit_cycles": side.unit_cycles, "link_cycles": side.link_cycles} if side else None
        for side in (before, after)
    )
    return {"nodes": list(known.nodes) if known else [], "before": old, "after": new}


def _simulated(measured: Measured | None) -> str:
    return simulated_words([measured is not None and measured.includes_host])


def print_update(console: Console, path: Path, before: Baseline | None, measured: Measured) -> None:
    """What was written, and which figures that changed."""
    after = measured.stated
    verb = "wrote" if before is None else "rewrote"
    print_text(console, f"{verb} {path}: review and commit it")
    console.print(_simulated(measured))
    console.print()
    figures = asdict(before.figures if before else after.figures), asdict(after.figures)
    rows = (
        (figure_label(name), grouped(figures[0][name]), grouped(now), growth(figures[0][name], now))
        for name, now in figures[1].items()
    )
    print_table(console, "Figures", table(("figure", "before", "now", "change"), rows))


def update_document(before: Baseline | None, measured: Measured) -> dict[str, object]:
    """What `check --update --json` prints."""
    return {
        "ok": True,
        "exit_code": 0,
        "verdict": "updated",
        "latency_includes_host": measured.includes_host,
        "before": asdict(before.figures) if before else None,
        "after": asdict(measured.stated.figures),
    }
