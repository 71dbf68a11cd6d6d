"""Cut, place and schedule a graph: the order in which the decisions are made and unmade."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

from chiplan.ir import Bound, Certificate, Graph, Infeasible, Target
from chiplan.partitioner import StageCuts, cut_stages, least_load, place_stages, smallest_stage_count

from .addresses import OutOfSram
from .bounds import interval_bounds, latency_bound, memory_bound, with_waiting
from .interval_search import Found, IntervalSearch, certify
from .memory_check import Shortage, check_tables, refuse_memory
from .options import Options, silent
from .partitioning import GraphProblem, build_problem
from .scheduling import Schedule, StageWork, one_chip
from .tile_choice import TiledOperator

_RETRIES = 6

_FEWER_EFFORT = 64
"""How many smaller stage counts are tried, times stages: all of them up to eight stages, some beyond."""

_ENDLESS = 1 << 60

_MOST_CHIPS = 128
"""How many chips a refusal looks at before it says that no number fits."""


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


class NoCut(Exception):
    """No cut into the chips asked for fits. refusal: why, and what would do, which takes solving. least: no
    fewer chips would."""

    def __init__(self, refusal: Callable[[], Infeasible], least: int) -> None:
        super().__init__("no cut into single chips fits")
        self.refusal, self.least = refusal, least


class Planner:
    """Cuts, places and schedules a graph; cuts again with more room when SRAM turns out too small."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        tiled: Mapping[int, TiledOperator],
        options: Options,
        progress: Callable[[str], None] = silent,
        beat: int | None = None,
    ) -> None:
        """`beat`: cycles of what the objective minimises that another plan has; what cannot be below them is
        not scheduled."""
        self.graph, self.target, self.tiled, self.options = graph, target, tiled, options
        self.beat = beat if beat is not None and options.objective != "chips" else _ENDLESS
        self.progress = progress
        self.chips = options.chips or target.topology.chips
        self.search = IntervalSearch(graph, target, tiled, options.objective, options.users, progress)

    def run(self) -> Planned | None:
        """The best pipeline; None when none can beat what there is. Raises Infeasible or NoCut."""
        check_tables(self.graph, self.target)
        built = self._problem(spare=0)
        cuts = self._cuts(built)
        if cuts is None:
            raise self._no_cut(built)
        if self.options.objective == "throughput" and cuts.bound >= self.beat:
            return None
        # What is proved, is proved for the whole SRAM; first fit may need some to spare.
        proved, spare, first = (built, cuts), 0, built
        last: OutOfSram | None = None
        for _ in range(_RETRIES):
            try:
                best = self._best_with_fewer(built, cuts)
                return None if best is None else self._planned(*proved, best)
            except OutOfSram as shortage:
                last = shortage
                spare += max(shortage.needed - shortage.available, self.target.chip.usable_bytes // 64)
            built = self._problem(spare)
            cuts = self._cuts(built)
            if cuts is None:
                break
        raise self._no_cut(first, last)

    def _cuts(self, built: GraphProblem) -> StageCuts | None:
        self.progress(f"cutting {built.problem.items} items into stages")
        return cut_stages(built.problem)

    def _best_with_fewer(self, built: GraphProblem, cuts: StageCuts) -> Candidate | None:
        """The best plan of all counts up to the one asked for. A cut into many stages may have a small
        load and still not close: links are full, or a user waits for hops. Fewer are tried as long as
        their load could be better, so that more chips never give a worse plan. So is a smaller count that
        the best cut leaves as many stages of: with that limit the cut may be another."""
        best = self._best(built, cuts)
        if best is None or self.options.objective != "throughput":
            return best
        tried = max(1, _FEWER_EFFORT // len(best.stages))
        promising = [
            fewer
            for stages in range(built.problem.stages - 1, 0, -1)
            if least_load(fewer := replace(built.problem, stages=stages)) < self._bar(best)
        ]
        for fewer in promising[:: max(1, ceil(len(promising) / tried))]:
            if least_load(fewer) >= self._bar(best):
                break
            found = cut_stages(fewer)
            if found is None:
                break
            try:
                other = self._best(built, found)
            except OutOfSram:
                continue
            best = best if other is None else min(best, other, key=self._merit)
        return best

    def _bar(self, best: Candidate) -> int:
        """What a pipeline must be below to be worth a schedule."""
        return min(self.beat, self.search.merit(best.found.schedule)[0])

    def _best(self, built: GraphProblem, cuts: StageCuts) -> Candidate | None:
        """The best of all cuts when placed and scheduled, None where each is beaten before; raises OutOfSram
        if none fits."""
        candidates: list[Candidate] = []
        shortage: OutOfSram | None = None
        for cut in cuts.cuts:
            stages, placement = self._place(built, cut)
            if self.options.objective == "latency" and self.search.alone(stages).latency >= self.beat:
                continue
            try:
                candidates.append(Candidate(stages, placement, self.search.run(stages)))
            except OutOfSram as error:
                shortage = error
        if not candidates and shortage is not None:
            raise shortage
        return min(candidates, key=self._merit, default=None)

    def _merit(self, candidate: Candidate) -> tuple[int, ...]:
        chips, merit = len(candidate.stages), self.search.merit(candidate.found.schedule)
        return (chips, *merit) if self.options.objective == "chips" else (*merit, chips)

    def _problem(self, spare: int) -> GraphProblem:
        return build_problem(
            self.graph,
            self.tiled,
            self.target,
            stages=min(self.chips, len(self.graph.operators)),
            objective=self.options.objective,
            users=self.options.users,
            spare=spare,
        )

    def _no_cut(self, built: GraphProblem, last: OutOfSram | None = None) -> NoCut:
        return NoCut(partial(self._refusal, built, last), memory_bound(built.problem, self.target.chip).value)

    def _refusal(self, built: GraphProblem, last: OutOfSram | None) -> Infeasible:
        wider = replace(built.problem, stages=max(_MOST_CHIPS, self.target.topology.chips))
        shortage = Shortage(self.graph, self.target, self.options, self.chips, last)
        return refuse_memory(built.problem, smallest_stage_count(wider), shortage)

    def _place(self, built: GraphProblem, cut: tuple[int, ...]) -> tuple[tuple[StageWork, ...], Certificate]:
        operators = built.operators_of(cut)
        traffic: dict[tuple[int, int], int] = {}
        for carried in built.problem.carried:
            source = cut[carried.producer]
            for destination in {cut[c] for c in carried.consumers} - {source}:
                traffic[source, destination] = traffic.get((source, destination), 0) + carried.cycles
        chips, certificate = place_stages(len(operators), traffic, self.target.topology)
        return tuple(one_chip(chip, ops) for chip, ops in zip(chips, operators, strict=True)), certificate

    def _planned(self, built: GraphProblem, cuts: StageCuts, best: Candidate) -> Planned:
        bounds: tuple[Bound, ...] = (
            *interval_bounds(self.graph, self.tiled, built, cuts, self.target, best.found.binding),
            latency_bound(self.graph, self.target, self.tiled),
            memory_bound(built.problem, self.target.chip),
        )
        certificates = (
            *cuts.certificates,
            best.placement,
            certify(best.found, self.search.least(best.stages)),
        )
        bounds = with_waiting(bounds, self.graph, self.options.users)
        return Planned(best.stages, best.found.schedule, bounds, certificates)
