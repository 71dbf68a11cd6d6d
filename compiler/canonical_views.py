"""Views in factored form, so that broadcasts can be left out of what an operator reads.

A viewed dimension is a product of parts, major first. A part is broadcast (every index reads the
same element) or runs along the core: the tensor seen through the view without its broadcasts.

    k cache [b, kv, s, d], repeated for 8 query heads a key head, as [b, kv x 8, s, d]:
        core [b, kv, 1, s, d]     dimensions (b) (kv, 8 broadcast) (s) (d)
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

from chiplan.ir import (
    AxisMap,
    Expand,
    Factor,
    Own,
    Reshape,
    Shape,
    Slice,
    Transpose,
    View,
    ViewStep,
    Window,
    simplify_view,
    view_shape,
)

from .nests_refinement import matching_groups, refine, split_chain

Labels = tuple[int | None, ...]
"""For every dimension the factor that runs along it; None where the extent is 1."""


class Part(NamedTuple):
    """A factor of a viewed dimension. Its dimension of the core has `extent`, or 1 if broadcast."""

    extent: int
    broadcast: bool


_Dimensions = tuple[tuple[Part, ...], ...]


class FactoredView(NamedTuple):
    """`view` leads to the core, whose dimensions are the parts of all `dimensions`, in order."""

    view: View
    dimensions: tuple[tuple[Part, ...], ...]

    @property
    def is_plain(self) -> bool:
        """Whether every dimension simply runs along one dimension of the core."""
        return all(len(parts) == 1 and not parts[0].broadcast for parts in self.dimensions)

    @property
    def is_simple(self) -> bool:
        """Whether every dimension is one part, broadcast or not."""
        return all(len(parts) == 1 for parts in self.dimensions)


class _NotFactorable(Exception):
    """A step mixes a broadcast with what it is no product of."""


@lru_cache(maxsize=65536)
def extend_view(view: View, shape: Shape, steps: View) -> View:
    """`view` of a tensor of `shape` followed by `steps`, simplified."""
    whole = list(view)
    extents = view_shape(view, shape)
    for step in steps:
        whole.append(_without_moving(step, extents))
        extents = view_shape((step,), extents)
    return simplify_view(tuple(whole), shape)


def _without_moving(step: ViewStep, shape: Shape) -> ViewStep:
    """A transpose that moves extents of 1 alone is a reshape, which merges with its neighbours."""
    if isinstance(step, Transpose):
        moved = [axis for axis in step.permutation if shape[axis] != 1]
        if moved == sorted(moved):
            return Reshape(tuple(shape[axis] for axis in step.permutation))
    return step


@lru_cache(maxsize=65536)
def factor_view(view: View, shape: Shape) -> FactoredView | None:
    """The factored form of `view` of a tensor of `shape`; None when it has none."""
    if not any(isinstance(step, Expand) for step in view):
        return FactoredView(view, tuple((Part(extent, False),) for extent in view_shape(view, shape)))
    steps: list[ViewStep] = []
    dimensions: _Dimensions = tuple((Part(extent, False),) for extent in shape)
    try:
        for step in view:
            core, dimensions = _step(step, dimensions)
            steps += core
    except _NotFactorable:
        return None
    return FactoredView(simplify_view(tuple(steps), shape), dimensions)


def factorable_steps(view: View, shape: Shape) -> int:
    """How many leading steps of `view` have a factored form."""
    return max(count for count in range(len(view) + 1) if factor_view(view[:count], shape) is not None)


def _step(step: ViewStep, dimensions: _Dimensions) -> tuple[list[ViewStep], _Dimensions]:
    """The steps on the core, and the dimensions after one step of the view."""
    match step:
        case Reshape(shape=shape):
            return _reshape(shape, dimensions)
        case Transpose(permutation=permutation):
            return _transpose(permutation, dimensions)
        case Slice():
            return _slice(step, dimensions)
        case Expand(shape=shape):
            return [], tuple(
                (Part(extent, True),) if _extent(parts) != extent else parts
                for parts, extent in zip(dimensions, shape, strict=True)
            )
        case Window(axis=axis, size=size, stride=stride, dilation=dilation):
            if len(dimensions[axis]) > 1 or dimensions[axis][0].broadcast:
                raise _NotFactorable
            first = sum(len(parts) for parts in dimensions[:axis])
            core = Window(first, size, stride, dilation)
            outputs = (_extent(dimensions[axis]) - (size - 1) * dilation - 1) // stride + 1
            new = ((Part(outputs, False),), (Part(size, False),))
            return [core], (*dimensions[:axis], *new, *dimensions[axis + 1 :])
        case Own():
            raise _NotFactorable


def _extent(parts: Sequence[Part]) -> int:
    return prod(part.extent for part in parts)


def core_shape(dimensions: _Dimensions) -> Shape:
    return tuple(1 if part.broadcast else part.extent for parts in dimensions for part in parts)


def _reshape(shape: Shape, dimensions: _Dimensions) -> tuple[list[ViewStep], _Dimensions]:
    flat = [part for parts in dimensions for part in parts]
    result: list[tuple[Part, ...]] = []
    for group in matching_groups(tuple(part.extent for part in flat), shape):
        parts = flat[group.old_first : group.old_last]
        extents = shape[group.new_first : group.new_last]
        if any(part.broadcast for part in parts):
            result += _regrouped(parts, extents)
        else:
            result += [(Part(extent, False),) for extent in extents]
    return [Reshape(core_shape(tuple(result)))], tuple(result)


def _regrouped(parts: Sequence[Part], extents: Sequence[int]) -> list[tuple[Part, ...]]:
    """The parts as dimensions of other `extents`; both are split along their common refinement."""
    refined = refine([[part.extent for part in parts], extents])
    if refined is None:
        raise _NotFactorable
    kinds = [
        part.broadcast
        for part, pieces in zip(parts, split_chain([p.extent for p in parts], refined), strict=True)
        for _ in pieces
    ]
    result = []
    position = 0
    for pieces in split_chain(extents, refined):
        merged: list[Part] = []
        for extent, broadcast in zip(pieces, kinds[position : position + len(pieces)], strict=True):
            if merged and merged[-1].broadcast == broadcast:
                extent *= merged.pop().extent
            merged.append(Part(extent, broadcast))
        result.append(tuple(merged) or (Part(1, False),))
        position += len(pieces)
    return result


def _transpose(permutation: Sequence[int], dimensions: _Dimensions) -> tuple[list[ViewStep], _Dimensions]:
    positions: list[list[int]] = []
    for parts in dimensions:
        first = sum(map(len, positions))
        positions.append(list(range(first, first + len(parts))))
    core = Transpose(tuple(position for axis in permutation for position in positions[axis]))
    return [core], tuple(dimensions[axis] for axis in permutation)


def _slice(step: Slice, dimensions: _Dimensions) -> tuple[list[ViewStep], _Dimensions]:
    bounds: list[range] = []
    result = []
    for parts, start, stop, by in zip(dimensions, step.starts, step.stops, step.steps, strict=True):
        chosen = range(start, stop, by)
        inner = _extent(parts[1:])
        if len(chosen) == _extent(parts):
            chosen = range(parts[0].extent)
        elif inner > 1:
            # A slice of the major part: whole runs of the others.
            if by != 1 or start % inner or len(chosen) % inner:
                raise _NotFactorable
            chosen = range(start // inner, (start + len(chosen)) // inner)
        major = Part(len(chosen), parts[0].broadcast and len(chosen) > 1)
        bounds += [range(1) if parts[0].broadcast else chosen]
        bounds += [range(1 if part.broadcast else part.extent) for part in parts[1:]]
        result.append((major, *parts[1:]))
    core = Slice(*(tuple(bound) for bound in zip(*((b.start, b.stop, b.step) for b in bounds), strict=True)))
    return [core], tuple(result)


def read_through(axes: AxisMap, factors: Sequence[Factor], shape: Shape) -> tuple[View, Labels]:
    """The view through which an operand with index map `axes` has one factor a dimension.

    Products of factors split, offsets and strides slice, and stride*y + dilation*k is a window.
    """
    steps: list[ViewStep] = []
    labels: list[int | None] = []
    extents = list(shape)
    for axis in axes:
        position = len(labels)
        terms = sorted(axis.terms, key=lambda term: -term[1])
        counts = [factors[factor].extent for factor, _ in terms]
        labels += [factor for factor, _ in terms] or [None]
        if _is_product([stride for _, stride in terms], counts, extents[position]) and axis.offset == 0:
            if len(terms) > 1:
                extents[position : position + 1] = counts
                steps.append(Reshape(tuple(extents)))
        elif len(terms) < 2:
            stride = terms[0][1] if terms else 1
            steps.append(_slice_axis(extents, position, axis.offset, stride, counts[0] if terms else 1))
            extents[position] = counts[0] if terms else 1
        else:
            (_, dilation), (_, stride) = axis.terms[::-1]
            outputs, size = (factors[factor].extent for factor, _ in axis.terms)
            labels[position:] = [factor for factor, _ in axis.terms]
            steps.append(Window(position, size, stride, dilation))
            extents[position : position + 1] = [outputs, size]
    return tuple(steps), tuple(labels)


def _is_product(strides: Sequence[int], counts: Sequence[int], extent: int) -> bool:
    """Whether the terms are the digits of a dimension, major first."""
    return prod(counts) == extent and all(
        stride == prod(counts[position + 1 :]) for position, stride in enumerate(strides)
    )


def _slice_axis(extents: Sequence[int], axis: int, start: int, step: int, count: int) -> Slice:
    stops, starts, steps = list(extents), [0] * len(extents), [1] * len(extents)
    starts[axis], stops[axis], steps[axis] = start, start + (count - 1) * step + 1, step
    return Slice(tuple(starts), tuple(stops), tuple(steps))
