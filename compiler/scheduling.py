"""Start cycles of all tiles and link slots: one pass over the operators in topological order.

Each operator's tiles go on their unit in order, each as soon as the tiles that it reads are in SRAM
and the unit is free *modulo the interval*, so that the micro-batches of the steady state overlap
without a further check. Tensors that cross chips are sent in chunks as their tiles finish.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chiplan.ir import (
    Exchange,
    Graph,
    Operand,
    Role,
    Target,
    Unit,
    mesh_ways,
)

from .exchanges import exchange_by_pattern, reads_own_piece, run_exchange
from .graph_edit import writers_of
from .group_sends import Sender, send_by_pattern
from .issue_order import Portion
from .link_patterns import LinkPatterns
from .links import LinkScheduler
from .movements import Movement
from .ready_times import ReadyMap, block_maximum, latest, map_view
from .scheduled_tiles import ScheduledOperator, extended, result_map
from .sram_room import SramRoom
from .tile_choice import TiledOperator
from .unit_packing import RUN_THROUGH, ChipState, Packing, Placer, deal_in_turn


@dataclass(frozen=True)
class StageWork:
    """The operators (graph indices, ascending) that every chip of a stage's group executes; the chips in
    row-major order of the mesh. All of them do the same in the same cycles, so what is kept of a stage
    is kept once, under its first chip."""

    chips: tuple[int, ...]
    mesh: tuple[int, ...]
    operators: tuple[int, ...]

    @property
    def first_chip(self) -> int:
        return self.chips[0]


def one_chip(chip: int, operators: tuple[int, ...]) -> StageWork:
    """A stage on a single chip."""
    return StageWork((chip,), (1,), operators)


@dataclass
class Lifetime:
    """Half-open use of a buffer by micro-batch 0."""

    birth: int
    death: int

    def use(self, low: int, high: int) -> None:
        self.birth, self.death = min(self.birth, low), max(self.death, high)


@dataclass(frozen=True)
class Schedule:
    """All start cycles at one interval. Programs are keyed by (operator, first chip of a stage), lifetimes
    by (first chip of a stage, tensor)."""

    interval: int
    latency: int
    """The stated one."""
    programs: Mapping[tuple[int, int], ScheduledOperator]
    sent: tuple[Movement, ...]
    lifetimes: Mapping[tuple[int, str], Lifetime]
    chips: int

    @property
    def span(self) -> int:
        """A number of cycles after which everything of one micro-batch is over."""
        tiles = max(int((done.end + done.tiled.depth).max()) for done in self.programs.values())
        arrivals = max((movement.last_arrival for movement in self.sent), default=0)
        return max(1, tiles, arrivals, *(life.death for life in self.lifetimes.values()))


class Scheduler:
    """Schedules a partitioned graph at one interval. Raises NoRoom when the interval is too short."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        stages: Sequence[StageWork],
        tiled: Mapping[int, TiledOperator],
        interval: int,
        patterns: LinkPatterns | None = None,
        packing: Packing = RUN_THROUGH,
        users: int = 1,
        room: SramRoom | None = None,
        place: Placer = deal_in_turn,
        links_free: bool = False,
        order: Sequence[Portion] | None = None,
    ) -> None:
        self.order = order or [Portion(index, 0, len(tiled[index].offset)) for index in sorted(tiled)]
        self.place, self.packing, self.room, self.users = place, packing, room, users
        self.first_chip = stages[0].first_chip
        self.stages = {stage.first_chip: stage for stage in stages}
        self.exchanges = {exchange.target: exchange for exchange in graph.exchanges}
        self.links_free = links_free
        self.graph, self.tiled, self.interval = graph, tiled, interval
        self.patterns = patterns or LinkPatterns(target)
        self.links = LinkScheduler(target, interval, self.patterns.router, packing.thrift)
        self.chips = {
            chip: ChipState(target.chip, interval, _longest_load(stage, tiled))
            for chip, stage in self.stages.items()
        }
        self.stages_of: dict[int, list[int]] = {}
        for stage in stages:
            for index in stage.operators:
                self.stages_of.setdefault(index, []).append(stage.first_chip)
        self.ready: dict[tuple[int, str], ReadyMap] = {}
        """When all chips of a stage have a tensor, be it made, sent or exchanged."""
        self.made: dict[tuple[int, str], ReadyMap] = {}
        """When the chips of a stage have what they make of a tensor themselves."""
        self.owned: dict[str, tuple[int, ...]] = {}
        """Mesh axes along which every chip writes its own piece of a tensor."""
        self.home: dict[str, int] = {}
        self.shared = {name for name, found in writers_of(graph.operators).items() if len(found) > 1}
        """Tensors that several operators write."""
        self._asked: dict[tuple[int, int, int], tuple[ReadyMap, np.ndarray]] = {}
        self.lifetimes: dict[tuple[int, str], Lifetime] = {}
        self.programs: dict[tuple[int, int], ScheduledOperator] = {}

    def run(self) -> Schedule:
        for portion in self.order:
            for chip in self.stages_of.get(portion.operator, ()):
                self._schedule(portion, chip)
        self._complete_outputs()
        latency = stated_latency(self.graph, self._latency(), self.interval, self.users)
        self._hold_outputs(latency)
        chips = sum(len(stage.chips) for stage in self.stages.values())
        return Schedule(self.interval, latency, self.programs, tuple(self.links.sent), self.lifetimes, chips)

    def _complete_outputs(self) -> None:
        """Outputs of which other chips made pieces are brought together."""
        for name in sorted({output.tensor for output in self.graph.outputs}):
            exchange = self.exchanges.get(name)
            if exchange is not None and (self.home[exchange.source], name) not in self.ready:
                self._exchange(exchange, self.home[exchange.source])

    def _hold_outputs(self, latency: int) -> None:
        """Outputs stay where they were made, an input that is one on one chip, until the end."""
        for name in sorted({output.tensor for output in self.graph.outputs}):
            role = self.graph.tensors[name].role
            if role is Role.INPUT:
                chips = [chip for chip, held in self.lifetimes if held == name]
                self.lifetimes.setdefault((min(chips, default=self.first_chip), name), Lifetime(0, 0)).use(
                    0, latency
                )
            elif role is Role.VALUE:
                self.lifetimes[self.home[name], name].use(latency, latency)

    def _latency(self) -> int:
        last = [
            int(self.ready[self.home[name], name].cycles.max())
            for name in sorted({o.tensor for o in self.graph.outputs} | {s.tensor for s in self.graph.states})
            if name in self.home
        ]
        return max(last, default=0)

    def _schedule(self, portion: Portion, chip: int) -> None:
        index, chosen = portion.operator, slice(portion.first, portion.last)
        tiled, state = self.tiled[index], self.chips[chip]
        operator = tiled.operator
        need = self._need(portion, chip).reshape(tiled.offset.shape)[chosen]
        atoms_ready = (need - tiled.offset[chosen]).max(axis=1)
        np.maximum(atoms_ready, tiled.load[chosen, 0], out=atoms_ready)
        if self.room is not None:
            np.maximum(atoms_ready, self.room.earliest(index, chip, self.lifetimes), out=atoms_ready)
        durations = tiled.durations(state.longest_load if operator.unit is Unit.MATRIX else 0)[chosen]
        placed = self.place(state.instances(operator.unit), atoms_ready, durations, self.packing)
        before = self.programs.get((index, chip))
        done = extended(tiled, before, placed)
        self.programs[index, chip] = done
        self._record(done, chip)

    def _need(self, portion: Portion, chip: int) -> np.ndarray:
        """Earliest start of every tile as its operands allow, int64[tiles], in tile order."""
        tiled = self.tiled[portion.operator]
        operator, tiling = tiled.operator, tiled.tiling
        grid = tiling.grid(operator)
        need = np.zeros(grid, dtype=np.int64)
        load = tiled.load.reshape([grid[f] for f in tiling.order])
        load = load.transpose(np.argsort(tiling.order)) if load.ndim else load
        for position, operand in enumerate(operator.operands):
            ready = self._arrived(operand, chip)
            if ready is None:
                continue
            cycles = self._on_grid(portion, position, chip, ready)
            stationary = operator.unit is Unit.MATRIX and position > 0
            need = np.maximum(need, cycles + load if stationary else cycles)
        return need.transpose(tiling.order).ravel()

    def _on_grid(self, portion: Portion, position: int, chip: int, ready: ReadyMap) -> np.ndarray:
        """What an operand asks of every tile; found once for all portions between which nothing changes."""
        tiled, key = self.tiled[portion.operator], (portion.operator, chip, position)
        before, cycles = self._asked.pop(key, (None, None))
        if before is not ready or cycles is None:
            cycles = _on_grid(tiled.operator.operands[position], ready, tiled)
        if portion.last < len(tiled.offset):
            self._asked[key] = ready, cycles
        return cycles

    def _arrived(self, operand: Operand, chip: int) -> ReadyMap | None:
        """Ready times of an operand's tensor on a chip, sent there first if need be; None for what is
        there from the start."""
        tensor = self.graph.tensors[operand.tensor]
        key = (chip, tensor.name)
        if tensor.role is Role.WEIGHT:
            return None
        if tensor.role is Role.INPUT:
            self.lifetimes.setdefault(key, Lifetime(0, 0))
            return None
        if key not in self.ready and tensor.role is Role.STATE:
            return None
        exchange = self.exchanges.get(tensor.name)
        if exchange is not None and self.home[exchange.source] == chip:
            ways = mesh_ways(self.stages[chip].mesh, exchange.axes)
            if reads_own_piece(exchange, operand.view, ways):
                return self.made[key]
            if key not in self.ready:
                self._exchange(exchange, chip)
        elif key not in self.ready:
            self._send(tensor.name, chip)
        return self.ready[key]

    def _exchange(self, exchange: Exchange, chip: int) -> None:
        """Have the chips of a group send each other an exchange's source."""
        stage, tensors = self.stages[chip], self.graph.tensors
        made = self.made[chip, exchange.source]
        if self.links_free:
            done = run_exchange(exchange, tensors, (stage.chips, stage.mesh), made, None)
        else:
            done = exchange_by_pattern(
                exchange, tensors, (stage.chips, stage.mesh), made, self.links, self.patterns
            )
        self.ready[chip, exchange.target] = done.arrivals
        self.home.setdefault(exchange.target, chip)
        if done.movement is not None:
            self._occupy(done.movement, chip, chip)

    def _send(self, name: str, chip: int) -> None:
        """Have the group that made a tensor send it to all chips of another stage."""
        source, stage = self.stages[self.home[name]], self.stages[chip]
        tensor, made = self.graph.tensors[name], self.made[source.first_chip, name]
        if len(source.chips) == len(stage.chips) == 1:
            done = self.links.send(tensor, source.first_chip, chip, made)
        else:
            sender = Sender(source.chips, source.mesh, self.owned.get(name, ()))
            done = send_by_pattern(tensor, sender, stage.chips, made, self.links, self.patterns)
        self.ready[chip, name] = done.arrivals
        if done.movement is not None:
            self._occupy(done.movement, source.first_chip, chip)

    def _occupy(self, movement: Movement, source: int, destination: int) -> None:
        """What a movement does to the lifetimes of its buffers at both ends."""
        low, high = movement.departures(self.stages[source].chips)
        self.lifetimes[source, movement.tensor].use(low, high)
        low, high = movement.first_arrival, movement.last_arrival
        self.lifetimes.setdefault((destination, movement.into), Lifetime(low, high)).use(low, high)

    def _record(self, done: ScheduledOperator, chip: int) -> None:
        """Ready times of the results, and what the tiles do to the lifetimes of all buffers."""
        operator = done.tiled.operator
        low, high = int(done.start.min()), int(done.end.max())
        for operand in operator.operands:
            if (key := (chip, operand.tensor)) in self.lifetimes:
                self.lifetimes[key].use(low, high)
        for result in operator.results:
            ready = result_map(result, done, self.graph.tensors[result.tensor].shape)
            key = (chip, result.tensor)
            shared = result.tensor in self.shared and key in self.made
            self.made[key] = made = latest([self.made[key], ready]) if shared else ready
            if result.tensor not in self.exchanges:
                self.ready[key] = made
            self.home.setdefault(result.tensor, chip)
            self.owned[result.tensor] = result.own
            if self.graph.tensors[result.tensor].role is Role.VALUE:
                self.lifetimes.setdefault(key, Lifetime(low, high)).use(low, int(ready.cycles.max()))


