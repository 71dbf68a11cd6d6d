"""Ready times of a tensor as a piecewise-constant map: break points an axis, and a cycle a cell.

Every tile of a producer becomes one cell, so a map has hundreds of cells where the tensor has
millions of elements. Views act on the break points; what a consumer's tile must wait for is the
maximum over the cells that its operand block touches. Cells may be split finer than the producer's
tiles (a reshape takes the common refinement), never coarser, so nothing is ever ready too early.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from chiplan.ir import Expand, Own, Reshape, Shape, Slice, Transpose, View, ViewStep, Window, step_shape


@dataclass(frozen=True)
class ReadyMap:
    """`breaks[d]` are the first indices of the cells along axis d (ascending, from 0);
    `cycles` is int64[cells of axis 0, cells of axis 1, ...]."""

    shape: Shape
    breaks: tuple[np.ndarray, ...]
    cycles: np.ndarray


def constant_map(shape: Shape, cycle: int) -> ReadyMap:
    """The whole tensor is ready at `cycle`."""
    first = np.zeros(1, dtype=np.int64)
    return ReadyMap(shape, (first,) * len(shape), np.full((1,) * len(shape), cycle, dtype=np.int64))


def grid_map(
    shape: Shape, offsets: Sequence[int], blocks: Sequence[int], cycles: np.ndarray, box: Sequence[int]
) -> ReadyMap:
    """A box of a tensor, of extents `box` at `offsets`, written in blocks; the rest is ready at 0.

    `cycles` has one entry a block.
    """
    breaks, picks = [], []
    for extent, offset, block, n, size in zip(shape, offsets, blocks, cycles.shape, box, strict=True):
        starts = offset + block * np.arange(n, dtype=np.int64)
        before, after = ([0] if offset else []), ([offset + size] if offset + size < extent else [])
        breaks.append(np.concatenate([before, starts, after]).astype(np.int64))
        picks.append((len(before), n))
    whole = np.zeros(tuple(map(len, breaks)), dtype=np.int64)
    whole[tuple(slice(low, low + n) for low, n in picks)] = cycles
    return ReadyMap(shape, tuple(breaks), whole)


def _cells(breaks: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.searchsorted(breaks, indices, side="right") - 1


def latest(maps: Sequence[ReadyMap]) -> ReadyMap:
    """Cell by cell maximum: boxes of one tensor written by several operators."""
    if len(maps) == 1:
        return maps[0]
    rank = range(len(maps[0].shape))
    breaks = tuple(reduce(np.union1d, [m.breaks[axis] for m in maps]) for axis in rank)
    refined = [m.cycles[np.ix_(*(_cells(m.breaks[a], breaks[a]) for a in rank))] for m in maps]
    return ReadyMap(maps[0].shape, breaks, np.maximum.reduce(refined))


def _slice_axis(breaks: np.ndarray, low: int, extent: int, by: int) -> tuple[np.ndarray, np.ndarray]:
    new = np.unique(np.maximum(0, -(-(breaks - low) // by)))
    new = new[new < extent]
    return new, _cells(breaks, low + new * by)


def _slice(ready: ReadyMap, step: Slice) -> ReadyMap:
    extents = tuple(len(range(*bounds)) for bounds in zip(step.starts, step.stops, step.steps, strict=True))
    axes = [
        _slice_axis(breaks, low, extent, by)
        for breaks, low, extent, by in zip(ready.breaks, step.starts, extents, step.steps, strict=True)
    ]
    cycles = ready.cycles[np.ix_(*(cells for _, cells in axes))]
    return ReadyMap(extents, tuple(new for new, _ in axes), cycles)


def _own(ready: ReadyMap, step: Own) -> ReadyMap:
    """Which piece it is differs from chip to chip, and all start together: the latest of all pieces."""
    axis = step.axis
    return ReadyMap(
        step_shape(step, ready.shape),
        (*ready.breaks[:axis], np.zeros(1, dtype=np.int64), *ready.breaks[axis + 1 :]),
        ready.cycles.max(axis=axis, keepdims=True),
    )


def _window(ready: ReadyMap, step: Window) -> ReadyMap:
    axis, extent = step.axis, ready.shape[step.axis]
    outputs = (extent - (step.size - 1) * step.dilation - 1) // step.stride + 1
    rows = np.arange(outputs) if len(ready.breaks[axis]) > 1 else np.zeros(1, dtype=np.int64)
    taps = np.arange(step.size) if len(ready.breaks[axis]) > 1 else np.zeros(1, dtype=np.int64)
    cells = _cells(ready.breaks[axis], rows[:, None] * step.stride + taps * step.dilation)
    return ReadyMap(
        (*ready.shape[:axis], outputs, step.size, *ready.shape[axis + 1 :]),
        (*ready.breaks[:axis], rows, taps, *ready.breaks[axis + 1 :]),
        np.take(ready.cycles, cells, axis=axis),
    )


def _merge_axes(ready: ReadyMap, axis: int) -> ReadyMap:
    """Axes `axis` and `axis + 1` become one, row-major."""
    (outer, inner), width = ready.breaks[axis : axis + 2], ready.shape[axis + 1]
    rows = outer if len(inner) == 1 else np.arange(ready.shape[axis], dtype=np.int64)
    breaks = (rows[:, None] * width + inner).ravel()
    rows_of, columns_of = (
        np.repeat(_cells(outer, rows), len(inner)),
        np.tile(np.arange(len(inner)), len(rows)),
    )
    index = (slice(None),) * axis + (rows_of, columns_of)
    shape = (*ready.shape[:axis], ready.shape[axis] * width, *ready.shape[axis + 2 :])
    return ReadyMap(shape, (*ready.breaks[:axis], breaks, *ready.breaks[axis + 2 :]), ready.cycles[index])


def _split_axis(ready: ReadyMap, axis: int, width: int) -> ReadyMap:
    """Axis `axis` becomes (extent / width, width), row-major."""
    breaks = ready.breaks[axis]
    rows, columns = np.divmod(breaks, width)
    outer = np.unique(np.concatenate([rows, rows[columns > 0] + 1]))
    outer = outer[outer < ready.shape[axis] // width]
    inner = np.unique(columns)
    cells = _cells(breaks, outer[:, None] * width + inner)
    shape = (*ready.shape[:axis], ready.shape[axis] // width, width, *ready.shape[axis + 1 :])
    return ReadyMap(
        shape,
        (*ready.breaks[:axis], outer, inner, *ready.breaks[axis + 1 :]),
        np.take(ready.cycles, cells, axis=axis),
    )


def _reshape_group(ready: ReadyMap, axis: int, old: int, new: Shape) -> ReadyMap:
    """`old` axes from `axis` on become the axes `new`, of equal product."""
    if not old:
        return _insert_unit_axes(ready, axis, len(new))
    for _ in range(old - 1):
        ready = _merge_axes(ready, axis)
    if not new:
        return _drop_unit_axis(ready, axis)
    for split in range(len(new) - 1):
        width = int(np.prod(new[split + 1 :]))
        ready = _split_axis(ready, axis + split, width)
    return ready


def _insert_unit_axes(ready: ReadyMap, axis: int, count: int) -> ReadyMap:
    first = (np.zeros(1, dtype=np.int64),) * count
    cycles = np.expand_dims(ready.cycles, tuple(range(axis, axis + count)))
    shape = (*ready.shape[:axis], *(1,) * count, *ready.shape[axis:])
    return ReadyMap(shape, (*ready.breaks[:axis], *first, *ready.breaks[axis:]), cycles)


def _drop_unit_axis(ready: ReadyMap, axis: int) -> ReadyMap:
    shape = (*ready.shape[:axis], *ready.shape[axis + 1 :])
    breaks = (*ready.breaks[:axis], *ready.breaks[axis + 1 :])
    return ReadyMap(shape, breaks, ready.cycles.take(0, axis=axis))


def reshape_groups(old: Shape, new: Shape) -> list[tuple[int, Shape]]:
    """The finest split of a reshape into runs of equal product: (old axes in the run, new extents).

    (128, 12, 64) -> (1, 128, 768) is [(0, (1,)), (1, (128,)), (2, (768,))].
    """
    groups: list[tuple[int, Shape]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and j < len(new) and old[i] == new[j]:
            taken, extents = 1, new[j : j + 1]
        elif j < len(new) and new[j] == 1:
            taken, extents = 0, new[j : j + 1]
        elif i < len(old) and old[i] == 1:
            taken, extents = 1, new[j:j]
        else:
            taken, width = _equal_runs(old[i:], new[j:])
            extents = new[j : j + width]
        groups.append((taken, extents))
        i, j = i + taken, j + len(extents)
    return groups


def _equal_runs(old: Shape, new: Shape) -> tuple[int, int]:
    taken = made = 1
    left, right = old[0], new[0]
    while left != right:
        if left < right:
            left *= old[taken]
            taken += 1
        else:
            right *= new[made]
            made += 1
    return taken, made


def _reshape(ready: ReadyMap, step: Reshape) -> ReadyMap:
    axis = 0
    for old, new in reshape_groups(ready.shape, step.shape):
        if (old, len(new)) != (1, 1):
            ready = _reshape_group(ready, axis, old, new)
        axis += len(new)
    return ready


def map_step(ready: ReadyMap, step: ViewStep) -> ReadyMap:
    """The map of a tensor seen through one view step."""
    match step:
        case Reshape():
            return _reshape(ready, step)
        case Transpose(permutation=permutation):
            return ReadyMap(
                tuple(ready.shape[axis] for axis in permutation),
                tuple(ready.breaks[axis] for axis in permutation),
                ready.cycles.transpose(permutation),
            )
        case Slice():
            return _slice(ready, step)
        case Expand(shape=shape):
            return ReadyMap(shape, ready.breaks, ready.cycles)
        case Window():
            return _window(ready, step)
        case Own():
            return _own(ready, step)


def map_view(ready: ReadyMap, view: View) -> ReadyMap:
    """The map of a tensor seen through a view."""
    for step in view:
        ready = map_step(ready, step)
    return ready


def block_maximum(ready: ReadyMap, blocks: Sequence[int]) -> np.ndarray:
    """Latest cycle in each block of a regular grid, int64[blocks of axis 0, ...]."""
    cycles = ready.cycles
    for axis, (breaks, extent, block) in enumerate(zip(ready.breaks, ready.shape, blocks, strict=True)):
        starts = np.arange(0, extent, block)
        if len(breaks) == 1:
            cycles = np.repeat(cycles, len(starts), axis=axis)
        elif len(breaks) != len(starts) or not np.array_equal(breaks, starts):
            merged = np.union1d(breaks, starts)
            refined = np.take(cycles, _cells(breaks, merged), axis=axis)
            cycles = np.maximum.reduceat(refined, np.searchsorted(merged, starts), axis=axis)
    return cycles


def range_maximum(flat: ReadyMap, firsts: np.ndarray, lasts: np.ndarray) -> np.ndarray:
    """Latest cycle in each of the ranges [first, last) of a tensor of one axis; none may be empty."""
    low, high = _cells(flat.breaks[0], firsts), _cells(flat.breaks[0], lasts - 1) + 1
    padded = np.append(flat.cycles, 0)
    pairs = np.stack([low, high], axis=1).ravel()
    latest_cycles: np.ndarray = np.maximum.reduceat(padded, pairs)[::2]
    return latest_cycles
