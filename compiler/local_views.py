"""The view that a chip applies to its piece of a tensor, so that it sees its piece of what the whole
view shows.

    addmm [128, 2304 = 3 x 12 x 64]       cut: 12 heads to 3            local [128, 576 = 3 x 3 x 64]
    Slice [:, 768:1536]                   second third                  Slice [:, 192:384]
    Reshape [1, 128, 12, 64]              heads                         Reshape [1, 128, 3, 64]
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

from chiplan.ir import (
    Expand,
    Own,
    Reshape,
    Shape,
    Slice,
    Transpose,
    View,
    ViewStep,
    Window,
    simplify_view,
    step_shape,
)

from .atoms import TensorAtom
from .nests_refinement import matching_groups

Dimensions = tuple[tuple[int, ...], ...]
"""Extents of the atoms of every dimension, major first."""


def local_shape(dims: Dimensions, parts: Mapping[TensorAtom, int]) -> Shape:
    """Extents of a chip's piece of a tensor with atoms `dims`: atom `a` in `parts` has parts[a] elements."""
    return tuple(
        prod(parts.get((dimension, position), extent) for position, extent in enumerate(atoms))
        for dimension, atoms in enumerate(dims)
    )


class _Digits(NamedTuple):
    """Digits of a dimension: `whole` elements, of which a chip has `local`."""

    whole: int
    local: int

    @property
    def is_cut(self) -> bool:
        return self.whole != self.local


_Axis = tuple[_Digits, ...]
"""The digits of a dimension, major first: none of extent 1 unless cut, and no two uncut neighbours."""


def localise_view(view: View, dims: Dimensions, cut: Mapping[TensorAtom, int]) -> View:
    """`view` for a tensor with atoms `dims` of which a chip holds `cut[atom]` elements of some atoms.

    Applied to the piece of the tensor it shows the piece of what `view` shows of the whole: the same
    piece of the factor atoms along which the cut atoms are seen. Raises ValueError where a cut atom is
    not seen as a whole.
    """
    return _localise(view, dims, tuple(sorted(cut.items())))


@lru_cache(maxsize=16384)
def _localise(view: View, dims: Dimensions, cut: tuple[tuple[TensorAtom, int], ...]) -> View:
    parts = dict(cut)
    axes = [
        _joined([_Digits(n, parts.get((d, i), n)) for i, n in enumerate(atoms)])
        for d, atoms in enumerate(dims)
    ]
    steps: list[ViewStep] = []
    for step in simplify_view(view, tuple(map(prod, dims))):
        local, axes = _step(step, axes)
        steps.append(local)
    return simplify_view(tuple(steps), local_shape(dims, parts))


def _joined(digits: Sequence[_Digits]) -> _Axis:
    axis: list[_Digits] = []
    for part in digits:
        if axis and not axis[-1].is_cut and not part.is_cut:
            joined = axis.pop().whole * part.whole
            part = _Digits(joined, joined)
        if part.whole > 1:
            axis.append(part)
    return tuple(axis)


def _uncut(extent: int) -> _Axis:
    return _joined([_Digits(extent, extent)])


def _whole(axis: Sequence[_Digits]) -> int:
    return prod(part.whole for part in axis)


def _local(axis: Sequence[_Digits]) -> int:
    return prod(part.local for part in axis)


def _is_cut(axis: Sequence[_Digits]) -> bool:
    return any(part.is_cut for part in axis)


def _step(step: ViewStep, axes: list[_Axis]) -> tuple[ViewStep, list[_Axis]]:
    """The step on a chip's piece, and the dimensions after it."""
    match step:
        case Reshape(shape=shape):
            axes = _reshaped(axes, shape)
            return Reshape(tuple(map(_local, axes))), axes
        case Transpose(permutation=permutation):
            return step, [axes[axis] for axis in permutation]
        case Slice():
            return _sliced(step, axes)
        case Expand(shape=shape):
            pairs = zip(axes, shape, strict=True)
            axes = [axis if _whole(axis) == extent else _uncut(extent) for axis, extent in pairs]
            return Expand(tuple(map(_local, axes))), axes
        case Window(axis=axis) | Own(axis=axis):
            if _is_cut(axes[axis]):
                raise ValueError(f"{step} looks across the pieces of a cut dimension")
            new = step_shape(step, tuple(map(_whole, axes)))
            count = len(new) - len(axes) + 1
            return step, [*axes[:axis], *map(_uncut, new[axis : axis + count]), *axes[axis + 1 :]]


def _reshaped(axes: list[_Axis], shape: Shape) -> list[_Axis]:
    result: list[_Axis] = []
    for group in matching_groups(tuple(map(_whole, axes)), shape):
        digits = [part for axis in axes[group.old_first : group.old_last] for part in axis]
        extents = shape[group.new_first : group.new_last]
        result += _regrouped(digits, extents) if _is_cut(digits) else map(_uncut, extents)
    return result


def _regrouped(digits: Sequence[_Digits], extents: Sequence[int]) -> Iterator[_Axis]:
    """The digits as dimensions of other extents; only uncut ones may be split."""
    waiting = list(_joined(digits))[::-1]
    for extent in extents:
        axis, missing = [], extent
        while missing > 1:
            part = waiting.pop()
            if missing % part.whole:
                part, rest = _divided(part, missing, extents)
                waiting.append(rest)
            axis.append(part)
            missing //= part.whole
        yield _joined(axis)


def _divided(part: _Digits, major: int, extents: Sequence[int]) -> tuple[_Digits, _Digits]:
    if part.is_cut or part.whole % major:
        raise ValueError(f"a dimension cut within {part.whole} elements is reshaped to {tuple(extents)}")
    return _Digits(major, major), _Digits(part.whole // major, part.whole // major)


def _sliced(step: Slice, axes: list[_Axis]) -> tuple[Slice, list[_Axis]]:
    bounds, result = [], []
    for axis, low, high, by in zip(axes, step.starts, step.stops, step.steps, strict=True):
        chosen = range(low, high, by)
        if len(chosen) == _whole(axis):
            chosen, new = range(_local(axis)), axis
        elif not _is_cut(axis):
            new = _uncut(len(chosen))
        elif by == 1:
            chosen, new = _runs(axis, chosen)
        else:
            chosen, new = _strided(axis, chosen)
        bounds.append((chosen.start, chosen[-1] + 1, chosen.step))
        result.append(new)
    starts, stops, steps = zip(*bounds, strict=True)
    return Slice(starts, stops, steps), result


def _runs(axis: _Axis, chosen: range) -> tuple[range, _Axis]:
    """A slice of the uncut major digits alone, with whole runs of the others."""
    major = 0 if axis[0].is_cut else axis[0].whole
    runs = axis[1:] if major else axis
    whole, local = _whole(runs), _local(runs)
    if not major or chosen.start % whole or len(chosen) % whole:
        raise ValueError(f"{chosen} ends within the pieces of a cut dimension of {_whole(axis)}")
    count = len(chosen) // whole
    first = chosen.start // whole * local
    return range(first, first + count * local), _joined([*_uncut(count), *runs])


def _strided(axis: _Axis, chosen: range) -> tuple[range, _Axis]:
    """One index of the uncut minor digits, with all of the others."""
    inside = 1 if axis[-1].is_cut else axis[-1].whole
    by = chosen.step
    if inside % by or chosen.start >= by or len(chosen) * by != _whole(axis):
        raise ValueError(f"{chosen} steps over the pieces of a cut dimension of {_whole(axis)}")
    rest = _joined([*axis[:-1], *_uncut(inside // by)])
    return range(chosen.start, _local(axis), by), rest
