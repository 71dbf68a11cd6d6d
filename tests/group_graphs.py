"""Device graphs made by hand: what one chip of a group executes, beside the whole graph that it stands for.

whole:   y = relu(x @ up) @ down            x[m, k], up[k, h], down[h, n]
device:  up is cut by columns, down by rows; every chip has a partial sum of y, and
         one-shot:  all partial sums go to every chip, which adds them
         two-shot:  piece d of them goes to chip d, which adds them; the sums go to every chip
"""

from dataclasses import dataclass
from math import ceil, prod
from typing import NamedTuple

import numpy as np

from chiplan.ir import (
    Cut,
    DType,
    Exchange,
    ExchangeKind,
    Expand,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Output,
    Own,
    Reducer,
    Reshape,
    Result,
    Role,
    Sharding,
    Slice,
    Split,
    State,
    Tensor,
    Unit,
    View,
    mesh_ways,
)

ROWS, INNER, COLUMNS = 4, 6, 10


@dataclass(frozen=True)
class Case:
    """A device graph on a mesh, the whole graph, and values for both."""

    device: Graph
    whole: Graph
    mesh: tuple[int, ...]
    inputs: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]

    def weight(self, tensor: Tensor) -> np.ndarray:
        """Values of a whole weight, as both executions ask for them."""
        assert tensor.sharding is None
        assert tensor.shape == self.weights[tensor.name].shape
        return self.weights[tensor.name]


def graph_of(tensors, operators, outputs, exchanges=(), states=()) -> Graph:
    inputs = tuple(t.name for t in tensors if t.role is Role.INPUT)
    named = {t.name: t for t in tensors}
    return Graph("groups", named, tuple(operators), inputs, tuple(outputs), tuple(states), tuple(exchanges))


def value(name, shape, role=Role.VALUE, dtype=DType.FP32, **more) -> Tensor:
    return Tensor(name, tuple(shape), dtype, role, **more)


def cut_tensor(name, shape, dimension, axes, mesh, role=Role.WEIGHT, **more) -> Tensor:
    """A tensor of which every chip holds a piece along one dimension."""
    sharding = Sharding(tuple(shape), tuple(shape), (Cut(dimension, axes),))
    return value(name, sharding.piece_shape(mesh), role, sharding=sharding, **more)


def matmul(name, left, right, result, extents, splits=(), own=(), dtype=DType.FP32) -> Operator:
    """result[m, n] = sum over k; operands are names or (name, view)."""
    m, n, k = extents
    operands = [
        Operand(*(o if isinstance(o, tuple) else (o, ())), axes)
        for o, axes in ((left, (0, 2)), (right, (2, 1)))
    ]
    axes, offsets = ((None, 0, 1), (0, 0, 0)) if own else ((0, 1), (0, 0))
    return Operator(
        name,
        Unit.MATRIX,
        (Factor("m", m), Factor("n", n), Factor("k", k, Reducer.SUM)),
        tuple(operands),
        (Result(result, axes, offsets, 0, own),),
        (Instruction("MatMul", (0, 1), dtype),),
        splits=tuple(splits),
    )


def pointwise(name, opcode, operands, result, shape, splits=(), own=(), dtype=DType.FP32) -> Operator:
    """A chain `opcode`(operand 0, operand 1), `opcode`(that, operand 2) ...; operands are (name, view)."""
    axes = tuple(range(len(shape)))
    count = len(operands)
    body = [Instruction(opcode, (0, 1) if count > 1 else (0,), dtype)]
    body += [Instruction(opcode, (count + i - 2, i), dtype) for i in range(2, count)]
    written = Result(
        result, (None, *axes) if own else axes, (0,) * (len(shape) + bool(own)), len(body) - 1, own
    )
    return Operator(
        name,
        Unit.VECTOR,
        tuple(Factor(f"f{i}", extent) for i, extent in enumerate(shape)),
        tuple(Operand(tensor, view, axes) for tensor, view in operands),
        (written,),
        tuple(body),
        splits=tuple(splits),
    )


