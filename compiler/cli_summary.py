"""What `compile` and `simulate` print of a plan: the figures that it was asked for."""

from collections.abc import Mapping

from rich.console import Console

from chiplan.ir import Plan

from .cli_tables import print_table, table
from .plan_summary import precision_words
from .quantities import counted, duration, grouped, rate, share


def print_headline(console: Console, plan: Plan, latency: int | None) -> None:
    """Model, target, what runs, and the two figures; all marked as simulated. `latency` in cycles,
    None where faults leave it open."""
    clock = plan.target.chip.clock_hz
    chips = sum(len(stage.chips) for stage in plan.stages)
    state = f", {counted(plan.users, 'user')} resident" if plan.graph.states else ""
    console.print(
        f"{plan.graph.name} on {plan.target.name}: {counted(len(plan.stages), 'stage')} on "
        f"{counted(chips, 'chip')}, precision {precision_words(plan)}",
        style="bold",
    )
    console.print(f"batch {plan.batch}, sequence {plan.sequence}{state}, objective {plan.objective}")
    known = "unknown" if latency is None else f"{grouped(latency)} cycles, {duration(latency, clock)}"
    console.print(f"latency   {known}")
    console.print(f"interval  {grouped(plan.interval)} cycles, {duration(plan.interval, clock)}")
    console.print("All figures are simulated and exclude transfers from and to the host.")


def print_figures(console: Console, plan: Plan, figures: Mapping[str, object]) -> None:
    """Headline, rates and bounds of a plan that was simulated."""
    latency = figures["latency_cycles"]
    latency = latency if isinstance(latency, int) else None
    print_headline(console, plan, latency)
    for name, words in _RATES:
        value = figures.get(name)
        if isinstance(value, int | float):
            console.print(f"{words} {rate(value)}")
    console.print()
    print_bounds(console, plan, latency)


_RATES = (
    ("inferences_per_second", "inferences a second:"),
    ("tokens_per_second_user", "tokens a second, one user:"),
    ("tokens_per_second_total", "tokens a second, in total:"),
)


def print_bounds(console: Console, plan: Plan, latency: int | None) -> None:
    """Each proven bound next to what was achieved, and what binds in words."""
    chips = sum(len(stage.chips) for stage in plan.stages)
    achieved = {"interval": int(plan.interval), "chips": chips}
    if latency is not None:
        achieved["latency"] = latency
    rows = (
        (
            bound.quantity,
            grouped(achieved[bound.quantity]) if bound.quantity in achieved else "-",
            grouped(bound.value),
            _excess(achieved.get(bound.quantity), bound.value),
            bound.binding,
        )
        for bound in plan.bounds
    )
    columns = ("quantity", "achieved", "bound", "above", "<what binds")
    print_table(console, "Proven lower bounds", table(columns, rows))


def _excess(achieved: int | None, bound: int) -> str:
    return "-" if achieved is None or bound <= 0 else share(achieved - bound, bound)
