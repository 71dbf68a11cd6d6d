"""The best of all plans: pipelines of single chips, and stages on groups of chips."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import ceil

from chiplan.ir import (
    Bound,
    Certificate,
    Elapsed,
    Graph,
    Infeasible,
    InternalFault,
    Problem,
    ShardingChoice,
    Target,
    elapsed_cycles,
)
from chiplan.partitioner import GroupPlan

from .addresses import OutOfSram
from .atoms import Decision
from .group_bounds import group_bounds
from .group_candidate import GroupCandidate
from .group_planner import OVERLAP, GroupPlanner
from .interval_search import certify
from .options import Options, silent
from .pins import asks_for_groups, check_pins, keeps, pins_of
from .planner import NoCut, Planner
from .quantities import counted
from .scheduling import Schedule, StageWork
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

    def decisions(self) -> Iterator[tuple[int, Decision]]:
        """What every operator of the graph that was planned splits, in every stage that executes it."""
        if self.candidate:
            return self.candidate.decisions()
        return ((index, (None,)) for stage in self.stages for index in stage.operators)

    @property
    def chips(self) -> int:
        return sum(len(stage.chips) for stage in self.stages)


class PlanChoice:
    """Plans a prepared graph in every way that may be best, and keeps the best."""

    def __init__(
        self, graph: Graph, target: Target, options: Options, progress: Callable[[str], None]
    ) -> None:
        self.graph, self.target, self.options = graph, target, options
        self.report, self.progress = progress, partial(self._say, progress)
        self.chips = options.chips or target.topology.chips
        self.pins = dict(options.pins)
        self.refusals: dict[str, Infeasible | NoCut] = {}
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
        if self.pins:
            check_pins(self.graph, self.planner.atoms, self.pins, self.planner.cheap)
        alone, together = self._estimates()
        ways = [self._pipelines, self._groups]
        for way in ways[::-1] if together < alone else ways:
            latency = self.options.objective == "latency"
            if latency and way == self._pipelines and self.found and OVERLAP * together < alone:
                continue
            way()

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
        if self._limited() and not self.kept():
            self._search_without_limits()
        if not self.found:
            raise self._refusal()
        if not self.kept():
            raise self._too_slow()
        if self._limited() and self.options.objective == "chips":
            self._search_fewer()
        best = min(self.kept(), key=self._merit)
        self._check_pins_kept(best)
        return best

    def kept(self) -> list[Planned]:
        """What was scheduled and keeps the limits asked for."""
        return [plan for plan in self.found if self._within_limits(plan)]

    def _limited(self) -> list[str]:
        """Objectives whose figure has a limit."""
        limits = {"latency": self.options.max_latency, "throughput": self.options.max_interval}
        return [objective for objective, limit in limits.items() if limit is not None]

    def _search_without_limits(self) -> None:
        """Plans made for what is limited: a pipeline that is packed for its interval has a long latency, and
        the other way round. At last without limits: what comes out is the best there is, kept or not."""
        limited = self._limited()
        for objective in limited if len(limited) > 1 else ():
            if objective != self.options.objective:
                self._search_otherwise(replace(self.options, objective=objective))
        for objective in limited if not self.kept() else ():
            unlimited = replace(self.options, max_latency=None, max_interval=None)
            self._search_otherwise(replace(unlimited, objective=objective))

    def _search_otherwise(self, options: Options) -> None:
        other = PlanChoice(self.graph, self.target, options, self.report)
        other.planner = self.planner.asked_for(options)
        other.found, other.refusals = self.found, self.refusals
        if options.objective == self.options.objective:
            # Pipelines of single chips are cut without limits, and are there.
            other._groups()
        else:
            other.search()

    def _search_fewer(self) -> None:
        """Plans on fewer chips than any that keeps the limits so far, made for what is limited: one that is
        made for few chips has the shortest interval on them, and may miss a limit for that."""
        for objective in self._limited():
            most = min(plan.chips for plan in self.kept()) - 1
            for plan in self.planner.on_fewer(most, objective) if most else ():
                try:
                    added = self.add(self.planner.realise(plan, objective))
                except OutOfSram:
                    continue
                if self._within_limits(added):
                    break

    def _check_pins_kept(self, plan: Planned) -> None:
        """Raises InternalFault where an operator does not split what it is pinned to."""
        operators, atoms, planned = self.graph.operators, self.planner.atoms, set(self.planner.planned)
        for index, decision in plan.decisions() if self.pins else ():
            for pin in pins_of(operators[index], atoms.operators[index], self.pins):
                if index in planned and not keeps(operators[index], decision, pin):
                    message = f"operator {operators[index].name} does not keep its pin {pin}"
                    raise InternalFault([Problem("pin_not_kept", message)])

    @cached_property
    def planner(self) -> GroupPlanner:
        return GroupPlanner(self.graph, self.target, self.options, self.progress)

    def _pipelines(self) -> None:
        """The best pipeline of single chips, unless groups were asked for."""
        options = self.options
        if options.groups is not None or asks_for_groups(self.pins):
            return
        single = options.with_chips(min(self.chips, _PIPELINE_CHIPS))
        try:
            tiled = tile_graph(self.graph, self.target.chip)
            beat = min((self._merit(plan)[0] for plan in self.kept()), default=None)
            found = Planner(self.graph, self.target, tiled, single, self.progress, beat).run()
        except (Infeasible, NoCut) as refusal:
            self.refusals["pipelines"] = refusal
            return
        if found is None:
            return
        self.found.append(Planned(self.graph, found.stages, found.schedule, found.bounds, found.certificates))

    def _groups(self) -> None:
        """Plans with groups, the most promising first."""
        if self.chips < 2 and self.options.groups is None and not asks_for_groups(self.pins):
            return
        self.refusals.pop("groups", None)
        try:
            for candidate in self.planner.candidates(self._is_worth):
                self.add(candidate)
        except Infeasible as refusal:
            self.refusals["groups"] = refusal

    def _is_worth(self, plan: GroupPlan, estimate: int) -> bool:
        """Whether a plan could be better than what was found. Estimates of latency count no overlap."""
        if plan.chips == len(plan.arcs):
            return bool(self.refusals or self.options.groups)
        rivals = self.kept()
        if not rivals:
            return True
        best = min(self._merit(rival)[0] for rival in rivals)
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

    def _too_slow(self) -> Infeasible:
        """No plan keeps the limits: with the lowest figure that was found of each, rounded up."""
        clock, options = self.target.chip.clock_hz, self.options
        passed = [self._elapsed(plan) for plan in self.found]
        asked = [
            f"{name} {limit:g} (the lowest that was found is {ceil(lowest * 1e9 / clock) / 1e3:,.3f} us)"
            for name, limit, lowest in (
                ("--max-latency", options.max_latency, min(each.latency for each in passed)),
                ("--max-interval", options.max_interval, min(each.interval for each in passed)),
            )
            if limit is not None
        ]
        more = "Allow more chips, or raise" if self.chips < self.target.topology.chips else "Raise"
        message = (
            f"no plan was found on {counted(self.chips, 'chip')} that keeps {' and '.join(asked)}. "
            f"{more} what was asked."
        )
        return Infeasible(Problem("limits_not_met", message))

    def _refusal(self) -> Infeasible:
        """Why nothing fits: what groups say, which can do all that single chips can, unless single chips
        know of a smaller count."""
        refusals = [self.refusals[way] for way in ("groups", "pipelines") if way in self.refusals]
        found = [refusal for refusal in refusals if isinstance(refusal, Infeasible)]
        fewest = min(map(_smallest, found), default=_NEVER)
        cuts = [refusal for refusal in refusals if isinstance(refusal, NoCut)]
        found += [cut.refusal() for cut in cuts if not found or cut.least < fewest]
        return min(found, key=_smallest)


def _smallest(refusal: Infeasible) -> int:
    counts = [problem.smallest_chips for problem in refusal.problems]
    known = [count for count in counts if count is not None]
    return min(known, default=1 << 40)
