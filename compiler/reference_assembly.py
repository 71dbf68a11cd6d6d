"""A tensor that several operators wrote, put together from its boxes by concatenation."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from chiplan.ir import Shape


class Box(NamedTuple):
    """Value `value` covers indices [offsets, offsets + shape) of a tensor."""

    offsets: tuple[int, ...]
    shape: Shape
    value: str

    def interval(self, axis: int) -> tuple[int, int]:
        return self.offsets[axis], self.offsets[axis] + self.shape[axis]


def _cuts(boxes: list[Box], axis: int, low: int, high: int) -> list[int]:
    """Places strictly between `low` and `high` that no box crosses and where a box ends."""
    places = sorted({place for box in boxes for place in box.interval(axis)} - {low, high})
    crossed = [any(a < place < b for a, b in (box.interval(axis) for box in boxes)) for place in places]
    return [place for place, cut in zip(places, crossed, strict=True) if not cut and low < place < high]


def assemble(
    boxes: list[Box],
    shape: Shape,
    zeros: Callable[[Shape], str],
    concatenate: Callable[[list[str], int], str],
    origin: tuple[int, ...] = (),
) -> str:
    """Value of the region [origin, origin + shape): split it where no box is crossed, until a piece is
    one box or empty. Raises ValueError for boxes that overlap or interlock like a pinwheel."""
    origin = origin or (0,) * len(shape)
    if not boxes:
        return zeros(shape)
    if len(boxes) == 1 and boxes[0].offsets == origin and boxes[0].shape == shape:
        return boxes[0].value
    for axis, extent in enumerate(shape):
        low, high = origin[axis], origin[axis] + extent
        places = [low, *_cuts(boxes, axis, low, high), high]
        if len(places) > 2:
            parts = []
            for start, stop in pairwise(places):
                inside = [box for box in boxes if start <= box.offsets[axis] < stop]
                part_origin = (*origin[:axis], start, *origin[axis + 1 :])
                part_shape = (*shape[:axis], stop - start, *shape[axis + 1 :])
                parts.append(assemble(inside, part_shape, zeros, concatenate, part_origin))
            return concatenate(parts, axis)
    raise ValueError("written boxes overlap or interlock")
