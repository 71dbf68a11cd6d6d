"""Gathers whose indices are constant and regular are slices, seen through views.

Exporters read position tables with 0, 1, 2, ..., and the attention mask with grids of such counts:
a slice costs nothing on a chip, a gather is a memory operation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .import_nodes import Node, constant_node
from .import_rewriting import Context


@dataclass(frozen=True)
class _Range:
    """start, start + step, ... : `count` indices, step at least 1."""

    start: int
    step: int
    count: int


def gather_as_slice(node: Node, context: Context) -> tuple[Node, ...] | None:
    """Gather(data, regular indices): Slice, Reshape to the index's shape, Expand along equal ones."""
    indices = context.constant(node, 1)
    if indices is None or indices.size == 0:
        return None
    data = context.input_type(node, 0).extents
    axis = node.integer("axis", 0) % len(data)
    indices = _counted_from_start(node, context, indices, data[axis])
    if indices is None:
        return ()
    distinct = _without_repetition(indices)
    span = _as_range(distinct.reshape(-1))
    if span is None:
        return None
    shape = (*data[:axis], *distinct.shape, *data[axis + 1 :])
    return _chain(
        node,
        _slice_step([span], [axis]),
        _shape_step("Reshape", shape),
        _shape_step("Expand", context.output(node).extents),
    )


def gather_nd_as_view(node: Node, context: Context) -> tuple[Node, ...] | None:
    """GatherND(data, grid of counts): every component of the index runs along one axis of the grid."""
    grid = context.constant(node, 1)
    if grid is None or grid.size == 0 or node.integer("batch_dims", 0) != 0:
        return None
    data = context.input_type(node, 0).extents
    components = []
    for axis in range(grid.shape[-1]):
        component = _counted_from_start(node, context, grid[..., axis], data[axis])
        if component is None:
            return ()
        components.append(_without_repetition(component))
    spans = [_as_range(component.reshape(-1)) for component in components]
    homes = [_home(component.shape) for component in components]
    used = [home for home in homes if home is not None]
    if None in spans or _TOO_MANY in used or len(set(used)) < len(used):
        return None
    return _grid_view(node, context, [span for span in spans if span is not None], homes)


_TOO_MANY = -1


def _home(shape: tuple[int, ...]) -> int | None:
    """The one axis along which a component of an index varies; None: it is one number."""
    varying = [axis for axis, extent in enumerate(shape) if extent > 1]
    return None if not varying else varying[0] if len(varying) == 1 else _TOO_MANY


def _grid_view(
    node: Node, context: Context, spans: list[_Range], homes: list[int | None]
) -> tuple[Node, ...]:
    """Slice the indexed axes, order them as the grid does, insert the grid's other axes, expand."""
    result = context.output(node).extents
    rest = len(context.input_type(node, 0).extents) - len(spans)
    grid_rank = len(result) - rest
    order = sorted(range(len(spans)), key=lambda axis: -1 if homes[axis] is None else homes[axis] or 0)
    perm = [*order, *range(len(spans), len(spans) + rest)]
    shape = [result[axis] if axis in homes else 1 for axis in range(grid_rank)] + list(result[grid_rank:])
    sliced, transposed = f"{node.name}/sliced", f"{node.name}/transposed"
    slicing = _chain(replace(node, outputs=(sliced,)), _slice_step(spans, range(len(spans))))
    transpose = replace(node.rewritten("Transpose", (sliced,), perm=perm), outputs=(transposed,))
    views = _chain(
        replace(node, inputs=(transposed,)),
        _shape_step("Reshape", shape),
        _shape_step("Expand", result),
    )
    return (*slicing, transpose, *views)


def _chain(node: Node, *steps: tuple[str, tuple[np.ndarray, ...]]) -> tuple[Node, ...]:
    """Operators one after the other on the node's first input, each with constants of its own; the
    last one writes the node's output."""
    made: list[Node] = []
    data = node.inputs[0]
    for number, (op_type, arrays) in enumerate(steps, start=1):
        names = [f"{node.name}/{op_type}{index}" for index in range(len(arrays))]
        made += [constant_node(name, array, near=node) for name, array in zip(names, arrays, strict=True)]
        output = node.outputs[0] if number == len(steps) else f"{node.name}/{op_type}"
        made.append(replace(node.rewritten(op_type, (data, *names)), outputs=(output,)))
        data = output
    return tuple(made)


def _shape_step(op_type: str, shape: Sequence[int]) -> tuple[str, tuple[np.ndarray, ...]]:
    return op_type, (np.asarray(shape, np.int64),)


def _slice_step(spans: Sequence[_Range], axes: Sequence[int]) -> tuple[str, tuple[np.ndarray, ...]]:
    starts = [span.start for span in spans]
    ends = [span.start + span.step * (span.count - 1) + 1 for span in spans]
    steps = [span.step for span in spans]
    return "Slice", tuple(np.asarray(part, np.int64) for part in (starts, ends, axes, steps))


def _counted_from_start(node: Node, context: Context, indices: np.ndarray, extent: int) -> np.ndarray | None:
    """Indices from the end made indices from the start; None and a refusal if one is out of range."""
    counted = np.where(indices < 0, indices + extent, indices)
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= extent:
        context.refusals.index(node, high if high >= extent else low, extent)
        return None
    return counted


def _without_repetition(indices: np.ndarray) -> np.ndarray:
    """The indices with extent 1 along every axis on which they do not vary."""
    for axis in range(indices.ndim):
        first = indices.take([0], axis)
        if indices.shape[axis] > 1 and bool((indices == first).all()):
            indices = first
    return indices


def _as_range(indices: np.ndarray) -> _Range | None:
    """Evenly spaced, rising indices as a range, None for others."""
    steps = np.diff(indices)
    step = int(steps[0]) if steps.size else 1
    if step < 1 or bool((steps != step).any()):
        return None
    return _Range(int(indices[0]), step, indices.size)
