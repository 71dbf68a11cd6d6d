"""What `compile` and `simulate` print of a plan: the figures that it was asked for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from chiplan.ir import Bound, Elapsed, Plan, plan_elapsed
from chiplan.runtime_sim import Report, figures

from .cli_tables import print_table, print_text, table
from .plan_summary import context_of, precision_types, precision_words, reached, state_words, wire_types
from .quantities import counted, duration, excess, grouped, rate


def plan_figures(plan: Plan, report: Report, sha256: str) -> dict[str, Any]:
    """What `compile --json` and `simulate --json` print."""
    types = {"precision_types": list(precision_types(plan)), "wire_types": list(wire_types(plan))}
    return figures(plan, report, sha256) | types


def stated_figures(plan: Plan, sha256: str) -> dict[str, Any]:
    """The same of a plan that is not simulated now: as it states itself."""
    return plan_figures(plan, Report(True, (), plan.latency, plan.interval), sha256)


def print_headline(console: Console, plan: Plan, *, is_known: bool = True) -> None:
    """Model, target, what runs, and the two figures; all marked as simulated. Faults may leave the latency
    open."""
    passed = plan_elapsed(plan)
    chips = sum(len(stage.chips) for stage in plan.stages)
    print_text(
        console,
        f"{plan.graph.name} on {plan.target.name}: {counted(len(plan.stages), 'stage')} on "
        f"{counted(chips, 'chip')}, precision {precision_words(plan)}",
        style="bold",
    )
    console.print(
        f"batch {plan.batch}, sequence {plan.sequence}{state_words(plan)}, objective {plan.objective}"
    )
    wires = wire_types(plan)
    if wires:
        console.print(f"partial sums travel as {', '.join(wires)}")
    clock = plan.target.chip.clock_hz
    known = f"{counted(passed.latency, 'cycle')}, {duration(passed.latency, clock)}"
    console.print(f"latency   {known if is_known else 'unknown'}")
    console.print(f"interval  {counted(passed.interval, 'cycle')}, {duration(passed.interval, clock)}")
    for line in outside_lines(plan, passed):
        console.print(line)


def outside_lines(plan: Plan, passed: Elapsed) -> Iterator[str]:
    """What of the figures passes outside the chips' programs, and what is not in them."""
    if passed.deskew_interval:
        yield (
            f"aligning clocks takes {grouped(passed.deskew_latency)} of the latency, "
            f"{grouped(passed.deskew_interval)} of the interval"
        )
    if plan.target.chip.rules.host:
        spent = f"{grouped(passed.host_latency)} of the latency"
        more = f", {grouped(passed.host_interval)} of the interval" if passed.host_interval else ""
        yield f"host transfers take {spent}{more}"
        yield "All figures are simulated and include transfers from and to the host."
    else:
        yield "All figures are simulated and exclude transfers from and to the host."


def print_rates(console: Console, plan: Plan, measured: Mapping[str, object]) -> None:
    """Rates, a line each, and an empty line behind them."""
    for line in _rates(plan, measured):
        console.print(line)
    console.print()


def print_figures(console: Console, plan: Plan, measured: Mapping[str, object]) -> None:
    """Headline, rates and bounds of a plan that was simulated."""
    is_known = measured["latency_cycles"] is not None
    print_headline(console, plan, is_known=is_known)
    print_rates(console, plan, measured)
    print_bounds(console, plan, is_known=is_known)


def _rates(plan: Plan, measured: Mapping[str, object]) -> Iterator[str]:
    """Rates, each with what it holds for."""
    context = context_of(plan)
    types = precision_types(plan) if plan.precision == "model" else (plan.precision,)
    holds = ", ".join((*types, *((f"context {grouped(context)}",) if context is not None else ())))
    for name, words, condition in (
        ("inferences_per_second", "inferences a second:", ""),
        ("tokens_per_second_read", "tokens read a second:", f" ({counted(plan.sequence, 'token')} a run)"),
        ("tokens_per_second_user", "tokens a second, one user:", f" ({holds})"),
        ("tokens_per_second_total", "tokens a second, in total:", f" ({counted(plan.users, 'user')})"),
    ):
        value = measured.get(name)
        if isinstance(value, int | float):
            yield f"{words} {rate(value)}{condition}"


def print_bounds(console: Console, plan: Plan, *, is_known: bool = True) -> None:
    """What binds each quantity: the largest of its proven bounds, next to what was achieved; then the
    others, in words."""
    achieved = reached(plan)
    if not is_known:
        del achieved["latency"]
    rows = (
        (
            bound.quantity if first else "",
            grouped(achieved[bound.quantity]) if first and bound.quantity in achieved else "",
            grouped(bound.value),
            excess(achieved.get(bound.quantity), bound.value) if first else "",
            bound.binding,
        )
        for bound, first in ordered_bounds(plan.bounds)
    )
    columns = ("quantity", "achieved", "bound", "above", "<what binds")
    print_table(console, "Proven lower bounds, the largest first", table(columns, rows))


def ordered_bounds(bounds: Sequence[Bound]) -> Iterator[tuple[Bound, bool]]:
    """(bound, whether it is its quantity's largest), the largest of each quantity first; of equals the one
    that stands first in the plan."""
    for quantity in dict.fromkeys(bound.quantity for bound in bounds):
        mine = [bound for bound in bounds if bound.quantity == quantity]
        for position, bound in enumerate(sorted(mine, key=lambda bound: -bound.value)):
            yield bound, position == 0
