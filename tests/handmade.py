"""Small plans made by hand: a graph, a target, and a scheduler so naive that its plans are right.

Operators of a chip run one after the other with a pause between, tiles are dealt to the instances in
turn, every buffer has its own bytes. Tests break such a plan in one place and ask what is said.

    chip 0:  y = x @ w          24 x 16 x 40, summed in two steps of k
             z = relu(y seen as [2, 24, 20])
    chip 0 -> 1 -> 2: z in two halves
    chip 2:  p = max(z, last axis)
             cache[:, 6:30] = p          a state with 6 resident rows (optional)
             out = 2 * cache             (or 2 * p)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from chiplan.ir import (
    BufferColumns,
    Bytes,
    Chip,
    ChipId,
    CopyUnit,
    Cycle,
    DType,
    Factor,
    Graph,
    HopColumns,
    Instruction,
    Link,
    LinkRule,
    MatrixRule,
    MatrixUnit,
    Operand,
    Operator,
    Output,
    Plan,
    Reducer,
    Reshape,
    Result,
    Role,
    Stage,
    State,
    Target,
    Tensor,
    TileColumns,
    TileProgram,
    Tiling,
    Topology,
    TransferColumns,
    Transpose,
    Unit,
    VectorUnit,
    tile_timing,
    unit_instances,
)

PAUSE = 40
"""Cycles between two operators, so that a test can move a tile a little without consequence."""
MARGIN = 10
"""Cycles that a buffer lives longer than needed at both ends."""


def ring_target(chips: int = 4) -> Target:
    """Links both ways between neighbours; link 2c leads from c to c + 1, link 2c + 1 back."""
    copy = CopyUnit(instances=1, bytes_per_cycle=16, depth=Cycle(2))
    chip = Chip(
        clock_hz=1_000_000_000,
        sram_bytes=Bytes(65_536),
        reserved_bytes=Bytes(1_024),
        alignment=Bytes(32),
        matrix=MatrixUnit(2, 48, Cycle(7), {DType.FP32: (MatrixRule(12, 20),)}),
        vector=VectorUnit(2, 8, 4, Cycle(3), {DType.FP32: 1}),
        switch=copy,
        memory=copy,
    )
    links = [
        Link(ChipId(a), ChipId(b))
        for c in range(chips)
        for a, b in ((c, (c + 1) % chips), ((c + 1) % chips, c))
    ]
    topology = Topology("ring", chips, tuple(links), (0,) * chips, (0,) * chips)
    return Target("handmade", chip, LinkRule(Bytes(32), Cycle(3), Cycle(11)), topology)


def vector_operator(
    name: str, operand: Operand, factors: tuple[Factor, ...], result: Result, opcode: str = "Relu"
) -> Operator:
    """One instruction over one operand; a reduction over the factors with a reducer."""
    reduced = tuple(f for f, factor in enumerate(factors) if factor.reducer is not None)
    attributes = (("factors", reduced),) if reduced else ()
    body = (Instruction(opcode, (0,), DType.FP32, attributes),)
    return Operator(name, Unit.VECTOR, factors, (operand,), (result,), body)


def graph_of(tensors: Sequence[Tensor], operators: Sequence[Operator], output: str, **more: object) -> Graph:
    inputs = tuple(t.name for t in tensors if t.role is Role.INPUT)
    graph = Graph(
        "handmade", {t.name: t for t in tensors}, tuple(operators), inputs, (Output("out", output, ()),)
    )
    return replace(graph, **more)


def small_graph(with_state: bool = True) -> Graph:
    """The graph at the top of this module."""
    tensors = [
        Tensor("x", (24, 16), DType.FP32, Role.INPUT),
        Tensor("w", (16, 40), DType.FP32, Role.WEIGHT),
        Tensor("y", (24, 40), DType.FP32, Role.VALUE),
        Tensor("z", (2, 24, 20), DType.FP32, Role.VALUE),
        Tensor("p", (2, 24), DType.FP32, Role.VALUE),
        Tensor("out", (2, 30 if with_state else 24), DType.FP32, Role.VALUE),
    ]
    matmul = Operator(
        "matmul",
        Unit.MATRIX,
        (Factor("m", 24), Factor("n", 40), Factor("k", 16, Reducer.SUM)),
        (Operand("x", (), (0, 2)), Operand("w", (), (2, 1))),
        (Result("y", (0, 1), (0, 0), 0),),
        (Instruction("MatMul", (0, 1), DType.FP32),),
    )
    halves = (Reshape((24, 2, 20)), Transpose((1, 0, 2)))
    cube = (Factor("h", 2), Factor("s", 24), Factor("c", 20))
    relu = vector_operator(
        "relu", Operand("y", halves, (0, 1, 2)), cube, Result("z", (0, 1, 2), (0, 0, 0), 0)
    )
    reduced = (*cube[:2], Factor("c", 20, Reducer.MAX))
    top = vector_operator(
        "top", Operand("z", (), (0, 1, 2)), reduced, Result("p", (0, 1), (0, 0), 0), "ReduceMax"
    )
    plane = (Factor("h", 2), Factor("s", 24))
    if not with_state:
        double = vector_operator("double", Operand("p", (), (0, 1)), plane, Result("out", (0, 1), (0, 0), 0))
        return graph_of(tensors, (matmul, relu, top, double), "out")
    tensors.append(Tensor("cache", (2, 30), DType.FP32, Role.STATE, resident_rows=(1, 6)))
    append = Operator(
        "append",
        Unit.MEMORY,
        plane,
        (Operand("p", (), (0, 1)),),
        (Result("cache", (0, 1), (0, 6), 0),),
        (Instruction("Copy", (0,), DType.FP32),),
    )
    rows = (Factor("h", 2), Factor("t", 30))
    double = vector_operator("double", Operand("cache", (), (0, 1)), rows, Result("out", (0, 1), (0, 0), 0))
    states = (State("past", "present", "cache", 1),)
    return graph_of(tensors, (matmul, relu, top, append, double), "out", states=states)


def small_plan(with_state: bool = True, interval: int | None = None, users: int = 1) -> Plan:
    """The plan at the top of this module."""
    cuts = [Tiling((12, 20, 12), (0, 1, 2)), Tiling((1, 12, 20), (0, 1, 2)), Tiling((2, 12, 20), (0, 1, 2))]
    later = [Tiling((2, 12), (1, 0)), Tiling((1, 15), (0, 1))] if with_state else [Tiling((1, 12), (0, 1))]
    graph = small_graph(with_state)
    work = [(0, 0), (0, 1), *((2, i) for i in range(2, len(graph.operators)))]
    sends = [Send("z", (0, 1, 2), 0, 480), Send("z", (0, 1, 2), 480, 960)]
    return Maker(graph, ring_target(), [*cuts, *later], interval, users).plan(work, sends)


@dataclass(frozen=True)
class Send:
    """Elements first..last-1 of a tensor along a path of chips, to the same elements of the same tensor
    or to those from `at` of `into`."""

    tensor: str
    path: tuple[int, ...]
    first: int
    last: int
    into: str | None = None
    at: int | None = None


@dataclass
class Maker:
    """Schedules one operator after the other, in one pass, and remembers when everything happens.

    `groups`: the chips and the mesh of each group by its first chip; other chips are by themselves.
    """

    graph: Graph
    target: Target
    tilings: Sequence[Tiling]
    interval: int | None = None
    users: int = 1
    groups: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    clock: int = 0
    touched: dict[tuple[int, str], list[int]] = field(default_factory=dict)
    columns: dict[int, list[dict[str, np.ndarray]]] = field(default_factory=dict)
    operators: dict[int, list[int]] = field(default_factory=dict)
    transfers: list[dict[str, int]] = field(default_factory=list)
    hops: list[dict[str, int]] = field(default_factory=list)

    def plan(self, work: Sequence[tuple[int, int]], sends: Sequence[Send] = ()) -> Plan:
        """Run `work`, pairs of (first chip, operator), in order; every send when its tensor is there."""
        waiting, made = list(sends), set()
        for chip, index in work:
            self._run(chip, index)
            made |= {result.tensor for result in self.graph.operators[index].results}
            for send in list(waiting):
                # A chip that has received a tensor may send it on.
                if send.tensor in made and (self._head(send.path[0]), send.tensor) in self.touched:
                    self._send(send)
                    waiting.remove(send)
        latency = self._last_output()
        interval = self.interval if self.interval is not None else self.clock + 100
        return Plan(
            target=self.target,
            graph=self.graph,
            stages=tuple(self._stage(chip) for chip in sorted(self.operators)),
            transfers=TransferColumns(
                **_table(self.transfers, TransferColumns, {"first", "last", "start", "at"})
            ),
            hops=HopColumns(**_table(self.hops, HopColumns, {"start", "end"})),
            buffers=self._buffers(interval),
            latency=Cycle(latency),
            interval=Cycle(interval),
            users=self.users,
            batch=1,
            sequence=24,
            precision="model",
            objective="throughput",
            model_fingerprint="0" * 64,
            tensor_names=tuple(sorted(self.graph.tensors)),
        )

    def _head(self, chip: int) -> int:
        """The first chip of the group that a chip is in."""
        return next((head for head, (chips, _) in self.groups.items() if chip in chips), chip)

    def _touch(self, chip: int, tensor: str, *cycles: int) -> None:
        self.touched.setdefault((self._head(chip), tensor), []).extend(cycles)

    def _run(self, chip: int, index: int) -> None:
        operator, tiling = self.graph.operators[index], self.tilings[index]
        timing = tile_timing(operator, tiling, self.graph.tensors, self.target.chip)
        count = len(timing.occupancy)
        instances = unit_instances(self.target.chip, operator.unit)
        # Tiles that sum into one block stay together on an instance.
        depth = 1
        if operator.unit is Unit.MATRIX:
            depth = tiling.grid(operator)[tiling.order[-1]]
        instance = np.arange(count) // depth % instances
        start = np.zeros(count, dtype=np.int64)
        free = [self.clock] * instances
        for tile in range(count):
            start[tile] = free[instance[tile]] + timing.load[tile]
            free[instance[tile]] = int(start[tile] + timing.occupancy[tile])
        end = start + timing.occupancy
        for operand in operator.operands:
            self._touch(chip, operand.tensor, int(start.min()), int(end.max()))
        self.clock = int(end.max()) + timing.depth
        for result in operator.results:
            self._touch(chip, result.tensor, int(start.min()), self.clock)
        self.clock += PAUSE
        position = len(self.operators.setdefault(chip, []))
        self.operators[chip].append(index)
        self.columns.setdefault(chip, []).append({
            "operator": np.full(count, position, dtype=np.int32),
            "tile": np.arange(count, dtype=np.int32),
            "unit": np.full(count, list(Unit).index(operator.unit), dtype=np.uint8),
            "instance": instance.astype(np.int16),
            "start": start,
            "end": end,
        })  # fmt: skip

    def _send(self, send: Send) -> None:
        tensor, rule = self.graph.tensors[send.tensor], self.target.link
        names = sorted(self.graph.tensors)
        name, into = names.index(send.tensor), send.into or send.tensor
        flits = -(-(send.last - send.first) * tensor.dtype.itemsize // rule.flit_bytes)
        busy, number = flits * rule.cycles_per_flit, len(self.transfers)
        self.transfers.append({
            "tensor": name, "source": send.path[0], "destination": send.path[-1],
            "first": send.first, "last": send.last, "start": self.clock,
            "into": names.index(into), "at": send.first if send.at is None else send.at,
        })  # fmt: skip
        start = self.clock
        for hop, (a, b) in enumerate(zip(send.path, send.path[1:], strict=False)):
            link = self.target.topology.links.index((a, b, 0))
            self.hops.append(
                {"transfer": number, "hop": hop, "link": link, "start": start, "end": start + busy}
            )
            arrives = start + busy + rule.hop_latency
            start += rule.cycles_per_flit + rule.hop_latency
        self._touch(send.path[0], send.tensor, self.clock, self.clock + busy)
        self._touch(send.path[-1], into, self.clock + rule.hop_latency, arrives)
        self.clock = arrives + PAUSE

    def _stage(self, chip: int) -> Stage:
        parts = self.columns[chip]
        tiles = TileColumns(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        operators = tuple(self.operators[chip])
        program = TileProgram(operators, tuple(self.tilings[index] for index in operators), tiles)
        chips, mesh = self.groups.get(chip, ((chip,), (1,)))
        return Stage(tuple(map(ChipId, chips)), mesh, program)

    def _last_output(self) -> int:
        names = {output.tensor for output in self.graph.outputs} | {s.tensor for s in self.graph.states}
        makers = [
            max(cycles) for (_, tensor), cycles in self.touched.items() if tensor in names
        ]  # the last thing that happens to an output is that it is written
        return max(makers)

    def _buffers(self, interval: int) -> BufferColumns:
        rows, free = [], dict.fromkeys(range(self.target.topology.chips), 0)
        names = sorted(self.graph.tensors)
        for (chip, name), cycles in sorted(self.touched.items()):
            tensor = self.graph.tensors[name]
            birth, death, copies = max(0, min(cycles) - MARGIN), max(cycles) + MARGIN, 1
            if tensor.role in (Role.WEIGHT, Role.STATE):
                birth, death, copies = 0, -1, self.users if tensor.role is Role.STATE else 1
            else:
                birth = 0 if tensor.role is Role.INPUT else birth
                copies = -(-(death - birth) // interval)
            rows.append(
                {
                    "tensor": names.index(name),
                    "chip": chip,
                    "address": free[chip],
                    "nbytes": tensor.nbytes,
                    "copies": copies,
                    "birth": birth,
                    "death": death,
                }
            )
            free[chip] += copies * -(-tensor.nbytes // 32) * 32
        return BufferColumns(**_table(rows, BufferColumns, {"address", "nbytes", "birth", "death"}))


def _table(rows: Sequence[dict[str, int]], kind: type, wide: set[str]) -> dict[str, np.ndarray]:
    return {
        name: np.array([row[name] for row in rows], dtype=np.int64 if name in wide else np.int32)
        for name in kind.__dataclass_fields__
    }


def edited(columns: object, **changes: object) -> object:
    """`columns` with entries replaced: edited(hops, start={3: 17}) sets row 3 of start. A callable
    maps the whole column."""
    new = {}
    for name, change in changes.items():
        column = getattr(columns, name).copy()
        if isinstance(change, Callable):
            column = change(column)
        else:
            for row, value in change.items():
                column[row] = value
        new[name] = column
    return replace(columns, **new)


def with_tiles(plan: Plan, stage: int, **changes: object) -> Plan:
    """The plan with entries of a stage's tile columns replaced."""
    old = plan.stages[stage]
    program = replace(old.program, tiles=edited(old.program.tiles, **changes))
    return with_program(plan, stage, program)


def with_program(plan: Plan, stage: int, program: TileProgram) -> Plan:
    stages = list(plan.stages)
    stages[stage] = replace(stages[stage], program=program)
    return replace(plan, stages=tuple(stages))


def with_operator(plan: Plan, index: int, **changes: object) -> Plan:
    """The plan with fields of one operator of its graph replaced."""
    operators = list(plan.graph.operators)
    operators[index] = replace(operators[index], **changes)
    return replace(plan, graph=replace(plan.graph, operators=tuple(operators)))


def buffer_row(plan: Plan, chip: int, tensor: str) -> int:
    """Row of the buffer of a tensor on a chip."""
    buffers, name = plan.buffers, plan.tensor_names.index(tensor)
    return int(np.flatnonzero((buffers.chip == chip) & (buffers.tensor == name))[0])
