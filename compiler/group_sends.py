"""A tensor from one stage's chips to another's: every chip of the reading group gets all of it.

The tensor is cut into ranges. Each range crosses between the groups once, from a chip that has it to
an entry chip, and is passed on inside the reading group. A short tensor goes to every chip directly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from chiplan.ir import Reshape, Tensor, mesh_peers

from .forwarding import Handover, spread_from
from .link_patterns import LinkPatterns
from .links import LinkScheduler, PartRouter, Router
from .movements import Leg, Moved, arrival_map
from .ready_times import ReadyMap, map_step, range_maximum

_CHUNKS = 8
"""Chunks of a range."""
_DIRECT_FLITS = 6
"""A tensor of so few flits goes to every chip directly: forwarding costs another hop."""


@dataclass(frozen=True)
class Sender:
    """The group that has a tensor. `owned`: mesh axes along which each chip has its own piece of it, as
    dimension 0 says; without any every chip has all."""

    chips: tuple[int, ...]
    mesh: tuple[int, ...]
    owned: tuple[int, ...] = ()

    def holders(self) -> list[tuple[int, ...]]:
        """The chips that have each piece."""
        if not self.owned:
            return [self.chips]
        peers = mesh_peers(self.mesh, self.owned)
        return [tuple(self.chips[ranks[piece]] for ranks in peers) for piece in range(len(peers[0]))]


@dataclass(frozen=True)
class Range:
    """Elements [first, last), which one of `holders` sends."""

    first: int
    last: int
    holders: tuple[int, ...]


def send_to_group(
    tensor: Tensor, sender: Sender, chips: Sequence[int], ready: ReadyMap, links: LinkScheduler
) -> Moved:
    """Schedule a tensor's way to all `chips`, and when it is there on all of them; raises NoRoom."""
    flits = ceil(tensor.nbytes / links.rule.flit_bytes)
    direct = len(chips) == 1 or flits <= _DIRECT_FLITS
    wanted = max(len(sender.chips), len(chips)) if not direct or len(chips) == 1 else 1
    ranges = _ranges(tensor, sender, max(1, min(wanted, flits // 2)))
    size = links.chunk_elements(tensor, max(r.last - r.first for r in ranges), _CHUNKS)
    flat = map_step(ready, Reshape((tensor.elements,)))
    crossing = _Crossing(sender.chips, chips, links.router)
    ways = [_way(r, chips, direct, links.router, crossing) for r in ranges]
    legs = _legs(ranges, ways, flat, size)
    moved = links.carry(legs, tensor, tensor.name, divide=True)
    return Moved(moved, arrival_map(tensor, moved.at, moved.last - moved.first, moved.arrival))


def send_by_pattern(
    tensor: Tensor,
    sender: Sender,
    chips: tuple[int, ...],
    ready: ReadyMap,
    links: LinkScheduler,
    patterns: LinkPatterns,
) -> Moved:
    """The same as `send_to_group`, once for all pairs of groups that are wired alike; raises NoRoom."""
    count = len(sender.chips)

    def draw(places: tuple[int, ...], made: ReadyMap, on: LinkScheduler) -> Moved:
        return send_to_group(tensor, replace(sender, chips=places[:count]), places[count:], made, on)

    structure = (tensor.dtype, tensor.shape, sender.mesh, sender.owned, len(chips))
    names = tensor.name, tensor.name
    return patterns.move(structure, (*sender.chips, *chips), ready, links, names, draw)


def _ranges(tensor: Tensor, sender: Sender, wanted: int) -> list[Range]:
    """The pieces that chips have, cut further into about `wanted` ranges together."""
    holders = sender.holders()
    piece = tensor.elements // len(holders)
    part = ceil(piece / max(1, wanted // len(holders)))
    return [
        Range(c * piece + first, c * piece + min(first + part, piece), having)
        for c, having in enumerate(holders)
        for first in range(0, piece, part)
    ]


class _Crossing:
    """Which chip of a group sends a range to which chip of another: the nearest, but not one always."""

    def __init__(self, senders: Sequence[int], chips: Sequence[int], router: Router | PartRouter) -> None:
        self._place = {chip: place for place, chip in enumerate(senders)}
        self._senders, self._chips = senders, chips
        self._hops = np.array([[router.distance(a, b) for b in chips] for a in senders], dtype=np.int64)
        self._sent = np.zeros((len(senders), 1), dtype=np.int64)
        self._taken = np.zeros((1, len(chips)), dtype=np.int64)

    def to_each(self, holders: Sequence[int]) -> list[Handover]:
        """To every chip from the nearest holder."""
        nearest = self._hops[self._rows(holders)].argmin(axis=0)
        pairs = zip(nearest.tolist(), self._chips, strict=True)
        return [Handover(holders[place], chip) for place, chip in pairs]

    def next_pair(self, holders: Sequence[int]) -> Handover:
        """A holder and an entry near each other, of which neither has had much to do."""
        rows = self._rows(holders)
        hops = self._hops[rows]
        cost = hops + self._sent[rows] + self._taken
        place, entry = np.unravel_index(int((cost * (hops.max() + 1) + hops).argmin()), hops.shape)
        self._sent[rows[place]] += 1
        self._taken[0, entry] += 1
        return Handover(holders[int(place)], self._chips[int(entry)])

    def _rows(self, holders: Sequence[int]) -> list[int]:
        return [self._place[chip] for chip in holders]


def _way(
    r: Range, chips: Sequence[int], direct: bool, router: Router | PartRouter, crossing: _Crossing
) -> list[Handover]:
    """Handovers (chips) that bring a range to all `chips`."""
    if direct:
        return crossing.to_each(r.holders)
    first = crossing.next_pair(r.holders)
    root = list(chips).index(first.receiver)
    inside = spread_from(root, chips, router, forward=True)
    return [first, *(Handover(chips[h.sender], chips[h.receiver]) for h in inside)]


def _legs(
    ranges: Sequence[Range], ways: Sequence[Sequence[Handover]], flat: ReadyMap, size: int
) -> list[Leg]:
    """Chunk by chunk, each over all handovers of its range, the ranges in turn."""
    chunks = [
        (k, step, number, first, min(first + size, r.last))
        for number, r in enumerate(ranges)
        for k, first in enumerate(range(r.first, r.last, size))
        for step in range(len(ways[number]))
    ]
    chunks.sort(key=lambda chunk: chunk[:3])
    bounds = np.array([chunk[3:] for chunk in chunks])
    cycles = range_maximum(flat, bounds[:, 0], bounds[:, 1]).tolist()
    brought: dict[tuple[int, int], int] = {}
    legs: list[Leg] = []
    for (_, step, number, first, last), cycle in zip(chunks, cycles, strict=True):
        sender, receiver = ways[number][step]
        after = brought.get((sender, first), -1)
        brought[receiver, first] = len(legs)
        legs.append(Leg(sender, receiver, first, last, first, cycle, after))
    return legs
