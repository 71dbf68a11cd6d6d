"""The best of all plans: pipelines of single chips, and stages on groups of chips."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

from chiplan.ir import (
    BadInput,
    Bound,
    Certificate,
    Elapsed,
    Graph,
    Infeasible,
    Problem,
    ShardingChoice,
    Target,
    elapsed_cycles,
)
from chiplan.partitioner import GroupPlan

from .group_bounds import group_bounds
from .group_planner import OVERLAP, GroupCandidate, GroupPlanner
from .interval_search import certify
from .options import Options, silent
from .planner import NoCut, Planner
from .scheduling import Schedule, StageWork
from .sharding_problem import check_pins
from .tile_choice import tile_graph

_NEVER = 1 << 60

_PIPELINE_CHIPS = 16
"""Beyond so many single chips a pipeline's cut takes long and groups divide the work better."""


@dataclass(frozen=True)
class Planned:
    """Stages on chips, their schedule, and what was proved on the way. `graph` is the device graph: what
    one chip of each stage executes."""

    graph: Graph
    stages: tuple[StageWork, ...]
    schedule: Schedule
    bounds: tuple[Bound, ...]
    certificates: tuple[Certificate, ...]
    candidate: GroupCandidate | None = None

    def sharding(self) -> tuple[ShardingChoice, ...]:
        """What every operator splits, and the next best, which takes some solving to find."""
        return self.candidate.sharding() if self.candidate else ()

    @property
    def chips(self) -> int:
        return sum(len(stage.chips) for stage in self.stages)


