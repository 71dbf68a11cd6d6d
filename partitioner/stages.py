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

from .problem import PartitionProblem
from .solver import CpModel, IntVar, LinearExpr, Solution, solve

_LIMIT = 4.0
"""Deterministic time of one solver call, in the solver's units (roughly seconds)."""


@dataclass(frozen=True)
class StageCut:
    """Stage of every item; `load` is the largest unit load of a stage in cycles, `bound` a proven lower
    bound of it over all cuts into at most the given number of stages."""

    stage: tuple[int, ...]
    load: int
    bound: int
    certificates: tuple[Certificate, ...]


def cut_in_order(problem: PartitionProblem, load: int) -> list[int] | None:
    """Fill stage after stage in topological order up to `load` cycles a unit; None if it takes more
    stages than there are."""
    stage, used, held, full = 0, np.zeros(problem.work.shape[1], dtype=np.int64), set[int](), 0
    users = _resident_of(problem)
    placed: list[int] = []
    for item, work in enumerate(problem.work):
        new = [r for r in users[item] if r not in held]
        grown = full + sum(problem.resident[r].nbytes for r in new)
        if (used + work > load).any() or grown > problem.capacity:
            stage, used, held = stage + 1, np.zeros_like(used), set()
            grown = sum(problem.resident[r].nbytes for r in users[item])
            new = users[item]
            if stage == problem.stages or (work > load).any() or grown > problem.capacity:
                return None
        used, full = used + work, grown
        held.update(new)
        placed.append(stage)
    return placed


def _resident_of(problem: PartitionProblem) -> list[list[int]]:
    users: list[list[int]] = [[] for _ in range(problem.items)]
    for index, resident in enumerate(problem.resident):
        for item in resident.items:
            users[item].append(index)
    return users


def smallest_in_order(problem: PartitionProblem) -> list[int] | None:
    """The in-order cut with the smallest load, by bisection; None when memory does not allow any."""
    low = max(
        int(problem.work.max(initial=0)), ceil(int(problem.work.sum(axis=0).max(initial=0)) / problem.stages)
    )
    high = max(1, int(problem.work.sum(axis=0).max(initial=0)))
    best = cut_in_order(problem, high)
    if best is None:
        return None
    while low < high:
        middle = (low + high) // 2
        cut = cut_in_order(problem, middle)
        if cut is None:
            low = middle + 1
        else:
            best, high = cut, middle
    return best


def stage_load(problem: PartitionProblem, stage: Sequence[int]) -> int:
    """Largest unit load of a stage, recomputed operators and link crossings included."""
    stages = np.asarray(stage)
    load = np.zeros((problem.stages, problem.work.shape[1]), dtype=np.int64)
    np.add.at(load, stages, problem.work)
    for index, used in enumerate(_recomputed_on(problem, stages)):
        load[sorted(used)] += np.array(problem.recomputed[index].work)
    crossed = np.zeros(problem.stages, dtype=np.int64)
    for carried in problem.carried:
        last = max(stage[consumer] for consumer in carried.consumers)
        crossed[stage[carried.producer] : last] += carried.cycles
    return max(int(load.max(initial=0)), ceil(int(crossed.max(initial=0)) / problem.link_ways))


def _recomputed_on(problem: PartitionProblem, stages: np.ndarray) -> list[set[int]]:
    """Stages that execute each recomputed operator. Cones refer to later entries' users, so the list is
    walked from the last operator back."""
    used: list[set[int]] = [set() for _ in problem.recomputed]
    for index in reversed(range(len(problem.recomputed))):
        entry = problem.recomputed[index]
        used[index] = {int(stages[item]) for item in entry.items}
        for cone in entry.cones:
            used[index] |= used[cone]
    return used


