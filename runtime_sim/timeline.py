"""A plan laid out for the rules: one row a tile, durations recomputed, arrivals derived.

The chips of a group run the same tiles at the same cycles, so a stage's tiles are there once, under
its first chip. Everything here is made from the plan's columns and from the instruction set in `ir`
alone. It may be used once the rules on structure (tilings, routes) found nothing.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chiplan.ir import Operator, Plan, TileTiming, Tiling, Unit, tile_timing, unit_instances

from .groups import Groups

UNITS = tuple(Unit)


@dataclass(frozen=True)
class OperatorRun:
    """One operator of a stage: its tiles are rows first..last-1 of the tile table, in tile order.
    `chip` is the first of the stage."""

    chip: int
    stage: int
    operator: int
    tiling: Tiling
    first: int
    last: int


@dataclass(frozen=True)
class TileTable:
    """One row a tile of every stage, int64 each. `operator` is the position in the graph, `chip` the
    first chip of the stage: all chips of its group run the tile.

    start and end are the plan's; occupancy, load and depth are recomputed from the target.
    """

    chip: np.ndarray
    stage: np.ndarray
    operator: np.ndarray
    tile: np.ndarray
    unit: np.ndarray
    instance: np.ndarray
    start: np.ndarray
    end: np.ndarray
    occupancy: np.ndarray
    load: np.ndarray
    depth: np.ndarray

    @cached_property
    def ready(self) -> np.ndarray:
        """Cycle in which a tile's result is in SRAM."""
        return np.asarray(self.start + self.occupancy + self.depth)


