"""`chiplan compile --pareto`: what chips buy, as a table and as a part of one object."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from chiplan.ir import Plan, Target

from .cli_tables import print_table, print_text, table
from .plan_frontier import FrontierPoint
from .quantities import brief_duration, counted, groups_words, rate

EXPLANATION = (
    "* no other is as good in chips, latency and interval alike. > the plan that is written. Times as "
    "simulated, then as the solver estimated them before the schedule (the stages' latencies one after the "
    "other; the interval of the busiest resource)."
)


def print_frontier(console: Console, points: Sequence[FrontierPoint], plan: Plan) -> None:
    """One row a plan, by chips and latency; nothing where there is no point."""
    if not points:
        return
    unit = "tokens/s" if plan.graph.states else "runs/s"
    several = ("all users",) if plan.users > 1 else ()
    columns = ("", "chips", "<groups", "latency", "estimate", "interval", "estimate", unit, *several)
    shown = [point for point in points if point.is_nondominated or point.is_chosen]
    rows = [_row(point, plan) for point in shown]
    print_table(console, "Frontier of chips, latency and interval", table(columns, rows))
    hidden = len(points) - len(shown)
    words = f" {counted(hidden, 'plan')} that another beats in everything: --json has all." if hidden else ""
    print_text(console, EXPLANATION + words)
    console.print()


def _row(point: FrontierPoint, plan: Plan) -> tuple[str, ...]:
    clock = plan.target.chip.clock_hz
    cells = (
        (">" if point.is_chosen else "") + ("*" if point.is_nondominated else ""),
        str(point.chips),
        groups_words(point.meshes),
        _time(point.latency, clock),
        _time(point.estimated_latency, clock),
        _time(point.interval, clock),
        _time(point.estimated_interval, clock),
        rate(point.rate),
    )
    return (*cells, rate(point.total_rate)) if plan.users > 1 else cells


def _time(cycles: int | None, clock: int) -> str:
    return "-" if cycles is None else brief_duration(cycles, clock)


def frontier_document(points: Sequence[FrontierPoint], target: Target) -> list[dict[str, object]]:
    """The field `frontier` of `compile --pareto --json`."""
    clock = target.chip.clock_hz
    return [_document(point, clock) for point in points]


def _document(point: FrontierPoint, clock: int) -> dict[str, object]:
    fields = asdict(point)
    cycles = ("latency", "interval", "estimated_latency", "estimated_interval")
    named = {f"{name}_cycles": fields.pop(name) for name in cycles}
    times = {
        name.replace("cycles", "us"): None if value is None else 1e6 * value / clock
        for name, value in named.items()
    }
    groups = [list(mesh) for mesh in fields.pop("meshes")]
    marks = {"nondominated": fields.pop("is_nondominated"), "written": fields.pop("is_chosen")}
    rates = {"rate": fields.pop("rate"), "total_rate": fields.pop("total_rate")}
    pace = {"pace_cycles": point.pace}
    return {"chips": point.chips, "groups": groups, **named, **times, **pace, **rates, **marks}
