"""Forms: how the chips of a group store a tensor, and the views through which they read it.

A piece of a tensor is stored by itself, or in a leading dimension that holds one piece a chip, so that
those of other chips can be gathered beside it:

    whole [12, 64], cut along 12 over 4 chips:    alone [3, 64]    gathered [4, 3, 64]
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import TypeAlias

from chiplan.ir import (
    Cut,
    Own,
    Reshape,
    Shape,
    Sharding,
    Slice,
    Transpose,
    View,
    ViewStep,
    mesh_ways,
    simplify_view,
    view_shape,
)

from .atoms import TensorAtom
from .local_views import localise_view
from .placements import Partial, Placements, Shard

Atoms: TypeAlias = tuple[tuple[int, ...], ...]
"""Extents of the atoms of every dimension or factor, major first."""

Cuts: TypeAlias = tuple[tuple[TensorAtom, tuple[int, ...]], ...]
"""(atom, the mesh axes that cut it together), sorted."""

Groups: TypeAlias = tuple[tuple[tuple[int, int], ...], ...]
"""Every dimension or factor taken apart: the half-open ranges of its atoms that stay together."""


def cuts_of(placements: Placements) -> Cuts:
    """The atoms that placements cut, each with all of its mesh axes."""
    axes: dict[TensorAtom, list[int]] = {}
    for axis, placement in enumerate(placements):
        if isinstance(placement, Shard):
            axes.setdefault(placement.atom, []).append(axis)
    return tuple((atom, tuple(axes[atom])) for atom in sorted(axes))


def partial_axes(placements: Placements) -> tuple[int, ...]:
    """The mesh axes along which chips hold partial results."""
    return tuple(axis for axis, placement in enumerate(placements) if isinstance(placement, Partial))


def kept_cuts(atoms: Atoms, mesh: tuple[int, ...], cuts: Cuts, needs: Iterable[Cuts]) -> Cuts:
    """Those of `cuts` that may stay for all readers: each would like the same piece, or a piece of it."""
    for need in map(dict, needs):
        cuts = tuple(
            ((d, p), axes)
            for (d, p), axes in cuts
            if _is_within(need.get((d, p), ()), axes, atoms[d][p], mesh)
        )
    return cuts


def _is_within(need: tuple[int, ...], axes: tuple[int, ...], extent: int, mesh: tuple[int, ...]) -> bool:
    """Whether the pieces of an atom that mesh axes `need` cut lie each in one that `axes` cut."""
    return need == axes or (need[: len(axes)] == axes and extent % mesh_ways(mesh, need) == 0)


def local_atoms(
    atoms: Atoms, cuts: Mapping[tuple[int, int], tuple[int, ...]], mesh: tuple[int, ...]
) -> Atoms:
    """Extents of the atoms of a chip's piece, short pieces rounded up."""
    if not cuts:
        return atoms
    return tuple(
        tuple(
            -(-extent // mesh_ways(mesh, cuts.get((dimension, position), ())))
            for position, extent in enumerate(extents)
        )
        for dimension, extents in enumerate(atoms)
    )


def broken(atoms: Atoms, cuts: Mapping[tuple[int, int], tuple[int, ...]], mesh: tuple[int, ...]) -> Groups:
    """Dimensions taken apart so that every uneven cut is at the front of one.

    A dimension whose only cut is at its front, or whose cuts are all even, stays in one.
    """
    return tuple(_broken(extents, d, cuts, mesh) for d, extents in enumerate(atoms))


def _broken(
    extents: tuple[int, ...],
    dimension: int,
    cuts: Mapping[tuple[int, int], tuple[int, ...]],
    mesh: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    places = [position for position in range(len(extents)) if (dimension, position) in cuts]
    uneven = [p for p in places if extents[p] % mesh_ways(mesh, cuts[dimension, p])]
    if not uneven or places == [0]:
        return ((0, len(extents)),)
    starts = sorted({0, *places})
    return tuple(zip(starts, [*starts[1:], len(extents)], strict=True))


def grouped(atoms: Atoms, groups: Groups) -> Shape:
    """Extents of the dimensions that `groups` make of `atoms`."""
    return tuple(
        prod(extents[low:high]) for extents, ranges in zip(atoms, groups, strict=True) for low, high in ranges
    )


def whole_groups(atoms: Atoms) -> Groups:
    """Every dimension in one."""
    return tuple(((0, len(extents)),) for extents in atoms)


@dataclass(frozen=True)
class Form:
    """How the chips of a group store a tensor: shape [ways of the leading axes, *body].

    atoms: of the whole tensor's dimensions. cuts: the atoms of which a chip has a piece.
    gathered: those of them whose pieces stand side by side in the leading dimension.
    flat: mesh axes along which the row-major elements of that piece are cut once more, evenly but for
    the end; these parts stand in the leading dimension as well, after the pieces.
    body: extents of one entry of the leading dimension, any reshape of a piece (or part).
    """

    atoms: Atoms
    mesh: tuple[int, ...]
    cuts: Cuts = ()
    gathered: tuple[TensorAtom, ...] = ()
    flat: tuple[int, ...] = ()
    body: Shape = ()

    @cached_property
    def lead(self) -> tuple[int, ...]:
        """Mesh axes of the leading dimension; none where there is no such dimension."""
        cuts = dict(self.cuts)
        return (*(axis for atom in self.gathered for axis in cuts[atom]), *self.flat)

    @cached_property
    def shape(self) -> Shape:
        lead = self.lead
        return (mesh_ways(self.mesh, lead), *self.body) if lead else self.body

    @cached_property
    def piece(self) -> Atoms:
        """Extents of the atoms of a chip's piece."""
        return local_atoms(self.atoms, dict(self.cuts), self.mesh)

    @cached_property
    def is_whole(self) -> bool:
        """Whether it is stored as the whole graph has it."""
        return not self.cuts and not self.flat and self.body == tuple(map(prod, self.atoms))

    @cached_property
    def is_even(self) -> bool:
        """Whether no piece is short."""
        return all(
            self.atoms[d][position] % mesh_ways(self.mesh, axes) == 0 for (d, position), axes in self.cuts
        )


@lru_cache(maxsize=16384)
def plain_form(atoms: Atoms, mesh: tuple[int, ...], cuts: Cuts = ()) -> Form:
    """A piece by itself, with the dimensions of the whole."""
    piece = local_atoms(atoms, dict(cuts), mesh)
    return Form(atoms, mesh, cuts, body=tuple(map(prod, piece)))


def sharding_of(form: Form) -> Sharding | None:
    """What `Tensor.sharding` says of a piece that is stored by itself."""
    if not form.cuts:
        return None
    numbers: dict[TensorAtom, int] = {}
    for dimension, extents in enumerate(form.atoms):
        for position in range(len(extents)):
            numbers[dimension, position] = len(numbers)
    return Sharding(
        tuple(map(prod, form.atoms)),
        tuple(extent for extents in form.atoms for extent in extents),
        tuple(Cut(numbers[atom], axes) for atom, axes in form.cuts),
    )


@lru_cache(maxsize=16384)
def opened(form: Form, kept: tuple[TensorAtom, ...]) -> View:
    """The stored tensor seen with the whole tensor's dimensions, local along the atoms `kept` and along
    those that are cut and not gathered."""
    dims = tuple(map(prod, form.piece))
    if not form.lead:
        return simplify_view((Reshape(dims),), form.shape)
    cuts = dict(form.cuts)
    ways = tuple(mesh_ways(form.mesh, cuts[atom]) for atom in form.gathered)
    owns = [
        Own(number, cuts[atom], ways[number]) for number, atom in enumerate(form.gathered) if atom in kept
    ]
    atoms = tuple(extent for extents in form.piece for extent in extents)
    steps = [*_joined_parts(form, ways), Reshape((*ways, *atoms)), *owns, *_beside(form, ways, kept)]
    uncut = local_atoms(
        form.atoms, {a: x for a, x in cuts.items() if a not in form.gathered or a in kept}, form.mesh
    )
    return simplify_view((*steps, Reshape(tuple(map(prod, uncut)))), form.shape)


def _joined_parts(form: Form, ways: Shape) -> list[ViewStep]:
    """The flat parts of every piece as its elements: [*ways, elements]."""
    if not form.flat:
        return []
    padded = (*ways, mesh_ways(form.mesh, form.flat) * prod(form.body))
    elements = prod(map(prod, form.piece))
    return [Reshape(padded), _leading_slice(padded, {len(ways): elements})]


def _beside(form: Form, ways: Shape, kept: tuple[TensorAtom, ...]) -> list[ViewStep]:
    """From [pieces of every gathered atom, atoms of a piece] to the atoms, gathered ones whole."""
    order: list[int] = []
    merged: list[int] = []
    stops: dict[int, int] = {}
    places = [(d, p) for d, extents in enumerate(form.piece) for p in range(len(extents))]
    for number, (d, p) in enumerate(places):
        extent = form.piece[d][p]
        if (d, p) in form.gathered:
            lead = form.gathered.index((d, p))
            order.append(lead)
            if (d, p) not in kept:
                extent *= ways[lead]
                stops[number] = form.atoms[d][p]
        order.append(len(ways) + number)
        merged.append(extent)
    return [Transpose(tuple(order)), Reshape(tuple(merged)), _leading_slice(tuple(merged), stops)]


def _leading_slice(shape: Shape, stops: Mapping[int, int]) -> Slice:
    """The first `stops[d]` indices of dimension d."""
    zeros, ones = (0,) * len(shape), (1,) * len(shape)
    return Slice(zeros, tuple(stops.get(d, extent) for d, extent in enumerate(shape)), ones)


@dataclass(frozen=True)
class Tail:
    """What is left to do on one dimension of an operand's view, which runs along a factor.

    atoms: extents of the factor's atoms there. owned: (atom, mesh axes, ways) of the atoms of which the
    chip reads its own piece. dims: what the dimension is seen as in the end.
    """

    atoms: tuple[int, ...]
    owned: tuple[tuple[int, tuple[int, ...], int], ...]
    dims: Shape


@lru_cache(maxsize=16384)
def reading_view(
    form: Form, view: View, kept: tuple[TensorAtom, ...], tails: tuple[Tail | None, ...]
) -> View:
    """How one chip reads a tensor stored in `form` that the operator sees through `view`.

    kept: the cut atoms of which the operator has the same piece, or a piece of it. tails: one a dimension
    of the operand, None where it stays as it is. Raises ValueError where the view does not work on a piece.
    """
    piece = local_atoms(form.atoms, {a: axes for a, axes in form.cuts if a in kept}, form.mesh)
    steps = list(opened(form, kept))
    if kept:
        steps += localise_view(view, form.atoms, {(d, p): piece[d][p] for d, p in kept})
    else:
        steps += view
    return simplify_view((*steps, *_tail_steps(tails, view_shape(tuple(steps), form.shape))), form.shape)


def _tail_steps(tails: tuple[Tail | None, ...], shape: Shape) -> list[ViewStep]:
    if not any(tails):
        return []
    apart: list[int] = []
    owns: list[ViewStep] = []
    ends: list[int] = []
    for extent, tail in zip(shape, tails, strict=True):
        if tail is None:
            apart.append(extent)
            ends.append(extent)
            continue
        owned = {atom: (axes, ways) for atom, axes, ways in tail.owned}
        for atom, atom_extent in enumerate(tail.atoms):
            if atom in owned:
                axes, ways = owned[atom]
                owns.append(Own(len(apart), axes, ways))
                if atom_extent % ways == 0:
                    # Piece by piece, so that an element is there when the same one of all pieces is.
                    apart.append(ways)
                    atom_extent //= ways
            apart.append(atom_extent)
        ends += tail.dims
    return [Reshape(tuple(apart)), *owns, Reshape(tuple(ends))]
