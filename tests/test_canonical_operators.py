"""Every operator, and operators behind random views: the graph computes what the ONNX nodes compute."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.canonical import LOWERINGS, build_graph
from chiplan.compiler.imported import ImportedModel, ImportedNode, ImportedTensor
from chiplan.compiler.nests import ELEMENTWISE, data_inputs
from chiplan.ir import Graph, Unit, dtype_of, matrix_factors, view_shape
from chiplan.runtime_sim.interpreter import interpret

from .operator_cases import CASES, OPSET, Case, Draw, floats, imported, positions, reduce_case, run

GRAPH_CASES = CASES | {"ReduceMean": reduce_case("ReduceMean")}


def model_of(
    nodes: Sequence[ImportedNode],
    tensors: Mapping[str, ImportedTensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> ImportedModel:
    return ImportedModel(
        name="model", path=Path("model.onnx"), opset=OPSET, nodes=tuple(nodes), tensors=tensors,
        inputs=tuple(inputs), outputs=tuple(outputs), states=(), bindings={}, batch=1, sequence=1,
        context=None, assumptions=(), fingerprint="",
    )  # fmt: skip


def check_contract(graph: Graph) -> None:
    """What `ir.Operator` promises: one factor or a broadcast along every dimension, disjoint names."""
    assert len({operator.name for operator in graph.operators}) == len(graph.operators)
    for operator in graph.operators:
        extents = [factor.extent for factor in operator.factors]
        for operand in operator.operands:
            seen = view_shape(operand.view, graph.tensors[operand.tensor].shape)
            assert seen == tuple(1 if axis is None else extents[axis] for axis in operand.axes)
        for result in operator.results:
            tensor = graph.tensors[result.tensor]
            assert tensor.dtype is operator.body[result.value].dtype
            for extent, axis, offset in zip(tensor.shape, result.axes, result.offsets, strict=True):
                assert offset + (1 if axis is None else extents[axis]) <= extent
        if operator.unit is Unit.MATRIX:
            roles = matrix_factors(operator)
            assert len(roles.columns) == len(roles.reduced) == 1


def evaluate(model: ImportedModel, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    graph = build_graph(model)
    check_contract(graph)

    def no_weights(_: object) -> np.ndarray:
        raise AssertionError("every constant has its values")

    with np.errstate(all="ignore"):
        return interpret(graph, feeds, no_weights, {})


def check(case: Case, known: bool) -> None:
    """The case's data as inputs of the run, or all known to the compiler."""
    whole = run(case)
    node, tensors = imported(case, whole)
    inputs = [] if known else list(data_inputs(node)) if case.op_type != "ReduceMean" else ["i0"]
    if case.op_type == "OneHot":
        inputs = inputs[:1]
    described = {
        name: ImportedTensor(
            name, tensor.shape, tensor.dtype, None if name in (*inputs, *node.outputs) else tensor.constant
        )
        for name, tensor in tensors.items()
    }
    feeds = {name: array for name in inputs if (array := tensors[name].constant) is not None}
    found = evaluate(model_of([node], described, list(dict.fromkeys(inputs)), node.outputs), feeds)
    for name, expected in zip(node.outputs, whole, strict=True):
        assert found[name].shape == expected.shape
        assert found[name].dtype == expected.dtype
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


def test_every_operator_with_a_lowering_is_tried() -> None:
    assert sorted(GRAPH_CASES) == sorted(op_type for lowering in LOWERINGS for op_type in lowering.op_types)


@pytest.mark.parametrize("op_type", sorted(GRAPH_CASES))
def test_graph_of_one_operator(op_type: str) -> None:
    @settings(
        max_examples=4 if op_type in ELEMENTWISE else 15, deadline=None, derandomize=True, database=None
    )
    @given(st.data())
    def agrees(data: st.DataObject) -> None:
        check(GRAPH_CASES[op_type](data.draw), data.draw(st.booleans()))

    agrees()


