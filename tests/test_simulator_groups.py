"""Stages on groups of chips: good plans with each kind of exchange, then each broken in one place."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from chiplan.ir import (
    Cut,
    DType,
    Exchange,
    ExchangeKind,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Output,
    Own,
    Plan,
    Reshape,
    Result,
    Role,
    Sharding,
    Slice,
    Split,
    State,
    Tensor,
    Tiling,
    Transpose,
    Unit,
)
from chiplan.ir.plan_validity import first_problem
from chiplan.runtime_sim import simulate

from .handmade import (
    Maker,
    Send,
    buffer_row,
    edited,
    graph_of,
    ring_target,
    vector_operator,
    with_operator,
    with_tiles,
)

Break = Callable[[Plan], Plan]
PAIR = {0: ((0, 1), (2,))}
SQUARE = {0: ((0, 1, 2, 3), (2, 2))}
ROW = {0: ((0, 1, 2, 3), (4,))}


def path(source: int, destination: int) -> tuple[int, ...]:
    """The way from chip to chip around the ring of four."""
    match (destination - source) % 4:
        case 2:
            return (source, (source + 1) % 4, destination)
        case _:
            return (source, destination)


def value(name: str, *shape: int) -> Tensor:
    return Tensor(name, shape, DType.FP32, Role.VALUE)


def plane(*extents: int) -> tuple[Factor, ...]:
    return tuple(Factor(f"f{i}", extent) for i, extent in enumerate(extents))


def sharded_input(ways: int, axes: tuple[int, ...] = (0,)) -> Tensor:
    """[4, 6] of [4, 6 x ways] on each chip."""
    whole = (4, 6 * ways)
    return Tensor("x", (4, 6), DType.FP32, Role.INPUT, sharding=Sharding(whole, whole, (Cut(1, axes),)))


def whole_of(pieces: Tensor) -> tuple[Transpose | Reshape, ...]:
    """The view of [ways, 4, 6] as [4, ways x 6]."""
    return (Transpose((1, 0, 2)), Reshape((4, pieces.shape[0] * 6)))


def gather_graph(ways: int, axes: tuple[int, ...]) -> Graph:
    """g: each chip's double(x), gathered; out = relu of the whole."""
    g = value("g", ways, 4, 6)
    make = vector_operator(
        "make", Operand("x", (), (0, 1)), plane(4, 6), Result("g", (None, 0, 1), (0, 0, 0), 0, own=axes)
    )
    wide = plane(4, 6 * ways)
    use = vector_operator("use", Operand("g", whole_of(g), (0, 1)), wide, Result("out", (0, 1), (0, 0), 0))
    tensors = [sharded_input(ways, axes), g, value("out", 4, 6 * ways)]
    gather = Exchange("g", "g", ExchangeKind.GATHER, axes)
    return graph_of(tensors, (make, use), "out", exchanges=(gather,))


def gather_plan() -> Plan:
    """Transfers: 0 brings piece 0 to chip 1, 1 brings piece 1 to chip 0."""
    sends = [Send("g", (0, 1), 0, 24), Send("g", (1, 0), 24, 48)]
    cuts = [Tiling((2, 6), (0, 1)), Tiling((2, 12), (0, 1))]
    return Maker(gather_graph(2, (0,)), ring_target(), cuts, groups=PAIR).plan([(0, 0), (0, 1)], sends)


def forward_plan() -> Plan:
    """A gather over both axes of a square. Transfer 0 brings piece 0 to chip 1, 1 forwards it to chip 2,
    2 from there to chip 3; the other pieces travel likewise, three transfers each."""
    sends = [
        Send("g", path((piece + step) % 4, (piece + step + 1) % 4), 24 * piece, 24 * piece + 24)
        for piece in range(4)
        for step in range(3)
    ]
    cuts = [Tiling((2, 6), (0, 1)), Tiling((2, 24), (0, 1))]
    graph = gather_graph(4, (0, 1))
    return Maker(graph, ring_target(), cuts, groups=SQUARE).plan([(0, 0), (0, 1)], sends)


