"""Weights from files, the exported graph in onnxruntime, and inputs by name."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from chiplan.compiler.conversion import convert, quantisation_scales, quantise
from chiplan.compiler.imported import ImportedModel, ImportedNode, ImportedTensor, StatePair
from chiplan.compiler.numeric_error import relative_error
from chiplan.compiler.reference import run_exported, run_original
from chiplan.compiler.reference_assembly import Box, assemble
from chiplan.compiler.reference_export import export_graph
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.compiler.weights import WeightReader
from chiplan.ir import (
    BadInput,
    DType,
    Expand,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Origin,
    Output,
    Reducer,
    Reshape,
    Result,
    Role,
    Slice,
    State,
    Tensor,
    Transpose,
    Unit,
    Window,
)
from chiplan.runtime_sim import interpret

WEIGHT = np.random.default_rng(5).normal(0, 1, (6, 4)).astype(np.float32)


def save_model(folder, external=None):
    """y = x @ weight, the weight embedded, or in the file `external` as the model says."""
    weight = numpy_helper.from_array(WEIGHT, "weight")
    if external is not None:
        (folder / "weights.bin").write_bytes(b"\0" * 8 + WEIGHT.tobytes())
        weight = TensorProto(name="weight", dims=WEIGHT.shape, data_type=TensorProto.FLOAT)
        weight.data_location = TensorProto.EXTERNAL
        for key, value in external.items():
            weight.external_data.add(key=key, value=value)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("rows", 6))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("rows", 4))]
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    graph = helper.make_graph([node], "tiny", inputs, outputs, [weight])
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def weight_tensor(shape=(6, 4), dtype=DType.FP32, **origin):
    return Tensor("w", shape, dtype, Role.WEIGHT, origin=Origin("weight", **origin))


@pytest.mark.parametrize("place", [None, {"location": "weights.bin", "offset": "8", "length": "96"}])
def test_weights_are_read(tmp_path, place):
    reader = WeightReader(save_model(tmp_path, place))
    np.testing.assert_array_equal(reader(weight_tensor()), WEIGHT)
    turned = weight_tensor((4, 6), DType.FP16, view=(Transpose((1, 0)),))
    np.testing.assert_array_equal(reader(turned), WEIGHT.T.astype(np.float16))


def test_folded_constants_need_no_file(tmp_path):
    reader = WeightReader(save_model(tmp_path))
    folded = Tensor("c", (2,), DType.FP16, Role.WEIGHT, value=np.array([1.0, -3.4e38]))
    assert reader(folded).tolist() == [1.0, -65504.0]


def test_quantised_weights_and_scales_belong_together(tmp_path):
    reader = WeightReader(save_model(tmp_path))
    steps = reader(weight_tensor(dtype=DType.INT8, conversion="quantise", axes=(1,)))
    scales = reader(weight_tensor((4,), conversion="scale", axes=(1,)))
    assert steps.dtype == np.int8
    assert np.abs(steps).max(axis=0).tolist() == [127] * 4
    assert np.abs(steps * scales - WEIGHT).max() <= scales.max() / 2 * 1.001


def test_zero_channels_have_a_scale():
    array = np.zeros((3, 2), np.float32)
    assert quantisation_scales(array, (1,)).ravel().tolist() == [1.0, 1.0]
    assert not quantise(array, (1,)).any()


def test_casts_to_half_keep_finite_values_finite_and_infinite_ones_infinite():
    wide = np.array([np.inf, -np.inf, 1e30, -3.4e38, 2.0], np.float32)
    assert convert(wide, DType.FP16).tolist() == [np.inf, -np.inf, 65504.0, -65504.0, 2.0]


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../b", "C:\\weights.bin", ""])
def test_external_data_stays_in_the_folder(tmp_path, location):
    path = save_model(tmp_path, {"location": location})
    with pytest.raises(BadInput) as refusal:
        WeightReader(path)
    assert refusal.value.problems[0].code == "external_data_path"
    assert refusal.value.problems[0].node == "weight"


@pytest.mark.parametrize("place", [{"location": "gone.bin"}, {"location": "weights.bin", "offset": "16"}])
def test_missing_weights_are_named(tmp_path, place):
    reader = WeightReader(save_model(tmp_path, place))
    with pytest.raises(BadInput, match=place["location"]) as refusal:
        reader(weight_tensor())
    assert refusal.value.problems[0].code == "weights_missing"


def test_another_model_is_told(tmp_path):
    reader = WeightReader(save_model(tmp_path))
    with pytest.raises(BadInput, match="not the model"):
        reader(Tensor("w", (1,), DType.FP32, Role.WEIGHT, origin=Origin("absent")))


def test_no_model_at_all(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(BadInput, match=r"broken\.onnx"):
        WeightReader(tmp_path / "broken.onnx")
    with pytest.raises(BadInput, match="onnxruntime cannot run"):
        run_original(tmp_path / "broken.onnx", {})


def test_the_original_runs(tmp_path):
    x = np.ones((3, 6), np.float32)
    (y,) = run_original(save_model(tmp_path), {"x": x, "unknown": x}).values()
    np.testing.assert_allclose(y, x @ WEIGHT, rtol=1e-5)


def factors(*extents, reduced=()):
    return tuple(Factor(f"f{i}", n, Reducer.SUM if i in reduced else None) for i, n in enumerate(extents))


def tensors_of(*described):
    return {
        name: Tensor(name, shape, dtype, role, value, resident_rows=(0, 2) if role is Role.STATE else None)
        for name, shape, dtype, role, value in described
    }


def agree(graph, inputs, tolerance):
    """The interpreter and onnxruntime on the exported graph."""

    def weights(wanted):
        return np.asarray(wanted.value, wanted.dtype.numpy)

    found = interpret(graph, inputs, weights, inputs)
    wanted = run_exported(export_graph(graph, weights), inputs)
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert relative_error(found[name], array) <= tolerance, name
    return found


def test_export_of_views_boxes_and_states():
    """A window, a strided slice, an expanded scalar, two boxes of one tensor and an appended state."""
    x, cache = np.random.default_rng(1).normal(0, 1, (2, 3, 12)).astype(np.float32), (4, 5)
    window = (Slice((0, 0, 0), (1, 3, 12), (1, 2, 1)), Reshape((2, 12)), Window(1, 4, 2, 2), Reshape((2, 12)))
    convolve = Operator(
        "convolve", Unit.MATRIX, factors(2, 5, 12, reduced=(2,)),
        (Operand("x", window, (0, 2)), Operand("w", (Transpose((1, 0)),), (2, 1))),
        (Result("cache", (0, 1), (2, 0), 0),), (Instruction("MatMul", (0, 1), DType.FP32),),
    )  # fmt: skip
    shift = Operator(
        "shift", Unit.VECTOR, factors(4, 5),
        (Operand("cache", (), (0, 1)), Operand("one", (Reshape((1, 1)), Expand((4, 5))), (0, 1))),
        (Result("out", (1, 0), (0, 0), 0),),
        (Instruction("Mul", (0, 1), DType.FP32), Instruction("Cast", (2,), DType.FP16)),
    )  # fmt: skip
    count = Operator(
        "count", Unit.VECTOR, factors(4, 5, reduced=(0,)), (Operand("cache", (), (0, 1)),),
        (Result("out", (1, None), (0, 4), 2),),
        (
            Instruction("Clip", (0,), DType.FP32, (("min", -0.5), ("max", 0.5))),
            Instruction("Greater", (0, 1), DType.BOOL),
            Instruction("ReduceMax", (1,), DType.FP32, (("factors", (0,)),)),
        ),
    )  # fmt: skip
    tensors = tensors_of(
        ("x", x.shape, DType.FP32, Role.INPUT, None),
        ("w", (5, 12), DType.FP32, Role.WEIGHT, np.linspace(-1, 1, 60).reshape(5, 12)),
        ("one", (), DType.FP32, Role.WEIGHT, np.array(1.5)),
        ("cache", cache, DType.FP32, Role.STATE, None),
        ("out", (5, 5), DType.FP32, Role.VALUE, None),
    )
    outputs = (Output("turned", "out", (Transpose((1, 0)),)),)
    states = (State("past", "present", "cache", 0),)
    graph = Graph("views", tensors, (convolve, shift, count), ("x",), outputs, states)
    found = agree(graph, {"x": x, "past": np.ones((2, 5), np.float32)}, 1e-6)
    assert found["present"].shape == cache
    assert found["turned"].shape == (5, 5)


def test_export_keeps_names_apart():
    """An input that is given out as it is, and one with a name such as the export's own values have."""
    both = Operator(
        "both", Unit.VECTOR, factors(3), (Operand("x", (), (0,)), Operand("v0", (), (0,))),
        (Result("v1", (0,), (0,), 0),), (Instruction("Add", (0, 1), DType.FP32),),
    )  # fmt: skip
    twice = replace(both, operands=(Operand("v1", (), (0,)),) * 2, results=(Result("y", (0,), (0,), 0),))
    roles = {"x": Role.INPUT, "v0": Role.INPUT}
    tensors = tensors_of(
        *((name, (3,), DType.FP32, roles.get(name, Role.VALUE), None) for name in ("x", "v0", "v1", "y"))
    )
    outputs = (Output("x", "x", ()), Output("y", "y", ()), Output("v1", "v1", ()))
    graph = Graph("names", tensors, (both, twice), ("x", "v0"), outputs)
    values = {"x": np.arange(3, dtype=np.float32), "v0": np.ones(3, np.float32)}
    np.testing.assert_array_equal(agree(graph, values, 0.0)["y"], [2, 4, 6])


