"""Cut a graph into pipeline stages with CP-SAT: contiguous sets of a DAG under SRAM.

    y[v, s] = item v sits on stage s or before        y[v, s] <= y[v, s + 1],  y[v, s] <= y[u, s] for u -> v
    load    sum over v of work[v] * (y[v, s] - y[v, s - 1]) + recomputed   <= T     for every unit kind
    SRAM    sum of resident bytes that stage s uses                        <= capacity
    links   sum of link cycles of tensors that cross s | s + 1             <= T * link_ways
Objectives, in the order asked: T (the interval), link cycles crossed (latency), stages used (chips).
A greedy cut of the topological order gives the first incumbent and, through it, a narrow window of
stages for every item; the solver proves or improves it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from chiplan.ir import Certificate

from .in_order import cheapest_in_order, cut_in_order, least_load, smallest_in_order
from .problem import Carried, PartitionProblem
from .solver import CpModel, IntVar, LinearExpr, Solution, solve

_LIMIT, _TIE_LIMIT = 4.0, 0.7
"""Deterministic time of one solver call, in the solver's units (roughly seconds), for what is asked
and for what breaks ties."""

_FILLS = (1.0, 0.75, 0.5)
"""How full the stages without the largest operator may be. Stages with room delay a micro-batch less,
more stages mean more links to cross: the scheduler tells which is faster."""


@dataclass(frozen=True)
class StageCuts:
    """Cuts to choose from, all equally good by the solver's measure; `cuts[c][item]` is a stage.

    bound: a proven lower bound of the largest unit load of a stage, over all cuts into at most the
    given number of stages.
    """

    cuts: tuple[tuple[int, ...], ...]
    bound: int
    certificates: tuple[Certificate, ...]


def stage_load(problem: PartitionProblem, stage: Sequence[int]) -> int:
    """Largest unit load of a stage, recomputed operators and link crossings included."""
    stages = np.asarray(stage)
    load = np.zeros((problem.stages, problem.work.shape[1]), dtype=np.int64)
    np.add.at(load, stages, problem.work)
    for index, used in enumerate(recomputed_on(problem, stage)):
        load[sorted(used)] += np.array(problem.recomputed[index].work)
    crossed = np.zeros(problem.stages, dtype=np.int64)
    for carried in problem.carried:
        last = max(stage[consumer] for consumer in carried.consumers)
        crossed[stage[carried.producer] : last] += carried.cycles
    return max(int(load.max(initial=0)), ceil(int(crossed.max(initial=0)) / problem.link_ways))


def link_cycles_crossed(problem: PartitionProblem, stage: Sequence[int]) -> int:
    """Link cycles of all tensors, once for every stage boundary that they cross."""
    return sum(
        carried.cycles * (max(stage[consumer] for consumer in carried.consumers) - stage[carried.producer])
        for carried in problem.carried
    )


def recomputed_on(problem: PartitionProblem, stage: Sequence[int]) -> list[set[int]]:
    """Stages that execute each recomputed operator. Cones refer to later entries' users, so the list is
    walked from the last operator back."""
    used: list[set[int]] = [set() for _ in problem.recomputed]
    for index in reversed(range(len(problem.recomputed))):
        entry = problem.recomputed[index]
        used[index] = {stage[item] for item in entry.items}
        for cone in entry.cones:
            used[index] |= used[cone]
    return used


class StageModel:
    """The CP-SAT model of a problem, with windows that keep every cut of load <= `ceiling`."""

    def __init__(
        self,
        problem: PartitionProblem,
        hint: Sequence[int] | None,
        ceiling: int | None,
        fill: int | None = None,
    ) -> None:
        self.problem, self.model = problem, CpModel()
        first, last = stage_windows(problem, ceiling)
        self.before = [self._steps(item, first[item], last[item]) for item in range(problem.items)]
        floor = least_load(problem)
        self.load = self.model.new_int_var(floor, ceiling or int(problem.work.sum()) + floor + 1, "load")
        self._add_precedence()
        self._add_loads()
        if ceiling is not None and fill is not None and fill < ceiling:
            self._add_fill(ceiling, fill)
        self._add_residents()
        self.crossed = self._add_crossings()
        if hint is not None:
            self._add_hint(hint)

    def _steps(self, item: int, first: int, last: int) -> list[LinearExpr]:
        """y[item, s] for s in -1 .. stages - 1 (index s + 1): constants outside the window."""
        steps: list[LinearExpr] = [0] * (first + 1)
        steps += [self.model.new_bool_var(f"y{item}.{s}") for s in range(first, last)]
        steps += [1] * (self.problem.stages - last)
        for low, high in zip(steps[first + 1 : last], steps[first + 2 : last + 1], strict=False):
            self.model.add(low <= high)
        return steps

    def on(self, item: int, stage: int) -> LinearExpr:
        """1 where the item sits on the stage."""
        return self.before[item][stage + 1] - self.before[item][stage]

    def _add_precedence(self) -> None:
        pairs = {(c.producer, consumer) for c in self.problem.carried for consumer in c.consumers}
        for producer, consumer in sorted(pairs):
            for early, late in zip(self.before[consumer], self.before[producer], strict=True):
                if not isinstance(early, int) or not isinstance(late, int):
                    self.model.add(early <= late)

    def _add_loads(self) -> None:
        self.recomputed = self._recomputed_literals()
        self.loads: list[list[list[LinearExpr]]] = []
        for stage in range(self.problem.stages):
            self.loads.append([])
            for unit in range(self.problem.work.shape[1]):
                terms = [
                    int(work) * self.on(item, stage)
                    for item, work in enumerate(self.problem.work[:, unit])
                    if work
                ]
                terms += [
                    entry.work[unit] * literals[stage]
                    for entry, literals in zip(self.problem.recomputed, self.recomputed, strict=True)
                    if entry.work[unit]
                ]
                self.loads[stage].append(terms)
                self.model.add(sum(terms) <= self.load)

    def _add_fill(self, ceiling: int, fill: int) -> None:
        """Stages stay within `fill`, but for those that hold an item which alone is larger."""
        giants = [item for item, work in enumerate(self.problem.work) if work.max() > fill]
        for stage in range(self.problem.stages):
            room = fill + sum((ceiling - fill) * self.on(item, stage) for item in giants)
            for terms in self.loads[stage]:
                self.model.add(sum(terms) <= room)

    def _recomputed_literals(self) -> list[list[IntVar]]:
        literals: list[list[IntVar]] = []
        for index, _ in enumerate(self.problem.recomputed):
            literals.append([self.model.new_bool_var(f"r{index}.{s}") for s in range(self.problem.stages)])
        for index, entry in enumerate(self.problem.recomputed):
            for stage in range(self.problem.stages):
                for item in entry.items:
                    self.model.add(literals[index][stage] >= self.on(item, stage))
                for cone in entry.cones:
                    self.model.add(literals[index][stage] >= literals[cone][stage])
        return literals

    def _add_residents(self) -> None:
        self.held: list[tuple[IntVar, tuple[int, ...], int]] = []
        for stage in range(self.problem.stages):
            terms: list[LinearExpr] = []
            for index, resident in enumerate(self.problem.resident):
                if len(resident.items) == 1:
                    terms.append(resident.nbytes * self.on(resident.items[0], stage))
                    continue
                held = self.model.new_bool_var(f"m{index}.{stage}")
                self.held.append((held, resident.items, stage))
                for item in resident.items:
                    self.model.add(held >= self.on(item, stage))
                terms.append(resident.nbytes * held)
            self.model.add(sum(terms) <= self.problem.capacity)

    def _add_crossings(self) -> LinearExpr:
        self.crossings: list[tuple[IntVar, Carried, int]] = []
        total: list[LinearExpr] = []
        for stage in range(self.problem.stages - 1):
            here: list[LinearExpr] = []
            for index, carried in enumerate(self.problem.carried):
                made = self.before[carried.producer][stage + 1]
                open_ends = [self.before[c][stage + 1] for c in carried.consumers]
                open_ends = [end for end in open_ends if not (isinstance(end, int) and end == 1)]
                if not open_ends or (isinstance(made, int) and made == 0):
                    continue
                crosses = self.model.new_bool_var(f"c{index}.{stage}")
                self.crossings.append((crosses, carried, stage))
                for end in open_ends:
                    self.model.add(crosses >= made - end)
                here.append(carried.cycles * crosses)
            self.model.add(sum(here) <= self.problem.link_ways * self.load)
            total += here
        return sum(total)

    def _add_hint(self, hint: Sequence[int]) -> None:
        """Hint every variable: an incomplete hint is a suggestion, a complete one an incumbent."""
        self.model.add_hint(self.load, max(least_load(self.problem), stage_load(self.problem, hint)))
        for variable, items, stage in self.held:
            self.model.add_hint(variable, int(any(hint[item] == stage for item in items)))
        for variable, carried, stage in self.crossings:
            last = max(hint[consumer] for consumer in carried.consumers)
            self.model.add_hint(variable, int(hint[carried.producer] <= stage < last))
        for variables, used in zip(self.recomputed, recomputed_on(self.problem, hint), strict=True):
            for stage, variable in enumerate(variables):
                self.model.add_hint(variable, int(stage in used))
        for item, steps in enumerate(self.before):
            for stage, step in enumerate(steps[1:]):
                if isinstance(step, IntVar):
                    self.model.add_hint(step, int(hint[item] <= stage))

    def cut(self, solution: Solution) -> tuple[int, ...]:
        """Stage of every item in a solution."""
        return tuple(
            sum(1 - (step if isinstance(step, int) else solution.value(step)) for step in steps[1:])
            for steps in self.before
        )


def stage_windows(problem: PartitionProblem, ceiling: int | None) -> tuple[list[int], list[int]]:
    """First and last stage of every item in any cut whose loads stay below `ceiling`: what must come
    before it (after it) already fills that many stages."""
    if ceiling is None or ceiling <= 0:
        return [0] * problem.items, [problem.stages - 1] * problem.items
    reach = np.eye(problem.items, dtype=bool)
    pairs = sorted({(c.producer, consumer) for c in problem.carried for consumer in c.consumers})
    for producer, consumer in sorted(pairs, key=lambda pair: pair[1]):
        reach[consumer] |= reach[producer]
    ahead = (reach.astype(np.float64) @ problem.work).max(axis=1)
    behind = (reach.T.astype(np.float64) @ problem.work).max(axis=1)
    first = [max(0, ceil(work / ceiling) - 1) for work in ahead]
    last = [min(problem.stages - 1, problem.stages - ceil(work / ceiling)) for work in behind]
    return first, [max(low, high) for low, high in zip(first, last, strict=True)]


def cut_stages(problem: PartitionProblem) -> StageCuts | None:
    """The best cuts in the order of the objective, with certificates; None when SRAM allows none.

    throughput: interval, link cycles. latency: link cycles, interval. chips: stages, then throughput.
    """
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
        fill = int(load * filled)
        hint = cheapest_in_order(problem, load, fill)
        if filled < 1 and (hint is None or even > fill):
            continue
        model = StageModel(problem, hint or cut, load, fill)
        model.model.minimize(model.crossed)
        name = f"stages: link cycles at that interval, filled to {filled:.0%}"
        shorter = solve(model.model, name, _TIE_LIMIT, known=link_cycles_crossed(problem, hint or cut))
        certificates.append(shorter.certificate)
        cuts.append(_without_empty(model.cut(shorter) if shorter.found else hint or cut))
    return StageCuts(tuple(dict.fromkeys(cuts)), proof.bound, tuple(certificates))


def _smallest_load(problem: PartitionProblem) -> tuple[Sequence[int], Certificate] | None:
    hint, floor = smallest_in_order(problem), least_load(problem)
    ceiling = stage_load(problem, hint) if hint is not None else None
    if hint is not None and ceiling == floor:
        return hint, Certificate("stages: interval", "optimal", floor, floor, 0.0, 0.0)
    model = StageModel(problem, hint, ceiling)
    model.model.minimize(model.load)
    best = solve(model.model, "stages: interval", _LIMIT)
    return (model.cut(best), best.certificate) if best.found else None


def _cut_for_latency(problem: PartitionProblem) -> StageCuts | None:
    everything = int(problem.work.sum()) + 1
    hint = cheapest_in_order(problem, everything, everything)
    first = StageModel(problem, hint, None)
    first.model.minimize(first.crossed)
    best = solve(first.model, "stages: link cycles", _LIMIT)
    if not best.found:
        return None
    cut = first.cut(best)
    second = StageModel(problem, cut, stage_load(problem, cut))
    second.model.add(second.crossed <= best.certificate.objective)
    second.model.minimize(second.load)
    faster = solve(second.model, "stages: interval at those link cycles", _TIE_LIMIT)
    cut = second.cut(faster) if faster.found else cut
    return StageCuts((_without_empty(cut),), least_load(problem), (best.certificate, faster.certificate))


def _fewest_stages(problem: PartitionProblem) -> StageCuts | None:
    count = smallest_stage_count(problem)
    if count is None:
        return None
    found = cut_stages(replace(problem, stages=count, objective="throughput"))
    if found is None:
        return None
    proof = Certificate("stages: fewest chips", "optimal", count, count, 0.0, 0.0)
    return replace(found, certificates=(proof, *found.certificates))


def smallest_stage_count(problem: PartitionProblem) -> int | None:
    """The fewest stages whose SRAM holds everything, up to `problem.stages`; None if more are needed.

    Every smaller count is refuted: by total bytes, or by the solver.
    """
    total = sum(resident.nbytes for resident in problem.resident)
    load = int(problem.work.sum()) + 1
    for count in range(max(1, ceil(total / max(1, problem.capacity))), problem.stages + 1):
        smaller = replace(problem, stages=count)
        if cut_in_order(smaller, load) is not None:
            return count
        model = StageModel(smaller, None, None)
        if solve(model.model, "stages: fits", _LIMIT, minimising=False).found:
            return count
    return None


def _without_empty(stage: Sequence[int]) -> tuple[int, ...]:
    used = {old: new for new, old in enumerate(sorted(set(stage)))}
    return tuple(used[old] for old in stage)