def piece_view(c, shape):
    """Piece c of a tensor with a leading dimension of pieces."""
    starts = (c, *(0,) * (len(shape) - 1))
    return (Slice(starts, (c + 1, *shape[1:]), (1,) * len(shape)), Reshape(tuple(shape[1:])))


class Combined(NamedTuple):
    """What combines partial results: its parts of the graph, and the result as (tensor, view)."""

    tensors: list[Tensor]
    operators: list[Operator]
    exchanges: list[Exchange]
    result: tuple[str, View]


def one_shot(axes, ways, shape, opcode="Add", result="y") -> Combined:
    """Partial results in G, gathered and combined in piece order."""
    gathered = (ways, *shape)
    operands = [("G", piece_view(c, gathered)) for c in range(ways)]
    return Combined(
        [value("G", gathered), value(result, shape)],
        [pointwise("combine", opcode, operands, result, shape)],
        [Exchange("G", "G", ExchangeKind.GATHER, axes)],
        (result, ()),
    )


def level_by_level(shape) -> Combined:
    """On a mesh of 2 x 2: sums along axis 1 first, then along axis 0."""
    near, far = (2, *shape), (2, *shape)
    return Combined(
        [value("G", near), value("far", far), value("y", shape)],
        [
            pointwise("near", "Add", [("G", piece_view(c, near)) for c in range(2)], "far", shape, (), (0,)),
            pointwise("far", "Add", [("far", piece_view(c, far)) for c in range(2)], "y", shape),
        ],
        [Exchange("G", "G", ExchangeKind.GATHER, (1,)), Exchange("far", "far", ExchangeKind.GATHER, (0,))],
        ("y", ()),
    )


def two_shot(axes, ways, shape) -> Combined:
    """P scattered into R, each chip adds one piece into G, which is gathered."""
    elements = prod(shape)
    part = ceil(elements / ways)
    own = (Reshape((elements,)), Own(0, axes, ways))
    others = [("R", piece_view(row, (ways - 1, part))) for row in range(ways - 1)]
    add = pointwise("add", "Add", [("P", own), *others], "G", (part,), (Split(0, axes, elements),), axes)
    view = (Reshape((part * ways,)), Slice((0,), (elements,), (1,)), Reshape(tuple(shape)))
    return Combined(
        [value("P", shape), value("R", (ways - 1, part)), value("G", (ways, part))],
        [add],
        [Exchange("P", "R", ExchangeKind.SCATTER, axes), Exchange("G", "G", ExchangeKind.GATHER, axes)],
        ("G", view),
    )


def random_arrays(seed=0, **shapes):
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def whole_products(hidden) -> Graph:
    m, k, n = ROWS, INNER, COLUMNS
    tensors = [
        value("x", (m, k), Role.INPUT),
        value("up", (k, hidden), Role.WEIGHT),
        value("down", (hidden, n), Role.WEIGHT),
        value("h", (m, hidden)),
        value("a", (m, hidden)),
        value("y", (m, n)),
    ]
    operators = [
        matmul("up", "x", "up", "h", (m, hidden, k)),
        pointwise("relu", "Relu", [("h", ())], "a", (m, hidden)),
        matmul("down", "a", "down", "y", (m, n, hidden)),
    ]
    return graph_of(tensors, operators, [Output("out", "y", ())])