def test_export_of_integer_and_dequantised_products():
    tensors = tensors_of(
        ("a", (4, 30), DType.FP16, Role.INPUT, None),
        ("w", (30, 7), DType.INT8, Role.WEIGHT, np.arange(210).reshape(30, 7) % 255 - 127),
        ("scale", (7,), DType.FP32, Role.WEIGHT, np.linspace(0.001, 0.01, 7)),
        ("codes", (4, 30), DType.INT8, Role.VALUE, None),
        ("sum", (4, 7), DType.INT32, Role.VALUE, None),
        ("half", (7, 4), DType.FP16, Role.VALUE, None),
    )
    loops = factors(4, 7, 30, reduced=(2,))
    operators = (
        Operator(
            "codes", Unit.VECTOR, factors(4, 30), (Operand("a", (), (0, 1)),),
            (Result("codes", (0, 1), (0, 0), 1),),
            (Instruction("Round", (0,), DType.FP16), Instruction("Cast", (1,), DType.INT8)),
        ),
        Operator(
            "product", Unit.MATRIX, loops, (Operand("codes", (), (0, 2)), Operand("w", (), (2, 1))),
            (Result("sum", (0, 1), (0, 0), 0),), (Instruction("MatMul", (0, 1), DType.INT32),),
        ),
        Operator(
            "dequantised", Unit.MATRIX, loops,
            (Operand("a", (), (0, 2)), Operand("w", (), (2, 1)), Operand("scale", (), (1,))),
            (Result("half", (1, 0), (0, 0), 0),), (Instruction("MatMul", (0, 1, 2), DType.FP16),),
        ),
    )  # fmt: skip
    graph = Graph("int8", tensors, operators, ("a",), (Output("sum", "sum", ()), Output("half", "half", ())))
    a = (np.random.default_rng(2).normal(0, 20, (4, 30))).astype(np.float16)
    assert agree(graph, {"a": a}, 1e-3)["sum"].any()


