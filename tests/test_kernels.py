"""Every opcode against the onnx project's own reference implementation."""

import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from chiplan.ir import (
    DType,
    Factor,
    Instruction,
    Operand,
    Operator,
    Reducer,
    Result,
    Role,
    Tensor,
    Unit,
    dtype_of,
)
from chiplan.runtime_sim.kernels import OPCODES, matmul_partial, run_body
from chiplan.runtime_sim.kernels_pointwise import error_function

OPSET = 20


def reference(opcode, arrays, attributes=None, outputs=1, which=0):
    """The ONNX operator on `arrays` through onnx.reference."""
    names = [f"in{i}" for i in range(len(arrays))]
    results = [f"out{i}" for i in range(outputs)]
    node = helper.make_node(opcode, names, results, **(attributes or {}))
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, arrays, strict=True)
    ]
    graph = helper.make_graph([node], opcode, inputs, [onnx.ValueInfoProto(name=name) for name in results])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))[which]


def axes_of(shape, rank):
    """Factors of a broadcast operand: dimensions align at the right, extent 1 is None."""
    return tuple(None if n == 1 else rank - len(shape) + d for d, n in enumerate(shape))


def pointwise(opcode, arrays, dtype, attributes=()):
    """One instruction over the broadcast of `arrays`."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    rank = len(shape)
    operator = Operator(
        "op",
        Unit.VECTOR,
        tuple(Factor(f"f{d}", n) for d, n in enumerate(shape)),
        tuple(Operand(f"in{i}", (), axes_of(array.shape, rank)) for i, array in enumerate(arrays)),
        (Result("out", tuple(range(rank)), (0,) * rank, 0),),
        (Instruction(opcode, tuple(range(len(arrays))), dtype, attributes),),
    )
    return run_body(operator, arrays, shape, tensors_of(arrays))[0]


def tensors_of(arrays):
    return {
        f"in{i}": Tensor(f"in{i}", array.shape, dtype_of(array.dtype), Role.INPUT)
        for i, array in enumerate(arrays)
    }


def floats(seed, shape, kind=np.float32, positive=False):
    values = np.random.default_rng(seed).normal(0, 2, shape).astype(kind)
    return np.abs(values) + kind(0.1) if positive else values


def integers(seed, shape, low, high, kind=np.int64):
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


UNARY = [
    "Abs",
    "Ceil",
    "Cos",
    "Erf",
    "Exp",
    "Floor",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Tanh",
]
BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Min"]
COMPARE = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("opcode", [*UNARY, "Sqrt", "Log"])
def test_unary(opcode, kind):
    x = floats(1, (5, 7), kind, positive=opcode in ("Sqrt", "Log"))
    got = pointwise(opcode, [x], dtype_of(x.dtype))
    assert got.dtype == x.dtype
    np.testing.assert_allclose(
        got.astype(np.float32),
        reference(opcode, [x]).astype(np.float32),
        rtol=1e-6 if kind is np.float32 else 2e-3,
        atol=1e-6 if kind is np.float32 else 1e-3,
    )


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int64, np.int32])
@pytest.mark.parametrize("opcode", BINARY)
def test_binary_broadcasts(opcode, kind):
    a, b = (floats(seed, shape) * 3 for seed, shape in ((1, (4, 1, 3)), (2, (5, 1))))
    b = np.where(np.abs(b) < 1, np.float32(2), b)
    a, b = a.astype(kind), b.astype(kind)
    np.testing.assert_array_equal(pointwise(opcode, [a, b], dtype_of(a.dtype)), reference(opcode, [a, b]))


def test_integer_division_is_towards_zero():
    a, b = np.array([-7, 7, -7, 7]), np.array([2, -2, -2, 2])
    np.testing.assert_array_equal(pointwise("Div", [a, b], DType.INT64), [-3, -3, 3, 3])


@pytest.mark.parametrize("opcode", COMPARE)
def test_comparisons(opcode):
    a, b = integers(1, (6, 5), -2, 3), integers(2, (5,), -2, 3)
    got = pointwise(opcode, [a, b], DType.BOOL)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, reference(opcode, [a, b]))


@pytest.mark.parametrize("opcode", ["And", "Or", "Xor"])
def test_logic(opcode):
    a, b = integers(1, (6, 5), 0, 2, bool), integers(2, (6, 5), 0, 2, bool)
    np.testing.assert_array_equal(pointwise(opcode, [a, b], DType.BOOL), reference(opcode, [a, b]))
    np.testing.assert_array_equal(pointwise("Not", [a], DType.BOOL), ~a)


def test_pow_where_clip_cast_copy():
    x, condition = floats(3, (4, 5)), integers(1, (4, 1), 0, 2, bool)
    np.testing.assert_allclose(
        pointwise("Pow", [x, np.array(3, np.int64)], DType.FP32),
        reference("Pow", [x, np.float32(3)]),
        rtol=1e-6,
    )
    np.testing.assert_array_equal(
        pointwise("Where", [condition, x, -x], DType.FP32), reference("Where", [condition, x, -x])
    )
    low, high = np.array(-1, np.float32), np.array(0.5, np.float32)
    wanted = reference("Clip", [x, low, high])
    np.testing.assert_array_equal(pointwise("Clip", [x, low, high], DType.FP32), wanted)
    np.testing.assert_array_equal(pointwise("Clip", [x], DType.FP32, (("min", -1.0), ("max", 0.5))), wanted)
    np.testing.assert_array_equal(
        pointwise("Cast", [x], DType.INT32), reference("Cast", [x], {"to": onnx.TensorProto.INT32})
    )
    np.testing.assert_array_equal(pointwise("Copy", [x], DType.FP32), x)


def test_not_a_number_and_infinity():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], np.float32)
    np.testing.assert_array_equal(pointwise("IsNaN", [x], DType.BOOL), reference("IsNaN", [x]))
    for attributes in ({}, {"detect_negative": 0}, {"detect_positive": 0}):
        np.testing.assert_array_equal(
            pointwise("IsInf", [x], DType.BOOL, tuple(attributes.items())),
            reference("IsInf", [x], attributes),
        )
    np.testing.assert_array_equal(pointwise("Erf", [x], DType.FP32)[:3], [np.nan, 1, -1])


@pytest.mark.parametrize("fmod", [0, 1])
def test_modulo(fmod):
    a, b = integers(1, (20,), -9, 9), np.where(integers(2, (20,), 0, 2) > 0, 4, -3)
    np.testing.assert_array_equal(
        pointwise("Mod", [a, b], DType.INT64, (("fmod", fmod),)), reference("Mod", [a, b], {"fmod": fmod})
    )


def test_overflow_is_silent():
    big = np.full((3,), 60000, np.float16)
    with np.errstate(all="raise"):
        assert np.isinf(pointwise("Mul", [big, big], DType.FP16)).all()
        assert np.isinf(pointwise("Exp", [big], DType.FP16)).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(-8, 8))
def test_error_function_is_exact_to_single_precision(x):
    assert abs(float(error_function(np.array(x))) - math.erf(x)) <= 1e-10 * max(abs(math.erf(x)), 1e-3)


@pytest.mark.parametrize("opcode", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"])
def test_reductions(opcode):
    x = floats(4, (3, 6, 5))
    factors = (Factor("a", 3), Factor("b", 6, Reducer.SUM), Factor("c", 5))
    operator = Operator(
        "op",
        Unit.VECTOR,
        factors,
        (Operand("in0", (), (0, 1, 2)),),
        (Result("out", (2, None, 0), (0,) * 3, 1),),
        (Instruction("Neg", (0,), DType.FP32), Instruction(opcode, (1,), DType.FP32, (("factors", (1,)),))),
    )
    (got,) = run_body(operator, [x], (3, 6, 5), tensors_of([x]))
    wanted = reference(opcode, [-x, np.array([1])], {"keepdims": 1}).transpose(2, 1, 0)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_half_precision_sums_in_single_precision():
    x = np.full((4096,), 1.0, np.float16)
    operator = Operator(
        "op",
        Unit.VECTOR,
        (Factor("a", 4096, Reducer.SUM),),
        (Operand("in0", (), (0,)),),
        (Result("out", (None,), (0,), 0),),
        (Instruction("ReduceSum", (0,), DType.FP16, (("factors", (0,)),)),),
    )
    (got,) = run_body(operator, [x], (4096,), tensors_of([x]))
    assert got.dtype == np.float16
    assert got.tolist() == [4096.0]  # in half precision the sum would stop at 2048


def matmul(streamed, stationary, result_dtype, scales=()):
    """streamed[b, m, k] x stationary[b, k, n], stored as [n, b, m]."""
    (b, m, k), n = streamed.shape, stationary.shape[2]
    factors = (Factor("b", b), Factor("m", m), Factor("n", n), Factor("k", k, Reducer.SUM))
    arrays = [streamed, stationary, *scales]
    axes = [(0, 1, 3), (0, 3, 2), (None, None, 2)]
    operator = Operator(
        "mm",
        Unit.MATRIX,
        factors,
        tuple(Operand(f"in{i}", (), axes[i]) for i in range(len(arrays))),
        (Result("out", (2, 0, 1), (0, 0, 0), 0),),
        (Instruction("MatMul", tuple(range(len(arrays))), result_dtype),),
    )
    return operator, arrays, (b, m, n, k)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_matmul(kind):
    a, b = floats(1, (2, 3, 40), kind), floats(2, (2, 40, 7), kind)
    operator, arrays, extents = matmul(a, b, dtype_of(a.dtype))
    (got,) = run_body(operator, arrays, extents, tensors_of(arrays))
    wanted = reference("MatMul", [a.astype(np.float64), b.astype(np.float64)]).transpose(2, 0, 1)
    assert got.dtype == a.dtype
    np.testing.assert_allclose(
        got, wanted, rtol=2e-3 if kind is np.float16 else 1e-5, atol=1e-2 if kind is np.float16 else 1e-5
    )


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_integer_matmul_is_exact(kind):
    a = integers(1, (1, 4, 3000), np.iinfo(kind).min, np.iinfo(kind).max, kind)
    b = integers(2, (1, 3000, 5), -127, 128, np.int8)
    operator, arrays, extents = matmul(a, b, DType.INT32)
    (got,) = run_body(operator, arrays, extents, tensors_of(arrays))
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, (a.astype(np.int64) @ b.astype(np.int64)).transpose(2, 0, 1))


def test_dequantised_weight():
    a, b = floats(1, (1, 4, 30), np.float16), integers(2, (1, 30, 5), -127, 128, np.int8)
    scales = floats(3, (1, 1, 5), np.float16, positive=True) / np.float16(64)
    operator, arrays, extents = matmul(a, b, DType.FP16, [scales])
    (got,) = run_body(operator, arrays, extents, tensors_of(arrays))
    weight = (b.astype(np.float16) * scales).astype(np.float32)
    wanted = np.matmul(a.astype(np.float32), weight).transpose(2, 0, 1)
    np.testing.assert_allclose(got.astype(np.float32), wanted, rtol=2e-3, atol=1e-2)


def test_partial_accumulators_add_up():
    a, b = floats(1, (2, 3, 40), np.float16), floats(2, (2, 40, 7), np.float16)
    operator, arrays, extents = matmul(a, b, DType.FP16)
    tensors = tensors_of(arrays)
    pieces = [
        matmul_partial(operator, [a[..., low:high], b[:, low:high]], (*extents[:3], high - low), tensors)
        for low, high in ((0, 12), (12, 24), (24, 40))
    ]
    assert all(piece.dtype == np.float32 for piece in pieces)
    (whole,) = run_body(operator, arrays, extents, tensors)
    np.testing.assert_allclose(sum(pieces).astype(np.float16), whole, rtol=1e-3, atol=1e-3)


MEMORY = [
    ("Gather", [floats(1, (6, 4)), integers(2, (2, 3), -6, 6)], {"axis": 0}),
    ("Gather", [floats(1, (3, 6, 4)), integers(2, (5,), -6, 6, np.int32)], {"axis": 1}),
    ("GatherND", [floats(1, (6, 4, 3)), integers(2, (2, 5, 2), 0, 4)], {}),
    ("GatherND", [floats(1, (2, 4, 3)), integers(2, (2, 5, 1), 0, 4)], {"batch_dims": 1}),
    ("GatherElements", [floats(1, (6, 4)), integers(2, (3, 4), -6, 6)], {"axis": 0}),
    ("ScatterND", [floats(1, (6, 4)), np.array([[5], [-5], [0]]), floats(2, (3, 4))], {}),
    ("ScatterND", [floats(1, (6, 4)), np.array([[5], [5]]), floats(2, (2, 4))], {"reduction": "add"}),
    (
        "ScatterElements",
        [floats(1, (3, 4)), integers(2, (3, 4), 0, 1), floats(3, (3, 4))],
        {"axis": 1, "reduction": "add"},
    ),
    (
        "ScatterElements",
        [floats(1, (3, 4)), np.array([[3, 0], [1, 2], [0, -1]]), floats(3, (3, 2))],
        {"axis": 1},
    ),
    ("ArgMax", [integers(1, (4, 9), 0, 3).astype(np.float32)], {"axis": 1, "keepdims": 1}),
    (
        "ArgMax",
        [integers(1, (4, 9), 0, 3).astype(np.float32)],
        {"axis": -1, "keepdims": 0, "select_last_index": 1},
    ),
    ("ArgMin", [floats(1, (4, 9))], {"axis": 0, "keepdims": 0}),
    ("Trilu", [floats(1, (2, 4, 5))], {"upper": 1}),
    ("Trilu", [floats(1, (2, 4, 5))], {"upper": 0}),
]


def move(opcode, arrays, attributes, shape):
    """One memory instruction; every dimension is a factor of its own that may not be split."""
    factors: list[Factor] = []

    def fresh(extents):
        first = len(factors)
        factors.extend(Factor(f"f{first + d}", n, whole=True) for d, n in enumerate(extents))
        return tuple(range(first, len(factors)))

    result = fresh(shape)
    operands = tuple(Operand(f"in{i}", (), fresh(array.shape)) for i, array in enumerate(arrays))
    body = (
        Instruction(opcode, tuple(range(len(arrays))), dtype_of(arrays[0].dtype), tuple(attributes.items())),
    )
    if opcode in ("ArgMax", "ArgMin", "TopKIndices"):
        body = (Instruction(opcode, (0,), DType.INT64, tuple(attributes.items())),)
    results = (Result("out", result, (0,) * len(result), 0),)
    operator = Operator("op", Unit.MEMORY, tuple(factors), operands, results, body)
    return run_body(operator, arrays, tuple(factor.extent for factor in factors), tensors_of(arrays))[0]


@pytest.mark.parametrize(("opcode", "arrays", "attributes"), MEMORY)
def test_memory(opcode, arrays, attributes):
    wanted = reference(opcode, arrays, attributes)
    np.testing.assert_array_equal(move(opcode, arrays, attributes, wanted.shape), wanted)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [-2, 0, 1])
def test_triangle_offset(upper, k):
    x = floats(1, (4, 5))
    wanted = reference("Trilu", [x, np.array(k)], {"upper": upper})
    np.testing.assert_array_equal(move("Trilu", [x], {"upper": upper, "k": k}, x.shape), wanted)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sum(exclusive, reverse):
    x, attributes = integers(1, (3, 6), 0, 9), {"exclusive": exclusive, "reverse": reverse}
    wanted = reference("CumSum", [x, np.array(1)], attributes)
    np.testing.assert_array_equal(move("CumSum", [x], {**attributes, "axis": 1}, x.shape), wanted)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(largest):
    x = integers(1, (3, 8), 0, 5).astype(np.float32)
    attributes = {"axis": 1, "largest": largest, "sorted": 1}
    values = reference("TopK", [x, np.array([3])], attributes, outputs=2)
    np.testing.assert_array_equal(move("TopKValues", [x], {**attributes, "k": 3}, (3, 3)), values)
    picked = move("TopKIndices", [x], {**attributes, "k": 3}, (3, 3))
    np.testing.assert_array_equal(np.take_along_axis(x, picked, 1), values)
    equal = np.diff(values, axis=1) == 0
    assert (np.diff(picked, axis=1)[equal] > 0).all()


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis):
    indices, values = integers(1, (2, 3), -5, 6), np.array([2.0, 5.0], np.float32)
    wanted = reference("OneHot", [indices, np.array(5), values], {"axis": axis})
    got = move("OneHot", [indices, values], {"axis": axis, "depth": 5}, wanted.shape)
    np.testing.assert_array_equal(got, wanted)


def test_an_index_out_of_range_reads_some_row():
    table = floats(1, (4, 2))
    np.testing.assert_array_equal(
        move("Gather", [table, np.array([99, -99])], {"axis": 0}, (2, 2)), table[[3, 0]]
    )


def test_unknown_opcode_is_named():
    with pytest.raises(ValueError, match="no kernel for Fancy"):
        pointwise("Fancy", [floats(1, (2,))], DType.FP32)


def test_every_opcode_is_listed():
    assert {"MatMul", "Gather", "ReduceSum", "Erf", "Where"} <= OPCODES
    assert len(OPCODES) >= 50
