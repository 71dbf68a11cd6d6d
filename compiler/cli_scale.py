"""`chiplan scale`: how throughput or latency grows with the chips, and where the rest is lost."""

from rich.console import Console
from rich.table import Table

from chiplan.models import load_target

from .cli_tables import print_table, print_text, table
from .quantities import counted, duration, grouped, rate, share
from .scaling import LINEAR, Measured, Point, Scaling, Standing
from .scaling_loss import PARTS

_SYSTEMS = ("groq-node", "groq-rack", "groq-264", "groq-576", "groq-10440")
"""Shipped systems of the same chip and links, by chips."""


def smallest_system(chips: int) -> str:
    """The smallest shipped `groq-*` system with so many chips; the largest where none has."""
    return next((name for name in _SYSTEMS if load_target(name).topology.chips >= chips), _SYSTEMS[-1])


def scaling_document(scaling: Scaling, least: float | None) -> dict[str, object]:
    """What `scale --json` prints (docs/scaling.md lists the keys)."""
    count, base = scaling.baseline
    bound, binding = base.bounds.get(_quantity(scaling), (None, None))
    short = scaling.short_of(least) if least is not None else ()
    return {
        "ok": not short,
        "model": scaling.model,
        "target": scaling.target,
        "objective": scaling.objective,
        "weak": scaling.weak,
        "precision": scaling.precision,
        "latency_includes_host": False,
        "assumptions": list(scaling.assumptions),
        "baseline": {
            "chips": count,
            "cycles": base.cycles(scaling.objective),
            "bound_cycles": bound,
            "above_bound": None if not bound else base.cycles(scaling.objective) / bound - 1,
            "binding": binding,
        },
        "linear_up_to": _linear_up_to(scaling),
        "min_efficiency": least,
        "below_min_efficiency": [point.allowed for point in short],
        "points": [_point_document(scaling, point) for point in scaling.points],
    }


def _point_document(scaling: Scaling, point: Point) -> dict[str, object]:
    found, standing, problem = point.measured, scaling.standing(point), point.refusal
    document: dict[str, object] = {
        "chips_allowed": point.allowed,
        "batch": point.load.batch,
        "layers": point.load.layers,
        "feasible": found is not None,
        "refusal": problem
        and {"code": problem.code, "message": problem.message, "smallest_chips": problem.smallest_chips},
    }
    return document | _figures(scaling, found) | _comparison(standing)


def _figures(scaling: Scaling, found: Measured | None) -> dict[str, object]:
    names = ("inferences_per_second", "tokens_per_second_user", "tokens_per_second_total")
    return {
        "chips_used": found and found.used,
        "plan_of_chips": found and found.found_at,
        "group_sizes": found and list(found.groups),
        "interval_cycles": found and found.interval,
        "pace_cycles": found and found.pace,
        "latency_cycles": found and found.latency,
        "latency_us": found and found.latency / scaling.clock_hz * 1e6,
        **{name: found and found.rates[name] for name in names},
        "critical_resource": found and (found.critical or None),
    }


def _comparison(standing: Standing | None) -> dict[str, object]:
    return {
        "speed_up": standing and standing.speed_up,
        "ideal_speed_up": standing and standing.ideal,
        "efficiency": standing and standing.efficiency,
        "loss_chip_cycles": standing and standing.loss,
        "loss_parts": standing and dict(standing.parts),
    }


def _quantity(scaling: Scaling) -> str:
    return "latency" if scaling.objective == "latency" else "interval"


def _linear_up_to(scaling: Scaling) -> int | None:
    """The largest count before the first one whose efficiency is below LINEAR."""
    last = None
    for point in scaling.points:
        standing = scaling.standing(point)
        if standing and standing.efficiency < LINEAR:
            return last
        last = point.allowed if standing else last
    return last


def print_scaling(console: Console, scaling: Scaling, least: float | None) -> None:
    """The page: figures, what was lost, where linearity ends."""
    grown = {"layers": ", layers grow with the chips", "batch": ", batch grows with the chips"}
    print_text(
        console,
        f"{scaling.model} on {scaling.target}, precision {scaling.precision}, objective "
        f"{scaling.objective}{grown.get(scaling.weak or '', '')}",
    )
    console.print("All figures are simulated and exclude transfers from and to the host.")
    console.print()
    print_table(console, "Scaling", _figure_table(scaling))
    for point in scaling.points:
        if point.refusal:
            print_text(console, point.refusal.message, first=f"--chips {point.allowed}: ")
    print_table(console, _loss_title(scaling), _loss_table(scaling))
    for line in conclusions(scaling, least):
        print_text(console, line)


