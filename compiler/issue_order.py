"""The order in which tiles are given to the units: operators that stream into one another by turns.

Three passes over the rows of a softmax run on the one vector unit, between products on the matrix unit. One
operator after the other, the rows of the last are there when the first two have been through all rows.
By turns, each takes a part of the rows, and what waits for the first rows starts early:

    one after the other   AAAAAAAABBBBBBBBCCCCCCCC
    by turns              AABBCCAABBCCAABBCCAABBCC
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import NamedTuple

from chiplan.ir import Graph, Operator, Result, Unit

from .tile_choice import TiledOperator
from .tile_steps import Loop, outer_loop, seen_by, steps_needed, written

_ROUNDS = 5
"""Turns of an operator at the most: more take longer to schedule and help little."""
_SHORTEST_ROUND = 250
"""Cycles of the busiest unit: about what it takes to send something to another chip."""


class Portion(NamedTuple):
    """Atoms [first, last) of an operator."""

    operator: int
    first: int
    last: int


def issue_order(
    graph: Graph, tiled: Mapping[int, TiledOperator], stages: Iterable[Sequence[int]]
) -> list[Portion]:
    """All atoms of all operators, every operator's in order. stages: the operators of each.

    Only where chips of a group exchange tensors do operators take turns.
    """
    found: list[Portion] = []
    stage_of = {index: number for number, stage in enumerate(stages) for index in stage}
    if not graph.exchanges:
        return [Portion(index, 0, len(done.offset)) for index, done in sorted(tiled.items())]
    sources = {exchange.target: exchange.source for exchange in graph.exchanges}
    run = _Run(graph, tiled, sources)
    for index in range(len(graph.operators)):
        is_alike = not run.members or stage_of.get(run.members[-1]) == stage_of.get(index)
        if not (is_alike and run.join(index)):
            found += run.portions()
            run = _Run(graph, tiled, sources)
            run.join(index)
    return found + run.portions()


class _Run:
    """Operators that may take turns: none waits for all of another. members: in the graph's order.
    sources: of every tensor that chips exchange, what they send."""

    def __init__(self, graph: Graph, tiled: Mapping[int, TiledOperator], sources: Mapping[str, str]) -> None:
        self.graph, self.tiled, self._sources = graph, tiled, sources
        self.members: list[int] = []
        self._loops: dict[int, Loop | None] = {}
        self._needs: dict[int, dict[int, tuple[int, ...]]] = {}
        self._writers: dict[str, dict[int, Result]] = {}

    def join(self, index: int) -> bool:
        """Take up an operator, if it may take turns with all that are there."""
        operator = self.graph.operators[index]
        loop = outer_loop(operator, self.tiled[index].tiling)
        needs = self._steps_needed(operator, loop)
        if needs is None:
            return False
        self.members.append(index)
        self._loops[index], self._needs[index] = loop, needs
        for result in operator.results:
            self._writers.setdefault(result.tensor, {})[index] = result
        return True

    def _steps_needed(self, operator: Operator, loop: Loop | None) -> dict[int, tuple[int, ...]] | None:
        """By member: how many of its steps must be over for each step of an operator; None where it waits."""
        found: dict[int, tuple[int, ...]] = {}
        for operand in operator.operands:
            if self._sources.get(operand.tensor) in self._writers:
                return None
            for writer, result in self._writers.get(operand.tensor, {}).items():
                before = self._loops[writer]
                if before is None or loop is None:
                    return None
                made = written(
                    self.graph.operators[writer], result, before, self.graph.tensors[result.tensor].shape
                )
                needed = steps_needed(made, seen_by(operand), loop)
                if needed is None:
                    return None
                found[writer] = tuple(map(max, zip(needed, found.get(writer, needed), strict=True)))
        return found

    def portions(self) -> list[Portion]:
        """The atoms of all members in turn."""
        rounds = min(_ROUNDS, self._longest() // _SHORTEST_ROUND) if len(self.members) > 1 else 1
        over = dict.fromkeys(self.members, 0)
        found = []
        for turn in range(1, max(1, rounds) + 1):
            for index in self.members:
                atoms = len(self.tiled[index].offset)
                loop = self._loops[index]
                steps = loop.steps if loop else 1
                limit = steps if turn >= rounds else self._limit(index, steps, turn / rounds, over)
                if limit > over[index]:
                    found.append(Portion(index, over[index] * atoms // steps, limit * atoms // steps))
                    over[index] = limit
        return found

    def _limit(self, index: int, steps: int, share: float, over: Mapping[int, int]) -> int:
        """How many steps of a member may be over when a share of the rounds is."""
        limits = [bisect_right(needed, over[writer]) for writer, needed in self._needs[index].items()]
        return min(limits, default=ceil(steps * share))

    def _longest(self) -> int:
        """Cycles of the unit that is busy longest."""
        work: dict[Unit, int] = {}
        for index in self.members:
            unit = self.graph.operators[index].unit
            work[unit] = work.get(unit, 0) + self.tiled[index].work
        return max(work.values())
