"""Elementwise operators, reductions and quantisation as vector operators."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from chiplan.ir import DType, Factor, Reshape, Shape

from .canonical_builder import Body, GraphBuilder, Value, instruction_attributes
from .canonical_emit import cast_to, from_nest, pointwise, result_labels
from .imported import ImportedNode
from .nests_elementwise import reduced_axes
from .nests_loops import constant_input, has_input, integer, refused

BodyRule = Callable[[GraphBuilder, ImportedNode, Body, DType], None]
HALF = (DType.FP16, DType.BF16)


def over_dimensions(
    builder: GraphBuilder, node: ImportedNode, name: str, values: Sequence[Value], body: Body, shape: Shape
) -> Value:
    """A pointwise operator over `shape`, to which the values broadcast as numpy's rules say."""
    factors: list[Factor] = []
    labels: list[int | None] = []
    for axis, extent in enumerate(shape):
        labels.append(len(factors) if extent > 1 else None)
        if extent > 1:
            factors.append(Factor(f"d{axis}", extent))
    items = []
    for value in values:
        aligned = labels[len(shape) - len(value.shape) :]
        items.append(
            (
                value,
                tuple(None if e == 1 else label for e, label in zip(value.shape, aligned, strict=True)),
            )
        )
    return pointwise(builder, node, name, factors, items, body, tuple(labels))


def _one_instruction(_: GraphBuilder, node: ImportedNode, body: Body, dtype: DType) -> None:
    attributes = instruction_attributes(node.attributes, "fmod", "detect_negative", "detect_positive")
    body.add(node.op_type, dtype, *range(body.operands), attributes=attributes)


def _power(builder: GraphBuilder, node: ImportedNode, body: Body, dtype: DType) -> None:
    """x ** 2 is x * x, and x ** 0.5 is sqrt(x)."""
    exponent = builder.known(node.inputs[1])
    number = exponent.ravel()[0] if exponent is not None and exponent.size == 1 else None
    if number == 2:
        body.operands = 1
        body.add("Mul", dtype, 0, 0)
    elif number == 0.5 and dtype.is_float:
        body.operands = 1
        body.add("Sqrt", dtype, 0)
    else:
        body.add("Pow", dtype, 0, 1)


def _clip(_: GraphBuilder, node: ImportedNode, body: Body, dtype: DType) -> None:
    """max(x, lowest), then min(., highest), each if present."""
    last, operand = 0, 1
    for opcode, name in zip(("Max", "Min"), node.inputs[1:], strict=False):
        if name:
            last = body.add(opcode, dtype, last, operand)
            operand += 1


_BODIES: dict[str, BodyRule] = {"Pow": _power, "Clip": _clip}


def elementwise(builder: GraphBuilder, node: ImportedNode) -> None:
    """One instruction, or the few of a simplification; nothing at all for a Cast to the same type."""
    output = builder.imported(node.outputs[0])
    values = [builder.value(name) for name in node.inputs if name]
    if len(values) == 1 and (
        node.op_type in ("Max", "Min", "Clip") or (node.op_type == "Cast" and values[0].dtype is output.dtype)
    ):
        builder.values[output.name] = values[0]
        return
    nest = builder.nest(node)
    body = Body(len(values))
    _BODIES.get(node.op_type, _one_instruction)(builder, node, body, output.dtype)
    items = from_nest(nest, values)[: body.operands]
    made = pointwise(builder, node, output.name, nest.factors, items, body, result_labels(nest))
    builder.values[output.name] = made


def reduction(builder: GraphBuilder, node: ImportedNode) -> None:
    """A vector operator that ends in a reduction."""
    output = builder.imported(node.outputs[0])
    value = builder.value(node.inputs[0])
    builder.values[output.name] = _reduced(builder, node, value, output.name, output.dtype)


def _reduced(builder: GraphBuilder, node: ImportedNode, value: Value, name: str, dtype: DType) -> Value:
    nest = builder.nest(node)
    if not any(factor.reducer or factor.whole for factor in nest.factors):
        return value.seen(Reshape(builder.imported(node.outputs[0]).shape))
    body = Body(1)
    body.add(node.op_type, dtype, 0)
    return pointwise(builder, node, name, nest.factors, from_nest(nest, [value]), body, result_labels(nest))


