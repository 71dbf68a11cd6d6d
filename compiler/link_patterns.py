"""Movements that repeat: scheduled once on idle links, then moved to other chips and other cycles.

The layers of a model exchange the same tensors on groups that are wired alike. A *pattern* is what
the link scheduler makes of a movement when all links around its chips are idle. Elsewhere, and later,
the same starts are right as long as the links are free in those cycles; if not even a little later,
the movement is scheduled on its own. Only links between chips of the nodes that the movement touches
take part, so that groups of other nodes are left alone.
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from chiplan.ir import ChipId, Link, Target, Topology

from .links import LinkScheduler, PartRouter, Router
from .movements import Moved
from .ready_times import ReadyMap

_ENDLESS = 1 << 40
_PATIENCE = 32
"""A pattern may wait for its links for this part of its length; then it is scheduled anew."""


@dataclass(frozen=True)
class Region:
    """The chips of some nodes, those of a movement first, and the links among them. `wiring` has the ends
    of every link, as positions in `chips`; regions of one `kind` have equal ones."""

    chips: tuple[int, ...]
    links: np.ndarray
    wiring: tuple[tuple[int, int], ...]
    kind: int = 0


@dataclass(frozen=True)
class _Pattern:
    """What a movement does on idle links. busy: of every link that it uses (a position in the region)
    the segments in which it is held. length: cycles from the first to the last."""

    moved: Moved
    busy: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    length: int


Draw = Callable[[tuple[int, ...], ReadyMap, LinkScheduler], Moved]
"""Schedules a movement between chips, given when its tensor is made."""


class LinkPatterns:
    """Routes, regions and patterns of a target; independent of intervals."""

    def __init__(self, target: Target, router: Router | None = None) -> None:
        self.target, self.router = target, router or Router(target.topology)
        self._node_of = np.array(target.topology.node_of, dtype=np.int64)
        self._ends = np.array(target.topology.links, dtype=np.int64).reshape(-1, 3)
        self._regions: dict[tuple[int, ...], Region] = {}
        self._kinds: dict[tuple[tuple[int, int], ...], int] = {}
        self._routers: list[tuple[Target, Router]] = []
        self._parts: dict[tuple[int, ...], PartRouter] = {}
        self._patterns: dict[Hashable, _Pattern] = {}

    def move(
        self,
        structure: Hashable,
        chips: tuple[int, ...],
        made: ReadyMap,
        links: LinkScheduler,
        names: tuple[str, str],
        draw: Draw,
    ) -> Moved:
        """Schedule a movement of tensor `names[0]` into `names[1]` between `chips` on `links`. Movements of
        equal `structure` differ in chips, names and cycles alone. Raises NoRoom."""
        base = int(made.cycles.max())
        region = self._region(chips)
        made = _coarse(made, base, int(self.target.link.cycles_per_flit))
        breaks = tuple(first.tobytes() for first in made.breaks)
        key = (
            structure,
            region.kind,
            links.thrift,
            made.shape,
            breaks,
            made.cycles.shape,
            made.cycles.tobytes(),
        )
        if key not in self._patterns:
            self._patterns[key] = self._draw(region, len(chips), made, draw, links.thrift)
        pattern = self._patterns[key]
        cycle = _first_free(pattern, region, links, base)
        if cycle is None:
            return draw(chips, _shifted(made, base), links.on(self._routes_in(region)))
        return _placed(pattern, region, links, cycle, names)

    def _routes_in(self, region: Region) -> PartRouter:
        if region.chips not in self._parts:
            _, router = self._routers[region.kind]
            self._parts[region.chips] = PartRouter(router, region.chips, region.links.tolist())
        return self._parts[region.chips]

    def _draw(self, region: Region, count: int, made: ReadyMap, draw: Draw, thrift: int) -> _Pattern:
        target, router = self._routers[region.kind]
        links = LinkScheduler(target, _ENDLESS, router, thrift)
        moved = draw(tuple(range(count)), _shifted(made, _ENDLESS // 2), links)
        return _pattern(moved, -(_ENDLESS // 2))

    def _region(self, chips: tuple[int, ...]) -> Region:
        if chips not in self._regions:
            region = next(region for near in self._near(chips) if (region := self._wired(chips, near)))
            kind = self._kinds.setdefault(region.wiring, len(self._kinds))
            if kind == len(self._routers):
                part = _as_target(region, self.target)
                self._routers.append((part, Router(part.topology)))
            self._regions[chips] = replace(region, kind=kind)
        return self._regions[chips]

    def _near(self, chips: tuple[int, ...]) -> Iterator[Collection[int]]:
        """Chips, on whose nodes links may be used: ever more."""
        yield chips
        yield {*chips, *self.router.between(chips[0], chips[1:])}
        yield range(self.target.topology.chips)

    def _wired(self, chips: tuple[int, ...], near: Collection[int]) -> Region | None:
        """A region of `chips` and all others on the nodes of `near`, if its links join all of them."""
        node_of, ends = self._node_of, self._ends
        inside = np.isin(node_of, np.unique(node_of[list(near)]))
        inside[list(chips)] = False
        ordered = (*chips, *np.flatnonzero(inside).tolist())
        place = np.full(len(node_of), -1, dtype=np.int64)
        place[list(ordered)] = np.arange(len(ordered))
        source, destination = place[ends[:, 0]], place[ends[:, 1]]
        numbers = np.flatnonzero((source >= 0) & (destination >= 0))
        # By the ends of a link, then its port: parallel links in an order of their own.
        numbers = numbers[np.lexsort((ends[numbers, 2], destination[numbers], source[numbers]))]
        wiring = tuple(zip(source[numbers].tolist(), destination[numbers].tolist(), strict=True))
        region = Region(ordered, numbers.astype(np.int32), wiring)
        return region if _is_connected(region) or len(ordered) == len(node_of) else None


def _coarse(made: ReadyMap, base: int, grain: int) -> ReadyMap:
    """Cycles relative to `base`, the last of them; others later by less than `grain`, so that patterns
    match more often."""
    return replace(made, cycles=-((base - made.cycles) // grain * grain))


def _shifted(ready: ReadyMap, by: int) -> ReadyMap:
    return replace(ready, cycles=ready.cycles + by)


def _is_connected(region: Region) -> bool:
    """Whether every chip reaches every other over the region's links; they run both ways."""
    beside: dict[int, list[int]] = {}
    for source, destination in region.wiring:
        beside.setdefault(source, []).append(destination)
    reached, queue = {0}, deque([0])
    while queue:
        for chip in beside.get(queue.popleft(), ()):
            if chip not in reached:
                reached.add(chip)
                queue.append(chip)
    return len(reached) == len(region.chips)