def scatter_plan() -> Plan:
    """22 elements over four chips: three pieces of 6 and one of 4. The first transfers bring chip 0 its
    piece from chips 1, 2, 3, then chip 1 from 2, 3, 0, and so on; twelve more gather the sums."""
    x = Tensor("x", (22,), DType.FP32, Role.INPUT, sharding=Sharding((4, 22), (4, 22), (Cut(0, (0,)),)))
    tensors = [x, value("p", 22), value("r", 3, 6), value("g", 4, 6), value("out", 22)]
    terms = vector_operator("terms", Operand("x", (), (0,)), plane(22), Result("p", (0,), (0,), 0))
    rows = [Operand("r", (Slice((row, 0), (row + 1, 6), (1, 1)), Reshape((6,))), (0,)) for row in range(3)]
    add = Operator(
        "add",
        Unit.VECTOR,
        plane(6),
        (Operand("p", (Own(0, (0,), 4),), (0,)), *rows),
        (Result("g", (None, 0), (0, 0), 2, own=(0,)),),
        tuple(Instruction("Add", (4 + i - 1 if i else 0, i + 1), DType.FP32) for i in range(3)),
        splits=(Split(0, (0,), 22),),
    )
    view = (Reshape((24,)), Slice((0,), (22,), (1,)))
    use = vector_operator("use", Operand("g", view, (0,)), plane(22), Result("out", (0,), (0,), 0))
    exchanges = (
        Exchange("p", "r", ExchangeKind.SCATTER, (0,)),
        Exchange("g", "g", ExchangeKind.GATHER, (0,)),
    )
    graph = graph_of(tensors, (terms, add, use), "out", exchanges=exchanges)
    sends = []
    for chip in range(4):
        low, high = 6 * chip, min(6 * chip + 6, 22)
        for row in range(3):
            sends.append(Send("p", path((chip + row + 1) % 4, chip), low, high, "r", 6 * row))
            sends.append(Send("g", path(chip, (chip + row + 1) % 4), low, high))
    cuts = [Tiling((11,), (0,)), Tiling((3,), (0,)), Tiling((11,), (0,))]
    return Maker(graph, ring_target(), cuts, groups=ROW).plan([(0, 0), (0, 1), (0, 2)], sends)


def shift_plan() -> Plan:
    """The rows of a square of chips exchange their pieces; each keeps the sum that is its own. Transfers:
    0 to 1, 1 to 0, 2 to 3, 3 to 2."""
    x = sharded_input(2, (1,))
    piece = Sharding((4, 12), (4, 12), (Cut(1, (1,)),))
    out = replace(value("out", 4, 6), sharding=piece)
    make = vector_operator("make", Operand("x", (), (0, 1)), plane(4, 6), Result("t", (0, 1), (0, 0), 0))
    add = Operator(
        "add",
        Unit.VECTOR,
        plane(4, 6),
        (Operand("t", (), (0, 1)), Operand("u", (), (0, 1))),
        (Result("out", (0, 1), (0, 0), 0),),
        (Instruction("Add", (0, 1), DType.FP32),),
    )
    graph = graph_of(
        [x, value("t", 4, 6), value("u", 4, 6), out],
        (make, add),
        "out",
        exchanges=(Exchange("t", "u", ExchangeKind.SHIFT, (1,), by=1),),
    )
    sends = [Send("t", (c, c ^ 1), 0, 24, "u", 0) for c in range(4)]
    cuts = [Tiling((2, 6), (0, 1)), Tiling((2, 3), (0, 1))]
    return Maker(graph, ring_target(), cuts, groups=SQUARE).plan([(0, 0), (0, 1)], sends)


