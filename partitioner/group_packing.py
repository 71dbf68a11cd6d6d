"""Which chips of a walk each group takes: whole pieces of units, in order, without a gap inside a group.

A group's pieces are what it puts into one unit each. Attempts, the first that has room for all wins:

    1. each group behind the one before, at the first place where its pieces fit
    2. the same, but a group may go back to the nearest place left free
    3. the largest groups first; units that take only single pieces then change places to restore the order
    4. each group behind the one before, broken over units only where no more chips can be left idle
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import prod

from .group_walk import Walk

Taken = list[tuple[int, ...]]
"""Chips of every group, piece after piece."""


def pieces_of(mesh: tuple[int, ...], unit: int) -> tuple[int, ...]:
    """How many chips of a unit each piece takes, where units have `unit` chips. A row of the mesh's last axis
    is a piece or several; a mesh that is no larger than a unit is one piece."""
    if prod(mesh) <= unit:
        return (prod(mesh),)
    row = mesh[-1]
    return (*[unit] * (row // unit), *([row % unit] if row % unit else [])) * (prod(mesh) // row)


def pack_groups(meshes: Sequence[tuple[int, ...]], walk: Walk) -> Taken:
    """Chips of every group; there must be enough in all."""
    unit = max(map(len, walk.units))
    pieces = [pieces_of(mesh, unit) for mesh in meshes]
    # Groups that are all alike find no room in another order that they do not find in the first.
    attempts = (_in_order, _back_to_free, _largest_first) if len(set(pieces)) > 1 else (_in_order,)
    for attempt in attempts:
        units = attempt(pieces, walk)
        if units is not None:
            return _take(pieces, units, walk)
    return _along_the_walk(pieces, walk)


def _take(pieces: Sequence[tuple[int, ...]], units: Sequence[int], walk: Walk) -> Taken:
    """The next free chips of every unit, `units[g]` the unit of group g's first piece."""
    left = [list(chips) for chips in walk.units]
    taken = []
    for group, first in zip(pieces, units, strict=True):
        chips: list[int] = []
        for offset, size in enumerate(group):
            chips += sorted(left[first + offset][:size])
            del left[first + offset][:size]
        taken.append(tuple(chips))
    return taken


class _Room:
    """Free chips of every unit."""

    def __init__(self, walk: Walk) -> None:
        self.free = [len(chips) for chips in walk.units]
        self._reach_of = walk.reach_of
        self._longest = max(walk.reach_of.count(reach) for reach in set(walk.reach_of))

    def fits(self, group: tuple[int, ...], unit: int) -> bool:
        last = unit + len(group) - 1
        if last >= len(self.free) or any(s > self.free[unit + i] for i, s in enumerate(group)):
            return False
        return self._reach_of[unit] == self._reach_of[last] or len(group) > self._longest

    def place(self, group: tuple[int, ...], candidates: Sequence[int]) -> int | None:
        """The first of the units at which the group fits, which it then takes."""
        for unit in candidates:
            if self.free[unit] >= group[0] and self.fits(group, unit):
                for offset, size in enumerate(group):
                    self.free[unit + offset] -= size
                return unit
        return None


def _in_order(pieces: Sequence[tuple[int, ...]], walk: Walk) -> list[int] | None:
    room, units, here = _Room(walk), list[int](), 0
    for group in pieces:
        unit = room.place(group, range(here, len(walk.units)))
        if unit is None:
            return None
        units.append(unit)
        here = unit + len(group) - 1
    return units


def _back_to_free(pieces: Sequence[tuple[int, ...]], walk: Walk) -> list[int] | None:
    room, units, here = _Room(walk), list[int](), 0
    for group in pieces:
        unit = room.place(group, [*range(here, -1, -1), *range(here + 1, len(walk.units))])
        if unit is None:
            return None
        units.append(unit)
        here = max(here, unit + len(group) - 1)
    return units


def _largest_first(pieces: Sequence[tuple[int, ...]], walk: Walk) -> list[int] | None:
    room = _Room(walk)
    units = [0] * len(pieces)
    for number in sorted(range(len(pieces)), key=lambda number: (-sum(pieces[number]), number)):
        unit = room.place(pieces[number], range(len(walk.units)))
        if unit is None:
            return None
        units[number] = unit
    return _reordered(pieces, units, walk)


def _reordered(pieces: Sequence[tuple[int, ...]], units: list[int], walk: Walk) -> list[int]:
    """Units of equal size that hold single pieces alone, sorted by the mean number of their groups."""
    held: dict[int, list[int]] = {}
    fixed: set[int] = set()
    for number, unit in enumerate(units):
        held.setdefault(unit, []).append(number)
        if len(pieces[number]) > 1:
            fixed.update(range(unit, unit + len(pieces[number])))
    moved = list(units)
    for size in {len(chips) for chips in walk.units}:
        places = [unit for unit in sorted(held) if unit not in fixed and len(walk.units[unit]) == size]
        by_mean = sorted(places, key=lambda unit: (sum(held[unit]) / len(held[unit]), unit))
        for place, unit in zip(places, by_mean, strict=True):
            for number in held[unit]:
                moved[number] = place
    return moved


def _along_the_walk(pieces: Sequence[tuple[int, ...]], walk: Walk) -> Taken:
    """Chips in walking order. Before a group that would be broken, over units or over a gap, chips are left
    idle as long as enough remain for the others."""
    place_of = [unit for unit, chips in enumerate(walk.units) for _ in chips]
    chips = [chip for unit in walk.units for chip in unit]
    idle = len(chips) - sum(map(sum, pieces))
    taken, here = [], 0
    for group in pieces:
        skipped = _idle_before(group, here, idle, place_of, walk.reach_of)
        here, idle = here + skipped, idle - skipped
        span = range(here, here + sum(group))
        taken.append(tuple(chips[i] for i in sorted(span, key=lambda i: (place_of[i], chips[i]))))
        here = span.stop
    return taken


def _idle_before(
    group: tuple[int, ...], here: int, idle: int, place_of: Sequence[int], reach_of: Sequence[int]
) -> int:
    """How many chips to leave out so that the group is broken least: none where nothing helps."""

    def breaks(skipped: int) -> tuple[bool, bool]:
        first, last = place_of[here + skipped], place_of[here + skipped + sum(group) - 1]
        begins = here + skipped == 0 or place_of[here + skipped - 1] != first
        broken = last - first >= len(group) or (len(group) > 1 and not begins)
        return broken, reach_of[first] != reach_of[last]

    longest = min(idle, len(place_of) - here - sum(group))
    return min(
        _to_next_bounds(here, longest, place_of, reach_of), key=lambda skipped: (breaks(skipped), skipped)
    )


def _to_next_bounds(here: int, longest: int, place_of: Sequence[int], reach_of: Sequence[int]) -> list[int]:
    """Chips from `here` on: none, to the end of the unit, to the end of the reach; at most `longest`."""
    reach_ends = bisect_right(reach_of, reach_of[place_of[here]])
    ends = (here, bisect_right(place_of, place_of[here]), bisect_left(place_of, reach_ends))
    return [end - here for end in ends if end - here <= longest]