def products(mesh, axes, hidden, shots) -> Case:
    """Column-parallel, then row-parallel, then all chips get the sum: in "one" shot, "two", or by "levels"
    on a mesh of 2 x 2."""
    ways, part = mesh_ways(mesh, axes), ceil(hidden / mesh_ways(mesh, axes))
    m, k, n = ROWS, INNER, COLUMNS
    columns, rows = Split(1, axes, hidden), Split(2, axes, hidden)
    summed, partial = one_shot(axes, ways, (m, n)), ("G", axes)
    if shots == "two":
        summed, partial = two_shot(axes, ways, (m, n)), ("P", ())
    elif shots == "levels":
        summed, partial = level_by_level((m, n)), ("G", (1,))
    tensors = [
        value("x", (m, k), Role.INPUT),
        cut_tensor("up", (k, hidden), 1, axes, mesh),
        cut_tensor("down", (hidden, n), 0, axes, mesh),
        value("h", (m, part)),
        value("a", (m, part)),
        *summed.tensors,
    ]
    operators = [
        matmul("up", "x", "up", "h", (m, part, k), (columns,)),
        pointwise("relu", "Relu", [("h", ())], "a", (m, part), (columns,)),
        matmul("down", "a", "down", partial[0], (m, n, part), (rows,), partial[1]),
        *summed.operators,
    ]
    device = graph_of(tensors, operators, [Output("out", *summed.result)], summed.exchanges)
    arrays = random_arrays(3, x=(m, k), up=(k, hidden), down=(hidden, n))
    weights = {name: arrays[name] for name in ("up", "down")}
    return Case(device, whole_products(hidden), mesh, {"x": arrays["x"]}, weights)


def below_largest(mesh, axes, k) -> Case:
    """y = x - max of its rows; x and y are cut along the row, the largest of each piece is combined."""
    ways, m = mesh_ways(mesh, axes), ROWS
    part = ceil(k / ways)
    tensors = [value("x", (m, k), Role.INPUT), value("top", (m,)), value("y", (m, k))]
    whole = graph_of(tensors, _below("x", k, Result("top", (0,), (0,), 0), ()), [Output("out", "y", ())])
    split = Split(1, axes, k)
    top, below = _below("x", part, Result("G", (None, 0), (0, 0), 0, axes), (split,))
    combined = one_shot(axes, ways, (m,), "Max", "top")
    pieces = [
        cut_tensor("x", (m, k), 1, axes, mesh, Role.INPUT),
        cut_tensor("y", (m, k), 1, axes, mesh, Role.VALUE),
        *combined.tensors,
    ]
    device = graph_of(pieces, [top, *combined.operators, below], [Output("out", "y", ())], combined.exchanges)
    return Case(device, whole, mesh, random_arrays(4, x=(m, k)), {})


def products_on_wire(ways, k, stored, wire) -> Case:
    """y = x @ w of small integers in type `stored`, split over k, the partial sums in type `wire`."""
    part, shape, out = ceil(k / ways), (ROWS, COLUMNS), [Output("out", "y", ())]
    mesh, axes = (ways,), (0,)
    x, w = value("x", (ROWS, k), Role.INPUT, stored), value("w", (k, COLUMNS), Role.WEIGHT, stored)
    y = value("y", shape, dtype=wire)
    whole = graph_of([x, w, y], [matmul("whole", "x", "w", "y", (*shape, k), dtype=wire)], out)
    pieces = [
        cut_tensor("x", x.shape, 1, axes, mesh, Role.INPUT, dtype=stored),
        cut_tensor("w", w.shape, 0, axes, mesh, dtype=stored),
        value("G", (ways, *shape), dtype=wire),
        y,
    ]
    parts = [("G", piece_view(c, (ways, *shape))) for c in range(ways)]
    operators = [
        matmul("part", "x", "w", "G", (*shape, part), (Split(2, axes, k),), axes, wire),
        pointwise("combine", "Add", parts, "y", shape, dtype=wire),
    ]
    device = graph_of(pieces, operators, out, [Exchange("G", "G", ExchangeKind.GATHER, axes)])
    random = np.random.default_rng(9)
    arrays = {t.name: random.integers(-60, 60, t.shape).astype(stored.numpy) for t in (x, w)}
    return Case(device, whole, mesh, {"x": arrays["x"]}, {"w": arrays["w"]})