def crossing_plan() -> Plan:
    """Pieces made on chips 0 and 1 are read whole on chips 2 and 3. Transfers: piece 0 to chip 2, to chip
    3; piece 1 to chip 2, and on from there to chip 3."""
    graph = replace(gather_graph(2, (0,)), exchanges=())
    sends = [
        Send("g", (0, 1, 2), 0, 24),
        Send("g", (0, 3), 0, 24),
        Send("g", (1, 2), 24, 48),
        Send("g", (2, 3), 24, 48),
    ]
    cuts = [Tiling((2, 6), (0, 1)), Tiling((2, 12), (0, 1))]
    groups = {**PAIR, 2: ((2, 3), (2,))}
    return Maker(graph, ring_target(), cuts, groups=groups).plan([(0, 0), (2, 1)], sends)


def own_reader_plan() -> Plan:
    """A chip that reads its own piece alone need not wait for the others', nor get them."""
    graph = gather_graph(2, (0,))
    seen = (Own(0, (0,), 2), Reshape((4, 6)))
    use = vector_operator("use", Operand("g", seen, (0, 1)), plane(4, 6), Result("out", (0, 1), (0, 0), 0))
    sharding = Sharding((4, 12), (4, 12), (Cut(1, (0,)),))
    out = replace(value("out", 4, 6), sharding=sharding)
    graph = replace(
        graph, operators=(graph.operators[0], use), tensors={**graph.tensors, "out": out}, exchanges=()
    )
    cuts = [Tiling((2, 6), (0, 1)), Tiling((2, 6), (0, 1))]
    return Maker(graph, ring_target(), cuts, groups=PAIR).plan([(0, 0), (0, 1)])


def state_plan(whole: int = 8) -> Plan:
    """Four rows on chip 0, all resident, the others on chip 1, where the last one is appended."""
    last = whole - 5
    x = Tensor("x", (1, 5), DType.FP32, Role.INPUT)
    rows = Sharding((whole, 5), (whole, 5), (Cut(0, (0,)),))
    cache = Tensor("cache", (4, 5), DType.FP32, Role.STATE, resident_rows=(0, last), sharding=rows)
    out = replace(value("out", 4, 5), sharding=rows)
    append = Operator(
        "append",
        Unit.MEMORY,
        plane(1, 5),
        (Operand("x", (), (0, 1)),),
        (Result("cache", (0, 1), (last, 0), 0, only=((0, 1),)),),
        (Instruction("Copy", (0,), DType.FP32),),
    )
    use = vector_operator("use", Operand("cache", (), (0, 1)), plane(4, 5), Result("out", (0, 1), (0, 0), 0))
    use = replace(use, splits=(Split(0, (0,), whole),))
    graph = graph_of([x, cache, out], (append, use), "out", states=(State("past", "present", "cache", 0),))
    cuts = [Tiling((1, 5), (0, 1)), Tiling((2, 5), (0, 1))]
    return Maker(graph, ring_target(), cuts, groups=PAIR).plan([(0, 0), (0, 1)])


