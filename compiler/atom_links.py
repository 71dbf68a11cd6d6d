"""Which digits of a tensor's indices a view shows as which digits of what it shows.

An index along a dimension is a number in mixed radix; an atom is one digit. A segment says that the
digits [low, high) of a tensor's dimension are the digits [seen_low, ...) of a seen dimension, run
through as a whole: full extent, unit stride, no offset.

    [128, 2304]  sliced [:, 768:1536], seen as [128, 12, 64]
        dimension 0 [1, 128) = seen 0 from 1
        dimension 1 [64, 768) = seen 1 from 1        and bounds 64 and 768 are demanded of dimension 1
        dimension 1 [1, 64) = seen 2 from 1
"""

from collections.abc import Sequence
from functools import lru_cache
from math import gcd, prod
from typing import NamedTuple

from chiplan.ir import Expand, Own, Reshape, Shape, Slice, Transpose, View, ViewStep, Window, simplify_view

from .nests_refinement import matching_groups, refine, split_chain


class Segment(NamedTuple):
    """Digits [low, high) of tensor dimension `dimension` are seen in dimension `seen`, from `seen_low` on."""

    dimension: int
    low: int
    high: int
    seen: int
    seen_low: int

    def forward(self, bound: int) -> int | None:
        """The seen dimension's bound where the tensor's is `bound`; None where it is none of these digits."""
        return _moved(bound, self.low, self.high, self.seen_low)

    def backward(self, bound: int) -> int | None:
        """The tensor's bound where the seen dimension's is `bound`."""
        return _moved(bound, self.seen_low, self.seen_low * (self.high // self.low), self.low)


def _moved(bound: int, low: int, high: int, new_low: int) -> int | None:
    if bound < low or bound % low or high % bound:
        return None
    return bound // low * new_low


class ViewLinks(NamedTuple):
    """bounds: (dimension, cumulative product from the minor side) that the view demands of its tensor.
    seen_shape: extents of what the view shows."""

    segments: tuple[Segment, ...]
    bounds: tuple[tuple[int, int], ...]
    seen_shape: Shape


_BROADCAST, _OPAQUE = -1, -2


class _Digits(NamedTuple):
    """Some digits of a seen dimension: those of a tensor's `dimension` from `low` on, or the same element
    again and again (_BROADCAST), or what no digits of one dimension express (_OPAQUE)."""

    extent: int
    dimension: int
    low: int = 1

    def split(self, minor: int) -> tuple["_Digits", "_Digits"]:
        """Major and minor digits, the minor ones of extent `minor`."""
        return _Digits(self.extent // minor, self.dimension, self.low * minor), self._replace(extent=minor)


_Seen = list[_Digits]
"""The digits of one seen dimension, major first; those of extent 1 are left out."""


@lru_cache(maxsize=65536)
def link_view(view: View, shape: Shape) -> ViewLinks:
    """How `view` of a tensor of `shape` shows its digits."""
    seen = [_run(extent, _Digits(extent, dimension)) for dimension, extent in enumerate(shape)]
    for step in simplify_view(view, shape):
        seen = _step(step, seen)
    segments = [segment for position, digits in enumerate(seen) for segment in _segments(position, digits)]
    bounds = dict.fromkeys(bound for digits in seen for bound in _demanded(digits))
    return ViewLinks(tuple(segments), tuple(bounds), tuple(map(_extent, seen)))


def _run(extent: int, digits: _Digits) -> _Seen:
    return [digits] if extent > 1 else []


def _extent(digits: Sequence[_Digits]) -> int:
    return prod(part.extent for part in digits)


def _segments(position: int, digits: _Seen) -> list[Segment]:
    segments, low = [], 1
    for part in reversed(digits):
        if part.dimension >= 0:
            segments.append(Segment(part.dimension, part.low, part.low * part.extent, position, low))
        low *= part.extent
    return segments


def _demanded(digits: _Seen) -> list[tuple[int, int]]:
    """The bounds of runs, but for those at which a slice merely happens to begin a multiple."""
    bounds = []
    for above, part in zip([None, *digits], digits, strict=False):
        if part.dimension >= 0:
            bounds.append((part.dimension, part.low))
            if above is None or above.dimension != _OPAQUE:
                bounds.append((part.dimension, part.low * part.extent))
    return bounds


def _step(step: ViewStep, seen: list[_Seen]) -> list[_Seen]:
    match step:
        case Reshape(shape=shape):
            return _reshaped(seen, shape)
        case Transpose(permutation=permutation):
            return [seen[axis] for axis in permutation]
        case Slice():
            bounds = zip(seen, step.starts, step.stops, step.steps, strict=True)
            return [_sliced(digits, range(low, high, by)) for digits, low, high, by in bounds]
        case Expand(shape=shape):
            pairs = zip(seen, shape, strict=True)
            return [digits or _run(extent, _Digits(extent, _BROADCAST)) for digits, extent in pairs]
        case Window(axis=axis, size=size, stride=stride, dilation=dilation):
            outputs = (_extent(seen[axis]) - (size - 1) * dilation - 1) // stride + 1
            new = [_run(extent, _Digits(extent, _OPAQUE)) for extent in (outputs, size)]
            return [*seen[:axis], *new, *seen[axis + 1 :]]
        case Own(axis=axis, ways=ways):
            part = -(-_extent(seen[axis]) // ways)
            return [*seen[:axis], _run(part, _Digits(part, _OPAQUE)), *seen[axis + 1 :]]


def _reshaped(seen: list[_Seen], shape: Shape) -> list[_Seen]:
    result: list[_Seen] = []
    for group in matching_groups(tuple(map(_extent, seen)), shape):
        digits = [part for old in seen[group.old_first : group.old_last] for part in old]
        result += _regrouped(digits, shape[group.new_first : group.new_last])
    return result


def _regrouped(digits: _Seen, extents: Sequence[int]) -> list[_Seen]:
    """The digits as dimensions of other extents; opaque ones where the two do not divide."""
    old = [part.extent for part in digits]
    refined = refine([old[::-1], tuple(extents)[::-1]])
    if refined is None:
        return [_run(extent, _Digits(extent, _OPAQUE)) for extent in extents]
    pieces: _Seen = []
    for part, parts in zip(digits[::-1], split_chain(old[::-1], refined), strict=True):
        for extent in parts[:-1]:
            part, minor = part.split(extent)
            pieces.append(minor)
        pieces.append(part)
    waiting = iter(pieces)
    groups = split_chain(tuple(extents)[::-1], refined)
    return [[next(waiting) for _ in group][::-1] for group in groups][::-1]


def _sliced(digits: _Seen, chosen: range) -> _Seen:
    extent = _extent(digits)
    if len(chosen) == extent:
        return digits
    if chosen.step > 1:
        return _strided(digits, chosen)
    # Digits below `whole` run through: the slice starts and ends at a multiple of it.
    whole = gcd(chosen.start, len(chosen), extent)
    kept, below = _minor(digits, whole)
    count = len(chosen) // below
    broadcast = all(part.dimension == _BROADCAST for part in digits if part not in kept)
    return _run(count, _Digits(count, _BROADCAST if broadcast else _OPAQUE)) + kept


def _strided(digits: _Seen, chosen: range) -> _Seen:
    """Every step-th element, from within the first step on: the minor digit is fixed."""
    opaque = _run(len(chosen), _Digits(len(chosen), _OPAQUE))
    _, below = _minor(digits, chosen.step)
    if below != chosen.step or chosen.start >= below or len(chosen) * below != _extent(digits):
        return opaque
    return _major(digits, below)


def _minor(digits: _Seen, limit: int) -> tuple[_Seen, int]:
    """The most minor digits whose extents together divide `limit`, and their product."""
    kept: _Seen = []
    below = 1
    for part in reversed(digits):
        if limit % (below * part.extent) == 0:
            kept.insert(0, part)
            below *= part.extent
            continue
        inside = gcd(limit // below, part.extent)
        if inside > 1:
            kept.insert(0, part.split(inside)[1])
            below *= inside
        break
    return kept, below


def _major(digits: _Seen, below: int) -> _Seen:
    """The digits above those whose extents together are `below`."""
    kept: _Seen = []
    for part in reversed(digits):
        minor = gcd(below, part.extent)
        below //= minor
        if part.extent > minor:
            kept.insert(0, part.split(minor)[0])
    return kept


@lru_cache(maxsize=65536)
def link_box(shape: Shape, extents: Shape, offsets: tuple[int, ...]) -> ViewLinks:
    """How a box of `extents` at `offsets` shows the digits of a tensor of `shape`."""
    stops = tuple(offset + extent for offset, extent in zip(offsets, extents, strict=True))
    return link_view((Slice(offsets, stops, (1,) * len(shape)),), shape)