def _below(x, k, largest, splits) -> list[Operator]:
    factors = (Factor("m", ROWS), Factor("k", k, Reducer.MAX))
    reduce = Instruction("ReduceMax", (0,), DType.FP32, (("factors", (1,)),))
    operand = Operand(x, (), (0, 1))
    top = Operator("top", Unit.VECTOR, factors, (operand,), (largest,), (reduce,), splits=splits)
    spread = ("top", (Reshape((ROWS, 1)), Expand((ROWS, k))))
    return [top, pointwise("below", "Sub", [(x, ()), spread], "y", (ROWS, k), splits)]


def table_rows(mesh, axes, rows, is_load) -> Case:
    """Rows of a table by index, or what they give with x where the matrix unit loads them; the table is
    cut by rows, and the index counts from both of its ends."""
    ways, n, k = mesh_ways(mesh, axes), 5, INNER
    part = ceil(rows / ways)
    shape = (4, n) if is_load else (4, n, k)
    make = _loaded_rows if is_load else _picked_rows
    result = tuple(range(len(shape)))
    given = [value("x", (4, k), Role.INPUT), value("index", (4,), Role.INPUT, DType.INT64)]
    table, y = value("table", (rows, n, k), Role.WEIGHT), value("y", shape)
    alone = make(rows, Result("y", result, (0,) * len(shape), int(is_load)), ())
    whole = graph_of([*given, table, y], [alone], [Output("out", "y", ())])
    own = Result("G", (None, *result), (0,) * (1 + len(shape)), int(is_load), axes)
    split = make(part, own, (Split(3, axes, rows),))
    summed = one_shot(axes, ways, shape)
    table = cut_tensor("table", (rows, n, k), 0, axes, mesh)
    device = graph_of(
        [*given, table, *summed.tensors],
        [split, *summed.operators],
        [Output("out", *summed.result)],
        summed.exchanges,
    )
    arrays = random_arrays(5, x=(4, k), table=(rows, n, k))
    inputs = {"x": arrays["x"], "index": np.array([0, -1, rows // 2, 1 - rows])}
    return Case(device, whole, mesh, inputs, {"table": arrays["table"]})


def _row_factors(rows, reducer=None) -> tuple[Factor, ...]:
    row = Factor("row", rows, Reducer.SUM, gathered=True)
    return (Factor("i", 4), Factor("n", 5), Factor("k", INNER, reducer), row)


def _picked_rows(rows, result, splits) -> Operator:
    operands = (Operand("table", (), (3, 1, 2)), Operand("index", (), (0,)))
    body = (Instruction("Gather", (0, 1), DType.FP32, (("axis", 0),)),)
    return Operator("pick", Unit.MEMORY, _row_factors(rows), operands, (result,), body, splits=splits)


def _loaded_rows(rows, result, splits) -> Operator:
    operands = (Operand("x", (), (0, 2)), Operand("table", (), (3, 1, 2)), Operand("index", (), (0,)))
    body = (Instruction("Gather", (1, 2), DType.FP32), Instruction("MatMul", (0, 3), DType.FP32))
    factors = _row_factors(rows, Reducer.SUM)
    return Operator("load", Unit.MATRIX, factors, operands, (result,), body, splits=splits)


def appended_rows(mesh, axes, rows) -> Case:
    """A row is appended to a cache whose rows are cut, and the rows are summed."""
    ways = mesh_ways(mesh, axes)
    part = ceil(rows / ways)
    owner, local = divmod(rows - 1, part)
    extents = [mesh[axis] for axis in axes]
    only = tuple(zip(axes, (int(c) for c in np.unravel_index(owner, extents)), strict=True))
    states, new = [State("past", "present", "cache", 1)], value("new", (2, 1, 3), Role.INPUT)
    outputs = [Output("out", "y", ())]
    cache = value("cache", (2, rows, 3), Role.STATE, resident_rows=(1, rows - 1))
    alone = [_appended(rows - 1, ()), _summed_rows(rows, Result("y", (0, 1), (0, 0), 0), ())]
    whole = graph_of([new, cache, value("y", (2, 3))], alone, outputs, states=states)
    summed = one_shot(axes, ways, (2, 3))
    split = _summed_rows(part, Result("G", (None, 0, 1), (0, 0, 0), 0, axes), (Split(2, axes, rows),))
    cache = cut_tensor("cache", (2, rows, 3), 1, axes, mesh, Role.STATE, resident_rows=(1, local))
    device = graph_of(
        [new, cache, *summed.tensors],
        [_appended(local, only), split, *summed.operators],
        outputs,
        summed.exchanges,
        states,
    )
    return Case(device, whole, mesh, random_arrays(6, new=(2, 1, 3), past=(2, rows - 1, 3)), {})


def _appended(row, only) -> Operator:
    factors = (Factor("h", 2), Factor("r", 1), Factor("d", 3))
    result = Result("cache", (0, 1, 2), (0, row, 0), 0, only=only)
    copy = (Instruction("Copy", (0,), DType.FP32),)
    return Operator("append", Unit.MEMORY, factors, (Operand("new", (), (0, 1, 2)),), (result,), copy)


def _summed_rows(rows, result, splits) -> Operator:
    factors = (Factor("h", 2), Factor("d", 3), Factor("r", rows, Reducer.SUM))
    body = (Instruction("ReduceSum", (0,), DType.FP32, (("factors", (2,)),)),)
    operand = Operand("cache", (), (0, 2, 1))
    return Operator("sum", Unit.VECTOR, factors, (operand,), (result,), body, splits=splits)


def own_pieces(mesh, axes, rows) -> Case:
    """y = relu(x): every chip takes its own piece of x, which all hold, and sends what it makes."""
    ways = mesh_ways(mesh, axes)
    part = ceil(rows / ways)
    x, y = value("x", (rows, 3), Role.INPUT), value("y", (rows, 3))
    outputs = [Output("out", "y", ())]
    whole = graph_of([x, y], [pointwise("relu", "Relu", [("x", ())], "y", (rows, 3))], outputs)
    piece = ("x", (Own(0, axes, ways),))
    relu = pointwise("relu", "Relu", [piece], "G", (part, 3), (Split(0, axes, rows),), axes)
    gathered = (Reshape((ways * part, 3)), Slice((0, 0), (rows, 3), (1, 1)))
    again = pointwise("again", "Relu", [("G", gathered)], "y", (rows, 3))
    exchange = Exchange("G", "G", ExchangeKind.GATHER, axes)
    device = graph_of([x, value("G", (ways, part, 3)), y], [relu, again], outputs, [exchange])
    return Case(device, whole, mesh, random_arrays(7, x=(rows, 3)), {})


def neighbours(mesh, axes) -> Case:
    """y[c] = x[c] + x[c - 1], around the ring of pieces."""
    ways = mesh_ways(mesh, axes)
    shape, outputs = (ways, 3), [Output("out", "y", ())]
    x, y = value("x", shape, Role.INPUT), value("y", shape)
    wrapped = value("before", shape, Role.INPUT)
    both = pointwise("add", "Add", [("x", ()), ("before", ())], "y", shape)
    whole = graph_of([x, wrapped, y], [both], outputs)
    mine = pointwise("mine", "Copy", [("x", (Own(0, axes, ways),))], "mine", (1, 3))
    add = pointwise("add", "Add", [("mine", ()), ("other", ())], "y", (1, 3))
    tensors = [
        x,
        value("mine", (1, 3)),
        value("other", (1, 3)),
        cut_tensor("y", shape, 0, axes, mesh, Role.VALUE),
    ]
    device = graph_of(tensors, [mine, add], outputs, [Exchange("mine", "other", ExchangeKind.SHIFT, axes, 1)])
    inputs = random_arrays(8, x=shape)
    return Case(device, whole, mesh, inputs | {"before": np.roll(inputs["x"], 1, 0)}, {})