class Timeline:
    """A plan, and what follows from it by arithmetic alone."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.graph = plan.graph
        self.chip = plan.target.chip
        self.groups = Groups(plan)
        self._timings: dict[object, TileTiming] = {}

    def operator(self, run: OperatorRun) -> Operator:
        return self.graph.operators[run.operator]

    def timing(self, stage: int, position: int) -> TileTiming:
        """Durations of the tiles of a stage's operator; raises BadInput without a cycle rule."""
        program = self.plan.stages[stage].program
        operator = self.graph.operators[program.operators[position]]
        tiling = program.tilings[position]
        # Operators of equal structure take equally long: those of repeated layers are timed once.
        place = (program.operators[position], tiling)
        if place not in self._timings:
            key = (self._structure(operator), tiling)
            if key not in self._timings:
                self._timings[key] = tile_timing(operator, tiling, self.graph.tensors, self.chip)
            self._timings[place] = self._timings[key]
        return self._timings[place]

    @cached_property
    def tensor_numbers(self) -> dict[str, int]:
        """Position of every tensor in `Plan.tensor_names`."""
        return {name: number for number, name in enumerate(self.plan.tensor_names)}

    @cached_property
    def holders(self) -> dict[int, list[int]]:
        """Chips that have a buffer for a tensor, ascending, by the tensor's number."""
        pairs = np.unique(np.stack([self.plan.buffers.tensor, self.plan.buffers.chip]), axis=1)
        found: dict[int, list[int]] = {}
        for tensor, chip in pairs.T.tolist():
            found.setdefault(tensor, []).append(chip)
        return found

    def _structure(self, operator: Operator) -> object:
        """All that a tile's duration may depend on."""
        tensors = self.graph.tensors
        operands = tuple([(operand.axes, tensors[operand.tensor].dtype) for operand in operator.operands])
        results = tuple([(result.axes, tensors[result.tensor].dtype) for result in operator.results])
        return operator.unit, operator.factors, operands, results, operator.body

    @cached_property
    def tiles(self) -> TileTable:
        parts = [self._stage_columns(stage) for stage in range(len(self.plan.stages))]
        columns = zip(*parts, strict=True) if parts else [[np.zeros(0, dtype=np.int64)]] * 11
        return TileTable(*[np.concatenate(column) for column in columns])

    def _stage_columns(self, stage: int) -> list[np.ndarray]:
        """The tile table's columns for one stage."""
        program = self.plan.stages[stage].program
        tiles = program.tiles
        rows = len(tiles.start)
        timings = [self.timing(stage, position) for position in range(len(program.operators))]
        none = [np.zeros(0, dtype=np.int64)]
        plan_columns = (tiles.tile, tiles.unit, tiles.instance, tiles.start, tiles.end)
        return [
            np.full(rows, self.plan.stages[stage].chips[0], dtype=np.int64),
            np.full(rows, stage, dtype=np.int64),
            np.array(program.operators, dtype=np.int64)[tiles.operator],
            *[column.astype(np.int64) for column in plan_columns],
            np.concatenate([timing.occupancy for timing in timings] or none),
            np.concatenate([timing.load for timing in timings] or none),
            np.array([timing.depth for timing in timings], dtype=np.int64)[tiles.operator],
        ]

    @cached_property
    def runs(self) -> tuple[OperatorRun, ...]:
        """Every operator of every stage, in the order of the tile table."""
        runs, row = [], 0
        for number, stage in enumerate(self.plan.stages):
            program = stage.program
            for operator, tiling in zip(program.operators, program.tilings, strict=True):
                last = row + tiling.tiles(self.graph.operators[operator])
                runs.append(OperatorRun(int(stage.chips[0]), number, operator, tiling, row, last))
                row = last
        return tuple(runs)

    @cached_property
    def resource(self) -> np.ndarray:
        """Number of the functional unit instance that a tile runs on, distinct over all stages."""
        most = 1 + max(int(self.tiles.instance.max(initial=0)), 0)
        number: np.ndarray = (self.tiles.chip * len(UNITS) + self.tiles.unit) * most + self.tiles.instance
        return number

    @cached_property
    def last_hop(self) -> np.ndarray:
        """Row of every transfer's last hop."""
        hops = np.bincount(self.plan.hops.transfer, minlength=len(self.plan.transfers.tensor))
        return np.asarray(np.cumsum(hops) - 1)

    @cached_property
    def arrival(self) -> np.ndarray:
        """Cycle in which every transfer is whole in its destination's SRAM."""
        return np.asarray(self.plan.hops.end[self.last_hop] + int(self.plan.target.link.hop_latency))

    @cached_property
    def first_arrival(self) -> np.ndarray:
        """Cycle in which every transfer's first flit reaches its destination's SRAM."""
        rule = self.plan.target.link
        flit = int(rule.cycles_per_flit) + int(rule.hop_latency)
        return np.asarray(self.plan.hops.start[self.last_hop] + flit)

    @cached_property
    def sent(self) -> np.ndarray:
        """Cycle in which the last element of every transfer has left its source's SRAM."""
        first_hop = np.append(0, self.last_hop[:-1] + 1)[: len(self.last_hop)]
        return np.asarray(self.plan.hops.end[first_hop])

    @cached_property
    def busiest(self) -> tuple[int, str]:
        """Cycles that the busiest instance or link works for one micro-batch, and its name: no
        interval can be shorter."""
        return max(self._busiest_unit(), self._busiest_link())

    def _busiest_unit(self) -> tuple[int, str]:
        if not len(self.tiles.start):
            return 0, "no unit"
        _, row, which = np.unique(self.resource, return_index=True, return_inverse=True)
        busy = np.bincount(which.ravel(), weights=self.tiles.occupancy)
        top = int(busy.argmax())
        return int(busy[top]), self.instance_name(int(row[top]))

    def instance_name(self, row: int) -> str:
        """The functional unit instance of a row of the tile table, in words."""
        table = self.tiles
        unit = UNITS[int(table.unit[row])].value
        return f"{unit} instance {table.instance[row]} of chip {table.chip[row]} (stage {table.stage[row]})"

    def _busiest_link(self) -> tuple[int, str]:
        hops = self.plan.hops
        if not len(hops.link):
            return 0, "no link"
        busy = np.bincount(hops.link, weights=hops.end - hops.start)
        top = int(busy.argmax())
        return int(busy[top]), self.link_name(top)

    def link_name(self, link: int) -> str:
        source, destination, _ = self.plan.target.topology.links[link]
        return f"link {source}->{destination}"

    @cached_property
    def interval(self) -> int:
        """The interval to fold time with: the plan's, or, where some resource is busier than that and
        every check modulo the interval would fail, one so long that micro-batches never meet."""
        stated = int(self.plan.interval)
        return stated if stated >= max(1, self.busiest[0]) else self._span

    @property
    def _span(self) -> int:
        """Cycles that hold everything that one micro-batch does."""
        columns = (self.tiles.ready, self.tiles.load, self.plan.hops.end, self.plan.buffers.death)
        return 2 * max(int(column.max(initial=1)) for column in columns) + 2

    def instances(self, unit: int) -> int:
        return unit_instances(self.chip, UNITS[unit])
