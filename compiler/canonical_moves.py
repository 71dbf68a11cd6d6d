"""Operators that move elements: views (which cost nothing), concatenation, padding, and the appending
of rows to a resident state."""

from collections.abc import Sequence

import numpy as np

from chiplan.ir import (
    DType,
    Expand,
    Reshape,
    Role,
    Shape,
    Slice,
    State,
    Tensor,
    Transpose,
    Unit,
)

from .canonical_builder import GraphBuilder, Value, axis_of
from .canonical_emit import copy_into, gathered
from .imported import ImportedModel, ImportedNode
from .nests_loops import has_input, refused, text
from .nests_views import Bounds, pad_widths, permutation_of, slice_bounds


def slice_of(bounds: Sequence[Bounds]) -> Slice:
    """The view step of positive bounds."""
    return Slice(
        tuple(bound.start for bound in bounds),
        tuple(bound.start + (bound.extent - 1) * bound.step + 1 for bound in bounds),
        tuple(bound.step for bound in bounds),
    )


def reshaped(builder: GraphBuilder, node: ImportedNode) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze; and Identity."""
    shape = builder.imported(node.outputs[0]).shape
    builder.values[node.outputs[0]] = builder.value(node.inputs[0]).seen(Reshape(shape))


def transposed(builder: GraphBuilder, node: ImportedNode) -> None:
    permutation = permutation_of(node, builder.model.tensors)
    builder.values[node.outputs[0]] = builder.value(node.inputs[0]).seen(Transpose(permutation))


def expanded(builder: GraphBuilder, node: ImportedNode) -> None:
    """Expand: missing dimensions first, then the broadcast."""
    value, shape = builder.value(node.inputs[0]), builder.imported(node.outputs[0]).shape
    aligned = (1,) * (len(shape) - len(value.shape)) + value.shape
    builder.values[node.outputs[0]] = value.seen(Reshape(aligned), Expand(shape))


def tiled(builder: GraphBuilder, node: ImportedNode) -> None:
    """Tile: a dimension is (repeat, d), broadcast along the repeat."""
    value, shape = builder.value(node.inputs[0]), builder.imported(node.outputs[0]).shape
    apart: list[int] = []
    repeated: list[int] = []
    for extent, whole in zip(value.shape, shape, strict=True):
        apart += [1, extent]
        repeated += [whole // extent, extent]
    builder.values[node.outputs[0]] = value.seen(
        Reshape(tuple(apart)), Expand(tuple(repeated)), Reshape(shape)
    )


def sliced(builder: GraphBuilder, node: ImportedNode) -> None:
    """Positive steps are a view; an axis that runs backwards is gathered with constant indices."""
    value, output = builder.value(node.inputs[0]), builder.imported(node.outputs[0])
    bounds = slice_bounds(node, builder.model.tensors)
    forward = [b if b.step > 0 else Bounds(0, 1, value.shape[axis]) for axis, b in enumerate(bounds)]
    value = value.seen(slice_of(forward))
    for axis, bound in enumerate(bounds):
        if bound.step < 0:
            value = _backwards(builder, node, value, axis, bound)
    builder.values[output.name] = value


def _backwards(builder: GraphBuilder, node: ImportedNode, value: Value, axis: int, bound: Bounds) -> Value:
    """Rows bound.start, bound.start + bound.step, ... of `axis`, by a gather."""
    rows = bound.start + bound.step * np.arange(bound.extent)
    indices = builder.constant(f"{node.outputs[0]}/rows", rows, DType.INT64)
    return gathered(builder, node, f"{node.outputs[0]}/{axis}", value, indices, axis)


def split(builder: GraphBuilder, node: ImportedNode) -> None:
    """Each piece is a slice."""
    value = builder.value(node.inputs[0])
    axis = axis_of(builder, node, 0)
    start = 0
    for name in node.outputs:
        if not name:
            continue
        extent = builder.imported(name).shape[axis]
        bounds = [Bounds(0, 1, whole) for whole in value.shape]
        bounds[axis] = Bounds(start, 1, extent)
        builder.values[name] = value.seen(slice_of(bounds))
        start += extent


def concat(builder: GraphBuilder, node: ImportedNode) -> None:
    """One copy a piece, each into its box of the result; new rows of a state go into the state."""
    output = builder.imported(node.outputs[0])
    axis = axis_of(builder, node, 0)
    values = [builder.value(name) for name in node.inputs]
    pieces = [value for value in values if value.shape[axis]]
    if len(pieces) == 1:
        builder.values[output.name] = pieces[0]
    elif not append(builder, node, pieces, axis):
        tensor = builder.computed(output.name, output.shape, output.dtype)
        _fill(builder, node, pieces, tensor, axis, 0)
        builder.values[output.name] = Value(tensor, output.shape, (), output.shape, output.dtype)


def _fill(
    builder: GraphBuilder, node: ImportedNode, pieces: Sequence[Value], tensor: str, axis: int, start: int
) -> None:
    """Copies the pieces side by side along `axis`, from row `start` on."""
    for piece in pieces:
        offsets = [0] * len(piece.shape)
        offsets[axis] = start
        copy_into(builder, node, piece, tensor, offsets)
        start += piece.shape[axis]


def declare_states(builder: GraphBuilder) -> None:
    """One resident tensor a KV-cache pair; the past is its first rows."""
    builder.presents = _presents(builder.model)
    for pair in builder.model.states:
        past, present = builder.imported(pair.past), builder.imported(pair.present)
        rows = past.shape[pair.axis]
        tensor = Tensor(pair.past, present.shape, present.dtype, Role.STATE, resident_rows=(pair.axis, rows))
        whole = builder.store(tensor)
        builder.values[pair.past] = whole.seen(_rows(present.shape, pair.axis, 0, rows))
        builder.states.append(State(pair.past, pair.present, tensor.name, pair.axis))


def _rows(shape: Shape, axis: int, start: int, stop: int) -> Slice:
    bounds = [Bounds(0, 1, extent) for extent in shape]
    bounds[axis] = Bounds(start, 1, stop - start)
    return slice_of(bounds)


def append(builder: GraphBuilder, node: ImportedNode, pieces: Sequence[Value], axis: int) -> bool:
    """Whether the concatenation is (past rows, new rows) of a state. The new rows are then copied
    behind the resident ones and the result is the state itself, seen in the past's layout."""
    past, new = pieces[0], pieces[1:]
    tensor = builder.tensors[past.tensor]
    if tensor.resident_rows is None or node.outputs[0] not in builder.presents:
        return False
    state_axis, rows = tensor.resident_rows
    order = _layout_of_past(past, tensor, state_axis, rows)
    total = sum(piece.shape[axis] for piece in pieces)
    if order is None or order[axis] != state_axis or total != tensor.shape[state_axis]:
        return False
    start = rows
    inverse = tuple(int(position) for position in np.argsort(order))
    for piece in new:
        offsets = [0] * len(tensor.shape)
        offsets[state_axis] = start
        copy_into(builder, node, piece, tensor.name, offsets, order=inverse, unit=Unit.MEMORY)
        start += piece.shape[axis]
    whole = Value(tensor.name, tensor.shape, (), tensor.shape, tensor.dtype)
    builder.values[node.outputs[0]] = whole.seen(Transpose(order))
    return True


