"""How far a tensor is made when an operator has run some steps of its outermost loop, and how far its
readers need it."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from chiplan.ir import Operand, Operator, Result, Shape, Tiling, View

from .ready_times import ReadyMap, block_maximum, grid_map, map_view


class Loop(NamedTuple):
    """The outermost loop of an operator that has several tiles: its factor, block and steps."""

    factor: int
    block: int
    steps: int


class Written(NamedTuple):
    """What the steps of a loop write: which box of a tensor of `shape`, with which factor along each
    dimension."""

    loop: Loop
    axes: tuple[int | None, ...]
    offsets: tuple[int, ...]
    box: Shape
    shape: Shape


class Seen(NamedTuple):
    """How an operand looks at a tensor."""

    view: View
    axes: tuple[int | None, ...]


def outer_loop(operator: Operator, tiling: Tiling) -> Loop | None:
    """None for a single tile, and where every step adds to the same result."""
    grid = tiling.grid(operator)
    factor = next((f for f in tiling.order if grid[f] > 1), None)
    if factor is None or operator.factors[factor].reducer is not None:
        return None
    return Loop(factor, tiling.blocks[factor], grid[factor])


def written(operator: Operator, result: Result, loop: Loop, shape: Shape) -> Written:
    """What all chips together write of a tensor of `shape`."""
    box = [1 if axis is None else operator.factors[axis].extent for axis in result.axes]
    if result.own:
        box[0] = shape[0]
    return Written(loop, result.axes, result.offsets, tuple(box), shape)


def seen_by(operand: Operand) -> Seen:
    """The operand whatever its tensor is called."""
    return Seen(operand.view, operand.axes)


@lru_cache(maxsize=4096)
def _steps_seen(made: Written, look: Seen) -> ReadyMap | None:
    """Which step, counted from 1, writes each element that an operand sees, 0 for none; None where the loop
    is no dimension of the result."""
    if made.loop.factor not in made.axes:
        return None
    dimension = made.axes.index(made.loop.factor)
    blocks = list(made.box)
    blocks[dimension] = made.loop.block
    rank = len(blocks)
    steps = np.arange(1, made.loop.steps + 1).reshape([-1 if d == dimension else 1 for d in range(rank)])
    return map_view(grid_map(made.shape, made.offsets, blocks, steps, made.box), look.view)


@lru_cache(maxsize=4096)
def steps_needed(made: Written, look: Seen, loop: Loop) -> tuple[int, ...] | None:
    """How many of the writer's steps must be over for each step of a reader's `loop`; None where each waits
    for more than about its share of them."""
    steps = _steps_seen(made, look)
    if steps is None or loop.factor not in look.axes:
        return None
    extents = zip(look.axes, steps.shape, strict=True)
    needed = block_maximum(steps, [loop.block if axis == loop.factor else extent for axis, extent in extents])
    so_far = np.maximum.accumulate(needed.ravel())
    share = -(-np.arange(1, loop.steps + 1) * made.loop.steps // loop.steps)
    return tuple(so_far.tolist()) if (so_far <= share + 1).all() else None


@lru_cache(maxsize=4096)
def block_of_steps(made: Written, look: Seen, factor: int) -> int | None:
    """The largest number of iterations of a reader's `factor` that one step of the writer makes at a time;
    None where all come in one."""
    steps = _steps_seen(made, look)
    if steps is None or factor not in look.axes:
        return None
    dimension = look.axes.index(factor)
    breaks = steps.breaks[dimension]
    return None if len(breaks) == 1 else int(np.diff([*breaks, steps.shape[dimension]]).max())
