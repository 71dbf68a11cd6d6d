"""Cut, place and schedule a graph: the order in which the decisions are made and unmade."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
            found.append((self._merit(planned), planned))
        if not found and shortage is not None:
            raise shortage
        return min(found, key=lambda pair: pair[0])[1]

    def _merit(self, planned: Planned) -> tuple[int, int, int]:
        """Smaller is better, in the order that the objective asks for."""
        figures = {
            "throughput": planned.schedule.interval,
            "latency": planned.schedule.latency,
            "chips": len(planned.stages),
        }
        first = figures.pop(self.options.objective)
        return (first, *figures.values())

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
        wider = replace(built.problem, stages=min(self.target.topology.chips, 4 * self.chips + 8))
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
        """The schedule at the smallest interval that closes and fits into SRAM."""
        shortage: OutOfSram | None = None
        names = {name: index for index, name in enumerate(sorted(self.graph.tensors))}
        wanted = None
        if self.options.objective == "latency":
            wanted = self._at(stages, 1 << 40).latency
        for interval in self._intervals(stages):
            self.progress(f"scheduling at an interval of {interval} cycles")
            try:
                schedule = self._at(stages, interval)
                build_buffers(self.graph, stages, schedule, self.target, self.options.users, names)
            except NoRoom:
                continue
            except OutOfSram as error:
                shortage = error
                continue
            if wanted is None or schedule.latency <= wanted:
                return schedule
        if shortage is not None:
            raise shortage
        raise AssertionError("no interval closes")

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
            *interval_bounds(self.graph, self.tiled, built, cuts),
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
