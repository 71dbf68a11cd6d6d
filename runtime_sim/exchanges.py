"""Do transfers put the right elements into the right place, also where chips exchange pieces?

Between stages a transfer carries elements of a tensor to the same elements. Inside a group the
graph's exchanges say which piece of which tensor goes where.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from chiplan.ir import Exchange, ExchangeKind, Result, Role, mesh_ways

from .faults import Fault, first_rows
from .groups import Place
from .shardings import on_mesh
from .timeline import Timeline
from .variation import Variation


class Exchanges:
    """The exchanges that each stage takes part in: those whose tensors its operators make."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.written: dict[str, dict[int, list[Result]]] = {}
        """Results by tensor and stage."""
        self._read: dict[str, set[int]] = {}
        for number, stage in enumerate(timeline.plan.stages):
            for index in stage.program.operators:
                operator = timeline.graph.operators[index]
                for result in operator.results:
                    self.written.setdefault(result.tensor, {}).setdefault(number, []).append(result)
                for operand in operator.operands:
                    self._read.setdefault(operand.tensor, set()).add(number)
        self._moved = {e.target: e for e in timeline.graph.exchanges if e.kind is not ExchangeKind.GATHER}
        self.active: dict[Place, Exchange] = {
            (stage, exchange.target): exchange
            for exchange in timeline.graph.exchanges
            for stage in sorted(self._stages(exchange))
        }
        """By stage and target."""

    def _stages(self, exchange: Exchange) -> set[int]:
        """Stages whose chips carry out an exchange."""
        if exchange.kind is ExchangeKind.GATHER:
            return set(self.written.get(exchange.target, {}))
        if exchange.source in self._moved:
            # What came from a neighbour is moved on.
            return self._stages(self._moved[exchange.source])
        if self.timeline.graph.tensors[exchange.source].role is not Role.VALUE:
            return self._read.get(exchange.target, set())
        return set(self.written.get(exchange.source, {}))


def check_exchanges(timeline: Timeline, variation: Variation) -> Iterator[Fault]:
    """wrong_exchange: every transfer is one that a stage's exchanges ask for, or carries what is equal
    on all chips to where it was."""
    exchanges = Exchanges(timeline)
    bound = np.zeros(len(timeline.plan.transfers.tensor), dtype=bool)
    for place, exchange in exchanges.active.items():
        rows = timeline.groups.arrivals.get(place)
        problem = _misfit(exchanges, exchange, place[0])
        if problem is not None:
            yield _declared_fault(timeline, exchange, place, problem)
        elif rows is not None:
            yield from _check_rows(timeline, exchange, place, rows)
        if rows is not None:
            bound[rows] = True
    yield from _check_unbound(timeline, variation, np.flatnonzero(~bound))


def _misfit(exchanges: Exchanges, exchange: Exchange, stage: int) -> str | None:
    """Why an exchange cannot take place on a stage, or None."""
    tensors, mesh = exchanges.timeline.graph.tensors, exchanges.timeline.groups.mesh(stage)
    target = tensors[exchange.target]
    if not exchange.axes or not on_mesh(exchange.axes, mesh):
        return f"its axes {exchange.axes} are not those of the mesh {mesh}"
    ways = mesh_ways(mesh, exchange.axes)
    if exchange.by and exchange.kind is not ExchangeKind.SHIFT:
        return f"only a shift goes by {exchange.by} chips"
    if exchange.kind is ExchangeKind.GATHER:
        if exchange.source != exchange.target:
            return "a gather brings pieces to where they are in the same tensor"
        writers = exchanges.written[exchange.target][stage]
        if any(result.own != exchange.axes for result in writers):
            return "a chip writes more than its own piece of the target"
        return None if target.shape[:1] == (ways,) else f"{target.shape} has not {ways} pieces"
    source = tensors[exchange.source]
    if source.dtype is not target.dtype:
        return f"{source.dtype.value} elements go into a tensor of {target.dtype.value}"
    if stage in exchanges.written.get(exchange.target, {}):
        return "an operator of the stage writes the target too"
    part, rest = divmod(target.elements, max(1, ways - 1))
    if exchange.kind is ExchangeKind.SCATTER and (rest or part * ways < source.elements):
        return f"{source.elements} elements over {ways} chips do not make the extents {target.shape}"
    if exchange.kind is ExchangeKind.SHIFT and source.elements != target.elements:
        return f"{source.shape} is moved into {target.shape}"
    return None


class _Movement(NamedTuple):
    """The transfers `rows` that carry out an exchange between peers: `ways` chips along its axes,
    `source` and `destination` the positions of both ends along them."""

    timeline: Timeline
    exchange: Exchange
    rows: np.ndarray
    ways: int
    source: np.ndarray
    destination: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """A column of the transfers."""
        return np.asarray(getattr(self.timeline.plan.transfers, name)[self.rows], dtype=np.int64)

    def carries(self, tensor: str) -> np.ndarray:
        return np.asarray(self.column("tensor") == self.timeline.tensor_numbers[tensor])

    def elements(self, tensor: str) -> int:
        return self.timeline.graph.tensors[tensor].elements


