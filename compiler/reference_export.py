"""A graph as a plain ONNX model, so that onnxruntime computes what the graph says.

With `--precision` the original model is no reference: its types differ. This export has the graph's
own types, quantised weights and order of operations, but none of chiplan's kernels.
"""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from chiplan.ir import (
    DType,
    Graph,
    Instruction,
    Operand,
    Operator,
    Result,
    Role,
    Shape,
    State,
    Tensor,
    Unit,
    matrix_factors,
    view_shape,
)

from .reference_assembly import Box, assemble
from .reference_memory import MEMORY_NODES
from .reference_nodes import NodeList, onnx_type

_OPSET, _IR_VERSION = 20, 10
_KEEPS_INPUT_TYPES = frozenset({
    "And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or",
    "Where", "Xor",
})  # fmt: skip
"""Instructions whose inputs are not of the instruction's own type."""


class Value(NamedTuple):
    """A value in the exported graph and its element type."""

    name: str
    dtype: DType


def _declare(name: str, dtype: DType, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx_type(dtype), shape)


def _box_shape(result: Result, extents: Shape) -> Shape:
    return tuple(1 if axis is None else extents[axis] for axis in result.axes)


def _past_shape(state: State, tensor: Tensor) -> Shape:
    rows = tensor.resident_rows[1] if tensor.resident_rows else 0
    return (*tensor.shape[: state.axis], rows, *tensor.shape[state.axis + 1 :])


class _TensorStore:
    """Names of the tensors' values in the exported graph, as far as they have been written."""

    def __init__(self, graph: Graph, weights: Callable[[Tensor], np.ndarray], nodes: NodeList) -> None:
        self._graph, self._weights, self._nodes = graph, weights, nodes
        self._whole: dict[str, str] = {}
        self._boxes: dict[str, list[Box]] = {}

    def inputs(self) -> list[onnx.ValueInfoProto]:
        """Declare the graph's inputs and the pasts of its states."""
        declared = []
        for name in self._graph.inputs:
            tensor = self._graph.tensors.get(name)
            if tensor is not None and tensor.role is Role.INPUT:
                declared.append(_declare(name, tensor.dtype, tensor.shape))
                self._whole[name] = name
        for state in self._graph.states:
            tensor = self._graph.tensors[state.tensor]
            shape = _past_shape(state, tensor)
            declared.append(_declare(state.past, tensor.dtype, shape))
            self._boxes[state.tensor] = [Box((0,) * len(shape), shape, state.past)] if prod(shape) else []
        return declared

    def read(self, name: str) -> str:
        if name not in self._whole:
            tensor = self._graph.tensors[name]
            is_weight = tensor.role is Role.WEIGHT
            self._whole[name] = (
                self._nodes.constant(self._weights(tensor)) if is_weight else self._assembled(tensor)
            )
        return self._whole[name]

    def seen(self, operand: Operand) -> Value:
        tensor = self._graph.tensors[operand.tensor]
        name = self._nodes.view(operand.view, self.read(operand.tensor), tensor.shape)
        return Value(name, tensor.dtype)

    def write(self, result: Result, value: Value, shape: Shape) -> None:
        stored = self._nodes.cast(value.name, value.dtype, self._graph.tensors[result.tensor].dtype)
        self._boxes.setdefault(result.tensor, []).append(Box(result.offsets, shape, stored))
        self._whole.pop(result.tensor, None)

    def _assembled(self, tensor: Tensor) -> str:
        def zeros(shape: Shape) -> str:
            zero = self._nodes.constant(np.zeros((1,) * len(shape), tensor.dtype.numpy))
            return self._nodes.expand(zero, shape)

        def concatenate(parts: list[str], axis: int) -> str:
            return self._nodes.one("Concat", parts, axis=axis)

        return assemble(self._boxes.get(tensor.name, []), tensor.shape, zeros, concatenate)


