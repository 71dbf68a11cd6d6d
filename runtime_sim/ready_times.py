"""When each element of a tensor is in a chip's SRAM, as a plain array with the tensor's shape.

Element by element, with the views that numerics uses, so that it is obviously right. One thing makes
it quick: an axis along which nothing changes is broadcast (stride 0), and is reduced by looking at
its first index alone.
"""

from collections.abc import Sequence

import numpy as np

from chiplan.ir import Operand, Operator, Own, Result, Tiling, View, apply_step, block_extents, step_shape

from .limits import check_entries


def result_grid(ready: np.ndarray, operator: Operator, tiling: Tiling, result: Result) -> np.ndarray:
    """Ready cycle of every block of a result, one axis a dimension of the tensor: the last of all
    tiles that write to the block. `ready` holds the operator's tiles in tile order."""
    grid = tiling.grid(operator)
    by_factor = ready.reshape([grid[f] for f in tiling.order]).transpose(np.argsort(tiling.order))
    kept = [axis for axis in result.axes if axis is not None]
    summed = tuple(f for f in range(len(grid)) if f not in kept)
    blocks = by_factor.max(axis=summed) if summed else by_factor
    blocks = blocks.transpose(np.argsort(np.argsort(kept)))
    return blocks.reshape([1 if axis is None else grid[axis] for axis in result.axes])


def spread(blocks: np.ndarray, operator: Operator, tiling: Tiling, result: Result) -> np.ndarray:
    """`blocks` with every block as large as it is; constant axes are broadcast."""
    shape = tuple(1 if axis is None else operator.factors[axis].extent for axis in result.axes)
    # The innermost axis first, so that the large repetitions copy long runs.
    for d, axis in reversed(list(enumerate(result.axes))):
        if axis is not None and blocks.shape[d] > 1:
            blocks = np.repeat(blocks, block_extents(shape[d], tiling.blocks[axis]), axis=d)
    return np.broadcast_to(blocks, shape)


def constant_axes_dropped(array: np.ndarray) -> np.ndarray:
    """`array` with extent 1 along every axis on which it is broadcast."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]


def block_maxima(array: np.ndarray, blocks: Sequence[int]) -> np.ndarray:
    """Largest entry of every block of the grid with `blocks[d]` entries along axis d (the last one
    ragged). An axis on which `array` is constant keeps extent 1."""
    array = constant_axes_dropped(array)
    for d in reversed(range(array.ndim)):
        extent = array.shape[d]
        if extent == 1 or blocks[d] == 1:
            continue
        if blocks[d] >= extent:
            array = array.max(axis=d, keepdims=True)
        else:
            array = np.maximum.reduceat(array, np.arange(0, extent, blocks[d]), axis=d)
    return array


def latest_view(view: View, cycles: np.ndarray) -> np.ndarray:
    """`cycles` seen through a view by all chips together: whichever piece a chip's own one is, it is
    there in the latest cycle of all."""
    for step in view:
        if isinstance(step, Own):
            shape = step_shape(step, cycles.shape)
            cycles = np.broadcast_to(cycles.max(axis=step.axis, keepdims=True), shape)
        else:
            cycles = apply_step(step, cycles)
    return cycles


def operand_needs(viewed: np.ndarray, tiling: Tiling, operand: Operand) -> np.ndarray:
    """Cycle in which all that a tile reads is there, broadcastable to the tile grid in the order of
    the tiling. `viewed` holds ready cycles seen through the operand's view."""
    blocks = [
        extent if axis is None else tiling.blocks[axis]
        for axis, extent in zip(operand.axes, viewed.shape, strict=True)
    ]
    maxima = block_maxima(viewed, blocks)
    place = {factor: position for position, factor in enumerate(tiling.order)}
    used = sorted((place[axis], d) for d, axis in enumerate(operand.axes) if axis is not None)
    unused = [d for d, axis in enumerate(operand.axes) if axis is None]
    shape = [1] * len(tiling.order)
    for position, d in used:
        shape[position] = maxima.shape[d]
    return maxima.transpose([*unused, *(d for _, d in used)]).reshape(shape)


def cell_edges(elements: int, *bounds: np.ndarray) -> np.ndarray:
    """Bounds of the cells into which `bounds` (element numbers) cut a flat tensor, ends included."""
    return np.unique(np.concatenate([np.array([0, elements], dtype=np.int64), *bounds]))


def cell_minima(
    edges: np.ndarray,
    chip: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    cycle: np.ndarray,
    empty: np.ndarray,
) -> np.ndarray:
    """Earliest cycle in which ranges [first, last) of a flat tensor come to each of its chips.

    `edges` hold all bounds of ranges; `empty` is an array [chips, cells] with what holds where none
    comes. Returns its entries, or the earliest of the ranges over them.
    """
    low, high = np.searchsorted(edges, first), np.searchsorted(edges, last)
    count = high - low
    check_entries("cells that transfers bring", int(count.sum()))
    cell = np.repeat(low + chip * empty.shape[1] - (np.cumsum(count) - count), count)
    cell += np.arange(len(cell))
    flat = empty.ravel().copy()
    np.minimum.at(flat, cell, np.repeat(cycle, count).astype(flat.dtype))
    return flat.reshape(empty.shape)


def spread_cells(cells: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """One entry an element from one a cell."""
    return np.repeat(cells, np.diff(edges))


def range_maxima(flat: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Largest entry of flat[first:last] for every pair; no range is empty."""
    order = np.lexsort((last, first))
    padded = np.append(flat, flat[-1:])
    edges = np.column_stack([first, last])[order].ravel()
    maxima = np.empty(len(first), dtype=flat.dtype)
    maxima[order] = np.maximum.reduceat(padded, edges)[::2]
    return maxima
