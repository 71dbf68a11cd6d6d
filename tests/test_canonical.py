"""The shape of the graph: what is absorbed, split, appended, simplified and refused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from chiplan.compiler.canonical import build_graph
from chiplan.compiler.imported import AttributeValue, ImportedModel, ImportedNode, ImportedTensor, StatePair
from chiplan.compiler.importer import import_model
from chiplan.ir import (
    BadInput,
    DType,
    Expand,
    Graph,
    Operator,
    Reducer,
    Role,
    Shape,
    Tensor,
    Unit,
    apply_view,
    matrix_factors,
)
from chiplan.runtime_sim.interpreter import interpret

from .test_canonical_operators import check_contract, model_of


def node(op_type: str, inputs: Sequence[str], output: str, **attributes: AttributeValue) -> ImportedNode:
    return ImportedNode(f"node_{output}", op_type, "", tuple(inputs), (output,), attributes, f"node_{output}")


def model(
    nodes: Sequence[ImportedNode],
    shapes: Mapping[str, Shape],
    outputs: Sequence[str],
    **constants: np.ndarray,
) -> ImportedModel:
    """fp32 values of `shapes`; those that no node writes are inputs, those named w... initializers."""
    written = {name for entry in nodes for name in entry.outputs}
    tensors = {
        name: ImportedTensor(name, shape, DType.FP32, initializer=name if name.startswith("w") else None)
        for name, shape in shapes.items()
    }
    for name, array in constants.items():
        kind = DType.INT64 if array.dtype == np.int64 else DType.FP32
        tensors[name] = ImportedTensor(name, array.shape, kind, constant=array)
    inputs = [name for name in shapes if name not in written and not name.startswith("w")]
    return model_of(nodes, tensors, inputs, outputs)


def only(graph: Graph, unit: Unit) -> Operator:
    (operator,) = [operator for operator in graph.operators if operator.unit is unit]
    return operator


def axes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_views_between_operators_cost_nothing() -> None:
    graph = build_graph(
        model(
            [
                node("Reshape", ["x", "shape"], "heads"),
                node("Transpose", ["heads"], "turned", perm=(1, 0, 2)),
                node("Neg", ["turned"], "y"),
            ],
            {"x": (6, 8), "heads": (6, 2, 4), "turned": (2, 6, 4), "y": (2, 6, 4)},
            ["y"],
            shape=axes(6, 2, 4),
        )
    )
    (operator,) = graph.operators
    assert operator.operands[0].tensor == "x"
    assert [factor.extent for factor in operator.factors] == [2, 6, 4]
    assert operator.nodes == ("node_y",)


def grouped_attention(between: Sequence[ImportedNode] = (), last: str = "keys") -> ImportedModel:
    """Scores of 8 query heads against 2 key heads, repeated 4 times as exporters write it."""
    shapes = {
        "q": (1, 8, 5, 16), "k": (1, 2, 7, 16), "apart": (1, 2, 1, 7, 16), "wide": (1, 2, 4, 7, 16),
        "repeated": (1, 8, 7, 16), "keys": (1, 8, 16, 7), "scaled": (1, 8, 16, 7), "scores": (1, 8, 5, 7),
    }  # fmt: skip
    nodes = [
        node("Unsqueeze", ["k", "two"], "apart"),
        node("Expand", ["apart", "five"], "wide"),
        node("Reshape", ["wide", "four"], "repeated"),
        node("Transpose", ["repeated"], "keys", perm=(0, 1, 3, 2)),
        *between,
        node("MatMul", ["q", last], "scores"),
    ]
    return model(
        nodes, shapes, ["scores"], two=axes(2), five=axes(1, 2, 4, 7, 16), four=axes(1, 8, 7, 16),
        scale=np.array(0.5, np.float32),
    )  # fmt: skip


def test_repeated_key_heads_are_read_once() -> None:
    """Query heads are key heads x group; the group is a row factor, and no key is stored twice."""
    graph = build_graph(grouped_attention())
    (operator,) = graph.operators
    roles = matrix_factors(operator)
    extents = [[operator.factors[index].extent for index in group] for group in roles]
    assert extents == [[2], [4, 5], [7], [16]]
    assert not any(isinstance(step, Expand) for operand in operator.operands for step in operand.view)
    assert graph.tensors["scores"].shape == (1, 2, 4, 5, 7)


def test_an_elementwise_operator_does_not_compute_what_is_repeated() -> None:
    graph = build_graph(grouped_attention([node("Mul", ["keys", "scale"], "scaled")], "scaled"))
    assert graph.tensors["scaled"].shape == (1, 2, 1, 16, 7)
    assert [factor.extent for factor in graph.operators[0].factors] == [2, 16, 7]
    assert len(graph.operators) == 2


def test_the_weight_is_stationary_on_either_side() -> None:
    shapes = {"w": (6, 4), "x": (4, 3), "y": (6, 3)}
    operator = only(build_graph(model([node("MatMul", ["w", "x"], "y")], shapes, ["y"])), Unit.MATRIX)
    assert [operand.tensor for operand in operator.operands] == ["x", "w"]
    assert operator.factors[matrix_factors(operator).columns[0]].extent == 6


def test_a_product_without_a_sum_is_no_matrix_work() -> None:
    shapes = {"x": (6, 1), "z": (1, 3), "y": (6, 3)}
    operator = only(build_graph(model([node("MatMul", ["x", "z"], "y")], shapes, ["y"])), Unit.VECTOR)
    assert [instruction.opcode for instruction in operator.body] == ["Mul"]


def test_gemm_adds_its_bias_on_the_vector_unit() -> None:
    shapes = {"x": (6, 4), "w": (3, 4), "w_bias": (3,), "y": (6, 3)}
    graph = build_graph(model([node("Gemm", ["x", "w", "w_bias"], "y", transB=1, alpha=1.0)], shapes, ["y"]))
    product, sum_ = graph.operators
    assert product.unit is Unit.MATRIX
    assert [instruction.opcode for instruction in sum_.body] == ["Add"]
    assert {factor.reducer for factor in product.factors} == {None, Reducer.SUM}


def test_a_mean_is_a_sum_and_a_scale() -> None:
    shapes = {"x": (2, 4), "y": (2, 1)}
    graph = build_graph(model([node("ReduceMean", ["x", "last"], "y")], shapes, ["y"], last=axes(1)))
    assert [[i.opcode for i in operator.body] for operator in graph.operators] == [["ReduceSum"], ["Mul"]]
    assert graph.operators[0].body[0].attribute("factors") == (1,)
    assert graph.tensors["constant/fp32/0.25"].value == 0.25


def test_powers_are_simplified() -> None:
    nodes = [node("Pow", ["x", "two"], "square"), node("Pow", ["square", "half"], "y")]
    constants = {"two": np.array(2.0, np.float32), "half": np.array(0.5, np.float32)}
    graph = build_graph(model(nodes, {"x": (3,), "square": (3,), "y": (3,)}, ["y"], **constants))
    assert [(i.opcode, i.inputs) for operator in graph.operators for i in operator.body] == [
        ("Mul", (0, 0)),
        ("Sqrt", (0,)),
    ]


def test_even_indices_are_a_view() -> None:
    nodes = [node("Gather", ["x", "rows"], "picked", axis=0), node("Neg", ["picked"], "y")]
    shapes = {"x": (9, 2), "picked": (1, 4, 2), "y": (1, 4, 2)}
    graph = build_graph(model(nodes, shapes, ["y"], rows=np.array([[1, 3, 5, 7]])))
    assert [operator.body[0].opcode for operator in graph.operators] == ["Neg"]
    odd = build_graph(model(nodes, shapes, ["y"], rows=np.array([[1, 3, 5, 8]])))
    assert only(odd, Unit.MEMORY).factors[0].gathered


def test_new_rows_are_appended_to_the_state() -> None:
    shapes = {"past": (1, 5, 4), "new": (1, 2, 4), "present": (1, 7, 4), "old": (1, 5, 4), "y": (1, 7, 4)}
    nodes = [
        node("Concat", ["past", "new"], "present", axis=1),
        node("Neg", ["present"], "y"),
        node("Neg", ["past"], "old"),
    ]
    described = replace(
        model(nodes, shapes, ["y", "old", "present"]), states=(StatePair("past", "present", 1),)
    )
    graph = build_graph(described)
    append = only(graph, Unit.MEMORY)
    assert append.results[0].offsets == (0, 5, 0)
    assert graph.tensors["past"].role is Role.STATE
    assert graph.tensors["past"].shape == (1, 7, 4)
    assert graph.tensors["past"].resident_rows == (1, 5)
    assert graph.inputs == ("new",)
    assert [output.name for output in graph.outputs] == ["y", "old"]
    rng = np.random.default_rng(0)
    past, new = (rng.standard_normal(shapes[name]).astype(np.float32) for name in ("past", "new"))
    found = interpret(graph, {"new": new}, lambda _: past, {"past": past})
    np.testing.assert_array_equal(found["present"], np.concatenate([past, new], 1))
    np.testing.assert_array_equal(found["y"], -np.concatenate([past, new], 1))
    np.testing.assert_array_equal(found["old"], -past)


def test_a_state_that_is_not_appended_to_is_refused() -> None:
    shapes = {"past": (1, 5, 4), "present": (1, 5, 4)}
    described = replace(
        model([node("Neg", ["past"], "present")], shapes, ["present"]),
        states=(StatePair("past", "present", 1),),
    )
    with pytest.raises(BadInput) as refusal:
        build_graph(described)
    assert [problem.code for problem in refusal.value.problems] == ["state_not_appended"]


def test_all_problems_at_once() -> None:
    nodes = [
        node("Frobnicate", ["x"], "a"),
        node("Expand", ["a", "s"], "b"),
        node("Pad", ["b", "widths"], "y", mode="wrap"),
    ]
    shapes = {"x": (3,), "a": (3,), "b": (3,), "s": (1,), "y": (5,)}
    with pytest.raises(BadInput) as refusal:
        build_graph(model(nodes, shapes, ["y"], widths=axes(1, 1)))
    found = [(problem.code, problem.node, problem.operator) for problem in refusal.value.problems]
    assert found == [
        ("unknown_operator", "node_a", "Frobnicate"),
        ("unsupported_padding", "node_y", "Pad"),
    ]


def test_what_nobody_reads_is_left_out() -> None:
    nodes = [node("Neg", ["x"], "unused"), node("Abs", ["x"], "y")]
    graph = build_graph(model(nodes, {"x": (3,), "unused": (3,), "y": (3,)}, ["y"]))
    assert [operator.name for operator in graph.operators] == ["node_y"]
    assert sorted(graph.tensors) == ["x", "y"]


def test_an_output_may_be_a_view_of_an_input() -> None:
    graph = build_graph(model([node("Transpose", ["x"], "y")], {"x": (3, 2), "y": (2, 3)}, ["y"]))
    assert not graph.operators
    assert graph.outputs[0].tensor == "x"


TINY = [
    "bert-tiny", "bert-tiny-torchscript", "gpt2-tiny", "gpt2-tiny-qdq-int8", "llama-tiny-gqa",
    "llama-tiny-gqa-op23", "llama-tiny-gqa-past", "mixtral-tiny", "t5-tiny-encoder", "vit-tiny",
]  # fmt: skip


@pytest.mark.parametrize("name", TINY)
def test_graphs_of_exported_models_agree_with_onnxruntime(repository: Path, name: str) -> None:
    path = repository / "models" / f"{name}.onnx"
    imported = import_model(path)
    graph = build_graph(imported)
    check_contract(graph)
    feeds = {name: feed(imported.tensors[name]) for name in imported.inputs}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(None, feeds), strict=True))
    found = interpret(graph, feeds, weights_of(path), {})
    for output in names:
        scale = float(np.abs(expected[output]).max())
        np.testing.assert_allclose(found[output], expected[output], rtol=0, atol=1e-4 * scale)


def feed(tensor: ImportedTensor) -> np.ndarray:
    rng = np.random.default_rng(0)
    if tensor.dtype.is_float:
        return rng.standard_normal(tensor.shape).astype(tensor.dtype.numpy)
    return rng.integers(0, 2, tensor.shape).astype(tensor.dtype.numpy)


def weights_of(path: Path) -> Callable[[Tensor], np.ndarray]:
    """Values of initializers, read from the file."""
    initializers = {entry.name: entry for entry in onnx.load(path).graph.initializer}

    def values(tensor: Tensor) -> np.ndarray:
        assert tensor.origin is not None
        return apply_view(tensor.origin.view, numpy_helper.to_array(initializers[tensor.origin.initializer]))

    return values


def test_the_same_model_gives_the_same_graph(repository: Path) -> None:
    path = repository / "models" / "llama2-7b-decode.onnx"
    first, second = (build_graph(import_model(path)) for _ in range(2))
    assert first == second
    assert list(first.tensors) == list(second.tensors)
