"""Gathers, scatters, sorts and scans. A constant index that advances evenly is a view."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chiplan.ir import (
    DType,
    Expand,
    Instruction,
    Reshape,
    Slice,
    Transpose,
    Unit,
)

from .canonical_builder import Body, GraphBuilder, Value, axis_of, instruction_attributes
from .canonical_emit import gathered, plain_operator
from .canonical_pointwise import over_dimensions
from .imported import ImportedNode
from .nests_loops import constant_input, integer


class _Advance(NamedTuple):
    """Indices start + step * i along dimension `axis` of the index tensor; axis None: one index."""

    start: int
    step: int
    extent: int
    axis: int | None


def _advance(indices: np.ndarray) -> _Advance | None:
    """How the indices advance; None unless they do so evenly, forwards, along one axis at most."""
    start = int(indices.flat[0])
    steps = []
    expected = np.full(indices.shape, start, np.int64)
    for axis, extent in enumerate(indices.shape):
        if extent == 1:
            continue
        step = int(np.take(indices, 1, axis).flat[0]) - start
        grid = np.arange(extent).reshape((-1,) + (1,) * (indices.ndim - axis - 1))
        expected = expected + step * grid
        if step:
            steps.append(_Advance(start, step, extent, axis))
    if len(steps) > 1 or start < 0 or not np.array_equal(expected, indices):
        return None
    if not steps:
        return _Advance(start, 1, 1, None)
    return steps[0] if steps[0].step > 0 else None


def _even_view(value: Value, first: int, advances: Sequence[_Advance], shape: Sequence[int]) -> Value | None:
    """`value` indexed on axes first, first + 1, ... by indices of `shape` that advance evenly."""
    axes = [advance.axis for advance in advances if advance.axis is not None]
    if len(set(axes)) < len(axes):
        return None
    last = first + len(advances)
    bounds = [(0, extent, 1) for extent in value.shape]
    for position, a in enumerate(advances):
        bounds[first + position] = (a.start, a.start + (a.extent - 1) * a.step + 1, a.step)
    order = sorted(
        range(len(advances)), key=lambda p: -1 if advances[p].axis is None else advances[p].axis or 0
    )
    permutation = (*range(first), *(first + p for p in order), *range(last, len(value.shape)))
    spread = [extent if axis in axes else 1 for axis, extent in enumerate(shape)]
    before, after = value.shape[:first], value.shape[last:]
    return value.seen(
        Slice(*(tuple(column) for column in zip(*bounds, strict=True))),
        Transpose(permutation),
        Reshape((*before, *spread, *after)),
        Expand((*before, *shape, *after)),
    )


def gather(builder: GraphBuilder, node: ImportedNode) -> None:
    """Rows by index: a view where the indices are known and advance evenly, else the memory unit."""
    output, value = builder.imported(node.outputs[0]), builder.value(node.inputs[0])
    axis = axis_of(builder, node, 0)
    known = builder.known(node.inputs[1])
    if known is not None and known.size:
        positive = np.where(known < 0, known + value.shape[axis], known)
        advance = _advance(positive)
        seen = None if advance is None else _even_view(value, axis, [advance], known.shape)
        if seen is not None:
            builder.values[output.name] = seen
            return
    indices = builder.value(node.inputs[1])
    builder.values[output.name] = gathered(builder, node, output.name, value, indices, axis)


def gather_tuples(builder: GraphBuilder, node: ImportedNode) -> None:
    """GatherND: a view where the indices are known and even; a Gather where tuples have one entry."""
    output, value = builder.imported(node.outputs[0]), builder.value(node.inputs[0])
    known, batch = builder.known(node.inputs[1]), integer(node, "batch_dims", 0)
    if known is not None and known.size and batch == 0:
        extents = np.array(value.shape[: known.shape[-1]])
        positive = np.where(known < 0, known + extents, known)
        advances = [_advance(positive[..., entry]) for entry in range(known.shape[-1])]
        if all(advances):
            seen = _even_view(value, 0, [a for a in advances if a], known.shape[:-1])
            if seen is not None:
                builder.values[output.name] = seen
                return
    indices = builder.value(node.inputs[1])
    if indices.shape[-1] == 1 and batch == 0:
        rows = indices.seen(Reshape(indices.shape[:-1]))
        builder.values[output.name] = gathered(builder, node, output.name, value, rows, 0)
        return
    indexing(builder, node)


def indexing(builder: GraphBuilder, node: ImportedNode) -> None:
    """The memory unit does the ONNX operator as it is: GatherND, GatherElements, Scatter*."""
    output = builder.imported(node.outputs[0])
    values = [builder.value(name) for name in node.inputs]
    attributes = instruction_attributes(node.attributes, "axis", "batch_dims", "reduction")
    instruction = Instruction(node.op_type, tuple(range(len(values))), output.dtype, attributes)
    nest = builder.nest(node)
    made = plain_operator(builder, node, Unit.MEMORY, nest, values, [(output.name, instruction)])
    builder.values[output.name] = made[0]


def scan(builder: GraphBuilder, node: ImportedNode) -> None:
    """CumSum on the vector unit, its axis whole."""
    output, value = builder.imported(node.outputs[0]), builder.value(node.inputs[0])
    axis = int(constant_input(node, builder.model.tensors, 1).reshape(())) % len(value.shape)
    attributes = (("axis", axis), *instruction_attributes(node.attributes, "exclusive", "reverse"))
    instruction = Instruction("CumSum", (0,), output.dtype, attributes)
    nest = builder.nest(node)
    made = plain_operator(builder, node, Unit.VECTOR, nest, [value], [(output.name, instruction)])
    builder.values[output.name] = made[0]


def extremum_index(builder: GraphBuilder, node: ImportedNode) -> None:
    """ArgMax, ArgMin on the vector unit."""
    output, value = builder.imported(node.outputs[0]), builder.value(node.inputs[0])
    attributes = (
        ("axis", axis_of(builder, node, 0)),
        *instruction_attributes(node.attributes, "keepdims", "select_last_index"),
    )
    instruction = Instruction(node.op_type, (0,), output.dtype, attributes)
    nest = builder.nest(node)
    made = plain_operator(builder, node, Unit.VECTOR, nest, [value], [(output.name, instruction)])
    builder.values[output.name] = made[0]


def top(builder: GraphBuilder, node: ImportedNode) -> None:
    """TopK is two instructions over one operand: TopKValues and TopKIndices, each a result if used."""
    value = builder.value(node.inputs[0])
    axis = axis_of(builder, node, -1)
    names = [
        (opcode, name)
        for opcode, name in zip(("TopKValues", "TopKIndices"), node.outputs, strict=False)
        if name
    ]
    kept = builder.imported(names[0][1]).shape[axis]
    attributes = (("axis", axis), ("k", kept), ("largest", integer(node, "largest", 1)))
    results = [
        (name, Instruction(opcode, (0,), builder.imported(name).dtype, attributes)) for opcode, name in names
    ]
    made = plain_operator(builder, node, Unit.VECTOR, builder.nest(node), [value], results)
    for (_, name), result in zip(names, made, strict=True):
        builder.values[name] = result


def one_hot(builder: GraphBuilder, node: ImportedNode) -> None:
    """Where(index == position, on, off); a negative index counts from the end."""
    output, value = builder.imported(node.outputs[0]), builder.value(node.inputs[0])
    pair = builder.value(node.inputs[2])
    rank = len(value.shape) + 1
    axis = integer(node, "axis", -1) % rank
    depth = output.shape[axis]
    kind = DType.INT64
    grid = np.arange(depth).reshape((-1,) + (1,) * (rank - axis - 1))
    spread = value.seen(Reshape((*value.shape[:axis], 1, *value.shape[axis:])))
    off, on = (pair.seen(Slice((i,), (i + 1,), (1,)), Reshape(())) for i in range(2))
    values = [
        spread,
        builder.constant(f"{output.name}/positions", grid, kind),
        builder.scalar(depth, kind),
        builder.scalar(0, kind),
        on,
        off,
    ]
    body = Body(len(values))
    index = body.add("Cast", kind, 0)
    wrapped = body.add(
        "Where", kind, body.add("Less", DType.BOOL, index, 3), body.add("Add", kind, index, 2), index
    )
    body.add("Where", output.dtype, body.add("Equal", DType.BOOL, wrapped, 1), 4, 5)
    builder.values[output.name] = over_dimensions(builder, node, output.name, values, body, output.shape)
