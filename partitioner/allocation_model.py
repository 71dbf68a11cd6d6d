"""Addresses as a CP-SAT model: rectangles, lifetime by bytes, that may not overlap.

    address[b] + size[b] <= capacity                                 in units of the sizes' common divisor
    no two rectangles [first section, last section] x [address, address + size] overlap
    sum over buffers at any address of their sections <= all sections      the area argument, cumulative
    address[b] + size[b] <= address[c]                               where b and c are alike

A section is a largest set of buffers that are alive at once. Of the cycles nothing else matters: a lifetime
is the sections that it is part of, and there are few.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from .allocation_problem import AllocationProblem
from .solver import IN_ORDER, LOWEST_MIN_FIRST, SMALLEST_VALUE, CpModel, Solution


@dataclass(frozen=True)
class AllocationRules:
    """What the model is made of. Without any of them it has the same solutions, and takes longer."""

    common_divisor: bool = True
    """Some solution has all addresses at sums of sizes, so at multiples of their common divisor."""
    sections: bool = True
    """Lifetimes as sections, not cycles: the solver's axis is short, and rectangles are alike."""
    area: bool = True
    """At one address no more sections are taken than there are: no wasted space is seen as such early."""
    alike_in_order: bool = True
    """Buffers of one lifetime and size may change places; one order is enough."""
    constant_below: bool = True
    """What is alive in all sections may as well lie below everything else, and need not be decided."""
    lowest_first: bool = True
    """The buffer that could lie lowest is placed next, so memory fills from below without holes. Otherwise
    buffers are placed in order."""


class AllocationModel:
    """The model of a problem. `order` sorts buffers by what is decided first: letters for the length of the
    lifetime (l), bytes x lifetime (a), and the bytes alive in the fullest section of a lifetime (s)."""

    def __init__(self, problem: AllocationProblem, rules: AllocationRules, order: str) -> None:
        self.problem, self.rules = problem, rules
        divisor = int(np.gcd.reduce(problem.padded)) if len(problem.padded) else 1
        self.unit = max(1, divisor if rules.common_divisor else problem.alignment)
        self.sizes = problem.padded // self.unit
        self.owner, self.first, self.last = _sections(problem) if rules.sections else problem.segments
        self.axis = int(self.last.max(initial=1))
        self.span = np.zeros(len(self.sizes), dtype=np.int64)
        np.add.at(self.span, self.owner, self.last - self.first)
        self.constant = (self.span == self.axis) & rules.constant_below
        self.floor = int(self.sizes[self.constant].sum())
        self.free = np.flatnonzero(~self.constant)
        self.model = CpModel()
        self._build(order)

    def _build(self, order: str) -> None:
        model, capacity = self.model, self.problem.capacity // self.unit
        room = max(self.floor, capacity)
        if capacity < self.floor or (self.sizes > capacity - self.floor)[self.free].any():
            # The facade is asked all the same: an empty clause is the proof.
            model.add_bool_or([])
            room += int(self.sizes.max(initial=0))
        self.address = {
            buffer: model.new_int_var(self.floor, room - int(self.sizes[buffer]), f"address{buffer}")
            for buffer in self.free.tolist()
        }
        vertical = {
            buffer: model.new_fixed_size_interval_var(start, int(self.sizes[buffer]), f"bytes{buffer}")
            for buffer, start in self.address.items()
        }
        pieces = zip(self.owner.tolist(), self.first.tolist(), self.last.tolist(), strict=True)
        kept = [(buffer, low, high) for buffer, low, high in pieces if buffer in vertical]
        horizontal = [
            model.new_fixed_size_interval_var(low, high - low, f"life{buffer}") for buffer, low, high in kept
        ]
        model.add_no_overlap_2d(horizontal, [vertical[buffer] for buffer, _, _ in kept])
        if self.rules.area:
            spans = [int(self.span[buffer]) for buffer in vertical]
            model.add_cumulative(list(vertical.values()), spans, self.axis)
        if self.rules.alike_in_order:
            self._add_alike()
        branching = LOWEST_MIN_FIRST if self.rules.lowest_first else IN_ORDER
        variables = [self.address[buffer] for buffer in self._ordered(order)]
        model.add_decision_strategy(variables, branching, SMALLEST_VALUE)

    def _add_alike(self) -> None:
        pieces: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for buffer, low, high in zip(
            self.owner.tolist(), self.first.tolist(), self.last.tolist(), strict=True
        ):
            pieces[buffer].append((low, high))
        last: dict[tuple[object, ...], int] = {}
        for buffer, start in self.address.items():
            kind = (int(self.sizes[buffer]), *pieces[buffer])
            if kind in last:
                before = last[kind]
                self.model.add(self.address[before] + int(self.sizes[before]) <= start)
            last[kind] = buffer

    def _ordered(self, order: str) -> list[int]:
        problem = self.problem
        cycles, alive = problem.profile
        owner, begins, ends = problem.segments
        fullest = np.zeros(len(self.sizes), dtype=np.int64)
        pieces = zip(np.searchsorted(cycles, begins), np.searchsorted(cycles, ends), strict=True)
        np.maximum.at(fullest, owner, [int(alive[low:high].max()) for low, high in pieces])
        lengths = np.where(problem.always, problem.period, problem.lengths)
        keys = {"l": lengths, "s": fullest, "a": self.sizes.astype(np.float64) * lengths}
        ranked = np.lexsort((np.arange(len(lengths)), *[-keys[letter] for letter in order[::-1]]))
        return [buffer for buffer in ranked.tolist() if buffer in self.address]

    def addresses(self, solution: Solution) -> np.ndarray:
        """int64[buffers], bytes."""
        found = np.zeros(len(self.sizes), dtype=np.int64)
        constant = self.sizes[self.constant]
        found[self.constant] = constant.cumsum() - constant
        for buffer, variable in self.address.items():
            found[buffer] = solution.value(variable)
        return found * self.unit


def _sections(problem: AllocationProblem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pieces of lifetimes with first and last section instead of cycles.

    A section ends where something is born after something has died:

        cycle    0   2   4   6   8
        a        |-------|               sections 0
        b            |-------|           sections 0, 1
        c                |-------|       sections 1
    """
    owner, begins, ends = problem.segments
    cycles = np.unique(np.concatenate([begins, ends]))
    born = np.isin(cycles, begins)
    dead = np.isin(cycles, ends)
    section, waiting, sections = -1, True, []
    for is_born, is_dead in zip(born.tolist(), dead.tolist(), strict=True):
        waiting |= is_dead
        if is_born and waiting:
            section, waiting = section + 1, False
        sections.append(section)
    number = np.array(sections, dtype=np.int64)
    # A death belongs to the last section before it.
    before = np.concatenate([[-1], number[:-1]])
    return owner, number[np.searchsorted(cycles, begins)], before[np.searchsorted(cycles, ends)] + 1
