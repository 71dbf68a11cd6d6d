"""Tiles of an operator with the cycles in which they run, and when what they write is there."""

from dataclasses import dataclass

import numpy as np

from chiplan.ir import Result, Shape

from .ready_times import ReadyMap, constant_map, grid_map
from .tile_choice import TiledOperator


@dataclass(frozen=True)
class ScheduledOperator:
    """Start cycle and instance of every tile of an operator on one chip, in tile order; of the first of
    them while it is being scheduled."""

    tiled: TiledOperator
    instance: np.ndarray
    start: np.ndarray
    end: np.ndarray


def extended(
    tiled: TiledOperator, before: ScheduledOperator | None, placed: tuple[np.ndarray, np.ndarray]
) -> ScheduledOperator:
    """An operator with more of its atoms scheduled: their starts and instances `placed`."""
    start, instance = placed
    run, first = tiled.offset.shape[1], 0 if before is None else len(before.start) // tiled.offset.shape[1]
    atoms = slice(first, first + len(start))
    starts = (start[:, None] + tiled.offset[atoms]).ravel()
    ends = starts + tiled.occupancy[atoms].ravel()
    instances = np.repeat(instance, run)
    if before is None:
        return ScheduledOperator(tiled, instances, starts, ends)
    return ScheduledOperator(
        tiled,
        np.concatenate([before.instance, instances]),
        np.concatenate([before.start, starts]),
        np.concatenate([before.end, ends]),
    )


def result_map(result: Result, done: ScheduledOperator, shape: Shape) -> ReadyMap:
    """When each written block is in SRAM: a block that accumulates is ready with its last tile. Of a
    tensor of pieces every chip writes its own; together they write all in the same cycles. Blocks that
    are not scheduled yet seem ready at 0."""
    operator, tiling = done.tiled.operator, done.tiled.tiling
    grid = tiling.grid(operator)
    missing = done.tiled.offset.size - len(done.end)
    cycles = np.concatenate([done.end + done.tiled.depth, np.zeros(missing, dtype=np.int64)])
    cycles = cycles.reshape([grid[f] for f in tiling.order])
    cycles = cycles.transpose(np.argsort(tiling.order)) if cycles.ndim else cycles
    kept = [axis for axis in result.axes if axis is not None]
    dropped = tuple(f for f in range(len(grid)) if f not in kept)
    cycles = cycles.max(axis=dropped) if dropped else cycles
    cycles = cycles.transpose(np.argsort(np.argsort(kept))) if kept else cycles
    cycles = np.expand_dims(cycles, tuple(d for d, axis in enumerate(result.axes) if axis is None))
    blocks = [
        1 if axis is None else min(tiling.blocks[axis], operator.factors[axis].extent) for axis in result.axes
    ]
    extents = [1 if axis is None else operator.factors[axis].extent for axis in result.axes]
    if result.own:
        blocks[0] = extents[0] = shape[0]
    if not cycles.ndim:
        return constant_map(shape, int(cycles))
    return grid_map(shape, result.offsets, blocks, cycles, extents)
