"""The importer's walk: folding, inlining, decomposing, views, names."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from chiplan.compiler.imported import ImportedModel, ImportedNode
from chiplan.compiler.importer import import_model
from chiplan.ir import DType

OPSET_20 = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>'


def save(path: Path, text: str, head: str = OPSET_20) -> Path:
    """Write the model of an ONNX text, without checking it."""
    file = path / "model.onnx"
    file.write_bytes(parser.parse_model(head + text).SerializeToString())
    return file


def operators(model: ImportedModel) -> list[str]:
    return [node.op_type for node in model.nodes]


def node_of(model: ImportedModel, op_type: str) -> ImportedNode:
    (found,) = (node for node in model.nodes if node.op_type == op_type)
    return found


def test_shapes_types_and_attributes_are_static(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        f"""g (float[batch, seq, 8] hidden_states) => (float[batch, seq, 8] y)
        <float[8, 8] w = {{{", ".join(["0.5"] * 64)}}}> {{
            t = Transpose <perm = [0, 2, 1]> (hidden_states)
            u = Transpose <perm = [0, 2, 1]> (t)
            y = MatMul (u, w)
        }}""",
    )
    model = import_model(file, batch=2, sequence=4)
    assert (model.batch, model.sequence, model.context, model.opset) == (2, 4, None, 20)
    assert model.name == "model"
    assert operators(model) == ["Transpose", "Transpose", "MatMul"]
    assert model.tensors["y"].shape == (2, 4, 8)
    assert model.tensors["y"].dtype is DType.FP32
    assert model.nodes[0].attributes == {"perm": (0, 2, 1)}
    weight = model.tensors["w"]
    assert weight.constant is not None
    assert weight.initializer is None


def test_defaults_of_attributes_are_written_out(tmp_path: Path) -> None:
    file = save(tmp_path, "g (float[4, 4] a, float[4, 4] b) => (float[4, 4] y) { y = Gemm (a, b) }")
    expected = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    assert import_model(file).nodes[0].attributes == expected


def test_shape_arithmetic_leaves_no_trace(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[batch, seq, 6] hidden_states) => (float[a, b, c, d] y)
        <int64[1] zero_axis = {0}, int64[1] two = {2}, int64 zero = {0}, int64 one = {1}> {
            s = Shape (hidden_states)
            b = Gather (s, zero)
            q = Gather (s, one)
            bb = Unsqueeze (b, zero_axis)
            qq = Unsqueeze (q, zero_axis)
            minus = Constant <value_ints = [-1]> ()
            shape = Concat <axis = 0> (bb, qq, two, minus)
            y = Reshape (hidden_states, shape)
        }""",
    )
    model = import_model(file, sequence=5)
    assert operators(model) == ["Reshape"]
    shape = model.tensors[model.nodes[0].inputs[1]].constant
    assert shape is not None
    assert shape.tolist() == [1, 5, 2, -1]
    assert model.tensors["y"].shape == (1, 5, 2, 3)


def test_stale_value_info_and_output_shapes_are_ignored(tmp_path: Path) -> None:
    file = save(tmp_path, "g (float[n, 4] x) => (float[7, 9] y) <float[3] h> { h = Exp (x) y = Neg (h) }")
    model = import_model(file, batch=3)
    assert model.tensors["h"].shape == model.tensors["y"].shape == (3, 4)


def test_dead_nodes_fall_away_even_unknown_ones(tmp_path: Path) -> None:
    file = save(tmp_path, "g (float[4] x) => (float[4] y) { d = com.microsoft.Strange (x) y = Neg (x) }")
    assert operators(import_model(file)) == ["Neg"]


@pytest.mark.parametrize(("condition", "expected"), [(1, "Exp"), (0, "Neg")])
def test_if_with_a_constant_condition_is_inlined(tmp_path: Path, condition: int, expected: str) -> None:
    file = save(
        tmp_path,
        f"""g (float[4] x) => (float[4] y) <bool c = {{{condition}}}> {{
            y = If (c) <
                then_branch = t () => (float[4] r) {{ r = Exp (x) }},
                else_branch = e () => (float[4] r) {{ r = Neg (x) }}
            >
        }}""",
    )
    model = import_model(file)
    assert operators(model)[0] == expected
    assert model.outputs == ("y",)
    assert "y" in model.tensors


