"""Random graphs, programs and plans: whatever the types allow, sense or none."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from chiplan.ir import (
    Bound,
    BufferColumns,
    Certificate,
    ChipId,
    Cut,
    Cycle,
    DType,
    Exchange,
    ExchangeKind,
    Expand,
    Factor,
    Graph,
    HopColumns,
    Instruction,
    Operand,
    Operator,
    Origin,
    Output,
    Own,
    Plan,
    Reducer,
    Reshape,
    Result,
    Role,
    Sharding,
    Slice,
    Split,
    Stage,
    State,
    Tensor,
    TileColumns,
    TileProgram,
    Tiling,
    TransferColumns,
    Transpose,
    Unit,
    Window,
)
from chiplan.ir.plan_columns import BUFFERS, HOPS, TILES, TRANSFERS, Layout

NAMES = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["x", "x_1", "x_2", "layers.0/q", "#3", "for", 'a"b', "{7}", "a|b", "\x1b[2J", "7"]),
)
SMALL = st.integers(0, 9)
NUMBERS = st.integers(-(2**62), 2**62)
SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple)
AXES = st.lists(SMALL, max_size=2).map(tuple)
DTYPES = st.sampled_from(DType)
OPCODES = st.one_of(
    st.sampled_from(["Add", "MatMul", "Gather", "with", "for", "ReduceSum"]), st.text(max_size=4)
)
FLOATS = st.floats(allow_nan=False)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ATTRIBUTES = st.one_of(
    NUMBERS, FLOATS, NAMES, st.lists(NUMBERS, max_size=2).map(tuple), st.lists(FLOATS, max_size=2).map(tuple)
)
VIEWS = st.lists(
    st.one_of(
        st.builds(Reshape, SHAPES),
        st.builds(Expand, SHAPES),
        st.builds(Transpose, AXES),
        st.lists(st.tuples(SMALL, SMALL, SMALL), max_size=3).map(
            lambda bounds: Slice(*(tuple(b[part] for b in bounds) for part in range(3)))
        ),
        st.builds(Window, SMALL, SMALL, SMALL, SMALL),
        st.builds(Own, SMALL, AXES, SMALL, SMALL),
    ),
    max_size=2,
).map(tuple)
FACTORS = st.builds(
    Factor, st.one_of(st.sampled_from(["m", "n", "k"]), NAMES), st.integers(1, 9),
    st.one_of(st.none(), st.sampled_from(Reducer)), st.booleans(), st.booleans(),
)  # fmt: skip
INSTRUCTIONS = st.builds(
    Instruction, OPCODES, st.lists(SMALL, max_size=3).map(tuple), DTYPES,
    st.lists(st.tuples(NAMES, ATTRIBUTES), max_size=2).map(tuple),
)  # fmt: skip


@st.composite
def operators(draw: st.DrawFn, tensors: list[str]) -> Operator:
    """Any operator over the tensors: its axes, inputs and values need not exist."""
    axis = st.one_of(st.none(), SMALL)
    indices = draw(st.lists(st.lists(st.tuples(axis, SMALL), max_size=3), min_size=1, max_size=2))
    body = draw(st.lists(INSTRUCTIONS, min_size=1, max_size=4).map(tuple))
    results = [
        Result(draw(st.sampled_from(tensors)), tuple(a for a, _ in index), tuple(o for _, o in index),
               draw(SMALL), draw(AXES), draw(st.lists(st.tuples(SMALL, SMALL), max_size=2).map(tuple)))
        for index in indices
    ]  # fmt: skip
    operand = st.builds(Operand, st.sampled_from(tensors), VIEWS, st.lists(axis, max_size=3).map(tuple))
    return Operator(
        draw(NAMES),
        draw(st.sampled_from(Unit)),
        draw(st.lists(FACTORS, max_size=3).map(tuple)),
        draw(st.lists(operand, max_size=3).map(tuple)),
        tuple(results),
        body,
        draw(st.lists(NAMES, max_size=2).map(tuple)),
        draw(st.lists(st.builds(Split, SMALL, AXES, SMALL), max_size=2).map(tuple)),
    )


@st.composite
def tensors(draw: st.DrawFn, name: str) -> Tensor:
    sharding = st.builds(
        Sharding, SHAPES, SHAPES, st.lists(st.builds(Cut, SMALL, AXES), max_size=2).map(tuple)
    )
    origin = st.builds(Origin, NAMES, VIEWS, st.sampled_from(["cast", "sum", "odd one"]), AXES)
    rows = st.tuples(SMALL, SMALL)
    maybe = [draw(st.one_of(st.none(), kind)) for kind in (origin, rows, sharding)]
    tensor = Tensor(name, draw(SHAPES), draw(DTYPES), draw(st.sampled_from(Role)), None, *maybe)
    if not draw(st.booleans()):
        return tensor
    size = int(np.prod(tensor.whole_shape))
    data = draw(st.binary(min_size=size * 8, max_size=size * 8))
    values = np.frombuffer(data, np.uint8)[: size * tensor.dtype.itemsize].copy()
    if tensor.dtype is DType.BOOL:
        values &= 1
    return replace(tensor, value=values.view(tensor.dtype.numpy).reshape(tensor.whole_shape))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    name = st.sampled_from(names)
    kinds = st.sampled_from(ExchangeKind)
    return Graph(
        draw(NAMES),
        {name: draw(tensors(name)) for name in names},
        draw(st.lists(operators(names), max_size=3).map(tuple)),
        draw(st.lists(name, max_size=2).map(tuple)),
        draw(st.lists(st.builds(Output, NAMES, name, VIEWS), max_size=2).map(tuple)),
        draw(st.lists(st.builds(State, NAMES, NAMES, name, SMALL), max_size=2).map(tuple)),
        draw(st.lists(st.builds(Exchange, name, name, kinds, AXES, SMALL), max_size=2).map(tuple)),
    )


def columns(draw: st.DrawFn, layout: Layout, rows: int, limits: dict[str, int]) -> dict[str, np.ndarray]:
    """Random columns of a table in the types of the file, entries below their limits."""
    made = {}
    for name, kind in layout:
        largest = limits.get(name, 2**6)
        numbers = draw(st.lists(st.integers(0, largest - 1), min_size=rows, max_size=rows))
        made[name] = np.array(numbers, dtype=kind)
    return made


@st.composite
def stages(draw: st.DrawFn, graph: Graph) -> Stage:
    """Any stage; tiles in any order, and of operators that the program need not have."""
    count = len(graph.operators)
    program = draw(st.lists(st.integers(0, count - 1), max_size=2).map(tuple)) if count else ()
    ints = st.lists(SMALL, max_size=3).map(tuple)
    tilings = tuple(draw(st.builds(Tiling, ints, ints)) for _ in program)
    tiles = TileColumns(**columns(draw, TILES, draw(SMALL), {"operator": 2, "unit": 4, "instance": 3}))
    recomputed = tuple(sorted(set(program)))[: draw(SMALL)]
    chips = draw(st.lists(st.builds(ChipId, SMALL), max_size=3).map(tuple))
    return Stage(chips, draw(AXES), TileProgram(program, tilings, tiles), recomputed)


@st.composite
def plans(draw: st.DrawFn, good: Plan) -> Plan:
    """`good` with another target's name, records and columns, sorted or not."""
    count, transfers = len(good.tensor_names), draw(SMALL)
    chips = good.target.topology.chips
    limits = {"tensor": count, "into": count, "source": chips, "destination": chips, "chip": chips}
    links = {"link": len(good.target.topology.links), "transfer": max(transfers, 1), "hop": 2}
    hops = draw(SMALL) if transfers else 0
    text = st.text(max_size=8)
    return replace(
        good,
        target=replace(good.target, name=draw(text), sources=draw(text)),
        transfers=TransferColumns(**columns(draw, TRANSFERS, transfers, limits)),
        hops=HopColumns(**columns(draw, HOPS, hops, links)),
        buffers=BufferColumns(**columns(draw, BUFFERS, draw(SMALL), limits)),
        latency=Cycle(draw(st.integers(1, 2**59))),
        precision=draw(text),
        bounds=draw(st.lists(st.builds(Bound, text, NUMBERS, text), max_size=2).map(tuple)),
        certificates=draw(
            st.lists(st.builds(Certificate, text, text, SMALL, SMALL, FINITE, FINITE), max_size=2).map(tuple)
        ),
        assumptions=draw(st.lists(text, max_size=2).map(tuple)),
        options=draw(st.lists(st.tuples(text, text), max_size=2).map(tuple)),
    )