class StageModel:
    """The CP-SAT model of a problem, with windows that keep every cut of load <= `ceiling`."""

    def __init__(self, problem: PartitionProblem, hint: Sequence[int] | None, ceiling: int | None) -> None:
        self.problem, self.model = problem, CpModel()
        first, last = stage_windows(problem, ceiling)
        self.before = [self._steps(item, first[item], last[item]) for item in range(problem.items)]
        self.load = self.model.new_int_var(0, ceiling or int(problem.work.sum()) + 1, "load")
        self._add_precedence()
        self._add_loads()
        self._add_residents()
        self.crossed = self._add_crossings()
        if hint is not None:
            self._hint(hint)

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
        recomputed = self._recomputed_literals()
        for stage in range(self.problem.stages):
            for unit in range(self.problem.work.shape[1]):
                terms = [
                    int(work) * self.on(item, stage)
                    for item, work in enumerate(self.problem.work[:, unit])
                    if work
                ]
                terms += [
                    entry.work[unit] * literals[stage]
                    for entry, literals in zip(self.problem.recomputed, recomputed, strict=True)
                    if entry.work[unit]
                ]
                self.model.add(sum(terms) <= self.load)

    def _recomputed_literals(self) -> list[list[LinearExpr]]:
        literals: list[list[LinearExpr]] = []
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
        for stage in range(self.problem.stages):
            terms: list[LinearExpr] = []
            for index, resident in enumerate(self.problem.resident):
                if len(resident.items) == 1:
                    terms.append(resident.nbytes * self.on(resident.items[0], stage))
                    continue
                held = self.model.new_bool_var(f"m{index}.{stage}")
                for item in resident.items:
                    self.model.add(held >= self.on(item, stage))
                terms.append(resident.nbytes * held)
            self.model.add(sum(terms) <= self.problem.capacity)

    def _add_crossings(self) -> LinearExpr:
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
                for end in open_ends:
                    self.model.add(crosses >= made - end)
                here.append(carried.cycles * crosses)
            self.model.add(sum(here) <= self.problem.link_ways * self.load)
            total += here
        return sum(total)

    def _hint(self, hint: Sequence[int]) -> None:
        for item, steps in enumerate(self.before):
            for stage, variable in enumerate(steps[1:]):
                if isinstance(variable, IntVar):
                    self.model.add_hint(variable, int(hint[item] <= stage))

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


def cut_stages(problem: PartitionProblem) -> StageCut | None:
    """The best cut in the order of the objective, with certificates; None when SRAM allows none.

    throughput: interval, link cycles. latency: link cycles, interval. chips: stages, then throughput.
    """
    if problem.objective == "chips":
        return _fewest_stages(problem)
    hint = smallest_in_order(problem)
    ceiling = stage_load(problem, hint) if hint is not None else None
    if problem.objective == "latency":
        return _cut_for_latency(problem, hint)
    return _cut_for_interval(problem, hint, ceiling)


def _cut_for_interval(
    problem: PartitionProblem, hint: list[int] | None, ceiling: int | None
) -> StageCut | None:
    first = StageModel(problem, hint, ceiling)
    first.model.minimize(first.load)
    best = solve(first.model, "stages: interval", _LIMIT)
    if not best.found:
        return None
    cut = first.cut(best)
    load = stage_load(problem, cut)
    second = StageModel(problem, cut, load)
    second.model.minimize(second.crossed)
    shorter = solve(second.model, "stages: link cycles at that interval", _LIMIT)
    if shorter.found:
        cut = second.cut(shorter)
    bound = best.certificate.bound
    return StageCut(
        _without_empty(cut), stage_load(problem, cut), bound, (best.certificate, shorter.certificate)
    )


def _cut_for_latency(problem: PartitionProblem, hint: list[int] | None) -> StageCut | None:
    first = StageModel(problem, hint, None)
    first.model.minimize(first.crossed)
    best = solve(first.model, "stages: link cycles", _LIMIT)
    if not best.found:
        return None
    second = StageModel(problem, first.cut(best), stage_load(problem, first.cut(best)))
    second.model.add(second.crossed <= best.certificate.objective)
    second.model.minimize(second.load)
    faster = solve(second.model, "stages: interval at those link cycles", _LIMIT)
    cut = second.cut(faster) if faster.found else first.cut(best)
    return StageCut(_without_empty(cut), stage_load(problem, cut), 0, (best.certificate, faster.certificate))


def _fewest_stages(problem: PartitionProblem) -> StageCut | None:
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
