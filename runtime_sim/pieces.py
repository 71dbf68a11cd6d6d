"""What a chip's place on its group's mesh makes of tensors and operators: its own piece of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

import numpy as np

from chiplan.ir import DType, MeshPlace, Operator, Result, Shape, Tensor, shard

Weights = Callable[[Tensor], np.ndarray]
"""Values of a whole weight, in the shape and type of the tensor that is asked for."""

POISON = 0xFF
"""As fp32 or fp16 this byte makes NaN, as an integer -1: reading what nobody wrote shows."""

ALONE = MeshPlace((1,), (0,))
"""The place of a chip that is a stage by itself."""


def poisoned(shape: Shape, dtype: DType) -> np.ndarray:
    """An array that nobody has written yet."""
    kind = dtype.numpy
    return np.full(prod(shape) * kind.itemsize, POISON, np.uint8).view(kind).reshape(shape)


def cut_piece(tensor: Tensor, whole: np.ndarray, place: MeshPlace) -> np.ndarray:
    """What the chip at `place` holds of `whole` (shape `tensor.whole_shape`), in the tensor's own shape."""
    if tensor.sharding is None:
        return whole.reshape(tensor.shape)
    return shard(whole, tensor.sharding, place).reshape(tensor.shape)


def whole_weight(tensor: Tensor, weights: Weights) -> np.ndarray:
    """All values of a weight of which chips may hold pieces; shape `tensor.whole_shape`."""
    whole = replace(tensor, shape=tensor.whole_shape, sharding=None)
    found = weights(whole) if tensor.value is None else tensor.value
    return np.asarray(found, tensor.dtype.numpy).reshape(whole.shape)


def whole_past(tensor: Tensor, axis: int, past: np.ndarray) -> np.ndarray:
    """A state before the run, as large as the whole present: the past's rows first, then poison."""
    whole = poisoned(tensor.whole_shape, tensor.dtype)
    whole[(slice(None),) * axis + (slice(0, past.shape[axis]),)] = past
    return whole


@dataclass(frozen=True)
class HeldRows:
    """Of `whole` rows that an index may name, a chip holds [first, first + real)."""

    first: int
    real: int
    whole: int

    def find(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions on this chip of rows counted from the whole table's start, and whether they are
        here; the position of a row that is elsewhere is 0."""
        positions = rows - self.first
        is_here = (positions >= 0) & (positions < self.real)
        return np.where(is_here, positions, 0), is_here


NO_SPLIT: Mapping[int, HeldRows] = MappingProxyType({})


def held_rows(operator: Operator, place: MeshPlace | None) -> Mapping[int, HeldRows]:
    """By `gathered` factor that is split, the rows of it that the chip at `place` holds."""
    found = {}
    for split in operator.splits if place is not None else ():
        factor = operator.factors[split.factor]
        if factor.gathered and place is not None:
            first = place.piece(split.axes) * factor.extent
            found[split.factor] = HeldRows(first, split.real(factor.extent, place), split.extent)
    return found


def real_extents(operator: Operator, place: MeshPlace | None) -> Shape:
    """Iterations of every factor that the chip at `place` executes. A `gathered` factor keeps its
    extent: its rows are there, and which of them count is a matter of the index."""
    extents = [factor.extent for factor in operator.factors]
    for split in operator.splits if place is not None else ():
        if place is not None and not operator.factors[split.factor].gathered:
            extents[split.factor] = split.real(extents[split.factor], place)
    return tuple(extents)


def is_idle(operator: Operator, extents: Shape) -> bool:
    """Whether a chip with these iterations stores nothing: it has none along a parallel factor."""
    return any(
        extent == 0 and factor.reducer is None
        for factor, extent in zip(operator.factors, extents, strict=True)
    )


def result_box(result: Result, operator: Operator, place: MeshPlace | None = None) -> tuple[slice, ...]:
    """The box of its tensor that a result writes, on the chip at `place`."""
    extents = real_extents(operator, place)
    box = [
        slice(offset, offset + (1 if axis is None else extents[axis]))
        for axis, offset in zip(result.axes, result.offsets, strict=True)
    ]
    if result.own:
        if place is None:
            raise ValueError(f"{operator.name}: only a chip of a group has a piece of its own to write")
        piece = place.piece(result.own)
        box[0] = slice(piece, piece + 1)
    return tuple(box)


def writes_here(result: Result, place: MeshPlace | None) -> bool:
    """Whether the chip at `place` stores the result."""
    return not result.only or (
        place is not None and all(place.coordinates[axis] == wanted for axis, wanted in result.only)
    )