def _as_target(region: Region, target: Target) -> Target:
    """A target of the region alone, chips and links numbered by their positions in it."""
    links = tuple(Link(ChipId(a), ChipId(b), port) for port, (a, b) in enumerate(region.wiring))
    count = len(region.chips)
    return replace(target, topology=Topology("region", count, links, (0,) * count, (0,) * count))


def _pattern(moved: Moved, by: int) -> _Pattern:
    """A movement shifted by `by` cycles, and what it holds."""
    arrivals = _shifted(moved.arrivals, by)
    if moved.movement is None:
        return _Pattern(Moved(None, arrivals), (), 0)
    movement = moved.movement.shifted(by)
    leg, hop = np.nonzero(movement.links >= 0)
    low = movement.start[leg] + hop * movement.stride
    held: dict[int, list[tuple[int, int]]] = {}
    order = np.argsort(low, kind="stable")
    rows = (movement.links[leg, hop][order], low[order], (low + movement.slot[leg])[order])
    for link, start, end in zip(*(row.tolist() for row in rows), strict=True):
        segments = held.setdefault(link, [])
        if segments and segments[-1][1] == start:
            segments[-1] = (segments[-1][0], end)
        else:
            segments.append((start, end))
    busy = tuple((link, tuple(segments)) for link, segments in held.items())
    length = int(movement.arrival.max() - movement.start.min())
    return _Pattern(Moved(movement, arrivals), busy, length)


def _first_free(pattern: _Pattern, region: Region, links: LinkScheduler, base: int) -> int | None:
    """First cycle from `base` on at which all links of a pattern are free in its segments; None when that
    is not soon."""
    if any(held[-1][1] - held[0][0] > links.interval for _, held in pattern.busy):
        return None
    cycle, latest = base, base + pattern.length // _PATIENCE
    settled = False
    while not settled:
        settled = True
        for link, held in pattern.busy:
            table = links.table(int(region.links[link]))
            for low, high in held:
                free = table.first_fit(cycle + low, high - low)
                if free is None or free - low > latest:
                    return None
                if free > cycle + low:
                    cycle, settled = free - low, False
    return cycle


def _placed(
    pattern: _Pattern, region: Region, links: LinkScheduler, cycle: int, names: tuple[str, str]
) -> Moved:
    """Reserve a pattern's links in a region, from `cycle` on."""
    for link, held in pattern.busy:
        table = links.table(int(region.links[link]))
        for low, high in held:
            table.reserve(cycle + low, cycle + high)
    moved = pattern.moved
    if moved.movement is None:
        return Moved(None, _shifted(moved.arrivals, cycle))
    movement = moved.movement.shifted(cycle).renumbered(np.array(region.chips), region.links)
    movement = movement.renamed(*names)
    links.sent.append(movement)
    return Moved(movement, _shifted(moved.arrivals, cycle))
