"""One iteration space for operands that see their tensors through factored views.

A factor of the nest is split where some operand's dimension along it is a product (query heads =
key heads x group), and a part along which no operand runs is left out: its values are all equal.
"""

from functools import lru_cache
from typing import NamedTuple

from chiplan.ir import Expand, Factor, Reshape, Shape, Transpose, View, simplify_view

from .canonical_views import FactoredView, Labels, Part, core_shape, factor_view
from .nests_refinement import refine, split_chain


class Access(NamedTuple):
    """A tensor of `shape` read through `view`, whose dimensions run along factors `labels`."""

    view: View
    shape: Shape
    labels: Labels


class Read(NamedTuple):
    """An operand of the space: its view, and for every viewed dimension a factor or None."""

    view: View
    axes: Labels


class Space(NamedTuple):
    """`parts[f]` are the parts of the nest's factor f: (extent, index into `factors` or None)."""

    factors: tuple[Factor, ...]
    parts: tuple[tuple[tuple[int, int | None], ...], ...]
    reads: tuple[Read, ...]


@lru_cache(maxsize=16384)
def fit_space(factors: tuple[Factor, ...], accesses: tuple[Access, ...], drop: bool) -> Space | None:
    """The space of a nest's `factors`; None when an operand must be copied first.

    drop: leave out parts that no operand runs along. Reduced parts are never left out.
    """
    views = [factor_view(access.view, access.shape) for access in accesses]
    chains: list[list[tuple[int, ...]]] = [[(factor.extent,)] for factor in factors]
    for view, access in zip(views, accesses, strict=True):
        if view is None:
            return None
        for parts, label in zip(view.dimensions, access.labels, strict=True):
            if label is not None:
                chains[label].append(tuple(part.extent for part in parts))
    refined = []
    for chain in chains:
        extents = refine(chain)
        if extents is None:
            return None
        refined.append(extents)
    split = [
        _split(view, access.labels, refined) for view, access in zip(views, accesses, strict=True) if view
    ]
    used = {key for _, keys in split for key in keys if key is not None}
    numbers: dict[tuple[int, int], int] = {}
    made: list[Factor] = []
    for index, (factor, extents) in enumerate(zip(factors, refined, strict=True)):
        for part, extent in enumerate(extents):
            if (index, part) in used or factor.reducer is not None or not drop:
                numbers[index, part] = len(made)
                name = factor.name if len(extents) == 1 else f"{factor.name}.{part}"
                made.append(Factor(name, extent, factor.reducer, factor.whole, factor.gathered))
    parts_of = tuple(
        tuple((extent, numbers.get((index, part))) for part, extent in enumerate(extents))
        for index, extents in enumerate(refined)
    )
    reads = tuple(
        Read(view, tuple(None if key is None else numbers[key] for key in keys)) for view, keys in split
    )
    return Space(tuple(made), parts_of, reads)


def _split(
    view: FactoredView, labels: Labels, refined: list[tuple[int, ...]]
) -> tuple[View, list[tuple[int, int] | None]]:
    """The core's view with every part split along the refinement, and what runs along each dimension:
    (factor, part), or None for a broadcast."""
    dimensions = []
    keys: list[tuple[int, int] | None] = []
    for parts, label in zip(view.dimensions, labels, strict=True):
        if label is None:
            dimensions.append(parts)
            keys += [None] * len(parts)
            continue
        position = 0
        pieces: list[Part] = []
        for part, extents in zip(parts, split_chain([p.extent for p in parts], refined[label]), strict=True):
            for extent in extents:
                pieces.append(Part(extent, part.broadcast))
                keys.append(None if part.broadcast else (label, position))
                position += 1
            if not extents:
                pieces.append(part)
                keys.append(None)
        dimensions.append(tuple(pieces))
    shape = core_shape(tuple(dimensions))
    before = core_shape(view.dimensions)
    return (view.view if shape == before else (*view.view, Reshape(shape))), keys


class Layout(NamedTuple):
    """How a result is stored: dimensions and what runs along them, and the view that gives it its own
    shape back."""

    shape: Shape
    axes: Labels
    view: View


def layout_of(space: Space, labels: Labels) -> Layout:
    """The layout of a result whose dimensions run along the nest's factors `labels`."""
    stored: list[tuple[int, int | None]] = []
    shape = []
    for label in labels:
        parts = ((1, None),) if label is None else space.parts[label]
        stored += parts
        extent = 1
        for part, _ in parts:
            extent *= part
        shape.append(extent)
    return stored_layout(stored, tuple(range(len(stored))), tuple(shape))


def stored_layout(stored: list[tuple[int, int | None]], order: tuple[int, ...], shape: Shape) -> Layout:
    """A result stored as parts (extent, factor); `order` brings them into the order of `shape`."""
    extents = tuple(1 if axis is None else extent for extent, axis in stored)
    steps = (
        Transpose(order),
        Expand(tuple(stored[position][0] for position in order)),
        Reshape(shape),
    )
    return Layout(extents, tuple(axis for _, axis in stored), simplify_view(steps, extents))
