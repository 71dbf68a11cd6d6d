"""Cut, place and schedule a graph: the order in which the decisions are made and unmade."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

from chiplan.ir import BadInput, Bound, Certificate, Graph, Problem, Role, Target
from chiplan.partitioner import StageCuts, cut_stages, place_stages, smallest_stage_count

from .addresses import OutOfSram
from .bounds import interval_bounds, latency_bound, memory_bound
from .interval_search import Found, IntervalSearch, certify
from .memory_check import check_tables, refuse_memory
from .partitioning import GraphProblem, build_problem
from .scheduling import Schedule, StageWork
from .tile_choice import TiledOperator

OBJECTIVES = ("throughput", "latency", "chips")


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


@dataclass(frozen=True)
class Candidate:
    """One of the cuts, placed and scheduled."""

    stages: tuple[StageWork, ...]
    placement: Certificate
    found: Found


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
        self.search = IntervalSearch(graph, target, tiled, options.objective, options.users, progress)

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
        candidates: list[Candidate] = []
        shortage: OutOfSram | None = None
        for cut in cuts.cuts:
            stages, placement = self._place(built, cut)
            try:
                candidates.append(Candidate(stages, placement, self.search.run(stages)))
            except OutOfSram as error:
                shortage = error
        if not candidates and shortage is not None:
            raise shortage
        return self._planned(built, cuts, min(candidates, key=self._merit))

    def _merit(self, candidate: Candidate) -> tuple[int, ...]:
        chips, merit = len(candidate.stages), self.search.merit(candidate.found.schedule)
        return (chips, *merit) if self.options.objective == "chips" else (*merit, chips)

    def _problem(self, reserve: int) -> GraphProblem:
        return build_problem(
            self.graph,
            self.tiled,
            self.target,
            stages=min(self.chips, len(self.graph.operators)),
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

    def _planned(self, built: GraphProblem, cuts: StageCuts, best: Candidate) -> Planned:
        bounds = (
            *interval_bounds(self.graph, self.tiled, built, cuts, self.target),
            latency_bound(self.graph, self.target, self.tiled),
            memory_bound(built.problem),
        )
        certificates = (*cuts.certificates, best.placement, certify(best.found, best.stages, self.tiled))
        return Planned(best.stages, best.found.schedule, bounds, certificates)
