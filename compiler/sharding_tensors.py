"""How tensors may be held inside a group: as produced, and, once, converted to what the readers need."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import numpy as np

from chiplan.ir import DType, mesh_ways

from .atoms import TensorAtom
from .collective_costs import NOTHING, CollectiveCost, CollectiveCosts, unbuildable
from .placements import REPLICATE, Partial, Placement, Placements, Shard

Atoms = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Held:
    """A value in a group. made: as its operator gives it. used: as readers find it who cannot use it as it
    was made; equal to `made` when nothing is converted. hidden: cycles of `cost` that pass while the operator
    that makes the value still computes."""

    made: Placements
    used: Placements
    cost: CollectiveCost
    hidden: int = 0

    @property
    def cycles(self) -> int:
        """What the conversion takes besides all compute."""
        return self.cost.cycles - self.hidden

    @property
    def conversions(self) -> int:
        return sum(a != b for a, b in zip(self.made, self.used, strict=True))


def is_complete(placements: Placements) -> bool:
    """Whether the values are there, on one chip or another, without partial results."""
    return not any(isinstance(placement, Partial) for placement in placements)


def local_elements(atoms: Atoms, held: Placements, mesh: Sequence[int]) -> int:
    """Elements of the largest piece."""
    ways = _ways(held, mesh)
    return prod(
        ceil(extent / ways.get((dimension, position), 1))
        for dimension, extents in enumerate(atoms)
        for position, extent in enumerate(extents)
    )


def _ways(held: Placements, mesh: Sequence[int]) -> dict[TensorAtom, int]:
    """Into how many pieces each cut atom is cut."""
    ways: dict[TensorAtom, int] = {}
    for placement, count in zip(held, mesh, strict=True):
        if isinstance(placement, Shard):
            ways[placement.atom] = ways.get(placement.atom, 1) * count
    return ways


class Conversions:
    """The forms that a tensor can be brought to, and what that costs."""

    def __init__(self, costs: CollectiveCosts, mesh: tuple[int, ...]) -> None:
        self._costs, self._mesh = costs, mesh
        self._known: dict[tuple[Atoms, DType, Placements], list[Held]] = {}

    def states(self, atoms: Atoms, dtype: DType, made: Iterable[Placements]) -> tuple[Held, ...]:
        """Every form for every placement that it may be made with, the unconverted first.

        Partial results become results together, along all axes that have any: whole on every chip, or in
        pieces of the outermost atom. An atom that several axes cut is gathered along all of them.
        """
        sound = (first for first in made if len({p for p in first if isinstance(p, Partial)}) <= 1)
        return tuple(held for first in sound for held in self._states(atoms, dtype, first))

    def _states(self, atoms: Atoms, dtype: DType, made: Placements) -> list[Held]:
        key = atoms, dtype, made
        if key not in self._known:
            forms = self._forms(atoms, made)
            self._known[key] = [Held(made, used, self._cost(atoms, dtype, made, used)) for used in forms]
        return self._known[key]

    def _forms(self, atoms: Atoms, made: Placements) -> list[Placements]:
        cut = list(dict.fromkeys(p for p in made if isinstance(p, Shard)))
        sums: list[Placement] = [REPLICATE]
        outer = self._scattered(atoms, made)
        if outer is not None and not is_complete(made):
            sums.append(Shard(outer))
        forms = []
        for result in [None, *sums] if not is_complete(made) else [None]:
            for kept in product((True, False), repeat=len(cut)):
                stays = dict(zip(cut, kept, strict=True))
                if result is None and not is_complete(made) and not all(kept):
                    continue
                forms.append(tuple(_becomes(p, stays, result) for p in made))
        return forms

    def _scattered(self, atoms: Atoms, made: Placements) -> TensorAtom | None:
        """The outermost atom of which a chip has several elements: its pieces are runs of a chip's elements.
        None where it is cut already, or where some piece is short."""
        ways = _ways(made, self._mesh)
        if any(atoms[d][p] % count for (d, p), count in ways.items()):
            return None
        every = ((d, p) for d, extents in enumerate(atoms) for p in range(len(extents)))
        outer = next((atom for atom in every if atoms[atom[0]][atom[1]] > ways.get(atom, 1)), None)
        return None if outer in ways else outer

    def _cost(self, atoms: Atoms, dtype: DType, made: Placements, used: Placements) -> CollectiveCost:
        total = NOTHING
        for wanted in collectives_of(atoms, Held(made, used, NOTHING), self._mesh):
            total += wanted.cost(self._costs, dtype, self._mesh)[1]
        return total


@dataclass(frozen=True)
class Collective:
    """A collective over mesh `axes` together. elements: what a chip has before a sum, and the whole after a
    gather. without: algorithms that cannot be built for it."""

    kind: str
    elements: int
    axes: tuple[int, ...]
    without: frozenset[str] = frozenset()

    def cost(self, costs: CollectiveCosts, dtype: DType, mesh: tuple[int, ...]) -> tuple[str, CollectiveCost]:
        """The algorithm, and what it costs, on values of `dtype`."""
        return costs.of(self.kind, self.elements, dtype, mesh, self.axes, self.without)


def collectives_of(atoms: Atoms, held: Held, mesh: tuple[int, ...]) -> Iterator[Collective]:
    """What converts a value: sums over all axes together, then gathers over all axes together."""
    made, used, axes = held.made, held.used, range(len(mesh))
    summed = tuple(a for a in axes if isinstance(made[a], Partial) and used[a] != made[a])
    if summed:
        yield _sum(atoms, made, used[summed[0]], mesh, summed)
    gathered = tuple(a for a in axes if isinstance(made[a], Shard) and used[a] == REPLICATE)
    if gathered:
        yield Collective("all_gather", local_elements(atoms, used, mesh), gathered)


def _sum(
    atoms: Atoms, made: Placements, result: Placement, mesh: tuple[int, ...], axes: tuple[int, ...]
) -> Collective:
    """A sum whose result is whole on every chip, or in pieces of an atom."""
    elements, ways = local_elements(atoms, made, mesh), _ways(made, mesh)
    short = any(atoms[d][p] % count for (d, p), count in ways.items())
    cut, kind = elements, "all_reduce"
    if isinstance(result, Shard):
        cut, kind = atoms[result.atom[0]][result.atom[1]], "reduce_scatter"
    is_even = cut % mesh_ways(mesh, axes) == 0
    return Collective(kind, elements, axes, unbuildable(elements, is_even=is_even, has_short=short))


def _becomes(placement: Placement, stays: Mapping[Shard, bool], result: Placement | None) -> Placement:
    """A placement after the conversion; `result` None: nothing is summed."""
    if isinstance(placement, Shard):
        return placement if stays[placement] else REPLICATE
    return result if isinstance(placement, Partial) and result is not None else placement


class Codes:
    """Placements as numbers, so that many are compared at once; Replicate is 0."""

    def __init__(self, axes: int) -> None:
        self._axes = axes
        self._numbers: dict[Placement, int] = {REPLICATE: 0}

    def table(self, placements: Sequence[Placements]) -> np.ndarray:
        """int64[placements, mesh axes]."""
        number = self._numbers
        rows = [[number.setdefault(p, len(number)) for p in entry] for entry in placements]
        return np.array(rows, dtype=np.int64).reshape(-1, self._axes)

    def serving(self, held: Sequence[Placements], needs: Sequence[Placements]) -> np.ndarray:
        """bool[held, needs]: whether a tensor held so is what a reader needs."""
        have, want = self.table(held)[:, None, :], self.table(needs)[None, :, :]
        fits: np.ndarray = ((have == 0) | (have == want)).all(axis=-1)
        return fits

    def equal(self, held: Sequence[Placements], given: Sequence[Placements]) -> np.ndarray:
        """bool[held, given]."""
        same: np.ndarray = (self.table(held)[:, None, :] == self.table(given)[None, :, :]).all(axis=-1)
        return same
