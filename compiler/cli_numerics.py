"""`chiplan simulate --numerics`: how far the executed plan is from the model."""

from dataclasses import asdict
from math import isfinite
from typing import Any

from rich.console import Console

from .cli_tables import print_text
from .numeric_check import NumericsReport


def numerics_document(report: NumericsReport) -> dict[str, object]:
    """What `--json` prints; an error without a finite value (a NaN came out) is null."""
    return _finite(asdict(report))


def _finite(fields: dict[str, Any]) -> dict[str, object]:
    finite: dict[str, object] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            finite[name] = _finite(value)
        else:
            finite[name] = None if isinstance(value, float) and not isfinite(value) else value
    return finite


def print_numerics(console: Console, report: NumericsReport) -> None:
    """One line for agreement, and the place of the first divergence where there is none."""
    verdict = "agrees with" if report.ok else "DIVERGES from"
    print_text(
        console,
        f"numerics: {verdict} onnxruntime in {report.micro_batches} overlapping runs, "
        f"largest error {report.max_error:.2g} of the output's scale (tolerance {report.tolerance:.2g})",
    )
    if report.first_divergence is not None:
        print_text(console, f"first divergence: {report.first_divergence.message}")
