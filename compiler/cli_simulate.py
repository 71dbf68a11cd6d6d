"""`chiplan simulate`: the verdict on a plan."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from chiplan.ir import Plan
from chiplan.runtime_sim import Fault, Report, simulate

from .cli_summary import print_figures
from .cli_tables import print_list
from .quantities import counted

if TYPE_CHECKING:
    from .numeric_check import NumericsReport


def examine(
    plan: Plan, model: Path | None, say: Callable[[str], None]
) -> tuple[Report, "NumericsReport | None"]:
    """Simulates, and with a model compares all values; nothing is printed, so that a refusal of the
    model stands alone. No comparison where the plan has faults: it has no meaning to be executed.

    Raises BadInput and Incomparable for a model that is not the plan's, or has no weights.
    """
    say("simulating")
    if model is None:
        return simulate(plan), None
    from .numeric_check import check_numerics, import_for_plan

    imported = import_for_plan(plan, model)
    report = simulate(plan)
    if not report.ok:
        return report, None
    say("executing all tiles")
    return report, check_numerics(plan, model, imported)


def print_verdict(
    console: Console, plan: Plan, faults: Sequence[Fault], figures: Mapping[str, object]
) -> None:
    """The figures and what was checked; every fault with its coordinates."""
    print_figures(console, plan, figures)
    tiles = sum(len(stage.program.tiles.start) for stage in plan.stages)
    checked = f"{counted(tiles, 'tile')} and {counted(len(plan.transfers.start), 'transfer')} checked"
    if faults:
        print_list(console, f"{checked}: {counted(len(faults), 'fault')}", [fault_line(f) for f in faults])
    else:
        console.print(f"{checked}: no fault")


def fault_line(fault: Fault) -> str:
    """A fault in one line; its message names the coordinates."""
    return f"{fault.name}: {fault.message}"