MOVES = [
    ("Gather", {"axis": 0}, (5, 3), [(6, 3), (5,)]),
    ("GatherElements", {"axis": 1}, (6, 2), [(6, 3), (6, 2)]),
    ("GatherND", {"batch_dims": 1}, (6, 2), [(6, 3), (6, 2, 1)]),
    ("TopKValues", {"axis": -1, "k": 2}, (6, 2), [(6, 3)]),
    ("CumSum", {"axis": 1, "reverse": 1}, (6, 3), [(6, 3)]),
    ("Trilu", {"upper": 0, "k": 1}, (6, 3), [(6, 3)]),
    ("ScatterND", {}, (6, 3), [(6, 3), (2, 1), (2, 3)]),
]


@pytest.mark.parametrize(("opcode", "attributes", "shape", "shapes"), MOVES)
def test_export_of_moves(opcode, attributes, shape, shapes):
    random = np.random.default_rng(3)
    extents, axes = [], []
    for one in [*shapes, shape]:
        axes.append(tuple(range(len(extents), len(extents) + len(one))))
        extents += one
    kinds = [DType.FP32, DType.INT64, DType.FP32][: len(shapes)]
    inputs = {
        f"in{i}": random.permutation(one[0])[:2].reshape(2, 1) if opcode == "ScatterND" and i == 1
        else random.integers(0, 3, one) if kind is DType.INT64
        else random.normal(0, 1, one).astype(np.float32)
        for i, (one, kind) in enumerate(zip(shapes, kinds, strict=True))
    }  # fmt: skip
    inputs = {name: array % 6 if array.dtype == np.int64 else array for name, array in inputs.items()}
    operator = Operator(
        "move", Unit.MEMORY, tuple(Factor(f"f{i}", n, whole=True) for i, n in enumerate(extents)),
        tuple(Operand(name, (), axes[i]) for i, name in enumerate(inputs)),
        (Result("out", axes[-1], (0,) * len(shape), 0),),
        (Instruction(opcode, tuple(range(len(inputs))), DType.FP32, tuple(attributes.items())),),
    )  # fmt: skip
    described = [(f"in{i}", shapes[i], kind, Role.INPUT, None) for i, kind in enumerate(kinds)]
    tensors = tensors_of(*described, ("out", shape, DType.FP32, Role.VALUE, None))
    agree(Graph("move", tensors, (operator,), tuple(inputs), (Output("out", "out", ()),)), inputs, 1e-6)