class _OperatorExport:
    """One operator: its operands aligned to one axis a factor, its body, its results in their boxes."""

    def __init__(self, operator: Operator, nodes: NodeList) -> None:
        self._operator, self._nodes = operator, nodes
        self._extents = tuple(factor.extent for factor in operator.factors)

    def run(self, operands: list[Value]) -> list[Value]:
        """The value of every result, with the dimensions of its box."""
        moves = self._operator.unit is not Unit.MATRIX and any(
            instruction.opcode in MEMORY_NODES for instruction in self._operator.body
        )
        values = operands if moves else [
            Value(self._aligned(value.name, operand.axes), value.dtype)
            for value, operand in zip(operands, self._operator.operands, strict=True)
        ]  # fmt: skip
        values = list(values)
        for instruction in self._operator.body:
            inputs = [values[i] for i in instruction.inputs]
            values.append(Value(self._instruction(instruction, inputs), instruction.dtype))
        found = [(values[len(operands) + result.value], result) for result in self._operator.results]
        if moves:
            return [Value(self._reshaped(value.name, result), value.dtype) for value, result in found]
        return [Value(self._boxed(value.name, result), value.dtype) for value, result in found]

    def _aligned(self, name: str, axes: tuple[int | None, ...]) -> str:
        """One axis a factor, extent 1 where the operand does not have the factor."""
        held = [axis for axis in axes if axis is not None]
        name = self._nodes.reshape(name, tuple(self._extents[axis] for axis in held))
        name = self._nodes.transpose(name, [held.index(axis) for axis in sorted(held)])
        return self._nodes.reshape(name, tuple(n if f in held else 1 for f, n in enumerate(self._extents)))

    def _reshaped(self, name: str, result: Result) -> str:
        return self._nodes.reshape(name, _box_shape(result, self._extents))

    def _boxed(self, name: str, result: Result) -> str:
        held = [axis for axis in result.axes if axis is not None]
        rest = [f for f in range(len(self._extents)) if f not in held]
        name = self._nodes.expand(name, tuple(n if f in held else 1 for f, n in enumerate(self._extents)))
        return self._reshaped(self._nodes.transpose(name, held + rest), result)

    def _instruction(self, instruction: Instruction, inputs: list[Value]) -> str:
        opcode, wanted = instruction.opcode, instruction.dtype
        if self._operator.unit is Unit.MATRIX:
            if opcode == "Gather":
                return self._selected(instruction, inputs)
            return self._contraction(inputs, wanted)
        if opcode in MEMORY_NODES:
            made = MEMORY_NODES[opcode](self._nodes, instruction, [value.name for value in inputs])
            return self._nodes.one("Cast", [made], to=onnx_type(wanted))
        if opcode not in _KEEPS_INPUT_TYPES:
            inputs = [Value(self._nodes.cast(value.name, value.dtype, wanted), wanted) for value in inputs]
        names = [value.name for value in inputs]
        if opcode in ("Cast", "Copy"):
            return names[0]
        if opcode.startswith("Reduce"):
            return self._reduction(instruction, names[0])
        if opcode == "Clip":
            return self._clip(instruction, names)
        return self._nodes.one(opcode, names, **dict(instruction.attributes))

    def _clip(self, instruction: Instruction, names: list[str]) -> str:
        """Bounds may be broadcast here, while ONNX wants scalars: Max, then Min."""
        value, bounds = names[0], [*names[1:], "", ""]
        for given, attribute, opcode in ((bounds[0], "min", "Max"), (bounds[1], "max", "Min")):
            fixed = instruction.attribute(attribute)
            if fixed is not None:
                given = self._nodes.constant(np.array(fixed, instruction.dtype.numpy))
            value = self._nodes.one(opcode, [value, given]) if given else value
        return value

    def _reduction(self, instruction: Instruction, name: str) -> str:
        """Over factors that the value may lack: expand it along them first."""
        factors = instruction.attribute("factors")
        axes = list(factors) if isinstance(factors, tuple) else [factors]
        name = self._nodes.expand(name, tuple(n if f in axes else 1 for f, n in enumerate(self._extents)))
        indices = self._nodes.constant(np.array(axes, dtype=np.int64))
        return self._nodes.one(instruction.opcode, [name, indices], keepdims=1)

    def _selected(self, gather: Instruction, inputs: list[Value]) -> str:
        """The blocks of a table that an index selects, one axis a factor: a Gather by the flat index,
        whose axis is then taken apart into the index's own."""
        nodes, extents = self._nodes, self._extents
        axes = [self._operator.operands[i].axes for i in gather.inputs]
        table, index = ({f for f in held if f is not None} for held in axes)
        (gathered,) = (f for f, factor in enumerate(self._operator.factors) if factor.gathered)
        name = nodes.one("Gather", [inputs[0].name, nodes.reshape(inputs[1].name, (-1,))], axis=gathered)
        name = nodes.transpose(name, [gathered, *(f for f in range(len(extents)) if f != gathered)])
        order = [f for held in (index, table - {gathered}) for f in range(len(extents)) if f in held]
        name = nodes.reshape(name, tuple(extents[f] for f in order))
        name = nodes.transpose(name, [order.index(f) for f in sorted(order)])
        return nodes.reshape(name, tuple(n if f in order else 1 for f, n in enumerate(extents)))

    def _contraction(self, inputs: list[Value], wanted: DType) -> str:
        nodes, streamed, stationary = self._nodes, inputs[0], inputs[1].name
        batch, rows, columns, reduced = matrix_factors(self._operator)
        gathered = tuple(f for f, factor in enumerate(self._operator.factors) if factor.gathered)
        if len(inputs) == 3:
            scales = nodes.cast(inputs[2].name, inputs[2].dtype, streamed.dtype)
            stationary = nodes.one("Mul", [nodes.cast(stationary, inputs[1].dtype, streamed.dtype), scales])
        size = [prod(self._extents[f] for f in group) for group in (batch, rows, columns, reduced)]
        # For indexed loads: alike for every index that the streamed operand does not run along itself.
        left = nodes.expand(streamed.name, tuple(n if f in batch else 1 for f, n in enumerate(self._extents)))
        left = nodes.transpose(left, batch + rows + reduced + columns + gathered)
        left = nodes.reshape(left, (size[0], size[1], size[3]))
        right = nodes.transpose(stationary, batch + reduced + columns + rows + gathered)
        right = nodes.reshape(right, (size[0], size[3], size[2]))
        is_float = streamed.dtype.is_float
        product = nodes.one("MatMul" if is_float else "MatMulInteger", [left, right])
        summed = reduced + gathered
        order = batch + rows + columns + summed
        product = nodes.reshape(product, tuple(1 if f in summed else self._extents[f] for f in order))
        product = nodes.transpose(product, [order.index(f) for f in range(len(order))])
        made = streamed.dtype if is_float else DType.INT32
        return nodes.cast(product, made, wanted)