class PlanChoice:
    """Plans a prepared graph in every way that may be best, and keeps the best."""

    def __init__(
        self, graph: Graph, target: Target, options: Options, progress: Callable[[str], None]
    ) -> None:
        self.graph, self.target, self.options = graph, target, options
        self.progress = partial(self._say, progress)
        self.chips = options.chips or target.topology.chips
        self.refusals: list[Infeasible | NoCut] = []
        self.found: list[Planned] = []

    def _say(self, progress: Callable[[str], None], step: str) -> None:
        """A step, and the best so far of what the objective minimises, as it is found."""
        if self.found and progress is not silent:
            unit = "chips" if self.options.objective == "chips" else "cycles"
            step = f"{step}; best so far {min(self._merit(plan)[0] for plan in self.found):,} {unit}"
        progress(step)

    def best(self) -> Planned:
        """Raises Infeasible when nothing fits, or nothing keeps the limits asked for; BadInput for pins of
        what there is not."""
        self.search()
        return self.chosen()

    def search(self) -> None:
        """Schedules the most promising plans, by the objective."""
        if self.options.pins:
            check_pins(self.graph, self.planner.atoms, dict(self.options.pins))
            self._check_groups_for_pins()
        alone, together = self._estimates()
        ways = [self._pipelines, self._groups]
        for way in ways[::-1] if together < alone else ways:
            latency = self.options.objective == "latency"
            if latency and way == self._pipelines and self.found and OVERLAP * together < alone:
                continue
            way()

    def _check_groups_for_pins(self) -> None:
        """Refuse pins where no stage has more than one chip: nothing is split there."""
        if self.chips < 2 or set(self.options.groups or ()) == {1}:
            message = "--pin: stages of single chips split nothing; allow more --chips or --groups"
            raise BadInput(Problem("pins_without_groups", message))

    def _estimates(self) -> tuple[int, int]:
        """What the objective minimises, estimated for single chips and for groups."""
        if self.chips < 2 or self.options.groups is not None:
            return 0, 0
        single = self.planner.single_chips()
        plans = [plan for plan in self.planner.plans() if plan.chips > len(plan.arcs)]
        alone = self.planner.estimated_merit(single)[0] if single else _NEVER
        return alone, min((self.planner.estimated_merit(plan)[0] for plan in plans), default=_NEVER)

    def chosen(self) -> Planned:
        """The best of what was scheduled. Raises Infeasible like `best`."""
        if not self.found:
            raise self._refusal()
        kept = self.kept() or self._kept_otherwise()
        if not kept:
            raise self._too_slow(self.found)
        return min(kept, key=self._merit)

    def kept(self) -> list[Planned]:
        """What was scheduled and keeps the limits asked for."""
        return [plan for plan in self.found if self._within_limits(plan)]

    def _kept_otherwise(self) -> list[Planned]:
        """Plans made for another objective, where those for the one asked for miss a limit: a pipeline that
        is packed for its interval has a long latency, and the other way round."""
        limited = {"latency": self.options.max_latency, "throughput": self.options.max_interval}
        for objective, limit in limited.items():
            if limit is not None and objective != self.options.objective:
                other = replace(self.options, objective=objective)
                choice = PlanChoice(self.graph, self.target, other, self.progress)
                choice.search()
                self.found += choice.found
        return self.kept()

    @cached_property
    def planner(self) -> GroupPlanner:
        return GroupPlanner(self.graph, self.target, self.options, self.progress)

    def _pipelines(self) -> None:
        """The best pipeline of single chips, unless groups were asked for."""
        options = self.options
        if options.groups is not None or options.pins:
            return
        single = options.with_chips(min(self.chips, _PIPELINE_CHIPS))
        try:
            tiled = tile_graph(self.graph, self.target.chip)
            beat = min((self._merit(plan)[0] for plan in self.found), default=None)
            found = Planner(self.graph, self.target, tiled, single, self.progress, beat).run()
        except (Infeasible, NoCut) as refusal:
            self.refusals.append(refusal)
            return
        if found is None:
            return
        self.found.append(Planned(self.graph, found.stages, found.schedule, found.bounds, found.certificates))

    def _groups(self) -> None:
        """Plans with groups, the most promising first."""
        if self.chips < 2 and self.options.groups is None and not self.options.pins:
            return
        try:
            for candidate in self.planner.candidates(self._is_worth):
                self.add(candidate)
        except Infeasible as refusal:
            self.refusals.append(refusal)

    def _is_worth(self, plan: GroupPlan, estimate: int) -> bool:
        """Whether a plan could be better than what was found. Estimates of latency count no overlap."""
        if plan.chips == len(plan.arcs):
            return bool(self.refusals or self.options.pins or self.options.groups)
        if not self.found:
            return True
        best = min(self._merit(found)[0] for found in self.found)
        hopeful = self.options.objective == "latency" or bool(self.graph.states)
        return estimate < (OVERLAP * best if hopeful else best)

    def add(self, candidate: GroupCandidate) -> Planned:
        """One more plan to choose from."""
        chips = sum(len(stage.chips) for stage in candidate.stages)
        bounds = group_bounds(self.graph, self.target, chips, self.options.users)
        planned = Planned(
            candidate.device.graph,
            candidate.stages,
            candidate.found.schedule,
            bounds,
            (*candidate.certificates, certify(candidate.found, candidate.least)),
            candidate,
        )
        self.found.append(planned)
        return planned

    def _merit(self, plan: Planned) -> tuple[int, ...]:
        passed = self._elapsed(plan)
        latency, steady = passed.latency, passed.pace(self.options.users, bool(self.graph.states))
        match self.options.objective:
            case "latency":
                return latency, steady, plan.chips
            case "chips":
                return plan.chips, steady, latency
        return steady, latency, plan.chips

    def _elapsed(self, plan: Planned) -> Elapsed:
        schedule = plan.schedule
        return elapsed_cycles(self.target, plan.graph, plan.chips, schedule.latency, schedule.interval)

    def _within_limits(self, plan: Planned) -> bool:
        options, clock, passed = self.options, self.target.chip.clock_hz, self._elapsed(plan)
        return all(
            limit is None or 1e6 * cycles <= limit * clock
            for limit, cycles in (
                (options.max_latency, passed.latency),
                (options.max_interval, passed.interval),
            )
        )

    def _too_slow(self, found: list[Planned]) -> Infeasible:
        clock = self.target.chip.clock_hz / 1e6
        options = self.options
        asked = [
            f"{name} {limit:g}: the lowest of {len(found)} scheduled plans is {lowest / clock:,.1f} us"
            for name, limit, lowest in (
                ("--max-latency", options.max_latency, min(self._elapsed(plan).latency for plan in found)),
                ("--max-interval", options.max_interval, min(self._elapsed(plan).interval for plan in found)),
            )
            if limit is not None
        ]
        more = "Allow more chips, or raise" if self.chips < self.target.topology.chips else "Raise"
        limits = " and ".join(asked)
        message = f"no plan was found on {self.chips} chips that keeps {limits}. {more} what was asked."
        return Infeasible(Problem("limits_not_met", message))

    def _refusal(self) -> Infeasible:
        """Why nothing fits: what groups say, which can do all that single chips can, unless single chips
        know of a smaller count."""
        found = [refusal for refusal in self.refusals[::-1] if isinstance(refusal, Infeasible)]
        fewest = min(map(_smallest, found), default=_NEVER)
        cuts = [refusal for refusal in self.refusals if isinstance(refusal, NoCut)]
        found += [cut.refusal() for cut in cuts if not found or cut.least < fewest]
        return min(found, key=_smallest)


def _smallest(refusal: Infeasible) -> int:
    counts = [problem.smallest_chips for problem in refusal.problems]
    known = [count for count in counts if count is not None]
    return min(known, default=1 << 40)
