"""`chiplan scale`: a model at several chip counts, every figure simulated, held against the linear ideal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chiplan.ir import BadInput, Infeasible, InternalFault, Plan, Problem, Target, Unit, plan_elapsed
from chiplan.runtime_sim import Report, figures, simulate

from .compile import plan_model
from .imported import ImportedModel
from .importer import import_model
from .options import Options, check_options, silent
from .plan_summary import binding_bounds
from .scaling_depth import Layers, find_layers, with_depth
from .scaling_loss import PARTS, busiest_kind, chips_used, latency_parts, throughput_parts

OBJECTIVES = ("throughput", "latency")
WEAK = ("layers", "batch")
LINEAR = 0.95
"""Efficiency from which on a count is called linear."""


@dataclass(frozen=True)
class Load:
    """What is run at a count: sequences a run, and layers (None: the model's own)."""

    batch: int
    layers: int | None = None


@dataclass(frozen=True)
class Measured:
    """A simulated plan. Cycles: `pace` is what a micro-batch takes in the long run, the interval unless
    users wait; `parts` are those of chips x pace and chips x latency (`scaling_loss`). `found_at` is
    the count that the plan was made for: a smaller one's is kept where more chips gave no better."""

    found_at: int
    used: int
    groups: tuple[int, ...]
    interval: int
    pace: int
    latency: int
    rates: Mapping[str, float | None]
    bounds: Mapping[str, tuple[int, str]]
    parts: Mapping[str, Mapping[str, int]]
    critical: str

    def cycles(self, objective: str) -> int:
        """What is to be small."""
        return self.latency if objective == "latency" else self.pace

    def merit(self, objective: str) -> tuple[int, int, int]:
        """Smaller is better."""
        pair = (self.pace, self.latency) if objective == "throughput" else (self.latency, self.pace)
        return (*pair, self.used)


@dataclass(frozen=True)
class Point:
    """A chip count: what was measured there, or why there is nothing."""

    allowed: int
    load: Load
    measured: Measured | None
    refusal: Problem | None = None


@dataclass(frozen=True)
class Standing:
    """A point against the linear ideal. `loss` is in chip-cycles: chips allowed x cycles, less what the
    baseline takes for the same work; the sum of `parts`, each the growth of one part."""

    speed_up: float
    ideal: float
    efficiency: float
    loss: int
    parts: Mapping[str, int]


@dataclass(frozen=True)
class Scaling:
    """All points, by count; the baseline is the smallest count that is feasible."""

    model: str
    target: str
    clock_hz: int
    objective: str
    weak: str | None
    precision: str
    assumptions: tuple[str, ...]
    has_state: bool
    points: tuple[Point, ...]

    @property
    def baseline(self) -> tuple[int, Measured]:
        """The smallest feasible count and its plan."""
        return next((point.allowed, point.measured) for point in self.points if point.measured)

    def standing(self, point: Point) -> Standing | None:
        """How a point compares with the ideal; None for one that is infeasible."""
        return None if point.measured is None else self._standing(point.allowed, point.measured)

    def _standing(self, allowed: int, measured: Measured) -> Standing:
        count, base = self.baseline
        # Strong scaling: the same work. Weak scaling: work in proportion to the chips.
        grown, shrunk = (allowed, count) if self.weak else (1, 1)
        before, now = base.cycles(self.objective), measured.cycles(self.objective)
        speed_up = before * grown / (now * shrunk)
        ideal = before * count * grown // shrunk
        old, new = base.parts[self.objective], measured.parts[self.objective]
        parts = {part: new[part] - old[part] * grown // shrunk for part in PARTS}
        parts["work"] += now * allowed - ideal - sum(parts.values())
        return Standing(speed_up, allowed / count, speed_up * count / allowed, now * allowed - ideal, parts)

    def short_of(self, efficiency: float) -> tuple[Point, ...]:
        """Feasible points that do not reach this efficiency; what is no number is not reached."""
        standings = ((point, self.standing(point)) for point in self.points)
        return tuple(point for point, found in standings if found and not found.efficiency >= efficiency)


def scale_model(
    model: Path,
    *,
    target: Target,
    chips: Sequence[int],
    name: str | None = None,
    objective: str = "throughput",
    weak: str | None = None,
    layers: int | None = None,
    batch: int = 1,
    sequence: int | None = None,
    context: int | None = None,
    bind: Mapping[str, int] | None = None,
    progress: Callable[[str], None] = silent,
    **planning: Any,
) -> Scaling:
    """Plans and simulates the model at each count of `chips`.

    weak: None (the same work at every count), "batch" (`batch` sequences a chip) or "layers" (`layers`
    at the smallest count, the model's own by default, and in proportion at the others). `planning`
    are the fields of `Options` besides chips and objective.
    Raises BadInput; Infeasible when no count fits.
    """
    counts = sorted(set(chips))
    _check_request(counts, objective, weak, layers)
    options = Options(objective=objective, **planning)
    for count in counts:
        check_options(replace(options, chips=count), target)

    def imported(sequences: int) -> ImportedModel:
        return import_model(
            model, name=name, batch=sequences, sequence=sequence, context=context, bind=bind or {}
        )

    progress("importing")
    works = _Works(weak, layers, batch, counts[0], imported)
    sweep = _Sweep(target, options, progress)
    points = [sweep.point(count, *works.at(count)) for count in counts]
    if all(point.measured is None for point in points):
        raise Infeasible([point.refusal for point in points if point.refusal])
    return sweep.scaling(points if weak else _monotone(points, objective), weak)


def _check_request(counts: Sequence[int], objective: str, weak: str | None, layers: int | None) -> None:
    problems = []
    if not counts or counts[0] < 1:
        problems.append(Problem("chips_out_of_range", "chips: give one count or more, each of 1 or more"))
    if objective not in OBJECTIVES:
        message = f"--objective {objective}: expected one of {', '.join(OBJECTIVES)}"
        problems.append(Problem("unknown_objective", message))
    if weak not in (None, *WEAK):
        problems.append(Problem("unknown_weak", f"--weak {weak}: expected one of {', '.join(WEAK)}"))
    if layers is not None and weak != "layers":
        message = f"--layers {layers}: it is for --weak layers alone; leave it out or add --weak layers"
        problems.append(Problem("layers_without_weak", message))
    if problems:
        raise BadInput(problems)


class _Works:
    """What is run at each count; imported once where the work is the same."""

    def __init__(
        self,
        weak: str | None,
        layers: int | None,
        batch: int,
        smallest: int,
        imported: Callable[[int], ImportedModel],
    ) -> None:
        self.weak, self.batch, self.smallest, self.imported = weak, batch, smallest, imported
        self.own = None if weak == "batch" else imported(batch)
        self.found: Layers | None = None
        if weak == "layers" and self.own is not None:
            self.found = find_layers(self.own)
            self.depth = layers or self.found.count

    def at(self, count: int) -> tuple[Load, ImportedModel]:
        if self.own is None:
            return Load(self.batch * count), self.imported(self.batch * count)
        if self.found is None:
            return Load(self.batch), self.own
        layers, odd = divmod(self.depth * count, self.smallest)
        if odd:
            message = (
                f"{self.depth} layers on {self.smallest} chips make no whole number of layers on {count}; "
                "choose --layers or --chips so that layers grow evenly with the chips"
            )
            raise BadInput(Problem("layers_not_whole", message))
        return Load(self.batch, layers), with_depth(self.found, layers)


class _Sweep:
    """Plans and simulates at one count after the other; remembers what all have in common."""

    def __init__(self, target: Target, options: Options, progress: Callable[[str], None]) -> None:
        self.target, self.options, self.progress = target, options, progress
        self.kind: Unit | None = None
        self.plan: Plan | None = None

    def point(self, count: int, load: Load, imported: ImportedModel) -> Point:
        """The plan at a count, simulated; or the refusal."""

        def say(step: str) -> None:
            self.progress(f"{count} chips: {step}")

        try:
            plan = plan_model(imported, self.target, replace(self.options, chips=count), say)
        except Infeasible as refusal:
            return Point(count, load, None, refusal.problems[0])
        say("simulating")
        report = simulate(plan)
        if not report.ok:
            raise InternalFault(
                [Problem(f"fault_{f.name}", f.message, operator=f.operator) for f in report.faults[:10]]
            )
        self.kind = self.kind or busiest_kind(report)
        self.plan = self.plan or plan
        return Point(count, load, _measure(plan, report, count, self.kind))

    def scaling(self, points: Iterable[Point], weak: str | None) -> Scaling:
        """All points together. At least one was planned."""
        assert self.plan is not None
        graph, objective = self.plan.graph, self.options.objective
        return Scaling(
            model=graph.name,
            target=self.target.name,
            clock_hz=self.target.chip.clock_hz,
            objective=objective,
            weak=weak,
            precision=self.plan.precision,
            assumptions=self.plan.assumptions,
            has_state=bool(graph.states),
            points=tuple(points),
        )


def _measure(plan: Plan, report: Report, count: int, kind: Unit) -> Measured:
    measured = figures(plan, report)
    assert report.latency is not None
    passed = plan_elapsed(plan, max(int(report.latency), int(plan.latency)))
    names = ("inferences_per_second", "tokens_per_second_user", "tokens_per_second_total")
    return Measured(
        found_at=count,
        used=chips_used(plan),
        groups=tuple(len(stage.chips) for stage in plan.stages),
        interval=passed.interval,
        pace=passed.pace(plan.users, bool(plan.graph.states)),
        latency=passed.latency,
        rates={name: measured[name] for name in names},
        bounds={bound.quantity: (bound.value, bound.binding) for bound in binding_bounds(plan)},
        parts={
            "throughput": throughput_parts(plan, report, count, passed, kind),
            "latency": latency_parts(plan, count, passed),
        },
        critical=report.critical,
    )


def _monotone(points: Sequence[Point], objective: str) -> list[Point]:
    """A count that gives no better plan than a smaller one has the smaller one's; the rest of its
    chips are not used."""
    kept: list[Point] = []
    best: Measured | None = None
    for point in points:
        found = point.measured
        if best is not None and (found is None or found.merit(objective) >= best.merit(objective)):
            point = replace(point, measured=_with_more_chips(best, point.allowed), refusal=None)
        best = point.measured or best
        kept.append(point)
    return kept


def _with_more_chips(measured: Measured, allowed: int) -> Measured:
    """The same plan where more chips are allowed: they are unused."""
    cycles = {"throughput": measured.pace, "latency": measured.latency}
    parts = {
        objective: {**split, "unused": cycles[objective] * (allowed - measured.used)}
        for objective, split in measured.parts.items()
    }
    return replace(measured, parts=parts)