def _layout_of_past(past: Value, tensor: Tensor, axis: int, rows: int) -> tuple[int, ...] | None:
    """The permutation through which the past's rows are seen; None if it is no permutation of them."""
    whole = Value(tensor.name, tensor.shape, (), tensor.shape, tensor.dtype)
    resident = whole.seen(_rows(tensor.shape, axis, 0, rows))
    if past.view == resident.view:
        return tuple(range(len(tensor.shape)))
    last = past.view[-1] if past.view else None
    if isinstance(last, Transpose) and resident.seen(last).view == past.view:
        return last.permutation
    return None


_LAYOUT_ONLY = ("Identity", "Transpose")


def _presents(model: ImportedModel) -> frozenset[str]:
    """Names of values that are a present output but for their layout."""
    producers = {name: node for node in model.nodes for name in node.outputs}
    names = set()
    for pair in model.states:
        name = pair.present
        names.add(name)
        while name in producers and producers[name].op_type in _LAYOUT_ONLY:
            name = producers[name].inputs[0]
            names.add(name)
    return frozenset(names)


def pad(builder: GraphBuilder, node: ImportedNode) -> None:
    output, value = builder.imported(node.outputs[0]), builder.value(node.inputs[0])
    if text(node, "mode", "constant") != "constant":
        message = f"padding mode {text(node, 'mode', '')} is not supported: pad with a constant."
        raise refused(node, "unsupported_padding", message)
    widths = pad_widths(node, builder.model.tensors)
    if min(min(width) for width in widths) < 0:
        raise refused(node, "unsupported_padding", "a negative width is not supported: use Slice to crop.")
    fill = builder.value(node.inputs[2]) if has_input(node, 2) else builder.scalar(0, value.dtype)
    builder.values[output.name] = padded(builder, node, output.name, value, widths, fill)


def padded(
    builder: GraphBuilder,
    node: ImportedNode,
    name: str,
    value: Value,
    widths: Sequence[tuple[int, int]],
    fill: Value,
) -> Value:
    """The value with a constant border, one copy for the inside and one a side of the border."""
    shape = tuple(low + extent + high for extent, (low, high) in zip(value.shape, widths, strict=True))
    tensor = builder.computed(name, shape, value.dtype)
    copy_into(builder, node, value, tensor, [low for low, _ in widths])
    single = fill.seen(Reshape((1,) * len(shape)))
    for axis, (low, high) in enumerate(widths):
        # Sides of earlier axes cover their corners: this side spans the inside of those axes.
        inside = [*value.shape[:axis], 0, *shape[axis + 1 :]]
        offsets = [*(before for before, _ in widths[:axis]), 0, *(0 for _ in shape[axis + 1 :])]
        for width, start in ((low, 0), (high, shape[axis] - high)):
            if width:
                inside[axis], offsets[axis] = width, start
                copy_into(builder, node, single.seen(Expand(tuple(inside))), tensor, offsets)
    return Value(tensor, shape, (), shape, value.dtype)
