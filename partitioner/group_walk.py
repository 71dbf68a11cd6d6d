"""A walk over all chips on which neighbours are linked wherever the topology allows it.

unit     the chips of a node where every node is a clique, single chips elsewhere
reach    a run of units that are linked beyond the next one: a row of nodes with cables to the four next,
         a rack of a dragonfly. Between two reaches there is a gap, crossed by one link or by none.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from chiplan.ir import Topology

Linked = set[tuple[int, int]]
"""Ordered pairs (chips, or units) with a link from the first to the second."""


@dataclass(frozen=True)
class Walk:
    """units: chips of every unit, in walking order. reach_of: the number of every unit's reach, ascending.
    all_linked: so many units one after the other, in one reach, are all linked to each other."""

    units: tuple[tuple[int, ...], ...]
    reach_of: tuple[int, ...]
    all_linked: int


def walk_chips(topology: Topology, failed: Collection[int] = ()) -> Walk:
    """All chips that have not failed; parts that no link joins one after the other, the largest first."""
    links = _working_links(topology, failed)
    unit_of = _units(topology, failed, links)
    crossing = links[unit_of[links[:, 0]] != unit_of[links[:, 1]]]
    linked = set(map(tuple, np.unique(unit_of[crossing], axis=0).tolist()))
    members: dict[int, list[int]] = {}
    for chip in np.flatnonzero(unit_of >= 0).tolist():
        members.setdefault(int(unit_of[chip]), []).append(chip)
    rack_of = {unit: topology.rack_of[chips[0]] for unit, chips in members.items()}
    order = _order_units(rack_of, linked)
    units = _chained([members[unit] for unit in order], set(map(tuple, crossing.tolist())))
    reach_of = _reaches(order, linked)
    return Walk(tuple(map(tuple, units)), reach_of, _all_linked(order, reach_of, linked))


def _working_links(topology: Topology, failed: Collection[int]) -> np.ndarray:
    """int64[links, 2]: chips at the two ends; parallel links once."""
    ends = np.array([link[:2] for link in topology.links], dtype=np.int64).reshape(-1, 2)
    ends = ends[~np.isin(ends, list(failed)).any(axis=1)]
    return (
        np.unique(ends[:, 0] * topology.chips + ends[:, 1])[:, None] // [topology.chips, 1] % topology.chips
    )


def _units(topology: Topology, failed: Collection[int], links: np.ndarray) -> np.ndarray:
    """int64[chips]: the unit of every chip, -1 for a failed one."""
    node_of = np.array(topology.node_of, dtype=np.int64)
    alive = np.ones(topology.chips, dtype=bool)
    alive[list(failed)] = False
    sizes = np.bincount(node_of[alive], minlength=node_of.max() + 1)
    inside = links[node_of[links[:, 0]] == node_of[links[:, 1]]]
    cliques = (np.bincount(node_of[inside[:, 0]], minlength=len(sizes)) == sizes * (sizes - 1)).all()
    return np.where(alive, node_of if cliques else np.arange(topology.chips), -1)


def _order_units(rack_of: dict[int, int], linked: Linked) -> list[int]:
    """Units in the order of their numbers where that has no gap; else rack by rack where every rack is a
    clique of units; else from neighbour to neighbour."""
    order = sorted(rack_of)
    if len(set(_reaches(order, linked))) <= 1:
        return order
    racks = [list(units) for _, units in groupby(sorted(order, key=lambda u: (rack_of[u], u)), rack_of.get)]
    if len(racks) < len(order) and all(_is_clique(rack, linked) for rack in racks):
        return [unit for rack in _chained(racks, linked) for unit in rack]
    return _neighbour_walk(order, linked)


def _is_clique(units: list[int], linked: Linked) -> bool:
    return all((one, other) in linked for one in units for other in units if one != other)


def _chained(blocks: list[list[int]], linked: Linked) -> list[list[int]]:
    """Members of each block reordered so that its first is linked from the last of the block before."""
    ordered: list[list[int]] = []
    entry: int | None = None
    for block, following in pairwise([*blocks, []]):
        doors = [(a, b) for a in block for b in following if (a, b) in linked]
        # The first block may begin anywhere: with its lowest member, unless that is the only way out.
        begin = min(block) if entry is None else entry
        free = [door for door in doors if door[0] != begin] or (
            doors if entry is None or len(block) == 1 else []
        )
        leave, entry = free[0] if free else (None, None)
        ordered.append(sorted(block, key=lambda member: (member == leave, member != begin, member)))
    return ordered


def _neighbour_walk(units: list[int], linked: Linked) -> list[int]:
    """From unit to unit over links, each time to the neighbour with the fewest ways on; where there is
    none left, to the nearest unit. Parts that are not joined: the largest first."""
    near: dict[int, list[int]] = {unit: [] for unit in units}
    for one, other in sorted(linked):
        near[one].append(other)
    order: list[int] = []
    for part in _parts(units, near):
        left = set(part)
        unit: int | None = part[0]
        while unit is not None:
            order.append(unit)
            left.remove(unit)
            unit = _next_unit(unit, near, left)
    return order


def _parts(units: list[int], near: dict[int, list[int]]) -> list[list[int]]:
    """Sets of units that links join, the largest first; each begins with its lowest number."""
    parts, seen = [], set[int]()
    for unit in units:
        if unit not in seen:
            parts.append([found for ring in _rings(unit, near) for found in ring])
            seen.update(parts[-1])
    return sorted(parts, key=len, reverse=True)


def _rings(start: int, near: dict[int, list[int]]) -> Iterable[list[int]]:
    """Units at distance 0, 1, 2 ... of `start`, sorted."""
    seen, ring = {start}, [start]
    while ring:
        yield ring
        ring = sorted({other for unit in ring for other in near[unit]} - seen)
        seen.update(ring)


def _next_unit(unit: int, near: dict[int, list[int]], left: set[int]) -> int | None:
    free = [other for other in near[unit] if other in left]
    if free:
        return min(free, key=lambda other: (sum(way in left for way in near[other]), other))
    return (
        next((other for ring in _rings(unit, near) for other in ring if other in left), None)
        if left
        else None
    )


def _reaches(order: list[int], linked: Linked) -> tuple[int, ...]:
    """The reach of each unit of a walk. Where hardly a unit is linked to the one after the next, as in a
    ring, only a missing link is a gap."""
    skips = [(a, c) in linked for a, c in zip(order, order[2:], strict=False)]
    dense = sum(skips) * 2 > len(skips)
    reach, reaches = 0, []
    for position, unit in enumerate(order):
        if position:
            around = skips[max(position - 2, 0) : position]
            reach += (order[position - 1], unit) not in linked or (dense and not any(around))
        reaches.append(reach)
    return tuple(reaches)


def _all_linked(order: list[int], reach_of: tuple[int, ...], linked: Linked) -> int:
    count = 1
    while any(one == other for one, other in zip(reach_of, reach_of[count:], strict=False)) and all(
        (order[one], order[one + count]) in linked
        for one in range(len(order) - count)
        if reach_of[one] == reach_of[one + count]
    ):
        count += 1
    return count