def mean(builder: GraphBuilder, node: ImportedNode) -> None:
    """A sum and a scale. Half types sum in fp32, where a sum of squares does not overflow."""
    output, value = builder.imported(node.outputs[0]), builder.value(node.inputs[0])
    if not output.dtype.is_float:
        cure = "cast to a float before it."
        raise refused(node, "unsupported_type", f"a mean of {output.dtype.value} is not supported: {cure}")
    count = prod(value.shape[axis] for axis in reduced_axes(node, builder.model.tensors))
    if count == 1:
        builder.values[output.name] = value.seen(Reshape(output.shape))
        return
    wide = DType.FP32 if output.dtype in HALF else output.dtype
    total = replace(node, op_type="ReduceSum")
    summed = _reduced(builder, total, value, f"{output.name}/sum", wide)
    body = Body(2)
    cast_to(body, body.add("Mul", wide, 0, 1), wide, output.dtype)
    scale = builder.scalar(1 / count, wide)
    builder.values[output.name] = over_dimensions(
        builder, node, output.name, [summed, scale], body, output.shape
    )


def dequantise(builder: GraphBuilder, node: ImportedNode) -> None:
    """(x - zero point) * scale, in the scale's type."""
    output = builder.imported(node.outputs[0])
    values = [builder.value(name) for name in node.inputs if name]
    values = values[:2] if _is_zero(builder, node) else values
    body = Body(len(values))
    last = body.add("Cast", output.dtype, 0)
    if len(values) == 3:
        last = body.add("Sub", output.dtype, last, body.add("Cast", output.dtype, 2))
    body.add("Mul", output.dtype, last, 1)
    _quantisation(builder, node, values, body)


def quantise(builder: GraphBuilder, node: ImportedNode) -> None:
    """Round x / scale to even, add the zero point, saturate, cast."""
    output = builder.imported(node.outputs[0])
    if output.dtype not in (DType.INT8, DType.UINT8, DType.INT16):
        message = f"quantising to {output.dtype.value} is not supported: quantise to int8, uint8 or int16."
        raise refused(node, "unsupported_type", message)
    values = [builder.value(name) for name in node.inputs if name]
    values = values[:2] if _is_zero(builder, node) else values
    kind, limits = values[0].dtype, np.iinfo(output.dtype.numpy)
    bounds = [builder.scalar(float(limit), kind) for limit in (limits.min, limits.max)]
    body = Body(len(values) + 2)
    last = body.add("Round", kind, body.add("Div", kind, 0, 1))
    if len(values) == 3:
        last = body.add("Add", kind, last, body.add("Cast", kind, 2))
    last = body.add("Max", kind, last, body.operands - 2)
    last = body.add("Min", kind, last, body.operands - 1)
    body.add("Cast", output.dtype, last)
    _quantisation(builder, node, values, body, bounds)


def _is_zero(builder: GraphBuilder, node: ImportedNode) -> bool:
    """Whether the zero point is known to be zero."""
    zero = builder.known(node.inputs[2]) if has_input(node, 2) else None
    return zero is not None and not zero.any()


def _quantisation(
    builder: GraphBuilder,
    node: ImportedNode,
    values: Sequence[Value],
    body: Body,
    bounds: Sequence[Value] = (),
) -> None:
    nest = builder.nest(node)
    operands = replace(nest, operands=nest.operands[: len(values)])
    items = from_nest(operands, values) + [(bound, ()) for bound in bounds]
    whole = over_blocks = result_labels(nest)
    shape = builder.imported(node.outputs[0]).shape
    if any(len(axis.terms) > 1 for axis in nest.results[0]):
        over_blocks = items[0][1]
    made = pointwise(builder, node, node.outputs[0], nest.factors, items, body, over_blocks)
    builder.values[node.outputs[0]] = made if over_blocks == whole else made.seen(Reshape(shape))


def triangle(builder: GraphBuilder, node: ImportedNode) -> None:
    """Trilu selects by position: Where over a constant mask."""
    value, output = builder.value(node.inputs[0]), builder.imported(node.outputs[0])
    diagonal = int(constant_input(node, builder.model.tensors, 1).reshape(())) if has_input(node, 1) else 0
    cut = np.triu if integer(node, "upper", 1) else np.tril
    mask = builder.constant(f"{output.name}/mask", cut(np.ones(value.shape[-2:], bool), diagonal), DType.BOOL)
    body = Body(3)
    body.add("Where", value.dtype, 0, 1, 2)
    values = [mask, value, builder.scalar(0, value.dtype)]
    builder.values[output.name] = over_dimensions(builder, node, output.name, values, body, output.shape)
