"""`chiplan inspect`: what a model file holds, and what chiplan cannot plan of it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from chiplan.ir import BadInput, Problem

from .canonical import build_graph
from .cli_output import problem_lines
from .cli_tables import print_list, print_table, table
from .import_summary import ModelSummary, inspect_model
from .importer import import_model
from .quantities import grouped, size

INPUTS_SHOWN = 12
OPERATORS_IN_A_LINE = 4


def unsupported(path: Path, summary: ModelSummary) -> tuple[Problem, ...]:
    """Everything that stands between the model and a plan, with default bindings."""
    if summary.problems:
        return summary.problems
    try:
        build_graph(import_model(path))
    except BadInput as refusal:
        return refusal.problems
    return ()


def inspect_document(path: Path) -> dict[str, object]:
    """What `inspect --json` prints. Raises BadInput where the file is no model."""
    summary = inspect_model(path)
    problems = unsupported(path, summary)
    return {
        "ok": True,
        "supported": not problems,
        **asdict(summary),
        "operators": dict(summary.operators),
        "parameter_count": summary.parameter_count,
        "parameter_bytes": summary.parameter_bytes,
        "problems": [asdict(problem) for problem in problems],
    }


def print_inspection(console: Console, path: Path) -> None:
    """The same as a page. Raises BadInput where the file is no model."""
    summary = inspect_model(path)
    problems = unsupported(path, summary)
    console.print(
        f"{summary.name}: opset {summary.opset}, {summary.producer or 'unknown producer'}", style="bold"
    )
    console.print(f"{grouped(summary.parameter_count)} parameters, {size(summary.parameter_bytes)}")
    if summary.positions is not None:
        console.print(f"position table of {grouped(summary.positions)} rows")
    console.print()
    _print_inputs(console, summary)
    states = [f"{state.past} -> {state.present}, axis {state.axis}" for state in summary.states]
    print_list(console, f"State: {len(states)} KV-cache pairs", _shortened(states))
    print_list(console, "Outputs", _shortened(list(summary.outputs)))
    print_list(console, "Operators", tuple(_operator_lines(summary)))
    print_list(console, "Assumed where no option says otherwise", summary.assumptions)
    print_list(console, "Not supported", problem_lines(problems))
    if not problems:
        console.print("Every operator is supported.")


def _print_inputs(console: Console, summary: ModelSummary) -> None:
    rows = [
        (entry.name, entry.dtype, _dimensions(entry.dimensions, entry.roles))
        for entry in summary.inputs[:INPUTS_SHOWN]
    ]
    if len(summary.inputs) > INPUTS_SHOWN:
        rows.append((f"... {len(summary.inputs) - INPUTS_SHOWN} more", "", ""))
    print_table(console, "Inputs", table(("<name", "type", "<dimensions and their roles"), rows, words=2))


def _dimensions(sizes: tuple[str, ...], roles: tuple[str, ...]) -> str:
    """`s2 (batch) x 1`."""
    named = (f"{extent} ({role})" if role else extent for extent, role in zip(sizes, roles, strict=True))
    return " x ".join(named) or "a scalar"


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= INPUTS_SHOWN:
        return lines
    return [*lines[:INPUTS_SHOWN], f"... {len(lines) - INPUTS_SHOWN} more"]


def _operator_lines(summary: ModelSummary) -> Iterator[str]:
    """Counts, several in a line: 96 MatMul, 49 Add."""
    counts = [f"{count} {name}" for name, count in summary.operators]
    for first in range(0, len(counts), OPERATORS_IN_A_LINE):
        yield ", ".join(counts[first : first + OPERATORS_IN_A_LINE])
