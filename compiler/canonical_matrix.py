"""Contractions on the matrix unit: MatMul, Gemm, Einsum, MatMulInteger, Conv."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from chiplan.ir import (
    DType,
    Factor,
    Instruction,
    Operand,
    Reducer,
    Reshape,
    Result,
    Role,
    Transpose,
    Unit,
    simplify_view,
    view_shape,
)

from .canonical_builder import Body, GraphBuilder, Value
from .canonical_emit import Item, as_plain, fit, from_nest, operands_of, pointwise, result_labels
from .canonical_loops import Layout, Space, stored_layout
from .canonical_moves import padded
from .canonical_pointwise import over_dimensions
from .canonical_views import Labels, factor_view
from .imported import ImportedNode
from .nests_loops import has_input, real, refused
from .nests_matrix import convolution_of


class _Roles(NamedTuple):
    """Factors of a space by their role in a contraction; `swapped`: the right operand is streamed."""

    columns: tuple[int, ...]
    reduced: tuple[int, ...]
    swapped: bool


def contraction(
    builder: GraphBuilder,
    node: ImportedNode,
    name: str,
    factors: Sequence[Factor],
    items: tuple[Item, Item],
    labels: Labels,
    dtype: DType,
) -> Value:
    """The sum over the reduced factors of left * right, as tensor `name`; `labels` are the factors along
    the result's dimensions."""
    pair = [_summed_alone(builder, node, factors, items, position) for position in range(2)]
    summed = {label for _, item_labels in pair for label in item_labels if label is not None}
    reduced = {index for index in summed if factors[index].reducer is not None}
    pair = [_without_broadcast(builder, node, item, reduced) for item in pair]
    if not reduced:
        body = Body(2)
        body.add("Mul", dtype, 0, 1)
        kept = [replace(factor, reducer=None) for factor in factors]
        return pointwise(builder, node, name, kept, pair, body, labels)
    kept = [f if index in summed or f.reducer is None else replace(f, extent=1) for index, f in enumerate(factors)]
    space, pair = fit(builder, node, kept, pair)
    return _matrix_operator(builder, node, name, space, pair, labels, dtype)


def _summed_alone(
    builder: GraphBuilder, node: ImportedNode, factors: Sequence[Factor], items: tuple[Item, Item], position: int
) -> Item:
    """The operand, summed first over reduced factors that the other operand does not have."""
    (value, labels), (_, others) = items[position], items[1 - position]
    alone = {i for i in labels if i is not None and factors[i].reducer is not None and i not in others}
    if not alone:
        return items[position]
    kept = [f if i in alone else replace(f, reducer=None) for i, f in enumerate(factors)]
    used = {i: n for n, i in enumerate(dict.fromkeys(i for i in labels if i is not None))}
    body = Body(1)
    body.add("ReduceSum", value.dtype, 0)
    left = tuple(label for label in labels if label not in alone)
    made = pointwise(
        builder,
        node,
        f"{value.tensor}/sum",
        [kept[i] for i in used],
        [(value, tuple(None if label is None else used[label] for label in labels))],
        body,
        tuple(None if label is None else used[label] for label in left),
    )
    return made, left


def _without_broadcast(builder: GraphBuilder, node: ImportedNode, item: Item, reduced: set[int]) -> Item:
    """The operand, copied if it is broadcast along a reduced factor."""
    value, labels = item
    factored = factor_view(value.view, value.stored)
    if factored is not None and not any(
        part.broadcast
        for parts, label in zip(factored.dimensions, labels, strict=True)
        if label in reduced
        for part in parts
    ):
        return item
    return as_plain(builder, node, value), labels