def _check_rows(timeline: Timeline, exchange: Exchange, place: Place, rows: np.ndarray) -> Iterator[Fault]:
    """The transfers that bring an exchange's target to a stage."""
    ends, places = timeline.groups.ends, timeline.groups.places[place[0]]
    inside = ends.source[rows] == place[0]
    for number in first_rows(~inside):
        yield _fault(timeline, int(rows[number]), "brings what the group makes itself")
    rows = rows[inside]
    coordinates = np.array([chip.coordinates for chip in places], dtype=np.int64)
    pieces = np.array([chip.piece(exchange.axes) for chip in places], dtype=np.int64)
    others = [axis for axis in range(coordinates.shape[1]) if axis not in exchange.axes]
    source, destination = ends.source_rank[rows], ends.destination_rank[rows]
    peers = (coordinates[source][:, others] == coordinates[destination][:, others]).all(axis=1)
    for number in first_rows(~peers):
        yield _fault(timeline, int(rows[number]), f"joins chips that differ beyond the axes {exchange.axes}")
    ways = mesh_ways(timeline.groups.mesh(place[0]), exchange.axes)
    movement = _Movement(timeline, exchange, rows, ways, pieces[source], pieces[destination])
    for right, problem in _RULES[exchange.kind](movement):
        for number in first_rows(~right & peers):
            yield _fault(timeline, int(rows[number]), problem)


_Rule = Callable[[_Movement], Iterator[tuple[np.ndarray, str]]]
"""Yields which transfers are right, and what is wrong with the others."""


def _check_gather(move: _Movement) -> Iterator[tuple[np.ndarray, str]]:
    """A range of the target goes to the same range, but never over the destination's own piece. Whether
    the source has it, its own or one that arrived, is a question of ready times."""
    target = move.exchange.target
    kept = move.carries(target) & (move.column("at") == move.column("first"))
    yield kept, f"does not put elements of {target} where they belong"
    part = move.elements(target) // move.ways
    beside = move.column("last") <= move.destination * part
    beside |= move.column("first") >= (move.destination + 1) * part
    yield beside | ~kept, "overwrites the piece that its destination writes itself"


def _check_scatter(move: _Movement) -> Iterator[tuple[np.ndarray, str]]:
    """Of the source tensor the destination's piece goes into the row that is the sender's."""
    source = move.exchange.source
    known = move.carries(source)
    yield known, f"brings another tensor than {source}"
    elements = move.elements(source)
    part = move.elements(move.exchange.target) // (move.ways - 1)
    low = np.minimum(move.destination * part, elements)
    first = move.column("first")
    piece = (first >= low) & (move.column("last") <= np.minimum(low + part, elements))
    yield piece | ~known, "is not of the piece that its destination combines"
    row = (move.source - move.destination - 1) % move.ways
    placed = move.column("at") == row * part + first - low
    yield placed | ~piece | ~known, "does not go into the row of its source"


def _check_shift(move: _Movement) -> Iterator[tuple[np.ndarray, str]]:
    """The neighbour's whole tensor, element by element."""
    source, by = move.exchange.source, move.exchange.by
    known = move.carries(source)
    yield known, f"brings another tensor than {source}"
    yield (move.source + by) % move.ways == move.destination, f"does not come from the chip {by} before"
    yield (move.column("at") == move.column("first")) | ~known, "does not keep the place of its elements"


_RULES: dict[ExchangeKind, _Rule] = {
    ExchangeKind.GATHER: _check_gather,
    ExchangeKind.SCATTER: _check_scatter,
    ExchangeKind.SHIFT: _check_shift,
}


def _check_unbound(timeline: Timeline, variation: Variation, rows: np.ndarray) -> Iterator[Fault]:
    """Transfers that no exchange asks for: a tensor keeps its name and place, and is equal on all chips."""
    transfers, ends = timeline.plan.transfers, timeline.groups.ends
    moved = (transfers.into[rows] != transfers.tensor[rows]) | (transfers.at[rows] != transfers.first[rows])
    for number in first_rows(moved):
        yield _fault(timeline, int(rows[number]), "moves elements, and no exchange of the graph asks for it")
    differs = np.array([bool(variation.axes(name)) for name in timeline.plan.tensor_names], dtype=bool)
    between = ends.source[rows] != ends.destination[rows]
    for number in first_rows(differs[transfers.tensor[rows]] & ~moved & (ends.source[rows] >= 0)):
        row = int(rows[number])
        where = "to another stage" if between[number] else "to another chip, and no exchange asks for it"
        yield _fault(timeline, row, f"carries what differs from chip to chip {where}")


def _fault(timeline: Timeline, row: int, problem: str) -> Fault:
    transfers, names = timeline.plan.transfers, timeline.plan.tensor_names
    into = names[transfers.into[row]]
    message = (
        f"transfer {row} of elements {transfers.first[row]}..{transfers.last[row]} of "
        f"{names[transfers.tensor[row]]} to {transfers.at[row]} of {into}, from chip "
        f"{transfers.source[row]} to chip {transfers.destination[row]}, {problem}"
    )
    return Fault("wrong_exchange", message, chip=int(transfers.destination[row]), tensor=into,
                 cycle=int(transfers.start[row]))  # fmt: skip


def _declared_fault(timeline: Timeline, exchange: Exchange, place: Place, problem: str) -> Fault:
    message = f"the {exchange.kind.value} of {exchange.source} into {exchange.target}: {problem}"
    chip = int(timeline.plan.stages[place[0]].chips[0])
    return Fault("wrong_exchange", message, chip=chip, stage=place[0], tensor=exchange.target)
