"""Views: how an operand looks at a stored tensor without moving a byte.

A view is a chain of steps; each step is a numpy view operation with static arguments. The
compiler maps ready times through the chain, the simulator applies it to dense arrays, numerics
applies it to the bytes in a chip's memory. All three therefore agree on what is read.
"""

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np

from .mesh import MeshPlace
from .types import Shape


@dataclass(frozen=True)
class Reshape:
    """Same elements in row-major order, other extents. Splits and merges axes."""

    shape: Shape


@dataclass(frozen=True)
class Transpose:
    """Result axis i is input axis `permutation[i]`."""

    permutation: tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """`x[starts[i]:stops[i]:steps[i]]` on every axis. Bounds are resolved (0 <= start < stop <=
    extent) and steps positive; one entry an axis."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Expand:
    """Broadcast axes of extent 1 to `shape`; the rank is unchanged (reshape first)."""

    shape: Shape


@dataclass(frozen=True)
class Window:
    """Axis `axis` of extent L becomes two axes (outputs, size): element (o, k) reads
    o * stride + k * dilation. outputs = (L - (size - 1) * dilation - 1) // stride + 1."""

    axis: int
    size: int
    stride: int
    dilation: int


@dataclass(frozen=True)
class Own:
    """Of axis `axis`, cut into `ways` pieces of ceil(extent / ways) elements, the piece numbered
    (c + shift) mod ways, where c is the chip's position along the mesh `axes`. Past the end of a short
    piece the axis' last element is repeated; nobody may use it (`Split`)."""

    axis: int
    axes: tuple[int, ...]
    ways: int
    shift: int = 0


ViewStep: TypeAlias = Reshape | Transpose | Slice | Expand | Window | Own
View: TypeAlias = tuple[ViewStep, ...]


def step_shape(step: ViewStep, shape: Shape) -> Shape:
    """Extents after one step. Raises ValueError when the step does not fit `shape`."""
    match step:
        case Reshape(shape=new):
            if prod(new) != prod(shape):
                raise ValueError(f"cannot reshape {shape} to {new}")
            return new
        case Transpose(permutation=permutation):
            if sorted(permutation) != list(range(len(shape))):
                raise ValueError(f"{permutation} does not permute {shape}")
            return tuple(shape[axis] for axis in permutation)
        case Slice(starts=starts, stops=stops, steps=steps):
            if not len(starts) == len(stops) == len(steps) == len(shape):
                raise ValueError(f"slice of {len(starts)} axes on {shape}")
            return tuple(
                len(range(low, high, by)) for low, high, by in zip(starts, stops, steps, strict=True)
            )
        case Expand(shape=new):
            if len(new) != len(shape) or any(
                old not in (1, extent) for old, extent in zip(shape, new, strict=True)
            ):
                raise ValueError(f"cannot expand {shape} to {new}")
            return new
        case Window(axis=axis, size=size, stride=stride, dilation=dilation):
            outputs = (shape[axis] - (size - 1) * dilation - 1) // stride + 1
            return (*shape[:axis], outputs, size, *shape[axis + 1 :])
        case Own(axis=axis, ways=ways):
            return (*shape[:axis], -(-shape[axis] // ways), *shape[axis + 1 :])


def view_shape(view: View, shape: Shape) -> Shape:
    """Extents of a tensor of `shape` seen through `view`."""
    for step in view:
        shape = step_shape(step, shape)
    return shape


def apply_step(step: ViewStep, array: np.ndarray, place: MeshPlace | None = None) -> np.ndarray:
    """One step on a numpy array; a reshape that no stride pattern expresses copies.

    `place` is the chip that looks; raises ValueError when an `Own` step has none.
    """
    match step:
        case Reshape(shape=shape):
            return array.reshape(shape)
        case Transpose(permutation=permutation):
            return array.transpose(permutation)
        case Slice(starts=starts, stops=stops, steps=steps):
            return array[tuple(map(slice, starts, stops, steps))]
        case Expand(shape=shape):
            return np.broadcast_to(array, shape)
        case Window(axis=axis, size=size, stride=stride, dilation=dilation):
            span = (size - 1) * dilation + 1
            windows = np.lib.stride_tricks.sliding_window_view(array, span, axis=axis)
            windows = np.moveaxis(windows, -1, axis + 1)
            index: list[slice] = [slice(None)] * windows.ndim
            index[axis], index[axis + 1] = slice(None, None, stride), slice(None, None, dilation)
            return windows[tuple(index)]
        case Own():
            return _own_piece(step, array, place)


def _own_piece(step: Own, array: np.ndarray, place: MeshPlace | None) -> np.ndarray:
    if place is None:
        raise ValueError("only a chip of a group has a piece of its own")
    extent = array.shape[step.axis]
    part = -(-extent // step.ways)
    first = (place.piece(step.axes) + step.shift) % step.ways * part
    if first + part <= extent:
        piece: np.ndarray = array[(slice(None),) * step.axis + (slice(first, first + part),)]
        return piece
    padded: np.ndarray = array.take(np.minimum(np.arange(first, first + part), extent - 1), axis=step.axis)
    return padded


def apply_view(view: View, array: np.ndarray, place: MeshPlace | None = None) -> np.ndarray:
    """`array` seen through `view` by the chip at `place`."""
    for step in view:
        array = apply_step(step, array, place)
    return array


def _is_identity(step: ViewStep, shape: Shape) -> bool:
    match step:
        case Reshape(shape=new) | Expand(shape=new):
            return new == shape
        case Transpose(permutation=permutation):
            return permutation == tuple(range(len(shape)))
        case Slice(starts=starts, stops=stops, steps=steps):
            whole = (
                low == 0 and high == extent for low, high, extent in zip(starts, stops, shape, strict=True)
            )
            return all(whole) and set(steps) <= {1}
        case Window() | Own():
            return False


def _merge(first: ViewStep, second: ViewStep) -> ViewStep | None:
    match first, second:
        case Reshape(), Reshape():
            return second
        case Transpose(permutation=a), Transpose(permutation=b):
            return Transpose(tuple(a[axis] for axis in b))
        case Expand(), Expand():
            return second
        case Slice(starts=low, steps=by), Slice(starts=low2, stops=high2, steps=by2):
            return Slice(
                tuple(a + b * s for a, b, s in zip(low, low2, by, strict=True)),
                tuple(a + (b - 1) * s + 1 for a, b, s in zip(low, high2, by, strict=True)),
                tuple(a * b for a, b in zip(by, by2, strict=True)),
            )
    return None


def simplify_view(view: View, shape: Shape) -> View:
    """The same view of a tensor of `shape` with identity steps dropped and neighbours merged."""
    steps: list[ViewStep] = []
    shapes = [shape]
    for step in view:
        if isinstance(step, Slice):
            # A canonical stop, one past the last element read, makes equal slices equal values.
            extents = step_shape(step, shapes[-1])
            stops = tuple(
                low + (extent - 1) * by + 1
                for low, extent, by in zip(step.starts, extents, step.steps, strict=True)
            )
            step = Slice(step.starts, stops, step.steps)
        while steps and (merged := _merge(steps[-1], step)) is not None:
            steps.pop()
            shapes.pop()
            step = merged
        if not _is_identity(step, shapes[-1]):
            steps.append(step)
            shapes.append(step_shape(step, shapes[-1]))
    return tuple(steps)