def _matrix_operator(
    builder: GraphBuilder,
    node: ImportedNode,
    name: str,
    space: Space,
    pair: Sequence[Item],
    labels: Labels,
    dtype: DType,
) -> Value:
    roles = _roles(builder, space, pair)
    chosen = (1, 0) if roles.swapped else (0, 1)
    streamed, stationary = (operands_of(space, pair)[position] for position in chosen)
    merged = set(roles.columns) | set(roles.reduced)
    kept = [index for index in range(len(space.factors)) if index not in merged]
    numbers = {index: number for number, index in enumerate(kept)}
    columns, reduced = len(kept), len(kept) + 1
    made = [
        *(space.factors[index] for index in kept),
        _merged(space, roles.columns, "n", None),
        _merged(space, roles.reduced, "k", Reducer.SUM),
    ]
    operands = [
        _merge_axes(builder, streamed, ((roles.reduced, reduced),), numbers),
        _merge_axes(builder, stationary, ((roles.reduced, reduced), (roles.columns, columns)), numbers),
    ]
    layout = _result_layout(space, labels, roles.columns, columns, numbers)
    tensor = builder.computed(name, layout.shape, dtype)
    result = Result(tensor, layout.axes, (0,) * len(layout.axes), 0)
    builder.add(node, Unit.MATRIX, made, operands, [result], [Instruction("MatMul", (0, 1), dtype)])
    return Value(tensor, layout.shape, (), layout.shape, dtype).seen(*layout.view)


def _roles(builder: GraphBuilder, space: Space, pair: Sequence[Item]) -> _Roles:
    """Which operand is stationary: the weight; else the one with columns of its own; else the right."""
    held = [{axis for axis in read.axes if axis is not None} for read in space.reads]
    reduced = tuple(i for i, factor in enumerate(space.factors) if factor.reducer is not None)
    own = [tuple(sorted(held[p] - held[1 - p] - set(reduced))) for p in range(2)]
    is_weight = [builder.tensors[value.tensor].role is Role.WEIGHT for value, _ in pair]
    if is_weight[0] != is_weight[1]:
        swapped = is_weight[0]
    else:
        swapped = not own[1] and bool(own[0])
    return _Roles(own[0] if swapped else own[1], reduced, swapped)


def _merged(space: Space, parts: Sequence[int], name: str, reducer: Reducer | None) -> Factor:
    """One factor for all `parts`; extent 1 if there are none."""
    if len(parts) == 1:
        return space.factors[parts[0]]
    return Factor(name, prod(space.factors[part].extent for part in parts), reducer)


def _merge_axes(
    builder: GraphBuilder,
    operand: Operand,
    groups: Sequence[tuple[tuple[int, ...], int]],
    numbers: dict[int, int],
) -> Operand:
    """The operand with each group of factors (in order) as one last dimension that runs along the
    group's new factor; one of a single factor stays where it is."""
    renamed = dict(numbers) | {parts[0]: new for parts, new in groups if len(parts) == 1}
    several = [(parts, new) for parts, new in groups if len(parts) != 1]
    if not several:
        return Operand(operand.tensor, operand.view, _renamed(operand.axes, renamed))
    moved = [operand.axes.index(part) for parts, _ in several for part in parts]
    kept = [position for position in range(len(operand.axes)) if position not in moved]
    stored = builder.tensors[operand.tensor].shape
    shape = view_shape(operand.view, stored)
    extents = [shape[position] for position in kept]
    extents += [prod(shape[operand.axes.index(part)] for part in parts) for parts, _ in several]
    steps = (*operand.view, Transpose((*kept, *moved)), Reshape(tuple(extents)))
    axes = _renamed(tuple(operand.axes[position] for position in kept), renamed)
    return Operand(operand.tensor, simplify_view(steps, stored), (*axes, *(new for _, new in several)))


def _renamed(axes: Labels, names: dict[int, int]) -> Labels:
    return tuple(None if axis is None else names[axis] for axis in axes)


def _result_layout(
    space: Space, labels: Labels, columns: tuple[int, ...], merged: int, numbers: dict[int, int]
) -> Layout:
    """The result with all column parts in one dimension, where the first of them stands."""
    parts: list[tuple[int, int | None]] = []
    shape = []
    for label in labels:
        pieces = ((1, None),) if label is None else space.parts[label]
        parts += pieces
        shape.append(prod(extent for extent, _ in pieces))
    is_column = [axis in columns for _, axis in parts]
    first = is_column.index(True) if any(is_column) else len(parts)
    # The parts in the order in which they are stored: all columns follow the first of them.
    order = [p for p in range(first) if not is_column[p]]
    order += sorted((p for p in range(len(parts)) if is_column[p]), key=lambda p: parts[p][1] or 0)
    order += [p for p in range(first, len(parts)) if not is_column[p]]
    back = tuple(order.index(position) for position in range(len(parts)))
    names = numbers | dict.fromkeys(columns, merged)
    axes = _renamed(tuple(axis for _, axis in parts), names)
    stored = [(parts[position][0], axes[position]) for position in order]
    layout = stored_layout(stored, back, tuple(shape))
    return _joined(layout, merged, first)


