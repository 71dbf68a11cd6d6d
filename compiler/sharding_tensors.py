"""How tensors may be held inside a group: as produced, and, once, converted to what the readers need."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import numpy as np

from chiplan.ir import DType, Reducer

from .atoms import TensorAtom
from .collective_costs import NOTHING, CollectiveCost, CollectiveCosts
from .placements import REPLICATE, Partial, Placement, Placements, Replicate, Shard

Atoms = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Held:
    """A value in a group. made: as its operator gives it. used: as readers find it who cannot use it as it
    was made; equal to `made` when nothing is converted."""

    made: Placements
    used: Placements
    cost: CollectiveCost

    @property
    def conversions(self) -> int:
        return sum(a != b for a, b in zip(self.made, self.used, strict=True))


def is_complete(placements: Placements) -> bool:
    """Whether the values are there, on one chip or another, without partial results."""
    return not any(isinstance(placement, Partial) for placement in placements)


def local_elements(atoms: Atoms, held: Placements, mesh: Sequence[int]) -> int:
    """Elements of the largest piece."""
    ways: dict[TensorAtom, int] = {}
    for placement, count in zip(held, mesh, strict=True):
        if isinstance(placement, Shard):
            ways[placement.atom] = ways.get(placement.atom, 1) * count
    return prod(
        ceil(extent / ways.get((dimension, position), 1))
        for dimension, extents in enumerate(atoms)
        for position, extent in enumerate(extents)
    )


class Conversions:
    """The forms that a tensor can be brought to, and what that costs."""

    def __init__(self, costs: CollectiveCosts, mesh: tuple[int, ...]) -> None:
        self._costs, self._mesh = costs, mesh

    def states(self, atoms: Atoms, dtype: DType, made: Iterable[Placements]) -> tuple[Held, ...]:
        """Every form for every placement that it may be made with, the unconverted first."""
        return tuple(
            Held(first, used, self._cost(atoms, dtype, first, used))
            for first in made
            for used in product(*(self._targets(atoms, first, axis) for axis in range(len(self._mesh))))
        )

    def _targets(self, atoms: Atoms, made: Placements, axis: int) -> list[Placement]:
        match made[axis]:
            case Replicate():
                return [REPLICATE]
            case Shard():
                return [made[axis], REPLICATE]
            case Partial(reducer=reducer):
                outer = _outermost(atoms)
                scattered = [Shard(outer)] if outer and self._may_scatter(atoms, outer, made, axis) else []
                return [made[axis], REPLICATE, *(scattered if reducer is Reducer.SUM else [])]

    def _may_scatter(self, atoms: Atoms, outer: TensorAtom, made: Placements, axis: int) -> bool:
        """Pieces must be runs of the stored elements, all of one length."""
        extent = atoms[outer[0]][outer[1]]
        return extent % self._mesh[axis] == 0 and Shard(outer) not in made

    def _cost(self, atoms: Atoms, dtype: DType, made: Placements, used: Placements) -> CollectiveCost:
        """Scatters first, since they leave less to do; then sums over all axes together; gathers last."""
        total, now = NOTHING, list(made)
        axes = range(len(self._mesh))
        for axis in axes:
            if isinstance(made[axis], Partial) and isinstance(used[axis], Shard):
                elements = local_elements(atoms, tuple(now), self._mesh)
                total += self._costs.reduce_scatter(elements, dtype, self._mesh, (axis,))
                now[axis] = used[axis]
        for reducer in Reducer:
            summed = tuple(a for a in axes if now[a] == Partial(reducer) and used[a] == REPLICATE)
            if summed:
                elements = local_elements(atoms, tuple(now), self._mesh)
                total += self._costs.all_reduce(elements, dtype, self._mesh, summed)
        gathered = tuple(a for a in axes if isinstance(made[a], Shard) and used[a] == REPLICATE)
        if gathered:
            now = [REPLICATE if a in gathered else placement for a, placement in enumerate(now)]
            elements = local_elements(atoms, tuple(now), self._mesh)
            total += self._costs.all_gather(elements, dtype, self._mesh, gathered)
        return total


def _outermost(atoms: Atoms) -> TensorAtom | None:
    """The first atom of more than one element."""
    found = ((d, p) for d, extents in enumerate(atoms) for p, extent in enumerate(extents) if extent > 1)
    return next(found, None)


class Codes:
    """Placements as numbers, so that many are compared at once; Replicate is 0."""

    def __init__(self) -> None:
        self._numbers: dict[Placement, int] = {REPLICATE: 0}

    def table(self, placements: Sequence[Placements]) -> np.ndarray:
        """int64[placements, mesh axes]."""
        number = self._numbers
        rows = [[number.setdefault(p, len(number)) for p in entry] for entry in placements]
        return np.array(rows, dtype=np.int64)

    def serving(self, held: Sequence[Placements], needs: Sequence[Placements]) -> np.ndarray:
        """bool[held, needs]: whether a tensor held so is what a reader needs."""
        have, want = self.table(held)[:, None, :], self.table(needs)[None, :, :]
        fits: np.ndarray = ((have == 0) | (have == want)).all(axis=-1)
        return fits

    def equal(self, held: Sequence[Placements], given: Sequence[Placements]) -> np.ndarray:
        """bool[held, given]."""
        same: np.ndarray = (self.table(held)[:, None, :] == self.table(given)[None, :, :]).all(axis=-1)
        return same
