"""One contraction on the matrix unit: which operand is stationary, and views in which it has one
column factor and one reduced factor."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

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
from .canonical_emit import Item, as_plain, fit, operands_of, pointwise
from .canonical_loops import Layout, Space, stored_layout
from .canonical_views import Labels, factor_view
from .imported import ImportedNode


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
    kept = [
        f if index in summed or f.reducer is None else replace(f, extent=1) for index, f in enumerate(factors)
    ]
    space, pair = fit(builder, node, kept, pair)
    return _matrix_operator(builder, node, name, space, pair, labels, dtype)


def _summed_alone(
    builder: GraphBuilder,
    node: ImportedNode,
    factors: Sequence[Factor],
    items: tuple[Item, Item],
    position: int,
) -> Item:
    """The operand, summed first over reduced factors that the other operand does not have."""
    (value, labels), (_, others) = items[position], items[1 - position]
    alone = {i for i in labels if i is not None and factors[i].reducer is not None and i not in others}
    if not alone:
        return items[position]
    kept = tuple(label for label in labels if label not in alone)
    return sum_of(builder, node, factors, items[position], kept, f"{value.tensor}/sum", value.dtype), kept


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
    by_columns = not own[1] and bool(own[0])
    swapped = is_weight[0] if is_weight[0] != is_weight[1] else by_columns
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
    names = dict(numbers) | {parts[0]: new for parts, new in groups if len(parts) == 1}
    several = [(parts, new) for parts, new in groups if len(parts) != 1]
    if not several:
        return Operand(operand.tensor, operand.view, renamed(operand.axes, names))
    moved = [operand.axes.index(part) for parts, _ in several for part in parts]
    kept = [position for position in range(len(operand.axes)) if position not in moved]
    stored = builder.tensors[operand.tensor].shape
    shape = view_shape(operand.view, stored)
    extents = [shape[position] for position in kept]
    extents += [prod(shape[operand.axes.index(part)] for part in parts) for parts, _ in several]
    steps = (*operand.view, Transpose((*kept, *moved)), Reshape(tuple(extents)))
    axes = renamed(tuple(operand.axes[position] for position in kept), names)
    return Operand(operand.tensor, simplify_view(steps, stored), (*axes, *(new for _, new in several)))


def renamed(axes: Labels, names: dict[int, int]) -> Labels:
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
    axes = renamed(tuple(axis for _, axis in parts), names)
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


def sum_of(
    builder: GraphBuilder,
    node: ImportedNode,
    factors: Sequence[Factor],
    item: Item,
    kept: Labels,
    name: str,
    dtype: DType,
) -> Value:
    """The operand summed over its factors that are not `kept`."""
    value, labels = item
    used = {factor: number for number, factor in enumerate(dict.fromkeys(f for f in labels if f is not None))}
    loops = [replace(factors[f], reducer=None if f in kept else Reducer.SUM) for f in used]
    body = Body(1)
    body.add("ReduceSum", dtype, 0)
    return pointwise(builder, node, name, loops, [(value, renamed(labels, used))], body, renamed(kept, used))