GOOD = {
    "gather": gather_plan,
    "forward": forward_plan,
    "scatter": scatter_plan,
    "shift": shift_plan,
    "crossing": crossing_plan,
    "own reader": own_reader_plan,
    "state": state_plan,
    "short state": lambda: state_plan(7),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_plan_on_groups_has_no_fault(name: str) -> None:
    plan = GOOD[name]()
    report = simulate(plan)
    assert report.ok, report.faults
    assert report.latency == plan.latency


def test_a_group_is_looked_at_once_and_reported_by_chip() -> None:
    report = simulate(forward_plan())
    # make: 2 tiles of ceil(12 / 8) = 2; use: 2 of ceil(48 / 8) = 6.
    assert [(u.chip, u.unit, u.busy) for u in report.units] == [(c, "vector", 16) for c in range(4)]
    peaks = {memory.chip: memory.peak_bytes for memory in report.memory}
    assert set(peaks) == {0, 1, 2, 3}
    assert len(set(peaks.values())) == 1
    # A piece of 24 elements of 4 bytes is 3 flits of 3 cycles; three pieces over every link.
    assert [(link.source, link.destination, link.busy) for link in report.links] == [
        (c, (c + 1) % 4, 27) for c in range(4)
    ]


def without_transfer(number: int) -> Break:
    def change(plan: Plan) -> Plan:
        kept = plan.hops.transfer != number
        rows = {n: (lambda c: np.delete(c, number)) for n in plan.transfers.__dataclass_fields__}
        hops = {n: (lambda c: c[kept]) for n in plan.hops.__dataclass_fields__}
        columns = edited(edited(plan.hops, **hops), transfer=lambda c: c - (c > number))
        return replace(plan, transfers=edited(plan.transfers, **rows), hops=columns)

    return change


def transfer(number: int, **changes: object) -> Break:
    """Entries of one transfer; tensors by name."""

    def change(plan: Plan) -> Plan:
        cells = {
            name: {number: plan.tensor_names.index(cell) if isinstance(cell, str) else cell}
            for name, cell in changes.items()
        }
        return replace(plan, transfers=edited(plan.transfers, **cells))

    return change


def earlier(number: int, cycles: int) -> Break:
    """A transfer and its hops, moved."""

    def change(plan: Plan) -> Plan:
        rows = np.flatnonzero(plan.hops.transfer == number)
        moved = {name: {int(r): int(getattr(plan.hops, name)[r]) - cycles for r in rows}
                 for name in ("start", "end")}  # fmt: skip
        start = {number: int(plan.transfers.start[number]) - cycles}
        transfers = edited(plan.transfers, start=start)
        return replace(plan, transfers=transfers, hops=edited(plan.hops, **moved))

    return change


def both(*steps: Break) -> Break:
    def change(plan: Plan) -> Plan:
        for step in steps:
            plan = step(plan)
        return plan

    return change


def wide_lives(plan: Plan) -> Plan:
    """All values live from the first cycle to the last."""
    mortal = plan.buffers.death >= 0
    death = np.where(mortal, plan.buffers.death.max(), plan.buffers.death)
    return replace(plan, buffers=replace(plan.buffers, birth=plan.buffers.birth * 0, death=death))


def without_buffer(chip: int, tensor: str) -> Break:
    def change(plan: Plan) -> Plan:
        row = buffer_row(plan, chip, tensor)
        cut = {name: (lambda c: np.delete(c, row)) for name in plan.buffers.__dataclass_fields__}
        return replace(plan, buffers=edited(plan.buffers, **cut))

    return change


def buffer(place: tuple[int, str], **changes: int) -> Break:
    def change(plan: Plan) -> Plan:
        row = buffer_row(plan, *place)
        return replace(plan, buffers=edited(plan.buffers, **{n: {row: v} for n, v in changes.items()}))

    return change


def exchange(**changes: object) -> Break:
    """Fields of the graph's first exchange."""

    def change(plan: Plan) -> Plan:
        first, *rest = plan.graph.exchanges
        exchanges = (replace(first, **changes), *rest)
        return replace(plan, graph=replace(plan.graph, exchanges=exchanges))

    return change


def no_exchange(plan: Plan) -> Plan:
    return replace(plan, graph=replace(plan.graph, exchanges=()))


def operator(index: int, **changes: object) -> Break:
    return lambda plan: with_operator(plan, index, **changes)


def tensor(name: str, **changes: object) -> Break:
    def change(plan: Plan) -> Plan:
        changed = {**plan.graph.tensors, name: replace(plan.graph.tensors[name], **changes)}
        return replace(plan, graph=replace(plan.graph, tensors=changed))

    return change


def mesh(*extents: int) -> Break:
    return lambda plan: replace(plan, stages=(replace(plan.stages[0], mesh=extents), *plan.stages[1:]))


def result(index: int, **changes: object) -> Break:
    """Fields of an operator's only result."""

    def change(plan: Plan) -> Plan:
        (old,) = plan.graph.operators[index].results
        return with_operator(plan, index, results=(replace(old, **changes),))

    return change


def chips(stage: int, *members: int) -> Break:
    def change(plan: Plan) -> Plan:
        stages = list(plan.stages)
        stages[stage] = replace(stages[stage], chips=members)
        return replace(plan, stages=tuple(stages))

    return change


# Title, good plan, names of the faults (the first one is looked at), break, coordinates.
BROKEN: list[tuple[str, str, str, Break, dict[str, object]]] = [
    (
        "a piece that is not brought",
        "gather",
        "receive_without_arrival",
        without_transfer(1),
        {"chip": 0, "tensor": "g", "operator": "use", "tile": 0, "stage": 0},
    ),
    (
        "half a piece",
        "gather",
        "receive_without_arrival",
        transfer(0, last=23),
        {"chip": 1, "tensor": "g", "operator": "use", "tile": 1},
    ),
    (
        "another's piece sent",
        "gather",
        "wrong_exchange",
        transfer(0, first=24, last=48, at=24),
        {"chip": 1, "tensor": "g"},
    ),
    ("a piece put elsewhere", "gather", "wrong_exchange", transfer(0, at=24), {"chip": 1, "tensor": "g"}),
    (
        "a piece into another tensor",
        "gather",
        "wrong_exchange",
        transfer(0, into="out"),
        {"chip": 1, "tensor": "out"},
    ),
    (
        "an exchange that nobody declared",
        "gather",
        "wrong_exchange",
        exchange(target="out"),
        {"tensor": "out"},
    ),
    (
        "a piece sent a cycle early",
        "gather",
        "send_before_ready",
        both(wide_lives, earlier(0, 41)),
        {"chip": 0, "tensor": "g"},
    ),
    (
        "forwarded a cycle before it is there",
        "forward",
        "send_before_ready",
        both(wide_lives, earlier(1, 41)),
        {"chip": 1, "tensor": "g"},
    ),
    (
        "forwarded and not received",
        "forward",
        "send_before_ready receive_without_arrival",
        without_transfer(0),
        {"chip": 1, "tensor": "g"},
    ),
    (
        "read before the last chip has it",
        "forward",
        "read_before_ready",
        lambda plan: with_tiles(
            wide_lives(plan),
            0,
            start=lambda c: np.where(c > 400, c - 41, c),
            end=lambda c: np.where(c > 400, c - 41, c),
        ),
        {"chip": 2, "tensor": "g", "operator": "use", "tile": 0},
    ),
    (
        "no buffer on the group",
        "gather",
        "buffer_missing",
        without_buffer(0, "g"),
        {"chip": 0, "tensor": "g"},
    ),
    (
        "a buffer by another chip of the group",
        "gather",
        "wrong_group",
        buffer((0, "x"), chip=1),
        {"chip": 1, "tensor": "x"},
    ),
    ("a chip in two stages", "crossing", "wrong_group", chips(1, 1, 3), {"chip": 1, "stage": 1}),
    ("a chip twice in a stage", "crossing", "wrong_group", chips(1, 2, 2), {"chip": 2, "stage": 1}),
    (
        "a buffer that dies before the last chip has sent",
        "forward",
        "buffer_lifetime",
        buffer((0, "g"), death=480),
        {"chip": 0, "tensor": "g"},
    ),
    (
        "a buffer born after the first chip receives",
        "shift",
        "buffer_lifetime",
        lambda plan: buffer((0, "u"), birth=int(plan.transfers.start[0]) + 15)(plan),
        {"chip": 0, "tensor": "u"},
    ),
    (
        "a row of the wrong sender",
        "scatter",
        "wrong_exchange",
        transfer(0, at=6),
        {"chip": 0, "tensor": "r"},
    ),
    (
        "a piece of another destination",
        "scatter",
        "wrong_exchange",
        transfer(0, first=6, last=12),
        {"chip": 0, "tensor": "r"},
    ),
    (
        "terms that never come",
        "scatter",
        "receive_without_arrival",
        without_transfer(4),
        {"chip": 1, "tensor": "r", "operator": "add"},
    ),
    (
        "a short piece read to its full length",
        "scatter",
        "receive_without_arrival",
        operator(1, splits=()),
        {"chip": 3, "tensor": "r", "operator": "add", "tile": 1},
    ),
    ("two rows short", "scatter", "wrong_exchange", tensor("p", dtype=DType.INT32), {"tensor": "r"}),
    ("not from the neighbour", "shift", "wrong_exchange", exchange(by=2), {"chip": 1, "tensor": "u"}),
    ("along the other axis", "shift", "wrong_exchange wrong_sharding", exchange(axes=(0,)), {"tensor": "u"}),
    ("along an axis that is not there", "shift", "wrong_exchange", exchange(axes=(2,)), {"tensor": "u"}),
    ("moved within the tensor", "shift", "wrong_exchange", transfer(0, last=23, at=1), {"chip": 1}),
    (
        "moved to another stage",
        "crossing",
        "wrong_exchange",
        transfer(0, first=1, at=0),
        {"chip": 2, "tensor": "g"},
    ),
    (
        "a piece from a chip that has it not",
        "crossing",
        "send_before_ready receive_without_arrival",
        both(transfer(1, first=24, last=48, at=24)),
        {"chip": 0, "tensor": "g"},
    ),
    (
        "what differs from chip to chip, sent to another stage",
        "crossing",
        "wrong_exchange wrong_sharding",
        both(operator(0, splits=(Split(0, (0,), 8),)), tensor("g", shape=(2, 4, 6)), result(0, own=())),
        {"tensor": "g"},
    ),
    ("ways that the mesh does not have", "gather", "wrong_sharding", mesh(1, 2), {"operator": "make"}),
    (
        "a split of another length",
        "scatter",
        "wrong_sharding",
        operator(1, splits=(Split(0, (0,), 25),)),
        {"operator": "add", "stage": 0, "chip": 0},
    ),
    (
        "a split over no axis of the mesh",
        "scatter",
        "wrong_sharding",
        operator(1, splits=(Split(0, (1,), 22),)),
        {"operator": "add"},
    ),
    (
        "a piece of another size",
        "gather",
        "wrong_sharding",
        tensor("x", sharding=Sharding((4, 16), (4, 16), (Cut(1, (0,)),))),
        {"tensor": "x", "stage": 0},
    ),
    (
        "an own piece of too many",
        "own reader",
        "wrong_sharding",
        operator(
            1,
            operands=(
                Operand(
                    "g", (Own(0, (0,), 1), Slice((0, 0, 0), (1, 4, 6), (1, 1, 1)), Reshape((4, 6))), (0, 1)
                ),
            ),
        ),
        {"operator": "use"},
    ),
    (
        "rows appended by a chip that is not there",
        "state",
        "wrong_sharding",
        result(0, only=((0, 2),)),
        {"operator": "append"},
    ),
    (
        "rows appended by a chip that has not the last ones",
        "state",
        "wrong_sharding",
        result(0, only=((0, 0),)),
        {"operator": "append", "stage": 0},
    ),
    (
        "rows appended by one chip of several that have them",
        "state",
        "wrong_sharding",
        tensor("cache", sharding=None),
        {"operator": "append", "stage": 0},
    ),
    (
        "rows appended by one chip, where the columns are cut",
        "state",
        "wrong_sharding",
        tensor("cache", sharding=Sharding((4, 10), (4, 10), (Cut(1, (0,)),))),
        {"operator": "append", "stage": 0},
    ),
    (
        "a gather out of another tensor",
        "gather",
        "wrong_exchange",
        exchange(source="x"),
        {"tensor": "g", "stage": 0},
    ),
    ("a gather by some chips", "gather", "wrong_exchange", exchange(by=1), {"tensor": "g", "stage": 0}),
    (
        "a row that is neither resident nor appended",
        "short state",
        "receive_without_arrival missing_output",
        tensor("cache", resident_rows=(0, 1)),
        {"chip": 1, "tensor": "cache", "operator": "use", "tile": 0},
    ),
    (
        "a state whose rows differ and are not cut",
        "state",
        "wrong_sharding",
        both(tensor("cache", sharding=None), result(0, only=()), operator(0, splits=(Split(1, (0,), 10),))),
        {"tensor": "cache"},
    ),
    (
        "pieces read as the whole output",
        "shift",
        "wrong_sharding",
        tensor("out", sharding=None),
        {"tensor": "out"},
    ),
    (
        "an output of which a chip lacks a piece",
        "own reader",
        "missing_output",
        both(
            lambda plan: replace(plan, graph=replace(plan.graph, outputs=(Output("more", "g", ()),))),
            tensor("out", sharding=None),
        ),
        {"tensor": "more"},
    ),
]


@pytest.mark.parametrize(
    ("plan", "name", "change", "where"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_one_break_is_named(plan: str, name: str, change: Break, where: dict[str, object]) -> None:
    report = simulate(change(GOOD[plan]()))
    assert not report.ok
    assert {fault.name for fault in report.faults} == set(name.split()), report.faults
    found = next(fault for fault in report.faults if fault.name == name.split()[0])
    assert {key: getattr(found, key) for key in where} == where
    assert found.message


REFERENCES: list[tuple[str, str, Break, str]] = [
    ("atoms of other elements", "gather", tensor("x", sharding=Sharding((4, 12), (4, 13), (Cut(1, (0,)),))),
     "atoms of the shape (4, 12), found (4, 13)"),
    ("a cut of no dimension", "gather", tensor("x", sharding=Sharding((4, 12), (4, 12), (Cut(2, (0,)),))),
     "cuts of distinct dimensions of (4, 12), found [2]"),
    ("an axis cut twice", "gather",
     tensor("x", sharding=Sharding((4, 12), (4, 12), (Cut(0, (0,)), Cut(1, (0,))))),
     "cuts over distinct mesh axes"),
    ("a split of no factor", "scatter", operator(1, splits=(Split(1, (0,), 22),)), "below 1, found [1]"),
    ("a split over no axis", "scatter", operator(1, splits=(Split(0, (), 22),)), "mesh axes, found ()"),
    ("a factor split twice", "scatter", operator(1, splits=(Split(0, (0,), 22),) * 2), "found [0, 0]"),
    ("an own piece along a factor", "gather", result(0, axes=(0, None, 1), own=(0,)), "(own_pieces)"),
    ("an own piece with an offset", "gather", result(0, offsets=(1, 0, 0)), "(own_pieces)"),
    ("an own piece of no axis", "gather", result(0, own=(-1,)), "(own_pieces)"),
    ("written by no chip", "state", result(0, only=((0, -1),)), "mesh coordinates of the chips that write"),
    ("an exchange of nothing", "shift", exchange(source="nothing"), "a tensor of the graph, found 'nothing'"),
    ("an exchange over no axis", "shift", exchange(axes=()), "distinct mesh axes, found ()"),
    ("an exchange with itself", "shift", exchange(source="u"), "(exchange_circles)"),
    ("a mesh of other chips", "gather", mesh(3), "the mesh (3,) does not hold 2 chips"),
    ("a mesh of no axis", "gather", both(chips(0, 0), mesh()), "has no extents"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "change", "words"), [r[1:] for r in REFERENCES], ids=[r[0] for r in REFERENCES]
)
def test_references_of_groups_are_checked_before_a_plan_is_read(plan: str, change: Break, words: str) -> None:
    good = GOOD[plan]()
    assert first_problem(good) is None
    assert words in (first_problem(change(good)) or "")
