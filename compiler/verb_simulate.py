"""`chiplan simulate`: check every cycle of a plan, and its numbers."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chiplan.ir import ExitCode

from .cli_options import PLAN, with_json
from .cli_output import file_sha256, page, print_json, progress
from .collection import collection_paused

if TYPE_CHECKING:
    from .numeric_check import NumericsReport


EXAMPLES = """
\b
Examples:
  chiplan simulate gpt2.chiplan
  chiplan simulate gpt2-tiny.chiplan --numerics gpt2-tiny
  chiplan simulate gpt2.chiplan --json
"""


@click.command("simulate", epilog=EXAMPLES)
@PLAN
@click.option("--numerics", metavar="MODEL", help="Also execute all tiles and compare with onnxruntime.")
@with_json
@collection_paused()
def simulate_verb(plan_path: Path, numerics: str | None, as_json: bool) -> ExitCode:
    """Check PLAN cycle by cycle; exit code 1 when it has a fault.

    The simulator knows the plan alone and shares no scheduling code with the compiler. It checks that no two
    tiles meet on a unit and no two flits on a link, that nothing is read before it is there, that every byte
    of SRAM has one owner, in one micro-batch and in steady state, and measures latency and interval. Each
    fault is named, with chip, unit or link, cycle, operator and tile.
    """
    from .cli_inputs import model_file, plan_of
    from .cli_simulate import examine, print_verdict
    from .cli_summary import plan_figures

    model = model_file(numerics) if numerics is not None else None
    plan = plan_of(plan_path)
    with progress(as_json) as say:
        report, compared = examine(plan, model, say)
    document = plan_figures(plan, report, file_sha256(plan_path))
    if not as_json:
        print_verdict(page(), plan, report.faults, document)
    if model is not None:
        document |= _numerics(compared, as_json)
    if as_json:
        print_json(document)
    return ExitCode.DONE if document["ok"] else ExitCode.CHECK_FAILED


def _numerics(compared: "NumericsReport | None", as_json: bool) -> dict[str, object]:
    """What numerics adds to the verdict; printed as text unless `as_json`. None: the plan has faults."""
    if compared is None:
        return {"numerics": None}
    from .cli_numerics import numerics_document, print_numerics

    if not as_json:
        print_numerics(page(), compared)
    return {"ok": compared.ok, "numerics": numerics_document(compared)}
