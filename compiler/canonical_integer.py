"""MatMulInteger: the matrix unit multiplies the bytes, the vector unit corrects for the zero points."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from chiplan.ir import (
    DType,
    Factor,
    Reshape,
)

from .canonical_builder import Body, GraphBuilder, Value
from .canonical_contraction import contraction, sum_of
from .canonical_emit import Item, from_nest, pointwise, result_labels
from .canonical_pointwise import over_dimensions
from .canonical_views import Labels
from .imported import ImportedNode
from .nests_loops import has_input


def integer_matmul(builder: GraphBuilder, node: ImportedNode) -> None:
    """(A - a) (B - b) = AB - a * columns(B) - rows(A) * b + K * a * b, so that the matrix unit reads the
    bytes as they are. The streamed operand is moved to int8, which the unit has: A - 128, a - 128."""
    output = builder.imported(node.outputs[0])
    left, right = builder.value(node.inputs[0]), builder.value(node.inputs[1])
    zeros = [builder.value(node.inputs[p]) if has_input(node, p) else None for p in (2, 3)]
    if left.dtype is DType.UINT8:
        shift = zeros[0] or builder.scalar(0, DType.UINT8)
        left = _signed(builder, node, left, f"{output.name}/left")
        zeros[0] = _signed(builder, node, shift, f"{output.name}/left_zero")
    product = replace(node, op_type="MatMul", inputs=node.inputs[:2])
    nest = builder.nest(product)
    items = from_nest(nest, [left, right])
    labels = result_labels(nest)
    corrections = [position for position in range(2) if _may_be_nonzero(builder, zeros[position])]
    name = f"{output.name}/product" if corrections else output.name
    made = contraction(builder, node, name, nest.factors, (items[0], items[1]), labels, DType.INT32)
    if corrections:
        made = _corrected(builder, node, made, items, zeros, nest.factors, labels)
    builder.values[output.name] = made


def _signed(builder: GraphBuilder, node: ImportedNode, value: Value, name: str) -> Value:
    """uint8 as int8, 128 lower."""
    known = builder.tensors[value.tensor].value
    if known is not None and not value.view:
        return builder.constant(name, known.astype(np.int32) - 128, DType.INT8)
    body = Body(2)
    body.add("Cast", DType.INT8, body.add("Sub", DType.INT32, 0, 1))
    values = [value, builder.scalar(128, DType.INT32)]
    return over_dimensions(builder, node, name, values, body, value.shape)


def _may_be_nonzero(builder: GraphBuilder, zero: Value | None) -> bool:
    if zero is None:
        return False
    known = builder.tensors[zero.tensor].value
    return known is None or bool(known.any())


def _corrected(
    builder: GraphBuilder,
    node: ImportedNode,
    product: Value,
    items: Sequence[Item],
    zeros: Sequence[Value | None],
    factors: Sequence[Factor],
    labels: Labels,
) -> Value:
    """The product less the zero points' share (see `integer_matmul`)."""
    depths = [len(items[0][1]) - 1, max(len(items[1][1]) - 2, 0)]
    depth = items[0][0].shape[depths[0]]
    operands: list[Item] = [(product, labels)]
    terms: list[tuple[int, ...]] = []
    present = [p for p in range(2) if _may_be_nonzero(builder, zeros[p])]
    for position in present:
        zero = zeros[position]
        if zero is None:
            continue
        other = 1 - position
        total = _axis_sum(
            builder, node, factors, items[other], depths[other], f"{node.outputs[0]}/sum{other}"
        )
        operands += [total, (zero, _zero_labels(zero, items[position][1], position))]
        terms.append((len(operands) - 2, len(operands) - 1))
    if len(present) == 2:
        operands.append((builder.scalar(depth, DType.INT32), ()))
    body = Body(len(operands))
    last = 0
    for total_index, zero_index in terms:
        last = body.add("Sub", DType.INT32, last, body.add("Mul", DType.INT32, total_index, zero_index))
    if len(present) == 2:
        both = body.add("Mul", DType.INT32, terms[0][1], terms[1][1])
        body.add("Add", DType.INT32, last, body.add("Mul", DType.INT32, both, len(operands) - 1))
    kept = [replace(factor, reducer=None) for factor in factors]
    return pointwise(builder, node, node.outputs[0], kept, operands, body, labels)


def _zero_labels(zero: Value, labels: Labels, position: int) -> Labels:
    """A zero point runs along its matrix's rows (left) or columns (right), if it is no single value."""
    if len(zero.shape) == 1 and zero.shape[0] > 1:
        return (labels[-2] if position == 0 else labels[-1],)
    aligned = labels[len(labels) - len(zero.shape) :] if zero.shape else ()
    return tuple(None if extent == 1 else label for extent, label in zip(zero.shape, aligned, strict=True))


def _axis_sum(
    builder: GraphBuilder, node: ImportedNode, factors: Sequence[Factor], item: Item, axis: int, name: str
) -> Item:
    """The operand in int32, summed over dimension `axis`."""
    value, labels = item
    kept = (*labels[:axis], *labels[axis + 1 :])
    if labels[axis] is None:
        return value.seen(Reshape((*value.shape[:axis], *value.shape[axis + 1 :]))), kept
    return sum_of(builder, node, factors, item, kept, name, DType.INT32), kept