def same_columns(one: object, other: object) -> bool:
    """Whether two tables have equal columns of equal types."""
    return all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def same_graphs(one: Graph, other: Graph) -> bool:
    """Whether graphs are equal, constants bit by bit."""
    if one != other:
        return False
    pairs = [(tensor.value, other.tensors[name].value) for name, tensor in one.tensors.items()]
    return all(
        a is b
        if a is None or b is None
        else (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in pairs
    )


def same_stages(one: tuple[Stage, ...], other: tuple[Stage, ...]) -> bool:
    empty = TileColumns(*([np.zeros(0)] * 6))

    def bare(stage: Stage) -> Stage:
        return replace(stage, program=replace(stage.program, tiles=empty))

    return len(one) == len(other) and all(
        same_columns(a.program.tiles, b.program.tiles) and bare(a) == bare(b)
        for a, b in zip(one, other, strict=True)
    )


def same_plans(one: Plan, other: Plan) -> bool:
    """Whether plans are equal in every field."""
    tables = ("transfers", "hops", "buffers")
    apart = {*tables, "graph", "stages"}
    rest = [name for name in Plan.__dataclass_fields__ if name not in apart]
    return (
        all(same_columns(getattr(one, name), getattr(other, name)) for name in tables)
        and same_graphs(one.graph, other.graph)
        and same_stages(one.stages, other.stages)
        and all(getattr(one, name) == getattr(other, name) for name in rest)
    )
