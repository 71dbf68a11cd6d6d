"""Axes as products of atoms: how far a view of reshapes and transposes takes a tensor's axes apart.

(256, 352, 64) seen as (128, 2, 352, 64), transposed to (128, 64, 2, 352), seen as (128, 64, 704)
atoms of the tensor's axes: 128 x 2 | 352 | 64
atoms of the seen axes:     128 | 64 | 2 x 352
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chiplan.ir import Reshape, Shape, Transpose, View


@dataclass(frozen=True)
class SeenAxes:
    """stored[d] and seen[d]: numbers of the atoms whose product, major first, is axis d of the tensor
    and of the view; extents: of every atom. An axis of extent 1 has no atoms."""

    extents: tuple[int, ...]
    stored: tuple[tuple[int, ...], ...]
    seen: tuple[tuple[int, ...], ...]


class _Atoms:
    """Atoms that are split as the view demands; a split one stands for its two parts."""

    def __init__(self) -> None:
        self.extents: list[int] = []
        self.parts: dict[int, tuple[int, int]] = {}

    def add(self, extent: int) -> int:
        self.extents.append(extent)
        return len(self.extents) - 1

    def split(self, atom: int, outer: int) -> tuple[int, int]:
        self.parts[atom] = (self.add(outer), self.add(self.extents[atom] // outer))
        return self.parts[atom]

    def leaves(self, atoms: Sequence[int]) -> list[int]:
        """The parts that `atoms` have come to, in order."""
        found: list[int] = []
        for atom in atoms:
            found += self.leaves(self.parts[atom]) if atom in self.parts else [atom]
        return found

    def regrouped(self, axes: Sequence[Sequence[int]], shape: Shape) -> list[list[int]] | None:
        """The atoms of `axes`, in order, as axes of `shape`; None where an atom does not divide."""
        waiting = [atom for axis in axes for atom in axis][::-1]
        groups = []
        for extent in shape:
            group: list[int] = []
            while extent > 1:
                atom = waiting.pop()
                if self.extents[atom] > extent:
                    if self.extents[atom] % extent:
                        return None
                    atom, rest = self.split(atom, extent)
                    waiting.append(rest)
                if extent % self.extents[atom]:
                    return None
                group.append(atom)
                extent //= self.extents[atom]
            groups.append(group)
        return groups


def seen_axes(view: View, shape: Shape) -> SeenAxes | None:
    """The common atoms of a tensor of `shape` and of what `view` shows of it; None for a view that
    does more than to reshape and transpose, and for reshapes that do not divide."""
    atoms = _Atoms()
    stored = [[atoms.add(extent)] if extent > 1 else [] for extent in shape]
    axes: list[list[int]] = list(stored)
    for step in view:
        if isinstance(step, Transpose):
            axes = [axes[axis] for axis in step.permutation]
        elif isinstance(step, Reshape):
            regrouped = atoms.regrouped([atoms.leaves(axis) for axis in axes], step.shape)
            if regrouped is None:
                return None
            axes = regrouped
        else:
            return None
    found = [tuple(tuple(atoms.leaves(axis)) for axis in group) for group in (stored, axes)]
    return SeenAxes(tuple(atoms.extents), *found)