def test_two_branches_may_use_one_name(tmp_path: Path) -> None:
    then = "then_branch = t () => (float[4] r) { r = Exp (x) }"
    other = "else_branch = e () => (float[4] r) { r = Neg (x) }"
    branch = f"If (c) < {then}, {other} >"
    file = save(
        tmp_path,
        f"g (float[4] x) => (float[4] y) <bool c = {{1}}> {{ a = {branch} b = {branch} y = Add (a, b) }}",
    )
    model = import_model(file)
    assert operators(model) == ["Exp", "Exp", "Add"]
    assert len({node.name for node in model.nodes}) == 3
    assert len(set(node_of(model, "Add").inputs)) == 2


def test_a_control_input_is_fixed_by_bind(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[4] x, bool[1] use_cache_branch) => (float[4] y) {
            y = If (use_cache_branch) <
                then_branch = t () => (float[4] r) { r = Exp (x) },
                else_branch = e () => (float[4] r) { r = Neg (x) }
            >
        }""",
    )
    model = import_model(file, bind={"use_cache_branch": 1})
    assert operators(model)[0] == "Exp"
    assert model.inputs == ("x",)
    assert model.bindings == {"use_cache_branch": 1}


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[4] x) => (float[4] y) { y = mine.twice (x) }
        <domain: "mine", opset_import: ["": 20]> twice (a) => (b) { h = Exp (a) b = Exp (h) }""",
        head='<ir_version: 10, opset_import: ["": 20, "mine": 1]>',
    )
    assert operators(import_model(file)) == ["Exp", "Exp"]


def test_a_composite_is_decomposed_and_named_after_its_node(tmp_path: Path) -> None:
    file = save(tmp_path, "g (float[4, 8] x) => (float[4, 8] y) { [soft] y = Softmax <axis = -1> (x) }")
    model = import_model(file)
    assert operators(model) == ["ReduceMax", "Sub", "Exp", "ReduceSum", "Div"]
    assert [node.name for node in model.nodes] == [f"soft/{index}" for index in (2, 3, 4, 5, 6)]
    assert {node.source for node in model.nodes} == {"soft"}


def test_layer_normalization_keeps_its_dimensions(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[2, 3, 8] x, float[8] s, float[8] b) => (float[2, 3, 8] y) {
            y = LayerNormalization (x, s, b)
        }""",
    )
    model = import_model(file)
    assert "Reshape" not in operators(model)
    assert "Flatten" not in operators(model)
    assert {model.tensors[n.outputs[0]].shape for n in model.nodes} == {(2, 3, 8), (2, 3, 1)}


def test_quantise_and_dequantise_are_never_folded(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[2, 2] x) => (float[2, 2] y)
        <int8[2, 2] q = {1, 2, 3, 4}, float s = {0.5}, int8 z = {0}> {
            w = DequantizeLinear (q, s, z)
            y = MatMul (x, w)
        }""",
    )
    assert operators(import_model(file)) == ["DequantizeLinear", "MatMul"]


def test_a_causal_mask_does_not_explode(tmp_path: Path) -> None:
    text = """g (float[batch, seq, seq] scores) => (float[batch, seq, seq] y)
        <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[1] second = {1}, float low = {-9.0}> {
            s = Shape <start = 1, end = 2> (scores)
            n = Squeeze (s, first)
            r = Range (zero, n, one)
            row = Unsqueeze (r, first)
            column = Unsqueeze (r, second)
            mask = LessOrEqual (row, column)
            y = Where (mask, scores, low)
        }"""
    file = save(tmp_path, text)
    folded = import_model(file, bind={"seq": 128})
    assert operators(folded) == ["Where"]
    kept = import_model(file, bind={"seq": 2048})
    assert operators(kept) == ["LessOrEqual", "Where"]
    constants = [t.constant.nbytes for t in kept.tensors.values() if t.constant is not None]
    assert max(constants) <= 64 * 1024


