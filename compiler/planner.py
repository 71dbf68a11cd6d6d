"""Cut, place and schedule a graph: the order in which the decisions are made and unmade."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import NoReturn

from chiplan.ir import BadInput, Bound, Certificate, Graph, Problem, Role, Target
from chiplan.partitioner import StageCuts, cut_stages, place_stages, smallest_stage_count

from .addresses import OutOfSram
from .bounds import interval_bounds, latency_bound, memory_bound
from .links import Router
from .memory_check import check_tables, refuse_memory
from .modulo import NoRoom
from .partitioning import GraphProblem, build_problem
from .plan_build import build_buffers
from .scheduling import Schedule, Scheduler, StageWork
from .tile_choice import TiledOperator

OBJECTIVES = ("throughput", "latency", "chips")


# Intervals that are tried, as fractions over the lower bound: one or two per cent of interval can be
# what a circle that is full to the last cycle needs to close.
_STRETCHES = (
    0.0,
    0.002,
    0.005,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.05,
    0.07,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1.0,
    2.0,
    4.0,
)


_BISECTIONS = 3
_ENDLESS = 1 << 40
"""An interval in which no two micro-batches can meet."""

_MOST_CHIPS = 128
"""How many chips a refusal looks at before it says that no number fits."""


@dataclass(frozen=True)
class Options:
    """What was asked for besides the model and the target."""

    objective: str = "throughput"
    chips: int | None = None
    precision: str | None = None
    users: int = 1


def silent(_: str) -> None:
    """Progress that nobody watches."""


def check_options(options: Options, target: Target) -> None:
    """Refuse an objective, chip count or user count that means nothing on the target."""
    problems = []
    if options.objective not in OBJECTIVES:
        message = f"--objective {options.objective}: expected one of {', '.join(OBJECTIVES)}"
        problems.append(Problem("unknown_objective", message))
    available = target.topology.chips
    if options.chips is not None and not 1 <= options.chips <= available:
        message = f"--chips {options.chips}: target {target.name} has {available}; choose 1 to {available}"
        problems.append(Problem("chips_out_of_range", message, needed=options.chips, available=available))
    if options.users < 1:
        problems.append(Problem("users_out_of_range", f"--users {options.users}: expected 1 or more"))
    if problems:
        raise BadInput(problems)


@dataclass(frozen=True)
class Planned:
    """Stages on chips, their schedule, and what was proved on the way."""

    stages: tuple[StageWork, ...]
    schedule: Schedule
    bounds: tuple[Bound, ...]
    certificates: tuple[Certificate, ...]


class Planner:
    """Cuts, places and schedules a graph; cuts again with more room when SRAM turns out too small."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        tiled: Mapping[int, TiledOperator],
        options: Options,
        progress: Callable[[str], None] = silent,
    ) -> None:
        self.graph, self.target, self.tiled, self.options = graph, target, tiled, options
        self.progress = progress
        self.chips = options.chips or target.topology.chips
        self.router = Router(target.topology)
        self.names = {name: index for index, name in enumerate(sorted(graph.tensors))}

    def run(self) -> Planned:
        check_tables(self.graph, self.target)
        reserve = self._first_reserve()
        for _ in range(6):
            built = self._problem(reserve)
            self.progress(f"cutting {built.problem.items} items into stages")
            cuts = cut_stages(built.problem)
            if cuts is None:
                self._refuse(built)
            try:
                return self._best(built, cuts)
            except OutOfSram as shortage:
                reserve += max(shortage.needed - shortage.available, self.target.chip.usable_bytes // 64)
        return self._refuse(self._problem(reserve))

    def _best(self, built: GraphProblem, cuts: StageCuts) -> Planned:
        """Schedule every cut that the solver cannot tell apart; raises OutOfSram if none fits."""
        found: list[tuple[tuple[int, int, int], Planned]] = []
        shortage: OutOfSram | None = None
        for cut in cuts.cuts:
            stages, placement = self._place(built, cut)
            try:
                schedule = self._schedule(stages)
            except OutOfSram as error:
                shortage = error
                continue
            planned = self._planned(built, cuts, stages, placement, schedule)
            found.append((self._merit(schedule, len(stages)), planned))
        if not found and shortage is not None:
            raise shortage
        return min(found, key=lambda pair: pair[0])[1]

    def _pace(self, schedule: Schedule) -> int:
        """Cycles a micro-batch in the long run: a user's next one waits for the last one's end."""
        waiting = ceil(schedule.latency / self.options.users) if self.graph.states else 0
        return max(schedule.interval, waiting)

    def _merit(self, schedule: Schedule, chips: int) -> tuple[int, int, int]:
        """Smaller is better, in the order that the objective asks for."""
        pace, latency = self._pace(schedule), schedule.latency
        orders = {
            "throughput": (pace, latency, chips),
            "latency": (latency, pace, chips),
            "chips": (chips, pace, latency),
        }
        return orders[self.options.objective]

    def _problem(self, reserve: int, chips: int | None = None) -> GraphProblem:
        return build_problem(
            self.graph,
            self.tiled,
            self.target,
            stages=min(chips or self.chips, len(self.graph.operators)),
            objective=self.options.objective,
            users=self.options.users,
            reserve=reserve,
        )

    def _first_reserve(self) -> int:
        """Bytes that the operator with the largest operands and results needs at once."""
        values = {
            name: t.nbytes for name, t in self.graph.tensors.items() if t.role in (Role.VALUE, Role.INPUT)
        }
        return max(
            sum(values.get(n, 0) for n in {*(o.tensor for o in op.operands), *(r.tensor for r in op.results)})
            for op in self.graph.operators
        )

    def _refuse(self, built: GraphProblem) -> NoReturn:
        wider = replace(built.problem, stages=max(_MOST_CHIPS, self.target.topology.chips))
        raise refuse_memory(built.problem, smallest_stage_count(wider), self.target)

    def _place(self, built: GraphProblem, cut: tuple[int, ...]) -> tuple[tuple[StageWork, ...], Certificate]:
        operators = built.operators_of(cut)
        traffic: dict[tuple[int, int], int] = {}
        for carried in built.problem.carried:
            source = cut[carried.producer]
            for destination in {cut[c] for c in carried.consumers} - {source}:
                traffic[source, destination] = traffic.get((source, destination), 0) + carried.cycles
        chips, certificate = place_stages(len(operators), traffic, self.target.topology)
        return tuple(StageWork(chip, ops) for chip, ops in zip(chips, operators, strict=True)), certificate

    def _schedule(self, stages: Sequence[StageWork]) -> Schedule:
        """The best schedule of all intervals worth trying. Raises OutOfSram when none fits."""
        alone = self._at(stages, _ENDLESS).latency if self.options.objective == "latency" else 0
        best: Schedule | None = None
        shortage: OutOfSram | None = None
        closed, open_below = False, 0
        for interval in self._intervals(stages):
            if best is not None and self._settled(best, interval, alone):
                break
            try:
                best = self._better(best, self._fitting(stages, interval), stages)
            except NoRoom:
                open_below = interval
                continue
            except OutOfSram as error:
                shortage = error
                continue
            if not closed and best is not None:
                best, closed = self._tightened(best, stages, open_below), True
        if best is None:
            assert shortage is not None, "some interval closes"
            raise shortage
        return best

    def _settled(self, best: Schedule, interval: int, alone: int) -> bool:
        """Whether no longer interval can be better: a micro-batch alone is no faster, or the pace is
        the interval's already."""
        return best.latency <= alone if self.options.objective == "latency" else interval >= self._pace(best)

    def _tightened(self, best: Schedule, stages: Sequence[StageWork], open_below: int) -> Schedule:
        """Bisect between the last interval that did not close and the first that did."""
        low, high = open_below, best.interval
        for _ in range(_BISECTIONS if open_below else 0):
            middle = (low + high) // 2
            try:
                best, high = self._better(best, self._fitting(stages, middle), stages), middle
            except (NoRoom, OutOfSram):
                low = middle
        return best

    def _better(self, best: Schedule | None, schedule: Schedule, stages: Sequence[StageWork]) -> Schedule:
        if best is not None and self._merit(best, len(stages)) <= self._merit(schedule, len(stages)):
            return best
        return schedule

    def _fitting(self, stages: Sequence[StageWork], interval: int) -> Schedule:
        """A schedule whose buffers have addresses; raises NoRoom or OutOfSram."""
        self.progress(f"scheduling at an interval of {interval:,} cycles")
        schedule = self._at(stages, interval)
        build_buffers(self.graph, stages, schedule, self.target, self.options.users, self.names)
        return schedule

    def _at(self, stages: Sequence[StageWork], interval: int) -> Schedule:
        return Scheduler(self.graph, self.target, stages, self.tiled, interval, self.router).run()

    def _intervals(self, stages: Sequence[StageWork]) -> Iterator[int]:
        least = busiest_unit(stages, self.tiled)
        tried: set[int] = set()
        for stretch in _STRETCHES:
            interval = least + int(least * stretch)
            if interval not in tried:
                tried.add(interval)
                yield interval
        for doubling in range(1, 16):
            yield 5 * least << doubling

    def _planned(
        self,
        built: GraphProblem,
        cuts: StageCuts,
        stages: tuple[StageWork, ...],
        placement: Certificate,
        schedule: Schedule,
    ) -> Planned:
        least = busiest_unit(stages, self.tiled)
        closing = Certificate(
            "schedule: interval of these stages",
            "optimal" if schedule.interval == least else "feasible",
            schedule.interval,
            least,
            (schedule.interval - least) / max(1, least),
            0.0,
        )
        bounds = (
            *interval_bounds(self.graph, self.tiled, built, cuts, self.target),
            latency_bound(self.graph, self.target, self.tiled),
            memory_bound(built.problem),
        )
        return Planned(stages, schedule, bounds, (*cuts.certificates, placement, closing))


def busiest_unit(stages: Sequence[StageWork], tiled: Mapping[int, TiledOperator]) -> int:
    """Cycles that the busiest unit instance of any stage needs at the least."""
    loads: dict[tuple[int, object], int] = {}
    for stage in stages:
        for index in stage.operators:
            key = (stage.chip, tiled[index].operator.unit)
            loads[key] = loads.get(key, 0) + tiled[index].work
    return max(loads.values(), default=1)


def stated_latency(graph: Graph, schedule: Schedule, users: int) -> int:
    """The latency that the plan promises.

    When several users wait for their own last micro-batch, starts are offset by the latency as well
    as by the interval; a latency of whole intervals keeps every offset a whole number of them.
    """
    if graph.states and users > 1 and users * schedule.interval < schedule.latency:
        return ceil(schedule.latency / schedule.interval) * schedule.interval
    return schedule.latency