class Chain:
    """ONNX nodes under construction, with the values that numpy gives them."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.nodes: list[ImportedNode] = []
        self.values: dict[str, np.ndarray] = {}
        self.given: dict[str, np.ndarray] = {}

    def source(self, array: np.ndarray) -> str:
        name = f"x{len(self.values)}"
        self.values[name] = self.given[name] = array
        return name

    def node(self, op_type: str, inputs: Sequence[str], value: np.ndarray, **attributes: Any) -> str:
        name = f"{op_type}{len(self.nodes)}"
        self.nodes.append(ImportedNode(name, op_type, "", tuple(inputs), (name,), attributes, name))
        self.values[name] = value
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.values)}"
        self.values[name] = array
        return name

    def view(self, name: str) -> str:
        """One random view of a value."""
        value = self.values[name]
        match self.draw(st.sampled_from(["merge", "split", "transpose", "slice", "repeat"])):
            case "merge" if value.ndim > 1:
                axis = self.draw(st.integers(0, value.ndim - 2))
                shape = (
                    *value.shape[:axis],
                    value.shape[axis] * value.shape[axis + 1],
                    *value.shape[axis + 2 :],
                )
                return self._reshape(name, shape)
            case "split":
                axis = self.draw(st.integers(0, value.ndim - 1))
                extent = value.shape[axis]
                part = self.draw(st.sampled_from([d for d in range(1, extent + 1) if extent % d == 0]))
                return self._reshape(
                    name, (*value.shape[:axis], part, extent // part, *value.shape[axis + 1 :])
                )
            case "transpose":
                permutation = tuple(self.draw(st.permutations(range(value.ndim))))
                return self.node("Transpose", [name], value.transpose(permutation), perm=permutation)
            case "slice":
                axis = self.draw(st.integers(0, value.ndim - 1))
                start = self.draw(st.integers(0, value.shape[axis] - 1))
                step = self.draw(st.integers(1, 2))
                bounds = [self.constant(np.array([v])) for v in (start, 2**40, axis, step)]
                index = (*(slice(None),) * axis, slice(start, None, step))
                return self.node("Slice", [name, *bounds], value[index])
            case "repeat":
                return self._repeat(name)
        return name

    def _reshape(self, name: str, shape: tuple[int, ...]) -> str:
        return self.node("Reshape", [name, self.constant(np.array(shape))], self.values[name].reshape(shape))

    def _repeat(self, name: str) -> str:
        """Each index of an axis `count` times, as exporters repeat key heads."""
        value = self.values[name]
        axis, count = self.draw(st.integers(0, value.ndim - 1)), self.draw(st.integers(2, 3))
        apart = self._reshape(name, (*value.shape[: axis + 1], 1, *value.shape[axis + 1 :]))
        wide = (*value.shape[: axis + 1], count, *value.shape[axis + 1 :])
        spread = self.node(
            "Expand", [apart, self.constant(np.array(wide))], np.broadcast_to(self.values[apart], wide)
        )
        return self._reshape(
            spread, (*value.shape[:axis], value.shape[axis] * count, *value.shape[axis + 1 :])
        )

    def operator(self, left: str) -> str:
        """A random operator on a value; a second operand is again behind views."""
        value = self.values[left]
        match self.draw(st.sampled_from(["Neg", "Add", "MatMul", "Gather", "ReduceSum", "Concat", "Mul"])):
            case "Neg":
                return self.node("Neg", [left], -value)
            case "Add":
                other = self.value_of(value.shape)
                return self.node("Add", [left, other], value + self.values[other])
            case "Mul":
                return self.node("Mul", [left, left], value * value)
            case "MatMul" if value.ndim > 1:
                other = self.value_of((*value.shape[:-2], value.shape[-1], self.draw(st.integers(1, 3))))
                return self.node("MatMul", [left, other], np.matmul(value, self.values[other]))
            case "Gather":
                axis = self.draw(st.integers(0, value.ndim - 1))
                index = self.source(positions(self.draw, (2,), value.shape[axis]))
                return self.node("Gather", [left, index], np.take(value, self.values[index], axis), axis=axis)
            case "ReduceSum":
                axis = self.draw(st.integers(0, value.ndim - 1))
                axes = self.constant(np.array([axis]))
                return self.node("ReduceSum", [left, axes], value.sum(axis, keepdims=True))
            case "Concat":
                axis = self.draw(st.integers(0, value.ndim - 1))
                return self.node("Concat", [left, left], np.concatenate([value, value], axis), axis=axis)
        return left

    def value_of(self, shape: tuple[int, ...]) -> str:
        """A value of `shape`, perhaps a transposed or a repeated one."""
        match self.draw(st.integers(0, 2)):
            case 0:
                return self.source(floats(self.draw, shape))
            case 1:
                backwards = self.source(floats(self.draw, shape[::-1]))
                order = tuple(reversed(range(len(shape))))
                return self.node(
                    "Transpose", [backwards], self.values[backwards].transpose(order), perm=order
                )
        heads = next((axis for axis, extent in enumerate(shape) if extent % 2 == 0), None)
        if heads is None:
            return self.source(floats(self.draw, shape))
        half = shape[heads] // 2
        few = self.source(floats(self.draw, (*shape[:heads], half, 1, *shape[heads + 1 :])))
        wide = (*shape[:heads], half, 2, *shape[heads + 1 :])
        spread = self.node(
            "Expand", [few, self.constant(np.array(wide))], np.broadcast_to(self.values[few], wide)
        )
        return self._reshape(spread, shape)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_operators_behind_views(data: st.DataObject) -> None:
    chain = Chain(data.draw)
    extents = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=3))
    last = chain.source(floats(data.draw, extents))
    for _ in range(data.draw(st.integers(1, 3))):
        for _ in range(data.draw(st.integers(0, 4))):
            if chain.values[last].ndim < 6:
                last = chain.view(last)
        if chain.values[last].size < 5000:
            last = chain.operator(last)
    tensors = {
        name: ImportedTensor(
            name, array.shape, dtype_of(array.dtype), array if name.startswith("c") else None
        )
        for name, array in chain.values.items()
    }
    model = model_of(chain.nodes, tensors, list(chain.given), [last])
    found = evaluate(model, chain.given)[last]
    assert found.shape == chain.values[last].shape
    np.testing.assert_allclose(found, chain.values[last], rtol=1e-4, atol=1e-4)
