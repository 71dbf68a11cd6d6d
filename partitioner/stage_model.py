"""The stage cut as a CP-SAT model: contiguous sets of a DAG under SRAM.

    y[v, s] = item v sits on stage s or before        y[v, s] <= y[v, s + 1],  y[v, s] <= y[u, s] for u -> v
    load    sum over v of work[v] * (y[v, s] - y[v, s - 1]) + recomputed   <= T     for every unit kind
    SRAM    resident bytes that stage s uses + its largest activations     <= capacity
    links   sum of link cycles of tensors that cross s | s + 1             <= T * link_ways, if asked for

The link rule is an estimate (detours, and stages that are not neighbours, are not in it), so a model with
it proves nothing about T.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import numpy as np

from .in_order import least_load
from .measures import link_load, recomputed_on, stage_load
from .problem import Carried, PartitionProblem, Resident
from .solver import CpModel, IntVar, LinearExpr, Solution

_ACTIVATION_STEPS = 6


class StageModel:
    """The CP-SAT model of a problem, with windows that keep every cut of load <= `ceiling`."""

    def __init__(
        self,
        problem: PartitionProblem,
        hint: Sequence[int] | None,
        ceiling: int | None,
        fill: int | None = None,
        *,
        links: bool = False,
    ) -> None:
        self.problem, self.model = problem, CpModel()
        first, last = stage_windows(problem, ceiling)
        self.before = [self._steps(item, first[item], last[item]) for item in range(problem.items)]
        self.load = self.model.new_int_var(least_load(problem), ceiling or most_load(problem), "load")
        self.recomputed = self._recomputed_literals()
        self._add_precedence()
        self._add_loads()
        if ceiling is not None and fill is not None and fill < ceiling:
            self._add_fill(ceiling, fill)
        self._add_memory()
        self.crossings: list[tuple[IntVar, Carried, int]] = []
        self.crossed = self._add_crossings(links=links)
        if hint is not None:
            self._add_hint(hint, links=links)

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

    def _add_memory(self) -> None:
        self.held: list[tuple[IntVar, Resident, int]] = []
        self.active: list[tuple[IntVar, int, int]] = []
        for stage in range(self.problem.stages):
            terms: list[LinearExpr] = []
            for index, resident in enumerate(self.problem.resident):
                if len(resident.items) == 1 and not resident.recomputed:
                    terms.append(resident.nbytes * self.on(resident.items[0], stage))
                    continue
                held = self.model.new_bool_var(f"m{index}.{stage}")
                self.held.append((held, resident, stage))
                for item in resident.items:
                    self.model.add(held >= self.on(item, stage))
                for operator in resident.recomputed:
                    self.model.add(held >= self.recomputed[operator][stage])
                terms.append(resident.nbytes * held)
            self.model.add(sum(terms) + self._active(stage) <= self.problem.capacity)

    def _active(self, stage: int) -> LinearExpr:
        """Bytes of the largest activations on a stage, in a few steps rounded down: never too many."""
        steps = activation_steps(self.problem)
        total: LinearExpr = 0
        for low, high in pairwise((0, *steps)):
            reached = self.model.new_bool_var(f"a{high}.{stage}")
            self.active.append((reached, high, stage))
            for item, nbytes in enumerate(self.problem.activations):
                if nbytes >= high:
                    self.model.add(reached >= self.on(item, stage))
            total = total + (high - low) * reached
        return total

    def _add_crossings(self, *, links: bool) -> LinearExpr:
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
            if links:
                self.model.add(sum(here) <= self.problem.link_ways * self.load)
            total += here
        return sum(total)

    def _add_hint(self, hint: Sequence[int], *, links: bool) -> None:
        """Hint every variable: an incomplete hint is a suggestion, a complete one an incumbent."""
        load = max(least_load(self.problem), stage_load(self.problem, hint))
        self.model.add_hint(self.load, max(load, link_load(self.problem, hint) if links else 0))
        used = recomputed_on(self.problem, hint)
        for variable, resident, stage in self.held:
            here = any(hint[item] == stage for item in resident.items)
            self.model.add_hint(variable, int(here or any(stage in used[r] for r in resident.recomputed)))
        for variable, nbytes, stage in self.active:
            reached = any(
                hint[item] == stage and need >= nbytes for item, need in enumerate(self.problem.activations)
            )
            self.model.add_hint(variable, int(reached))
        for variable, carried, stage in self.crossings:
            last = max(hint[consumer] for consumer in carried.consumers)
            self.model.add_hint(variable, int(hint[carried.producer] <= stage < last))
        for variables, stages in zip(self.recomputed, used, strict=True):
            for stage, variable in enumerate(variables):
                self.model.add_hint(variable, int(stage in stages))
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


def most_load(problem: PartitionProblem) -> int:
    """A load that no cut can exceed: everything on one stage, all tensors over its links."""
    recomputed = sum(sum(entry.work) for entry in problem.recomputed)
    links = ceil(sum(carried.cycles for carried in problem.carried) / problem.link_ways)
    return int(problem.work.sum()) + recomputed + links + least_load(problem)


def activation_steps(problem: PartitionProblem) -> list[int]:
    """At most a few distinct sizes of activations, ascending; what lies between counts as the lower."""
    sizes = sorted({int(nbytes) for nbytes in problem.activations if nbytes > 0})
    if len(sizes) <= _ACTIVATION_STEPS:
        return sizes
    return [sizes[0], *sizes[1 - _ACTIVATION_STEPS :]]