def stated_latency(graph: Graph, latency: int, interval: int, users: int) -> int:
    """The latency that a plan promises.

    When several users wait for their own last micro-batch, starts are offset by the latency as well
    as by the interval; a latency of whole intervals keeps every offset a whole number of them.
    """
    if graph.states and users > 1 and users * interval < latency:
        return -(-latency // interval) * interval
    return latency


def _longest_load(stage: StageWork, tiled: Mapping[int, TiledOperator]) -> int:
    return max((int(tiled[i].load.max()) for i in stage.operators), default=0)


def _on_grid(operand: Operand, ready: ReadyMap, tiled: TiledOperator) -> np.ndarray:
    """Block maxima of an operand, broadcastable to the operator's tile grid in factor order."""
    blocks = [1 if axis is None else tiled.tiling.blocks[axis] for axis in operand.axes]
    cycles = block_maximum(map_view(ready, operand.view), blocks)
    used = [axis for axis in operand.axes if axis is not None]
    cycles = cycles.reshape(
        [n for n, axis in zip(cycles.shape, operand.axes, strict=True) if axis is not None]
    )
    cycles = cycles.transpose(np.argsort(used)) if used else cycles
    missing = [f for f in range(len(tiled.tiling.blocks)) if f not in used]
    return np.expand_dims(cycles, tuple(missing))
