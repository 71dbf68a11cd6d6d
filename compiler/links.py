"""Link schedule: which chunk of a tensor crosses which links in which cycles.

What crosses chips is cut into chunks, each of them a leg of a movement. Each leaves as soon as its
elements are ready, on the route where it arrives first: parallel links, and detours over chips whose
links are idle. A chunk is cut through: hop h + 1 starts one flit and one hop latency after hop h, so
its slots on all links are fixed by its first, and none may overlap another modulo the interval.
"""

from collections import deque
from collections.abc import Collection, Sequence
from functools import cache
from math import ceil

from chiplan.ir import Reshape, Target, Tensor, Topology

from .modulo import ModuloTable, NoRoom
from .movements import Leg, Moved, Movement, Row, make_movement
from .ready_times import ReadyMap, block_maximum, grid_map, map_step

_CHUNKS = 32
_FLITS_A_CHUNK = 4
_ROUTES = 12


class Router:
    """Routes between two chips: all shortest ones and those one hop longer, shortest first."""

    def __init__(self, topology: Topology) -> None:
        links: dict[int, dict[int, list[int]]] = {chip: {} for chip in range(topology.chips)}
        sources: dict[int, set[int]] = {chip: set() for chip in range(topology.chips)}
        for index, link in enumerate(topology.links):
            links[link.source].setdefault(link.destination, []).append(index)
            sources[link.destination].add(link.source)
        self._links = {chip: sorted(beside.items()) for chip, beside in links.items()}
        self._sources = {chip: sorted(before) for chip, before in sources.items()}
        self.routes = cache(self._routes)
        self.distances = cache(self._distances)

    def distance(self, source: int, destination: int) -> int:
        """Hops of a shortest route; more than any route has when there is none."""
        return self.distances(destination).get(source, len(self._links))

    def _distances(self, destination: int) -> dict[int, int]:
        distances, queue = {destination: 0}, deque([destination])
        while queue:
            chip = queue.popleft()
            for before in self._sources[chip]:
                if before not in distances:
                    distances[before] = distances[chip] + 1
                    queue.append(before)
        return distances

    def between(self, source: int, destinations: Collection[int]) -> set[int]:
        """Chips on the first of the shortest routes to each destination, the destinations left out."""
        before, queue, left = {source: source}, deque([source]), set(destinations) - {source}
        while queue and left:
            chip = queue.popleft()
            for following, _ in self._links[chip]:
                if following not in before:
                    before[following] = chip
                    queue.append(following)
                    left.discard(following)
        found = {source}
        for chip in destinations:
            while (chip := before.get(chip, source)) not in found:
                found.add(chip)
        return found

    def _routes(self, source: int, destination: int) -> tuple[tuple[int, ...], ...]:
        distances = self.distances(destination)
        found: list[tuple[int, ...]] = []
        if source not in distances:
            return ()
        for hops in (distances[source], distances[source] + 1):
            self._extend(source, destination, hops, (), {source}, distances, found)
        return tuple(found)

    def _extend(
        self,
        chip: int,
        destination: int,
        hops: int,
        links: tuple[int, ...],
        seen: set[int],
        distances: dict[int, int],
        found: list[tuple[int, ...]],
    ) -> None:
        if chip == destination:
            found.extend([links] if hops == 0 else [])
            return
        if len(found) == _ROUTES:
            return
        for following, parallel in self._links[chip]:
            if following in seen or distances.get(following, hops) > hops - 1:
                continue
            for link in parallel:
                if len(found) < _ROUTES:
                    self._extend(
                        following, destination, hops - 1, (*links, link), seen | {following}, distances, found
                    )


class PartRouter:
    """The routes of a part of a topology, of which chip number i is `chips[i]`, link number i `links[i]`."""

    def __init__(self, router: Router, chips: Sequence[int], links: Sequence[int]) -> None:
        self._router, self._links = router, links
        self._place = {chip: place for place, chip in enumerate(chips)}
        self.routes = cache(self._routes)

    def distance(self, source: int, destination: int) -> int:
        """Hops of a shortest route within the part."""
        return self._router.distance(self._place[source], self._place[destination])

    def _routes(self, source: int, destination: int) -> tuple[tuple[int, ...], ...]:
        found = self._router.routes(self._place[source], self._place[destination])
        return tuple(tuple(self._links[link] for link in route) for route in found)