def _figure_table(scaling: Scaling) -> Table:
    rows = [_figure_row(scaling, point) for point in scaling.points]
    work = {"layers": ("layers",), "batch": ("batch",)}.get(scaling.weak or "", ())
    unit = "tokens/s" if scaling.has_state else "a second"
    columns = ("chips", "used", *work, "interval", unit, "latency us", "speed-up", "ideal", "of ideal")
    return table(columns, rows, words=0)


def _figure_row(scaling: Scaling, point: Point) -> tuple[str, ...]:
    load = {"layers": point.load.layers, "batch": point.load.batch}
    work = (grouped(load[scaling.weak] or 0),) if scaling.weak else ()
    found, standing = point.measured, scaling.standing(point)
    if found is None or standing is None:
        smallest = point.refusal.smallest_chips if point.refusal else None
        why = "infeasible" if smallest is None else f"needs {smallest}"
        return (grouped(point.allowed), why, *work, *("-",) * 6)
    amount = found.rates["tokens_per_second_total" if scaling.has_state else "inferences_per_second"]
    return (
        grouped(point.allowed),
        grouped(found.used),
        *work,
        grouped(found.interval),
        rate(amount),
        duration(found.latency, scaling.clock_hz).removesuffix(" us"),
        f"{standing.speed_up:.2f}",
        f"{standing.ideal:.2f}",
        share(standing.efficiency, 1),
    )


def _loss_title(scaling: Scaling) -> str:
    cycles = "latency" if scaling.objective == "latency" else "cycles a micro-batch"
    return f"Lost against the ideal, in chip-cycles (chips allowed x {cycles})"


def _loss_table(scaling: Scaling) -> Table:
    standings = [(point, scaling.standing(point)) for point in scaling.points]
    shown = [part for part in PARTS if any(standing and standing.parts[part] for _, standing in standings)]
    rows = [
        (grouped(point.allowed), grouped(standing.loss), *(grouped(standing.parts[part]) for part in shown))
        for point, standing in standings
        if standing
    ]
    return table(("chips", "lost", *shown), rows if shown else (), words=0)


def conclusions(scaling: Scaling, least: float | None) -> tuple[str, ...]:
    """In words: the baseline and its bound, where linearity ends and why, what falls short."""
    lines = [_baseline_words(scaling), _end_words(scaling)]
    for point in scaling.short_of(least) if least is not None else ():
        standing = scaling.standing(point)
        if standing:
            lines.append(
                f"{counted(point.allowed, 'chip')}: efficiency {standing.efficiency:.3f} is below "
                f"{least}; {_most_lost(standing)}"
            )
    return tuple(line for line in lines if line)


def _baseline_words(scaling: Scaling) -> str:
    count, base = scaling.baseline
    cycles = base.cycles(scaling.objective)
    words = f"Baseline: {counted(count, 'chip')}, {_quantity(scaling)} {grouped(cycles)}"
    if _quantity(scaling) not in base.bounds:
        return f"{words}."
    bound, binding = base.bounds[_quantity(scaling)]
    return f"{words}, {share(cycles - bound, bound)} above its bound of {grouped(bound)} ({binding})."


def _end_words(scaling: Scaling) -> str:
    linear = f"Linear (efficiency {share(LINEAR, 1)} or more)"
    standings = [(point, scaling.standing(point)) for point in scaling.points]
    below = next(((p, s) for p, s in standings if s and s.efficiency < LINEAR), None)
    if below is None:
        last = scaling.points[-1].allowed
        return f"{linear} up to {counted(last, 'chip')}, the largest count."
    point, standing = below
    last = _linear_up_to(scaling) or 0
    efficiency = share(standing.efficiency, 1)
    words = f"{linear} up to {counted(last, 'chip')}. At {point.allowed:,} it is {efficiency}"
    return f"{words}; {_most_lost(standing)}"


def _most_lost(standing: Standing) -> str:
    part = max(PARTS, key=lambda name: standing.parts[name])
    lost = share(standing.parts[part], standing.loss)
    return f"{lost} of what is lost is {part} ({PARTS[part]})."
