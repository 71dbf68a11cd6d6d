"""The critical path of a plan: the chain of tiles and transfers that its latency consists of.

From the last output back: every tile and every transfer started when the last thing that it waited for was
there. That is what it reads (made by a tile, or brought by a transfer), or the instance or link that it runs
on, which something else still held. Where nothing was left to wait for, and it still started later, the
schedule held it back; that is waiting.

What a tile waits for is asked of the simulator's ready times, an array operation an operand, for the
operators on the path alone; only the path itself is walked step by step.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

import numpy as np

from chiplan.ir import Plan, Role, Unit
from chiplan.runtime_sim import OperatorRun, Place, Readiness, Timeline, operand_needs, output_places

from .occupancy import busy_with_others


class Cause(Enum):
    """What a step waited for last."""

    INPUT = "input"
    """Nothing: its operands are resident, or given with the micro-batch."""
    DATA = "data"
    UNIT = "unit"
    LINK = "link"


@dataclass(frozen=True)
class PathStep:
    """A tile or a transfer on the path; all times in cycles of micro-batch 0.

    resource: a unit kind, or "link". row: of the simulator's tile table, or of the plan's transfers.
    operator: position in the graph; of a transfer -1. tensor: what a transfer carries, else "".
    From `begin`, when what it waited for was there, to `end`, when the next step has what it waits for:
    load (of a block into the matrix unit), wait (`shared` of it for the instance or the first link, which
    another micro-batch holds, the rest held back by the schedule), work (on the unit or the first link), and
    travel (through the unit's pipeline, or over further hops), in this order and without a gap.
    """

    resource: str
    row: int
    stage: int
    destination: int
    operator: int
    tensor: str
    cause: Cause
    begin: int
    load: int
    wait: int
    work: int
    travel: int
    shared: int = 0

    @property
    def start(self) -> int:
        return self.begin + self.load + self.wait

    @property
    def end(self) -> int:
        return self.start + self.work + self.travel


@dataclass(frozen=True)
class _Event:
    """A tile (`is_transfer` false) or a transfer, by its row."""

    is_transfer: bool
    row: int


@dataclass(frozen=True)
class _Release:
    """What an event waited for: since `cycle` nothing was in its way but, for `load` more cycles, the loading
    of a block. `event` is what was done then, or, until that is looked up, `maker`: the place that it wrote
    to or arrived at, and the chip, -1 for any."""

    cycle: int
    cause: Cause
    load: int = 0
    event: _Event | None = None
    maker: tuple[Place, int] | None = None


_NOTHING = _Release(0, Cause.INPUT)


def critical_path(plan: Plan) -> tuple[PathStep, ...]:
    """The steps from an input, at cycle 0, to the last output, each beginning where the one before ends.

    Empty for a plan that computes nothing. The plan must be one that the simulator accepts.
    """
    waits = _Waits(Timeline(plan))
    last, finish = waits.last_output()
    steps: list[PathStep] = []
    while last is not None:
        release = waits.release(last)
        steps.append(waits.step(last, release, finish))
        last, finish = release.event, release.cycle
    return waits.told_apart(steps[::-1])


def time_by_cause(steps: Sequence[PathStep]) -> dict[str, int]:
    """Where the cycles of a path go: a unit's work by its kind, `link`, `hops` (transfers on their way),
    `pipeline` (results on their way out of a unit), `load`, `shared`, and `wait` (what of it is not shared);
    the sum is the path's length."""
    spent: Counter[str] = Counter()
    for step in steps:
        spent[step.resource] += step.work
        spent["hops" if step.resource == "link" else "pipeline"] += step.travel
        spent["load"] += step.load
        spent["shared"] += step.shared
        spent["wait"] += step.wait - step.shared
    return {name: spent[name] for name in (*(unit.value for unit in Unit), *_OTHERS)}


_OTHERS = ("link", "hops", "pipeline", "load", "shared", "wait")


class _Waits:
    """What every tile and transfer of a plan waited for, found when it is asked for."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline, self._plan = timeline, timeline.plan
        self._readiness = Readiness(timeline)
        self._needs: dict[tuple[int, int], np.ndarray] = {}
        self._sendable: dict[Place, np.ndarray] = {}
        self._made: dict[Place, tuple[np.ndarray, np.ndarray]] = {}

    def last_output(self) -> tuple[_Event | None, int]:
        """What completes the output that is there last, and when."""
        ends = [
            (
                found.finish,
                min(chip for chip, cycle in found.whole.items() if cycle == found.finish),
                found.output.tensor,
            )
            for found in output_places(self._timeline, self._readiness)
            if found.finish and found.whole
        ]
        if not ends:
            return None, 0
        finish, chip, tensor = max(ends)
        stage = int(self._timeline.groups.stage[chip])
        return self._maker((stage, tensor), finish), finish

    def release(self, event: _Event) -> _Release:
        """What an event waited for last; of two at once, what it reads."""
        found = self._of_transfer(event.row) if event.is_transfer else self._of_tile(event.row)
        last = max([*found, _NOTHING], key=lambda release: release.cycle + release.load)
        if last.maker is None:
            return last
        return replace(last, event=self._maker(last.maker[0], last.cycle, last.maker[1]))

    def step(self, event: _Event, release: _Release, finish: int) -> PathStep:
        """An event as a step of the path that is done with it at `finish`."""
        made = self._transfer_step(event.row) if event.is_transfer else self._tile_step(event.row)
        start, work = made.begin, min(made.work, finish - made.begin)
        begin = min(release.cycle, start - release.load)
        wait = start - release.load - begin
        travel = finish - start - work
        return replace(
            made, cause=release.cause, begin=begin, load=release.load, wait=wait, work=work, travel=travel
        )

    def _tile_step(self, row: int) -> PathStep:
        table = self._timeline.tiles
        unit, stage = tuple(Unit)[int(table.unit[row])].value, int(table.stage[row])
        start, work, operator = (int(c[row]) for c in (table.start, table.occupancy, table.operator))
        return PathStep(unit, row, stage, stage, operator, "", Cause.INPUT, start, 0, 0, work, 0)

    def _transfer_step(self, row: int) -> PathStep:
        plan, ends = self._plan, self._timeline.groups.ends
        first = int(self._first_hop[row])
        start, work = int(plan.transfers.start[row]), int(plan.hops.end[first] - plan.hops.start[first])
        name = plan.tensor_names[int(plan.transfers.tensor[row])]
        source, destination = int(ends.source[row]), int(ends.destination[row])
        return PathStep("link", row, source, destination, -1, name, Cause.INPUT, start, 0, 0, work, 0)

    def _of_tile(self, row: int) -> Iterator[_Release]:
        number = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        run = self._timeline.runs[number]
        operator, table = self._timeline.operator(run), self._timeline.tiles
        for position, operand in enumerate(operator.operands):
            role = self._timeline.graph.tensors[operand.tensor].role
            loads = operator.unit is Unit.MATRIX and position > 0 and role is not Role.WEIGHT
            load = int(table.load[row]) if loads else 0
            need = int(self._operand_needs(number, run, position)[row - run.first])
            if 0 < need <= int(table.start[row]) - load:
                yield _Release(need, Cause.DATA, load, maker=((run.stage, operand.tensor), -1))
        before = self._before_on_unit[row]
        if before >= 0:
            end = int(table.start[before] + table.occupancy[before])
            load = max(0, int(table.load[row] - table.occupancy[before]))
            yield _Release(end, Cause.UNIT, load, _Event(False, int(before)))

    def _operand_needs(self, number: int, run: OperatorRun, position: int) -> np.ndarray:
        """When what each tile of a run reads through an operand is there, in tile order."""
        if (number, position) not in self._needs:
            operator = self._timeline.operator(run)
            operand = operator.operands[position]
            times = self._readiness.at((run.stage, operand.tensor))
            grid = run.tiling.grid(operator)
            needs = operand_needs(times.seen(operand.view), run.tiling, operand)
            if needs.max() == self._readiness.never:
                # A part never comes to some chips, which have no use for it.
                needs = operand_needs(times.seen(operand.view, lenient=True), run.tiling, operand)
            whole = np.broadcast_to(needs, [grid[f] for f in run.tiling.order])
            self._needs[number, position] = whole.ravel()
        return self._needs[number, position]

    def _of_transfer(self, row: int) -> Iterator[_Release]:
        transfers = self._plan.transfers
        stage = int(self._timeline.groups.ends.source[row])
        place = stage, self._plan.tensor_names[int(transfers.tensor[row])]
        rows = self._timeline.groups.sends[place]
        if place not in self._sendable:
            self._sendable[place] = self._readiness.at(place).sendable()
        need = int(self._sendable[place][np.flatnonzero(rows == row)[0]])
        if 0 < need <= int(transfers.start[row]):
            yield _Release(need, Cause.DATA, maker=(place, int(transfers.source[row])))
        yield from self._of_links(row)

    def _of_links(self, row: int) -> Iterator[_Release]:
        """The transfers that held its links before, where their end moves its start."""
        transfers, hops = self._plan.transfers, self._plan.hops
        start = int(transfers.start[row])
        for hop in range(int(self._first_hop[row]), int(self._timeline.last_hop[row]) + 1):
            before = int(self._before_on_link[hop])
            if before >= 0:
                owner = int(hops.transfer[before])
                free = int(hops.end[before]) - (int(hops.start[hop]) - start)
                if free > int(transfers.start[owner]):
                    yield _Release(free, Cause.LINK, 0, _Event(True, owner))

    def _maker(self, place: Place, cycle: int, chip: int = -1) -> _Event | None:
        """What wrote or brought a part of a tensor that is there from `cycle` on, or, where nothing is done
        just then, the latest before; on one chip if it is given."""
        tiles, brought = self._makers(place)
        if chip >= 0:
            brought = brought[self._plan.transfers.destination[brought] == chip]
        done = np.concatenate([self._timeline.tiles.ready[tiles], self._timeline.arrival[brought]])
        done = np.where(done <= cycle, done, -1)
        if not len(done) or done.max() < 0:
            return None
        best = int(done.argmax())
        is_transfer = best >= len(tiles)
        return _Event(is_transfer, int(brought[best - len(tiles)] if is_transfer else tiles[best]))

    def _makers(self, place: Place) -> tuple[np.ndarray, np.ndarray]:
        """Tiles that write, and transfers that bring, a part of a stage's tensor."""
        if place not in self._made:
            none = np.zeros(0, dtype=np.int64)
            runs = [run for run, _ in self._readiness.writers.get(place, [])]
            tiles = np.concatenate([none, *(np.arange(run.first, run.last) for run in runs)])
            self._made[place] = tiles, self._timeline.groups.arrivals.get(place, none)
        return self._made[place]

    def told_apart(self, steps: Sequence[PathStep]) -> tuple[PathStep, ...]:
        """The steps, each with how much of its wait was for what another micro-batch holds."""
        plan, table, resource = self._plan, self._timeline.tiles, self._timeline.resource
        held: dict[tuple[bool, int], list[int]] = {}
        for number, step in enumerate(steps):
            if step.wait > 0:
                is_link = step.resource == "link"
                key = int(plan.hops.link[self._first_hop[step.row]] if is_link else resource[step.row])
                held.setdefault((is_link, key), []).append(number)
        made = list(steps)
        for (is_link, key), numbers in held.items():
            mine = np.flatnonzero((plan.hops.link if is_link else resource) == key)
            start = (plan.hops.start if is_link else table.start)[mine]
            end = plan.hops.end[mine] if is_link else start + np.maximum(table.occupancy, table.load)[mine]
            last = np.array([steps[number].start for number in numbers], dtype=np.int64)
            first = last - np.array([steps[number].wait for number in numbers], dtype=np.int64)
            shared = busy_with_others(start, end, first, last, max(1, int(plan.interval)))
            for number, cycles in zip(numbers, np.minimum(shared, last - first).tolist(), strict=True):
                made[number] = replace(steps[number], shared=int(cycles))
        return tuple(made)

    @cached_property
    def _first_rows(self) -> np.ndarray:
        return np.array([run.first for run in self._timeline.runs], dtype=np.int64)

    @cached_property
    def _first_hop(self) -> np.ndarray:
        last = self._timeline.last_hop
        return np.append(0, last[:-1] + 1)[: len(last)]

    @cached_property
    def _before_on_unit(self) -> np.ndarray:
        """Row of the tile before every tile on its instance, -1 for none."""
        return _before(self._timeline.resource, self._timeline.tiles.start)

    @cached_property
    def _before_on_link(self) -> np.ndarray:
        """Row of the hop before every hop on its link, -1 for none."""
        return _before(self._plan.hops.link, self._plan.hops.start)


def _before(resource: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Position of what comes before each entry on its resource, -1 for none."""
    order = np.lexsort((start, resource))
    same = np.append(False, resource[order][1:] == resource[order][:-1])[: len(order)]
    before = np.full(len(order), -1, dtype=np.int64)
    before[order[same]] = order[np.flatnonzero(same) - 1]
    return before
