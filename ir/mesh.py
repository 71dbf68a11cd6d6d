"""Groups of chips: positions on a mesh, pieces of tensors and factors, and exchanges between chips.

All chips of a group run one program at the same cycles. What differs from chip to chip follows from
its position on the group's mesh: which piece of a weight it holds, which piece of an axis it owns,
where it writes its own piece, which iterations of a split factor it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import ceil, prod

import numpy as np

from .types import Shape


@dataclass(frozen=True)
class MeshPlace:
    """One chip of a group: the extents of the group's mesh, and the chip's coordinates on it."""

    mesh: tuple[int, ...]
    coordinates: tuple[int, ...]

    def piece(self, axes: Sequence[int]) -> int:
        """Position along the mesh `axes` together, the first of them outermost."""
        number = 0
        for axis in axes:
            number = number * self.mesh[axis] + self.coordinates[axis]
        return number


def mesh_places(mesh: tuple[int, ...]) -> list[MeshPlace]:
    """The places of a group's chips, in the order of `Stage.chips` (row-major)."""
    return [MeshPlace(mesh, coordinates) for coordinates in np.ndindex(*mesh)]


def mesh_ways(mesh: tuple[int, ...], axes: Sequence[int]) -> int:
    """Into how many pieces the mesh `axes` together cut."""
    return prod(mesh[axis] for axis in axes)


def mesh_peers(mesh: tuple[int, ...], axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Ranks (positions in `Stage.chips`) that exchange along `axes`: one tuple a set of chips that agree
    in all other coordinates, ordered by their piece number."""
    ranks = np.arange(prod(mesh)).reshape(mesh)
    moved = np.moveaxis(ranks, list(axes), range(len(mesh) - len(axes), len(mesh)))
    rows = moved.reshape(-1, mesh_ways(mesh, axes)).tolist()
    return [tuple(row) for row in rows]


@dataclass(frozen=True)
class Cut:
    """Dimension `dimension` (of `Sharding.atoms`) is cut over the mesh `axes`, evenly but for the end:
    piece c of n is [c * part, min((c + 1) * part, extent)), part = ceil(extent / n), n the mesh_ways."""

    dimension: int
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Sharding:
    """How the chips of a group hold a tensor of which each has a piece.

    shape: the whole tensor's. atoms: the same elements in row-major order, dimensions cut finer, so
    that a piece of a product of factors (the heads of heads x width) is a piece of one dimension.
    A chip's tensor is its piece of every cut dimension (short pieces padded to `part`), reshaped to
    the stored tensor's shape. Padding holds zeros in weights, inputs and states, and nothing that
    may be read elsewhere.
    """

    shape: Shape
    atoms: Shape
    cuts: tuple[Cut, ...]

    def piece_shape(self, mesh: tuple[int, ...]) -> Shape:
        """Extents of a chip's piece, in atoms."""
        extents = list(self.atoms)
        for cut in self.cuts:
            extents[cut.dimension] = ceil(extents[cut.dimension] / mesh_ways(mesh, cut.axes))
        return tuple(extents)


def shard(whole: np.ndarray, sharding: Sharding, place: MeshPlace) -> np.ndarray:
    """The piece of `whole` (shape `sharding.shape`) that the chip at `place` holds, zeros beyond its end;
    shape `sharding.piece_shape(place.mesh)`."""
    piece = whole.reshape(sharding.atoms)
    for cut in sharding.cuts:
        extent = sharding.atoms[cut.dimension]
        part = ceil(extent / mesh_ways(place.mesh, cut.axes))
        first = place.piece(cut.axes) * part
        region = [slice(None)] * piece.ndim
        region[cut.dimension] = slice(min(first, extent), min(first + part, extent))
        piece = piece[tuple(region)]
        padding = [(0, 0)] * piece.ndim
        padding[cut.dimension] = (0, part - piece.shape[cut.dimension])
        piece = np.pad(piece, padding) if any(after for _, after in padding) else piece
    return piece


def assemble(pieces: Sequence[np.ndarray], sharding: Sharding, mesh: tuple[int, ...]) -> np.ndarray:
    """The whole tensor from the pieces of all chips, in the order of `mesh_places`."""
    whole = np.zeros(sharding.atoms, pieces[0].dtype)
    extents = sharding.piece_shape(mesh)
    for place, piece in zip(mesh_places(mesh), pieces, strict=True):
        target, source = [slice(None)] * whole.ndim, [slice(None)] * whole.ndim
        for cut in sharding.cuts:
            extent, part = sharding.atoms[cut.dimension], extents[cut.dimension]
            first = min(place.piece(cut.axes) * part, extent)
            last = min(first + part, extent)
            target[cut.dimension], source[cut.dimension] = slice(first, last), slice(0, last - first)
        whole[tuple(target)] = piece.reshape(extents)[tuple(source)]
    return whole.reshape(sharding.shape)


@dataclass(frozen=True)
class Split:
    """Factor `factor` of an operator is a piece of `extent` iterations, cut over the mesh `axes`.

    part = the factor's own extent. The chip in position c executes the iterations
    [0, min(part, extent - c * part)) (none when that is negative) and idles in the cycles of the
    others. A reduction over no iteration gives the reducer's identity. Along a `gathered` factor the
    index counts whole rows: the chip holds rows [c * part, ...), and rows of others read as zero.
    """

    factor: int
    axes: tuple[int, ...]
    extent: int

    def real(self, part: int, place: MeshPlace) -> int:
        """Iterations that the chip at `place` executes."""
        return max(0, min(part, self.extent - place.piece(self.axes) * part))


class ExchangeKind(Enum):
    """What the chips along some mesh axes send each other. c is a chip's position along them, n their
    number."""

    GATHER = "gather"
    """`target` is `source`, with a leading dimension of n pieces. Every chip writes piece c itself and
    receives the others from their owners (or from who has them already)."""
    SCATTER = "scatter"
    """Of the row-major elements of `source`, chip d receives [d * part, min((d + 1) * part, elements))
    from every chip c, into row (c - d - 1) mod n of `target`; target shape [n - 1, part], where n * part
    is no less than the elements."""
    SHIFT = "shift"
    """The whole of `source` on chip c is `target` on chip (c + by) mod n; equal shapes."""


@dataclass(frozen=True)
class Exchange:
    """A collective's data movement inside every group that executes the operators around it.

    Transfers carry it out; what arithmetic it needs are operators of the graph."""

    source: str
    target: str
    kind: ExchangeKind
    axes: tuple[int, ...]
    by: int = 0