class LinkScheduler:
    """Reservation tables of all links at one interval. `thrift`: a longer route must win so many slots a
    hop, so that links which are nearly full are not spent on detours."""

    def __init__(
        self,
        target: Target,
        interval: int,
        router: Router | PartRouter | None = None,
        thrift: int = 0,
    ) -> None:
        self.target = target
        self.rule, self.interval, self.thrift = target.link, interval, thrift
        # Cut-through: a hop starts one flit and one hop latency after the hop before it.
        self.stride = self.rule.cycles_per_flit + self.rule.hop_latency
        self.router = router or Router(target.topology)
        self.sent: list[Movement] = []
        self._tables: dict[int, ModuloTable] = {}

    def send(self, tensor: Tensor, source: int, destination: int, ready: ReadyMap) -> Moved:
        """Schedule a whole tensor; raises NoRoom when the links are full at this interval."""
        size = self.chunk_elements(tensor, tensor.elements)
        flat = map_step(ready, Reshape((tensor.elements,)))
        ready_cycles = block_maximum(flat, (size,)).tolist()
        legs = [
            Leg(source, destination, first, min(first + size, tensor.elements), first, cycle)
            for first, cycle in zip(range(0, tensor.elements, size), ready_cycles, strict=True)
        ]
        movement = self.carry(legs, tensor, tensor.name)
        flat = grid_map((tensor.elements,), (0,), (size,), movement.arrival, (tensor.elements,))
        return Moved(movement, map_step(flat, Reshape(tensor.shape)))

    def chunk_elements(self, tensor: Tensor, elements: int, most: int = _CHUNKS) -> int:
        """Elements of a chunk when `elements` of a tensor are sent in at most `most` chunks."""
        flits = ceil(elements * tensor.dtype.itemsize / self.rule.flit_bytes)
        chunks = max(1, min(most, flits // _FLITS_A_CHUNK))
        return max(1, ceil(flits / chunks) * self.rule.flit_bytes // tensor.dtype.itemsize)

    def carry(self, legs: Sequence[Leg], tensor: Tensor, into: str, divide: bool = False) -> Movement:
        """Schedule legs one after the other, each on the route where it arrives first; one row a leg, or
        several where `divide` allows to cut those for which no gap is long enough. Raises NoRoom."""
        rows: list[Row] = []
        arrivals: list[int] = []
        itemsize = tensor.dtype.itemsize
        for leg in legs:
            ready = leg.ready if leg.after < 0 else arrivals[leg.after]
            arrivals.append(self._carry_leg(leg, ready, itemsize, divide, rows))
        movement = make_movement(tensor.name, into, rows, self.stride)
        self.sent.append(movement)
        return movement

    def _carry_leg(self, leg: Leg, ready: int, itemsize: int, divide: bool, rows: list[Row]) -> int:
        """Schedule a leg, append its rows, and return when all of it has arrived."""
        flits = ceil((leg.last - leg.first) * itemsize / self.rule.flit_bytes)
        slot = flits * self.rule.cycles_per_flit
        try:
            links, start = self._reserve(leg.source, leg.destination, slot, ready)
        except NoRoom:
            if not divide or flits == 1:
                raise
            half = flits // 2 * self.rule.flit_bytes // itemsize
            head = leg._replace(last=leg.first + half)
            tail = leg._replace(first=leg.first + half, at=leg.at + half)
            return max(self._carry_leg(part, ready, itemsize, divide, rows) for part in (head, tail))
        arrival = start + (len(links) - 1) * self.stride + slot + self.rule.hop_latency
        rows.append(Row(*leg[:5], start, slot, arrival, links))
        return arrival

    def on(self, router: Router | PartRouter) -> "LinkScheduler":
        """The same links, on the routes of another router."""
        other = LinkScheduler(self.target, self.interval, router, self.thrift)
        other.sent, other._tables = self.sent, self._tables
        return other

    def _reserve(self, source: int, destination: int, slot: int, ready: int) -> tuple[tuple[int, ...], int]:
        """The route on which a slot that is ready arrives first, thrift allowing, and its start there."""
        best: tuple[int, ...] | None = None
        # Of two routes that arrive in one cycle the first, the shorter one, is taken.
        start, delay = 0, 0
        for links in self.router.routes(source, destination):
            further = (len(links) - 1) * (self.stride + self.thrift * slot)
            limit = ready + 2 * self.interval if best is None else start + delay - further
            if limit <= ready:
                # Further routes are no shorter.
                break
            found = self._earliest(links, slot, ready, limit)
            if found is not None:
                best, start, delay = links, found, further
        if best is None:
            raise NoRoom(f"the links from chip {source} to chip {destination} are full")
        for hop, link in enumerate(best):
            low = start + hop * self.stride
            self.table(link).reserve(low, low + slot)
        return best, start

    def table(self, link: int) -> ModuloTable:
        """The reservations of a link."""
        table = self._tables.get(link)
        if table is None:
            table = self._tables[link] = ModuloTable(self.interval)
        return table

    def _earliest(self, links: tuple[int, ...], slot: int, ready: int, limit: int) -> int | None:
        """First cycle before `limit` from which every hop's slot is free, or None."""
        start = ready
        tables = [(hop * self.stride, self.table(link)) for hop, link in enumerate(links)]
        while start < limit:
            later = start
            for offset, table in tables:
                free = table.first_fit(later + offset, slot)
                if free is None:
                    return None
                later = free - offset
            if later == start:
                return start
            start = later
        return None