def test_a_filled_tensor_is_an_expanded_number(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[batch, 400, 400] x) => (float[batch, 400, 400] y) {
            s = Shape (x)
            z = ConstantOfShape <value = float[1] {2.0}> (s)
            y = Add (x, z)
        }""",
    )
    model = import_model(file)
    assert operators(model) == ["Expand", "Add"]
    value = model.tensors[model.nodes[0].inputs[0]].constant
    assert value is not None
    assert value.shape == ()


def test_a_position_table_read_in_order_is_a_slice(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.zeros((512, 64), np.float32), "wpe")
    model = parser.parse_model(
        OPSET_20
        + """g (float[batch, seq, 64] hidden_states) => (float[batch, seq, 64] y)
        <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}> {
            s = Shape <start = 1, end = 2> (hidden_states)
            n = Squeeze (s, first)
            r = Range (zero, n, one)
            ids = Unsqueeze (r, first)
            p = Gather (wpe, ids)
            y = Add (hidden_states, p)
        }"""
    )
    model.graph.initializer.append(table)
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    imported = import_model(file)
    assert operators(imported) == ["Slice", "Reshape", "Add"]
    assert imported.tensors["wpe"].initializer == "wpe"
    assert imported.tensors["wpe"].constant is None


def test_gather_nd_over_a_grid_of_counts_is_a_view(tmp_path: Path) -> None:
    rows, columns = np.meshgrid(np.arange(2), np.arange(5), indexing="ij")
    grid = np.stack([rows, columns], axis=-1)[:, None, None]
    nodes = [helper.make_node("GatherND", ["x", "grid"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(grid, "grid")],
    )
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), file)
    model = import_model(file)
    assert operators(model) == ["Slice", "Reshape"]
    assert model.tensors["y"].shape == (2, 1, 1, 5)


def test_neutral_operations_and_empty_pieces_fall_away(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[2, 6] x) => (float[2, 6] y) <int64[2] sizes = {6, 0}, float one = {1.0}> {
            a, b = Split <axis = 1> (x, sizes)
            c = Concat <axis = 1> (a, b)
            d = Mul (c, one)
            e = Cast <to = 1> (d)
            y = Neg (e)
        }""",
    )
    assert operators(import_model(file)) == ["Neg"]


def test_an_old_operator_set_takes_the_modern_form(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[2, 3, 4] x) => (float[2, 3, 1, 4] y) {
            m = ReduceSum <axes = [2], keepdims = 1> (x)
            d = Sub (x, m)
            s = Softmax <axis = 1> (d)
            c = Clip <min = 0.0, max = 6.0> (s)
            y = Unsqueeze <axes = [2]> (c)
        }""",
        head='<ir_version: 6, opset_import: ["": 9]>',
    )
    model = import_model(file)
    assert model.opset == 18
    reduced = node_of(model, "Unsqueeze")
    axes = model.tensors[reduced.inputs[1]].constant
    assert axes is not None
    assert axes.tolist() == [2]
    assert "Flatten" in operators(model)
    assert model.tensors["y"].shape == (2, 3, 1, 4)


def test_an_output_that_is_an_input_keeps_its_name(tmp_path: Path) -> None:
    file = save(tmp_path, "g (float[4] x) => (float[4] y, float[4] z) { y = Identity (x) z = Neg (x) }")
    model = import_model(file)
    assert Counter(operators(model)) == {"Identity": 1, "Neg": 1}
    assert model.outputs == ("y", "z")


@pytest.mark.parametrize(
    ("call", "inner"),
    [
        ("com.microsoft.FastGelu (x)", "Tanh"),
        ("com.microsoft.BiasGelu (x, v)", "Erf"),
        ("com.microsoft.QuickGelu (x)", "Sigmoid"),
        ("com.microsoft.SkipLayerNormalization (x, x, v, v)", "ReduceMean"),
        ("com.microsoft.SkipSimplifiedLayerNormalization (x, x, v)", "ReduceMean"),
        ("com.microsoft.FusedMatMul <transB = 1, alpha = 0.5> (x, x)", "MatMul"),
        ("HardSwish (x)", "Min"),
        ("LeakyRelu <alpha = 0.2> (x)", "Less"),
        ("Mish (x)", "Tanh"),
        ("LogSoftmax (x)", "Log"),
        ("ReduceL2 (x)", "Sqrt"),
        ("ReduceSumSquare (x)", "ReduceSum"),
        ("Sum (x, x, x)", "Add"),
        ("Max (x, x, x)", "Max"),
        ("Mean (x, x)", "Div"),
    ],
)
def test_composites_end_in_primitives(tmp_path: Path, call: str, inner: str) -> None:
    text = f"g (float[4, 4] x, float[4] v) => (float[a, b] y) {{ y = {call} }}"
    assert inner in operators(import_model(save(tmp_path, text)))
