"""`chiplan simulate`: the verdict on a plan."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from chiplan.ir import Plan
from chiplan.runtime_sim import Fault

from .cli_summary import print_figures
from .cli_tables import print_list
from .quantities import counted


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
