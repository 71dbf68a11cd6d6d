"""Cut a graph into pipeline stages: which models are solved in which order, and what that proves.

Objectives, in the order asked: the interval, link cycles crossed (latency), stages used (chips). A greedy
cut of the topological order gives the first incumbent and, through it, a narrow window of stages for
every item; the solver proves or improves it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from chiplan.ir import Certificate

from .in_order import cheapest_in_order, cut_in_order, least_load, smallest_in_order
from .measures import fits, link_cycles_crossed, link_load, stage_load
from .problem import PartitionProblem
from .solver import solve
from .stage_model import StageModel

_LIMIT, _TIE_LIMIT = 4.0, 0.3
"""Deterministic time of one solver call, in the solver's units (roughly seconds), for what is asked
and for what breaks ties."""

_FILLS = (1.0, 0.75, 0.5)
"""How full the stages without the largest operator may be. Stages with room delay a micro-batch less,
more stages mean more links to cross: the scheduler tells which is faster."""


@dataclass(frozen=True)
class StageCuts:
    """Cuts to choose from; `cuts[c][item]` is a stage. The scheduler tells which is best.

    bound: a proven lower bound of the largest unit load of a stage, over all cuts into at most `stages`.
    """

    cuts: tuple[tuple[int, ...], ...]
    bound: int
    stages: int
    certificates: tuple[Certificate, ...]


def cut_stages(problem: PartitionProblem) -> StageCuts | None:
    """The best cuts in the order of the objective, with certificates; None when SRAM allows none.

    throughput: interval, link cycles. latency: link cycles, interval. chips: stages, then throughput.
    """
    if sum(resident.nbytes for resident in problem.resident) > problem.stages * problem.capacity:
        return None
    if problem.objective == "chips":
        return _fewest_stages(problem)
    if problem.objective == "latency":
        return _cut_for_latency(problem)
    return _cut_for_interval(problem)


def _cut_for_interval(problem: PartitionProblem) -> StageCuts | None:
    found = _smallest_load(problem)
    if found is None:
        return None
    cut, proof = found
    load = stage_load(problem, cut)
    cuts, certificates = [], [proof]
    even = int(problem.work.sum(axis=0).max(initial=0)) / problem.stages
    for filled in _FILLS:
        hint = _if_fits(problem, cheapest_in_order(problem, load, int(load * filled)))
        if filled == 1 or (hint is not None and even <= load * filled):
            known = hint or cut
            cheapest, certificate = _cheapest(problem, known, load, filled)
            cuts.append(cheapest)
            certificates.append(certificate)
    if link_load(problem, cuts[0]) > load:
        balanced = _balanced_with_links(problem, cuts[0])
        cuts.append(balanced[0])
        certificates.append(balanced[1])
    distinct = dict.fromkeys(_without_empty(cut) for cut in cuts)
    return StageCuts(tuple(distinct), proof.bound, problem.stages, tuple(certificates))


def _cheapest(
    problem: PartitionProblem, known: Sequence[int], load: int, filled: float
) -> tuple[Sequence[int], Certificate]:
    """Fewest link cycles within a load."""
    model = StageModel(problem, known, load, int(load * filled))
    model.model.minimize(model.crossed)
    name = f"stages: link cycles at that interval, filled to {filled:.0%}"
    solution = solve(model.model, name, _TIE_LIMIT, known=link_cycles_crossed(problem, known))
    return model.cut(solution) if solution.found else known, solution.certificate


def _balanced_with_links(
    problem: PartitionProblem, known: Sequence[int]
) -> tuple[Sequence[int], Certificate]:
    """Smallest load of units and, by estimate, of links: where links are slower than the units."""
    most = max(stage_load(problem, known), link_load(problem, known))
    model = StageModel(problem, known, most, links=True)
    model.model.minimize(model.load)
    solution = solve(model.model, "stages: interval with links, an estimate", _TIE_LIMIT, known=most)
    return model.cut(solution) if solution.found else known, solution.certificate


def _smallest_load(problem: PartitionProblem) -> tuple[Sequence[int], Certificate] | None:
    hint, floor = _if_fits(problem, smallest_in_order(problem)), least_load(problem)
    ceiling = stage_load(problem, hint) if hint is not None else None
    if hint is not None and ceiling == floor:
        return hint, Certificate("stages: interval", "optimal", floor, floor, 0.0, 0.0)
    model = StageModel(problem, hint, ceiling)
    model.model.minimize(model.load)
    best = solve(model.model, "stages: interval", _LIMIT, known=ceiling)
    if best.found:
        return model.cut(best), best.certificate
    return None if hint is None else (hint, best.certificate)


def _cut_for_latency(problem: PartitionProblem) -> StageCuts | None:
    everything = int(problem.work.sum()) + sum(sum(entry.work) for entry in problem.recomputed) + 1
    first = StageModel(problem, _if_fits(problem, cheapest_in_order(problem, everything, everything)), None)
    first.model.minimize(first.crossed)
    best = solve(first.model, "stages: link cycles", _LIMIT)
    if not best.found:
        return None
    cut = first.cut(best)
    second = StageModel(problem, cut, stage_load(problem, cut))
    second.model.add(second.crossed <= best.certificate.objective)
    second.model.minimize(second.load)
    known = stage_load(problem, cut)
    faster = solve(second.model, "stages: interval at those link cycles", _TIE_LIMIT, known=known)
    cut = second.cut(faster) if faster.found else cut
    certificates = (best.certificate, faster.certificate)
    return StageCuts((_without_empty(cut),), least_load(problem), problem.stages, certificates)


def _fewest_stages(problem: PartitionProblem) -> StageCuts | None:
    fewest = smallest_stage_count(problem)
    if fewest is None:
        return None
    found = cut_stages(replace(problem, stages=fewest.count, objective="throughput"))
    if found is None:
        return None
    gap = fewest.count / fewest.bound - 1
    status = "optimal" if fewest.bound == fewest.count else "feasible"
    proof = Certificate("stages: fewest chips", status, fewest.count, fewest.bound, gap, 0.0)
    return replace(found, certificates=(proof, *found.certificates))


@dataclass(frozen=True)
class FewestStages:
    """A count that fits, and a proven lower bound of all that do."""

    count: int
    bound: int


def smallest_stage_count(problem: PartitionProblem) -> FewestStages | None:
    """The fewest stages whose SRAM holds everything, up to `problem.stages`; None if more are needed.

    Smaller counts are refuted by total bytes or by the solver; one that the solver gave up on is passed
    over, and the bound stays at it.
    """
    total = sum(resident.nbytes for resident in problem.resident)
    load = int(problem.work.sum()) + 1
    open_count: int | None = None
    for count in range(max(1, ceil(total / max(1, problem.capacity))), problem.stages + 1):
        smaller = replace(problem, stages=count)
        found = _if_fits(smaller, cut_in_order(smaller, load)) is not None
        if not found:
            model = StageModel(smaller, None, None)
            solution = solve(model.model, "stages: fits", _LIMIT, minimising=False)
            found = solution.found
            if solution.certificate.status == "unknown" and open_count is None:
                open_count = count
        if found:
            return FewestStages(count, open_count or count)
    return None


def _if_fits(problem: PartitionProblem, cut: list[int] | None) -> list[int] | None:
    """An in-order cut, unless the tables of recomputed operators, which it does not count, are too much."""
    return cut if cut is not None and fits(problem, cut) else None


def _without_empty(stage: Sequence[int]) -> tuple[int, ...]:
    used = {old: new for new, old in enumerate(sorted(set(stage)))}
    return tuple(used[old] for old in stage)