def _joined(layout: Layout, merged: int, first: int) -> Layout:
    """The layout with the dimensions of the merged columns as one; a new one if there is none."""
    count = layout.axes.count(merged)
    if count == 1:
        return layout
    extents = layout.shape[first : first + count]
    shape = (*layout.shape[:first], prod(extents), *layout.shape[first + count :])
    axes = (*layout.axes[:first], merged, *layout.axes[first + count :])
    return Layout(shape, axes, simplify_view((Reshape(layout.shape), *layout.view), shape))


def matmul(builder: GraphBuilder, node: ImportedNode) -> None:
    output = builder.imported(node.outputs[0])
    nest = builder.nest(node)
    left, right = from_nest(nest, [builder.value(name) for name in node.inputs])
    made = contraction(
        builder, node, output.name, nest.factors, (left, right), result_labels(nest), output.dtype
    )
    builder.values[output.name] = made


def gemm(builder: GraphBuilder, node: ImportedNode) -> None:
    """The product, then alpha and beta * C as one vector operator, if they do anything."""
    output = builder.imported(node.outputs[0])
    alpha, beta = real(node, "alpha", 1.0), real(node, "beta", 1.0)
    product = replace(node, inputs=node.inputs[:2])
    nest = builder.nest(product)
    values = [builder.value(name) for name in node.inputs if name]
    has_bias = len(values) == 3 and beta != 0
    alone = alpha == 1 and not has_bias
    name = output.name if alone else f"{output.name}/product"
    left, right = from_nest(nest, values[:2])
    made = contraction(builder, node, name, nest.factors, (left, right), result_labels(nest), output.dtype)
    if not alone:
        made = _affine(builder, node, made, values[2] if has_bias else None, alpha, beta)
    builder.values[output.name] = made


def _affine(
    builder: GraphBuilder, node: ImportedNode, product: Value, bias: Value | None, alpha: float, beta: float
) -> Value:
    """alpha * product + beta * bias."""
    values = [product] + ([bias] if bias else [])
    scales = [factor for factor in (alpha, beta if bias else 1.0) if factor != 1]
    values += [builder.scalar(factor, product.dtype) for factor in scales]
    body = Body(len(values))
    scale = 2 if bias else 1
    left, right = 0, 1
    if alpha != 1:
        left = body.add("Mul", product.dtype, 0, scale)
        scale += 1
    if bias and beta != 1:
        right = body.add("Mul", product.dtype, 1, scale)
    if bias:
        body.add("Add", product.dtype, left, right)
    return over_dimensions(builder, node, node.outputs[0], values, body, product.shape)


def einsum(builder: GraphBuilder, node: ImportedNode) -> None:
    """Operands are contracted from left to right; a label is summed when no later operand has it."""
    output = builder.imported(node.outputs[0])
    nest = builder.nest(node)
    items = from_nest(nest, [builder.value(name) for name in node.inputs])
    for _, labels in items:
        held = [label for label in labels if label is not None]
        if len(set(held)) < len(held):
            message = "a label that occurs twice in one operand (a diagonal) is not supported."
            raise refused(node, "unsupported_equation", f"{message} Take the diagonal with Gather before it.")
    labels = result_labels(nest)
    item = items[0]
    if len(items) == 1:
        builder.values[output.name] = _single_term(builder, node, nest.factors, item, labels)
        return
    for position, other in enumerate(items[1:], start=1):
        later = {label for _, names in items[position + 1 :] for label in names} | set(labels)
        both = dict.fromkeys(label for label in (*item[1], *other[1]) if label is not None)
        kept = labels if position == len(items) - 1 else tuple(label for label in both if label in later)
        factors = [
            replace(factor, reducer=None if index in kept or index not in both else Reducer.SUM)
            for index, factor in enumerate(nest.factors)
        ]
        name = output.name if position == len(items) - 1 else f"{output.name}/{position}"
        item = contraction(builder, node, name, factors, (item, other), kept, output.dtype), kept
    builder.values[output.name] = item[0]


