"""Nodes that repeat, folded: what is alike in layer after layer is one line of a baseline, names included.

A run is a row and how it goes on: positions in graph order, and every number in the names, grow by a step of
their own. A model of eighty equal layers takes as many lines as one of two, and unfolds to the same rows.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .plan_profile import NodeCost

MOST_NODES = 100_000
MOST_SIDE_BY_SIDE = 8
"""Alike nodes of one layer, such as the projections of keys and values, that are told apart as runs."""

_NUMBER = re.compile(r"(?<!\d)(?:0|[1-9]\d{0,14})(?!\d)", re.ASCII)
"""A number that is written again as it was: without leading zeros, of 64 bits."""


@dataclass(frozen=True)
class NodeRun:
    """Rows of `NodeCost` that are alike. at: first position, how many, and the step from one to the next.
    nodes: those of the first; steps: what each number in them grows by. The others as in `NodeCost`."""

    at: tuple[int, int, int]
    unit_cycles: int
    link_cycles: int
    kind: str
    place: str
    nodes: tuple[str, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class _Numbered:
    """A row at its position, with the numbers in its names taken out."""

    position: int
    row: NodeCost
    numbers: tuple[int, ...]

    def step_to(self, other: "_Numbered") -> tuple[int, ...]:
        return tuple(
            b - a
            for a, b in zip((self.position, *self.numbers), (other.position, *other.numbers), strict=True)
        )


def fold_nodes(rows: Sequence[NodeCost]) -> tuple[NodeRun, ...]:
    """The rows as runs, in the order of their first positions."""
    together: dict[tuple[object, ...], list[_Numbered]] = {}
    for position, row in enumerate(rows):
        shape = tuple(_NUMBER.sub("#", node) for node in row.nodes)
        key = (row.unit_cycles, row.link_cycles, row.kind, row.place, shape)
        together.setdefault(key, []).append(_Numbered(position, row, _numbers(row.nodes)))
    runs = [_run(members) for alike in together.values() for members in _fewest_runs(alike)]
    return tuple(sorted(runs, key=lambda run: run.at))


def _numbers(nodes: Sequence[str]) -> tuple[int, ...]:
    return tuple(int(found) for node in nodes for found in _NUMBER.findall(node))


def _fewest_runs(alike: Sequence[_Numbered]) -> list[list[_Numbered]]:
    """Runs of alike rows: each after the next, or every second, third, ... whichever gives the fewest."""
    ways = (
        [run for first in range(every) for run in _progressions(alike[first::every])]
        for every in range(1, min(MOST_SIDE_BY_SIDE, len(alike)) + 1)
    )
    return min(ways, key=len)


def _progressions(rows: Sequence[_Numbered]) -> Iterator[list[_Numbered]]:
    """Neighbours whose position and numbers grow by equal steps."""
    run: list[_Numbered] = []
    for row in rows:
        if len(run) > 1 and run[-1].step_to(row) != run[0].step_to(run[1]):
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _run(members: Sequence[_Numbered]) -> NodeRun:
    first = members[0]
    step, *steps = first.step_to(members[1]) if len(members) > 1 else (0, *(0 for _ in first.numbers))
    row, at = first.row, (first.position, len(members), step)
    return NodeRun(at, row.unit_cycles, row.link_cycles, row.kind, row.place, row.nodes, tuple(steps))


def unfold_nodes(runs: Sequence[NodeRun]) -> tuple[NodeCost, ...]:
    """The rows again, in graph order. Raises ValueError for runs that no rows fold to."""
    if sum(run.at[1] for run in runs) > MOST_NODES or any(min(run.at) < 0 for run in runs):
        raise ValueError(f"nodes: expected positions of 0 or more, {MOST_NODES:,} at most")
    placed = {
        run.at[0] + number * run.at[2]: _row(run, number) for run in runs for number in range(run.at[1])
    }
    if placed.keys() != set(range(sum(run.at[1] for run in runs))):
        raise ValueError("nodes: positions are missing or taken twice")
    return tuple(placed[position] for position in range(len(placed)))


def _row(run: NodeRun, number: int) -> NodeCost:
    """Row `number` of a run."""
    numbers = _numbers(run.nodes)
    if len(numbers) != len(run.steps):
        raise ValueError(
            f"nodes: expected {len(numbers)} steps, one a number in the names, found {len(run.steps)}"
        )
    grown = iter([value + number * step for value, step in zip(numbers, run.steps, strict=True)])
    nodes = tuple(_NUMBER.sub(lambda _: str(next(grown)), node) for node in run.nodes)
    return NodeCost(nodes, run.kind, run.place, run.unit_cycles, run.link_cycles)
