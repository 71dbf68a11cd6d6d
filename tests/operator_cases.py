"""One case generator for every operator that has a nest: a node with random shapes and values, run by
the ONNX reference. The tests of nests, and of the graph built from them, go through all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.reference
from hypothesis import strategies as st

from chiplan.compiler.imported import ImportedNode, ImportedTensor
from chiplan.compiler.nests import ELEMENTWISE
from chiplan.ir import AxisMap, LoopNest, dtype_of

OPSET = 21
Box: TypeAlias = tuple[range, ...]
Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]


def unchanged(case: "Case", _nest: LoopNest, _box: Box) -> "Case":
    """Most operators do to a part what they do to the whole, with the same attributes."""
    return case


@dataclass(frozen=True)
class Case:
    """One node with its inputs (None: absent). `adapt` gives the attributes and the static inputs of
    the same operator on a part of the iteration space; by default they do not change."""

    op_type: str
    inputs: tuple[np.ndarray | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    adapt: Callable[["Case", LoopNest, Box], "Case"] = unchanged


def run(case: Case) -> list[np.ndarray]:
    """The node's results by the ONNX reference."""
    names = ["" if value is None else f"i{position}" for position, value in enumerate(case.inputs)]
    outputs = [f"o{position}" for position in range(case.outputs)]
    node = onnx.helper.make_node(case.op_type, names, outputs, **case.attributes)
    unknown = onnx.TypeProto()
    graph = onnx.helper.make_graph(
        [node],
        "law",
        [onnx.helper.make_value_info(name, unknown) for name in names if name],
        [onnx.helper.make_value_info(name, unknown) for name in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    feeds = {name: value for name, value in zip(names, case.inputs, strict=True) if name}
    with np.errstate(all="ignore"):
        return [np.asarray(value) for value in onnx.reference.ReferenceEvaluator(model).run(None, feeds)]


def imported(case: Case, whole: Sequence[np.ndarray]) -> tuple[ImportedNode, dict[str, ImportedTensor]]:
    """The case as the importer would hand it on; every input is a constant. `whole` are the results."""
    names = tuple("" if value is None else f"i{position}" for position, value in enumerate(case.inputs))
    outputs = tuple(f"o{position}" for position in range(case.outputs))
    attributes = {
        key: tuple(value) if isinstance(value, list) else value for key, value in case.attributes.items()
    }
    node = ImportedNode("node", case.op_type, "", names, outputs, attributes, "node")
    arrays = dict(zip(names, case.inputs, strict=True)) | dict(zip(outputs, whole, strict=True))
    tensors = {
        name: ImportedTensor(name, array.shape, dtype_of(array.dtype), constant=array)
        for name, array in arrays.items()
        if array is not None
    }
    return node, tensors


def indices(axes: AxisMap, box: Box) -> list[np.ndarray]:
    """Along every dimension, the indices that the iterations in `box` touch, ascending."""
    touched = []
    for axis in axes:
        index = np.array([axis.offset])
        for factor, stride in axis.terms:
            index = np.add.outer(index, stride * np.asarray(box[factor])).ravel()
        touched.append(np.unique(index))
    return touched


# What the operators are tried on. `draw` is hypothesis' draw.

EXTENT = st.integers(1, 5)


def shape(draw: Draw, low: int = 1, high: int = 3) -> tuple[int, ...]:
    return tuple(draw(st.lists(EXTENT, min_size=low, max_size=high)))


def floats(draw: Draw, extents: Sequence[int]) -> np.ndarray:
    seed = draw(st.integers(0, 2**16))
    return np.random.default_rng(seed).standard_normal(tuple(extents)).astype(np.float32)


def positions(draw: Draw, extents: Sequence[int], below: int, low: int = 0) -> np.ndarray:
    seed = draw(st.integers(0, 2**16))
    return np.random.default_rng(seed).integers(low, below, tuple(extents), dtype=np.int64)


def broadcastable(draw: Draw, extents: Sequence[int]) -> tuple[int, ...]:
    """A shape that broadcasts to `extents`."""
    kept = [extent if draw(st.booleans()) else 1 for extent in extents]
    return tuple(kept[draw(st.integers(0, len(kept))) :])


BOOLEAN = {"And": 2, "Or": 2, "Xor": 2, "Not": 1}
BINARY = {
    "Add", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Pow",
    "Sub",
}  # fmt: skip


def elementwise_case(op_type: str) -> Callable[[Draw], Case]:
    def build(draw: Draw) -> Case:
        extents = shape(draw)
        first = floats(draw, extents)
        if op_type in BOOLEAN:
            rest = [floats(draw, broadcastable(draw, extents)) for _ in range(BOOLEAN[op_type] - 1)]
            return Case(op_type, tuple(array > 0 for array in [first, *rest]))
        if op_type in BINARY:
            second = np.abs(floats(draw, broadcastable(draw, extents))) + np.float32(0.5)
            return Case(op_type, (np.abs(first) + np.float32(0.5), second))
        if op_type == "Where":
            others = [floats(draw, broadcastable(draw, extents)) for _ in range(2)]
            return Case(op_type, (first > 0, *others))
        if op_type == "Mod":
            return Case(
                op_type, (positions(draw, extents, 9), positions(draw, broadcastable(draw, extents), 5, 1))
            )
        if op_type == "Clip":
            return Case(op_type, (first, None, np.array(0.5, np.float32)))
        if op_type == "Cast":
            return Case(op_type, (first,), {"to": int(onnx.TensorProto.INT64)})
        return Case(op_type, (np.abs(first) if op_type in ("Log", "Sqrt") else first,))

    return build


def reduce_case(op_type: str) -> Callable[[Draw], Case]:
    def build(draw: Draw) -> Case:
        array = floats(draw, shape(draw))
        axes = sorted(draw(st.sets(st.integers(0, array.ndim - 1), min_size=1)))
        return Case(op_type, (array, np.array(axes, np.int64)), {"keepdims": draw(st.integers(0, 1))})

    return build


def axis_case(op_type: str) -> Callable[[Draw], Case]:
    """ArgMax and ArgMin."""

    def build(draw: Draw) -> Case:
        array = floats(draw, shape(draw))
        axis = draw(st.integers(-array.ndim, array.ndim - 1))
        return Case(op_type, (array,), {"axis": axis, "keepdims": draw(st.integers(0, 1))})

    return build


def cumsum_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    return Case("CumSum", (array, np.array(draw(st.integers(0, array.ndim - 1)))))


def trilu_case(draw: Draw) -> Case:
    return Case("Trilu", (floats(draw, shape(draw, 2)), np.array(draw(st.integers(-2, 2)))))


def quantize_case(op_type: str) -> Callable[[Draw], Case]:
    def build(draw: Draw) -> Case:
        kind = draw(st.sampled_from(["tensor", "axis", "block"]))
        extents = list(shape(draw, 2))
        axis = draw(st.integers(0, len(extents) - 1))
        attributes = {"axis": axis}
        scales: tuple[int, ...] = () if kind == "tensor" else (extents[axis],)
        if kind == "block":
            scales = tuple(extents)
            attributes["block_size"] = draw(st.integers(1, 3))
            extents[axis] *= attributes["block_size"]
        scale = np.abs(floats(draw, scales)) + np.float32(0.1)
        zero = positions(draw, scales, 20, -20).astype(np.int8)
        data = (
            floats(draw, extents)
            if op_type == "QuantizeLinear"
            else positions(draw, extents, 99, -99).astype(np.int8)
        )
        return Case(op_type, (data, scale, zero), attributes, adapt=adapt_blocks)

    return build


def adapt_blocks(case: Case, _nest: LoopNest, _box: Box) -> Case:
    if "block_size" not in case.attributes:
        return case
    data, scale = case.inputs[:2]
    assert data is not None
    assert scale is not None
    axis = case.attributes["axis"]
    size = {"block_size": data.shape[axis] // scale.shape[axis]}
    return Case(case.op_type, case.inputs, {**case.attributes, **size})


def matmul_shapes(draw: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    batch = shape(draw, 0, 2)
    m, k, n = draw(EXTENT), draw(EXTENT), draw(EXTENT)
    left = (*broadcastable(draw, batch), m, k) if batch else (m, k)
    return draw(st.sampled_from([(left, (*batch, k, n)), ((k,), (*batch, k, n)), ((*batch, m, k), (k,))]))


def matmul_case(draw: Draw) -> Case:
    left, right = matmul_shapes(draw)
    return Case("MatMul", (floats(draw, left), floats(draw, right)))


def integer_case(draw: Draw) -> Case:
    m, k, n = draw(EXTENT), draw(EXTENT), draw(EXTENT)
    left = positions(draw, (m, k), 200).astype(np.uint8)
    right = positions(draw, (k, n), 99, -99).astype(np.int8)
    zeros = (np.array(7, np.uint8), positions(draw, (n,), 9, -9).astype(np.int8))
    return Case("MatMulInteger", (left, right, *zeros))


def gemm_case(draw: Draw) -> Case:
    m, k, n = draw(EXTENT), draw(EXTENT), draw(EXTENT)
    swap_a, swap_b = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    inputs = [floats(draw, (k, m) if swap_a else (m, k)), floats(draw, (n, k) if swap_b else (k, n))]
    if draw(st.booleans()):
        inputs.append(floats(draw, draw(st.sampled_from([(n,), (m, 1), (1, n), (m, n)]))))
    return Case("Gemm", tuple(inputs), {"transA": swap_a, "transB": swap_b, "alpha": 0.5, "beta": 2.0})


def einsum_case(draw: Draw) -> Case:
    equation = draw(
        st.sampled_from(["bhid,bhjd->bhij", "...i,ij->...j", "ij,jk", "i,j->ij", "bij->bj", "ij,ij->i"])
    )
    extents = {label: draw(EXTENT) for label in "bhijkd"}
    terms = equation.partition("->")[0].replace("...", "bh").split(",")
    return Case(
        "Einsum",
        tuple(floats(draw, [extents[label] for label in term]) for term in terms),
        {"equation": equation},
    )


def conv_case(draw: Draw) -> Case:
    spatial, group = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 3)) for _ in range(spatial)]
    strides = [draw(st.integers(1, 3)) for _ in range(spatial)]
    dilations = [draw(st.integers(1, 2)) for _ in range(spatial)]
    # The reference refuses a pad that is wider than a kernel's reach, as every window would be empty.
    pads = [
        draw(st.integers(0, (kernel[i % spatial] - 1) * dilations[i % spatial])) for i in range(2 * spatial)
    ]
    data = [(kernel[i] - 1) * dilations[i] + 1 + draw(st.integers(0, 4)) for i in range(spatial)]
    wide, deep = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    inputs = [floats(draw, (draw(EXTENT), group * deep, *data)), floats(draw, (group * wide, deep, *kernel))]
    if draw(st.booleans()):
        inputs.append(floats(draw, (group * wide,)))
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    return Case("Conv", tuple(inputs), attributes, adapt=partial(adapt_conv, data))


def adapt_conv(extents: list[int], case: Case, nest: LoopNest, box: Box) -> Case:
    """Padding of the part: the indices outside of the data's `extents`. Fewer groups, if split."""
    reach = [indices((axis,), box)[0] for axis in nest.operands[0][2:]]
    low = [max(0, -int(index.min())) for index in reach]
    high = [max(0, int(index.max()) + 1 - extent) for index, extent in zip(reach, extents, strict=True)]
    groups = {f.name: rows for f, rows in zip(nest.factors, box, strict=True)}.get("group", range(1))
    attributes = {**case.attributes, "pads": [*low, *high], "group": len(groups)}
    return Case("Conv", case.inputs, attributes, adapt=case.adapt)


def result_shape(nest: LoopNest, box: Box, result: int = 0) -> tuple[int, ...]:
    return tuple(len(index) for index in indices(nest.results[result], box))


def with_shape(case: Case, nest: LoopNest, box: Box) -> Case:
    """Reshape and Expand of a part: to the part's shape."""
    wanted = np.array(result_shape(nest, box), np.int64)
    return Case(case.op_type, (case.inputs[0], wanted), case.attributes, adapt=case.adapt)


def reshape_case(draw: Draw) -> Case:
    factors = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    shapes = []
    for _ in range(2):
        cuts = sorted(draw(st.sets(st.integers(1, len(factors) - 1))))
        shapes.append([int(np.prod(factors[low:high])) for low, high in pairwise([0, *cuts, len(factors)])])
    if draw(st.booleans()):
        shapes[1] = shapes[0][::-1]
    return Case("Reshape", (floats(draw, shapes[0]), np.array(shapes[1], np.int64)), adapt=with_shape)


def expand_case(draw: Draw) -> Case:
    extents = shape(draw)
    array = floats(draw, broadcastable(draw, extents))
    return Case("Expand", (array, np.array(extents, np.int64)), adapt=with_shape)


def flatten_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    return Case("Flatten", (array,), {"axis": draw(st.integers(0, array.ndim))})


def squeeze_case(draw: Draw) -> Case:
    extents = shape(draw)
    return Case("Squeeze", (floats(draw, (1, *extents, 1)), np.array([0, -1])))


def unsqueeze_case(draw: Draw) -> Case:
    return Case("Unsqueeze", (floats(draw, shape(draw)), np.array([0, 2])))


def identity_case(draw: Draw) -> Case:
    return Case("Identity", (floats(draw, shape(draw)),))


def transpose_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    return Case("Transpose", (array,), {"perm": draw(st.permutations(range(array.ndim)))})


def tile_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    repeats = np.array([draw(st.integers(1, 3)) for _ in array.shape], np.int64)
    return Case("Tile", (array, repeats), adapt=adapt_tile)


def adapt_tile(case: Case, nest: LoopNest, box: Box) -> Case:
    data = case.inputs[0]
    assert data is not None
    repeats = np.array(result_shape(nest, box), np.int64) // np.array(data.shape, np.int64)
    return Case("Tile", (data, repeats), adapt=case.adapt)


def slice_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    axis = draw(st.integers(0, array.ndim - 1))
    start = draw(st.integers(0, array.shape[axis] - 1))
    step = draw(st.sampled_from([1, 2, -1, -2]))
    stop = 2**62 if step > 0 else -(2**62)
    return Case(
        "Slice", (array, *(np.array([v], np.int64) for v in (start, stop, axis, step))), adapt=adapt_slice
    )


def adapt_slice(case: Case, _nest: LoopNest, _box: Box) -> Case:
    """The part of the operand is what the slice takes, in the operand's order."""
    axis, step = case.inputs[3], case.inputs[4]
    assert step is not None
    start, stop, by = (0, 2**62, 1) if step[0] > 0 else (-1, -(2**62), -1)
    bounds = [np.array([value], np.int64) for value in (start, stop)]
    return Case("Slice", (case.inputs[0], *bounds, axis, np.array([by], np.int64)), adapt=case.adapt)


def split_case(draw: Draw) -> Case:
    sizes = draw(
        st.one_of(st.lists(EXTENT, min_size=2, max_size=3), st.integers(1, 4).map(lambda n: [n] * 3))
    )
    extents = [*shape(draw, 0, 2), sum(sizes)]
    axis = len(extents) - 1
    return Case(
        "Split", (floats(draw, extents), np.array(sizes, np.int64)), {"axis": axis}, len(sizes), adapt_split
    )


def adapt_split(case: Case, nest: LoopNest, box: Box) -> Case:
    axis = case.attributes["axis"]
    sizes = [result_shape(nest, box, result)[axis] for result in range(case.outputs)]
    return Case(
        "Split", (case.inputs[0], np.array(sizes, np.int64)), case.attributes, case.outputs, case.adapt
    )


def concat_case(draw: Draw) -> Case:
    sizes = draw(
        st.one_of(st.lists(EXTENT, min_size=2, max_size=3), st.integers(1, 4).map(lambda n: [n] * 3))
    )
    before, after = shape(draw, 0, 1), shape(draw, 0, 2)
    pieces = tuple(floats(draw, (*before, size, *after)) for size in sizes)
    return Case("Concat", pieces, {"axis": len(before)})


def pad_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    widths = [draw(st.integers(0, 2)) for _ in range(2 * array.ndim)]
    return Case("Pad", (array, np.array(widths, np.int64), np.array(3, np.float32)))


def gather_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    axis = draw(st.integers(0, array.ndim - 1))
    index = positions(draw, shape(draw, 0, 2), array.shape[axis], -array.shape[axis])
    return Case("Gather", (array, index), {"axis": axis})


def gather_elements_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    axis = draw(st.integers(0, array.ndim - 1))
    extents = [draw(EXTENT) if d == axis else extent for d, extent in enumerate(array.shape)]
    return Case("GatherElements", (array, positions(draw, extents, array.shape[axis])), {"axis": axis})


def gather_tuples_case(draw: Draw) -> Case:
    batch, rows, rest = shape(draw, 0, 1), shape(draw, 1, 2), shape(draw, 0, 1)
    index = positions(draw, (*batch, *shape(draw, 1, 2), len(rows)), min(rows))
    return Case("GatherND", (floats(draw, (*batch, *rows, *rest)), index), {"batch_dims": len(batch)})


def scatter_tuples_case(draw: Draw) -> Case:
    rows, rest, count = shape(draw, 1, 2), shape(draw, 0, 2), draw(EXTENT)
    index = positions(draw, (count, len(rows)), min(rows))
    return Case("ScatterND", (floats(draw, (*rows, *rest)), index, floats(draw, (count, *rest))))


def scatter_elements_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    axis = draw(st.integers(0, array.ndim - 1))
    extents = [draw(st.integers(1, extent)) for extent in array.shape]
    index = positions(draw, extents, array.shape[axis])
    return Case("ScatterElements", (array, index, floats(draw, extents)), {"axis": axis})


def top_case(draw: Draw) -> Case:
    array = floats(draw, shape(draw))
    axis = draw(st.integers(0, array.ndim - 1))
    count = draw(st.integers(1, array.shape[axis]))
    return Case("TopK", (array, np.array([count], np.int64)), {"axis": axis}, outputs=2)


def one_hot_case(draw: Draw) -> Case:
    index = positions(draw, shape(draw), 4, -4)
    values = np.array([0.5, 2], np.float32)
    return Case("OneHot", (index, np.array(4, np.int64), values), {"axis": draw(st.integers(-1, index.ndim))})


CASES: dict[str, Callable[[Draw], Case]] = {
    **{op_type: elementwise_case(op_type) for op_type in ELEMENTWISE},
    **{op_type: reduce_case(op_type) for op_type in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")},
    **{op_type: axis_case(op_type) for op_type in ("ArgMax", "ArgMin")},
    **{op_type: quantize_case(op_type) for op_type in ("QuantizeLinear", "DequantizeLinear")},
    "Concat": concat_case,
    "Conv": conv_case,
    "CumSum": cumsum_case,
    "Einsum": einsum_case,
    "Expand": expand_case,
    "Flatten": flatten_case,
    "Gather": gather_case,
    "GatherElements": gather_elements_case,
    "GatherND": gather_tuples_case,
    "Gemm": gemm_case,
    "Identity": identity_case,
    "MatMul": matmul_case,
    "MatMulInteger": integer_case,
    "OneHot": one_hot_case,
    "Pad": pad_case,
    "Reshape": reshape_case,
    "ScatterElements": scatter_elements_case,
    "ScatterND": scatter_tuples_case,
    "Slice": slice_case,
    "Split": split_case,
    "Squeeze": squeeze_case,
    "Tile": tile_case,
    "TopK": top_case,
    "Transpose": transpose_case,
    "Trilu": trilu_case,
    "Unsqueeze": unsqueeze_case,
}
