"""Executes a plan: every tile, every transfer, at its cycle, in the bytes of its chip.

Each chip sees its own memory and what has arrived over links, nothing else. A value that is read
before it is there, overwritten too early, or put at another buffer's address comes out wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from chiplan.ir import Chip, ChipId, Plan, Unit

from .machine import Machine
from .memory import ChipMemory
from .pieces import Weights
from .tile_execution import TileExecution

_STORE, _GIVE_OUTPUTS, _TAKE_INPUTS, _LOAD = range(4)
"""Order of what happens within one cycle: what arrives in it is there for all that starts in it."""


@dataclass(frozen=True)
class Execution:
    """outputs: the model's outputs, presents of states among them, one dictionary a micro-batch.
    tiles: by (operator, chip), what was executed, with what it stored in one micro-batch."""

    outputs: tuple[dict[str, np.ndarray], ...]
    tiles: dict[tuple[int, ChipId], TileExecution]


class _Agenda:
    """What to do in which cycle of a micro-batch; an action is told the micro-batch's number."""

    def __init__(self) -> None:
        self._actions: list[Callable[[int], None]] = []
        self._cycles: list[int] = []
        self._kinds: list[int] = []

    def add(self, cycle: int, kind: int, action: Callable[[int], None]) -> None:
        self._actions.append(action)
        self._cycles.append(cycle)
        self._kinds.append(kind)

    def run(self, starts: list[int]) -> None:
        """All actions of all micro-batches by cycle, then kind, then micro-batch, then order of entry."""
        count = len(self._actions)
        cycles = (np.array(starts)[:, None] + np.array(self._cycles)).ravel()
        order = np.lexsort((np.tile(self._kinds, len(starts)), cycles))
        for event in order.tolist():
            self._actions[event % count](event // count)


def start_cycles(plan: Plan, micro_batches: int) -> list[int]:
    """First cycle of every micro-batch: one an interval, but a resident state serves one at a time."""
    starts: list[int] = []
    for n in range(micro_batches):
        start = starts[-1] + int(plan.interval) if starts else 0
        if plan.graph.states and n >= plan.users:
            start = max(start, starts[n - plan.users] + int(plan.latency))
        starts.append(start)
    return starts


def unit_depth(chip: Chip, unit: Unit) -> int:
    """Cycles from the end of a tile's occupancy until its result is in SRAM."""
    match unit:
        case Unit.MATRIX:
            return int(chip.matrix.depth)
        case Unit.VECTOR:
            return int(chip.vector.depth)
        case Unit.SWITCH:
            return int(chip.switch.depth)
        case Unit.MEMORY:
            return int(chip.memory.depth)


class _Span(NamedTuple):
    """Elements [first, last) of a tensor in a chip's memory."""

    memory: ChipMemory
    tensor: str
    first: int
    last: int

    def elements(self, micro_batch: int) -> np.ndarray:
        copy = micro_batch % self.memory.copies(self.tensor)
        return self.memory.array(self.tensor, copy).reshape(-1)[self.first : self.last]


class _Flight:
    """One transfer: elements leave the source as they are at its start."""

    def __init__(self, source: _Span, destination: _Span) -> None:
        self._source, self._destination = source, destination
        self._payload: dict[int, np.ndarray] = {}

    def depart(self, micro_batch: int) -> None:
        self._payload[micro_batch] = self._source.elements(micro_batch).copy()

    def arrive(self, micro_batch: int) -> None:
        self._destination.elements(micro_batch)[...] = self._payload.pop(micro_batch)


def _plan_transfers(plan: Plan, machine: Machine, agenda: _Agenda) -> None:
    """A transfer arrives a hop latency behind the end of its last hop."""
    columns, hops = plan.transfers, plan.hops
    arrivals = columns.start.copy()
    np.maximum.at(arrivals, hops.transfer, hops.end + int(plan.target.link.hop_latency))
    names = plan.tensor_names
    leave = (columns.source, columns.tensor, columns.first, columns.last, columns.start)
    enter = (
        columns.destination,
        columns.into,
        columns.at,
        columns.at + columns.last - columns.first,
        arrivals,
    )
    rows = zip(*(column.tolist() for column in (*leave, *enter)), strict=True)
    for source, tensor, first, last, start, destination, into, at, end, arrival in rows:
        flight = _Flight(
            _Span(machine.memory(source), names[tensor], first, last),
            _Span(machine.memory(destination), names[into], at, end),
        )
        agenda.add(start, _LOAD, flight.depart)
        agenda.add(arrival, _STORE, flight.arrive)


def _plan_tiles(
    plan: Plan, machine: Machine, agenda: _Agenda, recorded: int
) -> dict[tuple[int, ChipId], TileExecution]:
    """A tile reads at its start, and stores the unit's depth behind its end."""
    graph, executions = plan.graph, dict[tuple[int, ChipId], TileExecution]()
    for stage in plan.stages:
        program, tiles = stage.program, stage.program.tiles
        columns = [column.tolist() for column in (tiles.operator, tiles.tile, tiles.start, tiles.end)]
        for chip in stage.chips:
            memory = machine.memory(chip)
            here = [
                TileExecution(graph.operators[number], tiling, graph.tensors, memory, recorded)
                for number, tiling in zip(program.operators, program.tilings, strict=True)
            ]
            executions |= {(number, chip): e for number, e in zip(program.operators, here, strict=True)}
            depths = [unit_depth(plan.target.chip, execution.operator.unit) for execution in here]
            for position, tile, start, end in zip(*columns, strict=True):
                agenda.add(start, _LOAD, partial(here[position].compute, tile))
                agenda.add(end + depths[position], _STORE, partial(here[position].store, tile))
    return executions


def execute(
    plan: Plan, inputs: Sequence[Mapping[str, np.ndarray]], weights: Weights, recorded: int = 0
) -> Execution:
    """Run one micro-batch for every entry of `inputs`, as the plan interleaves them.

    An entry holds the model's inputs and the pasts of its states by name; `weights` gives the values
    of a weight's tensor. What micro-batch `recorded` stored is kept tile by tile.
    Raises InternalFault (`no_buffer`) for a plan that uses memory it has not reserved.
    """
    machine, agenda = Machine(plan, weights), _Agenda()
    outputs: list[dict[str, np.ndarray]] = [{} for _ in inputs]
    agenda.add(0, _TAKE_INPUTS, lambda n: machine.take_inputs(inputs[n], n))
    agenda.add(int(plan.latency), _GIVE_OUTPUTS, lambda n: outputs[n].update(machine.give_outputs(n)))
    executions = _plan_tiles(plan, machine, agenda, recorded)
    _plan_transfers(plan, machine, agenda)
    with np.errstate(all="ignore"):
        agenda.run(start_cycles(plan, len(inputs)))
    return Execution(tuple(outputs), executions)