def _single_term(
    builder: GraphBuilder, node: ImportedNode, factors: Sequence[Factor], item: Item, labels: Labels
) -> Value:
    """One operand: a sum over the labels that the result lacks, or a transpose."""
    body = Body(1)
    opcode = "ReduceSum" if any(factor.reducer for factor in factors) else "Copy"
    body.add(opcode, item[0].dtype, 0)
    return pointwise(builder, node, node.outputs[0], factors, [item], body, labels)


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
    reduced = next(index for index, factor in enumerate(factors) if factor.reducer is not None)
    depth = factors[reduced].extent
    operands: list[Item] = [(product, labels)]
    terms: list[tuple[int, ...]] = []
    present = [p for p in range(2) if _may_be_nonzero(builder, zeros[p])]
    for position in present:
        zero = zeros[position]
        if zero is None:
            continue
        other = 1 - position
        total = _axis_sum(builder, node, factors, items[other], reduced, f"{node.outputs[0]}/sum{other}")
        operands += [total, (zero, _zero_labels(zero, items[position][1], position, reduced))]
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


def _zero_labels(zero: Value, labels: Labels, position: int, reduced: int) -> Labels:
    """A zero point runs along its matrix's rows (left) or columns (right), if it is no single value."""
    if len(zero.shape) == 1 and zero.shape[0] > 1:
        return (labels[-2] if position == 0 else labels[-1],)
    aligned = labels[len(labels) - len(zero.shape) :] if zero.shape else ()
    return tuple(
        None if extent == 1 or label == reduced else label
        for extent, label in zip(zero.shape, aligned, strict=True)
    )


def _axis_sum(
    builder: GraphBuilder, node: ImportedNode, factors: Sequence[Factor], item: Item, reduced: int, name: str
) -> Item:
    """The operand in int32, summed over the reduced factor."""
    value, labels = item
    kept = tuple(label for label in labels if label != reduced)
    used = {i: n for n, i in enumerate(dict.fromkeys(i for i in labels if i is not None))}
    body = Body(1)
    body.add("ReduceSum", DType.INT32, 0)
    made = pointwise(
        builder,
        node,
        name,
        [factors[i] for i in used],
        [(value, tuple(None if label is None else used[label] for label in labels))],
        body,
        tuple(None if label is None else used[label] for label in kept),
    )
    return made, kept


def convolution(builder: GraphBuilder, node: ImportedNode) -> None:
    """A contraction over windows of the (padded) data, then the bias."""
    output = builder.imported(node.outputs[0])
    form = convolution_of(node, builder.model.tensors)
    data, weight = builder.value(node.inputs[0]), builder.value(node.inputs[1])
    if any(map(any, form.pads)):
        widths = ((0, 0), (0, 0), *form.pads)
        data = padded(builder, node, f"{output.name}/padded", data, widths, builder.scalar(0, data.dtype))
    bare = replace(node, inputs=node.inputs[:2], attributes={**node.attributes, "auto_pad": "VALID"})
    nest = builder.nest(bare)
    biased = has_input(node, 2)
    name = f"{output.name}/product" if biased else output.name
    left, right = from_nest(nest, [data, weight])
    # A channel is (group, channel of the group): two dimensions until the result is reshaped.
    labels: list[int | None] = []
    for axis in nest.results[0]:
        labels += [factor for factor, _ in axis.terms] or [None]
    made = contraction(builder, node, name, nest.factors, (left, right), tuple(labels), output.dtype)
    made = made.seen(Reshape(output.shape))
    if biased:
        bias = builder.value(node.inputs[2]).seen(Reshape((output.shape[1], *(1,) * len(form.kernel))))
        body = Body(2)
        body.add("Add", output.dtype, 0, 1)
        made = over_dimensions(builder, node, output.name, [made, bias], body, output.shape)
    builder.values[output.name] = made