def _given_names(graph: Graph) -> frozenset[str]:
    """Names of the exported model's inputs and outputs."""
    states = (name for state in graph.states for name in (state.past, state.present))
    return frozenset((*graph.inputs, *(output.name for output in graph.outputs), *states))


def export_graph(graph: Graph, weights: Callable[[Tensor], np.ndarray]) -> onnx.ModelProto:
    """`graph` as an ONNX model with embedded weights. Inputs are those of the graph and the pasts of its
    states, outputs are those of the graph and the presents, all in the graph's own types."""
    nodes = NodeList(_given_names(graph))
    store = _TensorStore(graph, weights, nodes)
    inputs = store.inputs()
    for operator in graph.operators:
        operands = [store.seen(operand) for operand in operator.operands]
        values = _OperatorExport(operator, nodes).run(operands)
        extents = tuple(factor.extent for factor in operator.factors)
        for result, value in zip(operator.results, values, strict=True):
            store.write(result, value, _box_shape(result, extents))
    outputs = []
    presents = [Operand(state.tensor, (), ()) for state in graph.states]
    wanted = dict(zip([state.present for state in graph.states], presents, strict=True))
    wanted |= {output.name: Operand(output.tensor, output.view, ()) for output in graph.outputs}
    for name, operand in wanted.items():
        tensor = graph.tensors[operand.tensor]
        seen = store.seen(operand).name
        # An input may be given out as it is.
        if seen != name:
            nodes.nodes.append(helper.make_node("Identity", [seen], [name]))
        outputs.append(_declare(name, tensor.dtype, view_shape(operand.view, tensor.shape)))
    body = helper.make_graph(nodes.nodes, graph.name, inputs, outputs, nodes.initializers)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