def test_boxes_are_put_together():
    """
    +---+-------+
    | a |   b   |     a, b, d are written; the rest of the tensor is not
    |   +---+---+
    |   | . | d |
    +---+---+---+
    """
    boxes = [Box((0, 0), (2, 1), "a"), Box((0, 1), (1, 2), "b"), Box((1, 2), (1, 1), "d")]
    made = assemble(
        boxes, (2, 3), lambda shape: f"0{shape}", lambda parts, axis: f"{axis}({' '.join(parts)})"
    )
    assert made == "1(a 0(b 1(0(1, 1) d)))"


def test_overlapping_boxes_are_refused():
    with pytest.raises(ValueError, match="overlap"):
        assemble([Box((0,), (2,), "a"), Box((1,), (2,), "b")], (3,), str, lambda parts, _: "".join(parts))


def imported(inputs, nodes, others=(), states=()):
    tensors = {name: ImportedTensor(name, shape, dtype) for name, shape, dtype in [*inputs, *others]}
    made = tuple(ImportedNode("n", op, "", ins, outs, attributes, "n") for op, ins, outs, attributes in nodes)
    names = tuple(name for name, _, _ in inputs)
    return ImportedModel("m", None, 20, made, tensors, names, (), states, {}, 1, 3, 8, (), "")


def test_inputs_by_name():
    model = imported(
        [
            ("input_ids", (1, 3), DType.INT64),
            ("attention_mask", (1, 8), DType.INT64),
            ("position_ids", (1, 3), DType.INT64),
            ("token_type_ids", (1, 3), DType.INT64),
            ("past.key", (1, 2, 5, 4), DType.FP16),
            ("pixel_values", (1, 3, 4, 4), DType.FP32),
        ],
        [
            ("Cast", ("input_ids",), ("cast",), {}),
            ("Gather", ("table", "cast"), ("embedded",), {"axis": 0}),
        ],
        [("table", (7, 4), DType.FP32)],
        (StatePair("past.key", "present.key", 2),),
    )
    values = random_inputs(model, seed=4)
    assert values["position_ids"].tolist() == [[5, 6, 7]]
    assert values["attention_mask"].tolist() == [[1] * 8]
    assert not values["token_type_ids"].any()
    assert values["past.key"].dtype == np.float16
    tokens = np.concatenate([random_inputs(model, seed)["input_ids"] for seed in range(20)])
    assert (tokens.min(), tokens.max()) == (2, 6)
    np.testing.assert_array_equal(random_inputs(model, seed=4)["pixel_values"], values["pixel_values"])


def test_relative_error():
    wanted = np.array([1.0, -4.0, np.nan, np.inf])
    assert relative_error(wanted, wanted) == 0
    assert relative_error(np.array([1.4, -4.0, np.nan, np.inf]), wanted) == pytest.approx(0.1)
    assert relative_error(np.array([1.0, np.nan, np.nan, np.inf]), wanted) == float("inf")
    assert relative_error(wanted[:2], wanted) == float("inf")
