"""Link schedule: which chunk of a tensor crosses which links in which cycles.

A tensor that crosses chips is cut into chunks. Each chunk leaves as soon as its elements are ready,
on the route where it arrives first: parallel links, and detours over chips whose links are idle. A
chunk is cut through: hop h + 1 starts one flit and one hop latency after hop h, so its slots on all
links are fixed by its first, and none may overlap another modulo the interval.
"""

from collections import deque
from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np

from chiplan.ir import Reshape, Target, Tensor, Topology

from .modulo import ModuloTable, NoRoom
from .ready_times import ReadyMap, block_maximum, grid_map, map_step

_CHUNKS = 32
_FLITS_A_CHUNK = 4
_ROUTES = 12


@dataclass(frozen=True)
class Chunk:
    """Elements [first, last) of the row-major tensor, over `links`, from cycle `start`. Every link is busy
    for `slot` cycles, `stride` cycles after the one before it."""

    first: int
    last: int
    links: tuple[int, ...]
    start: int
    slot: int
    stride: int

    def hop_starts(self) -> list[int]:
        """First cycle on every link of the route."""
        return [self.start + hop * self.stride for hop in range(len(self.links))]


@dataclass(frozen=True)
class SentTensor:
    """A tensor on its way from one chip to another, and when its parts are there."""

    tensor: str
    source: int
    destination: int
    chunks: tuple[Chunk, ...]
    arrivals: ReadyMap
    first_departure: int
    last_departure: int
    first_arrival: int
    last_arrival: int


class Router:
    """Routes between two chips: all shortest ones and those one hop longer, shortest first."""

    def __init__(self, topology: Topology) -> None:
        self._links: dict[int, dict[int, list[int]]] = {chip: {} for chip in range(topology.chips)}
        self._sources: dict[int, set[int]] = {chip: set() for chip in range(topology.chips)}
        for index, link in enumerate(topology.links):
            self._links[link.source].setdefault(link.destination, []).append(index)
            self._sources[link.destination].add(link.source)
        self.routes = cache(self._routes)

    def _distances(self, destination: int) -> dict[int, int]:
        distances, queue = {destination: 0}, deque([destination])
        while queue:
            chip = queue.popleft()
            for before in sorted(self._sources[chip]):
                if before not in distances:
                    distances[before] = distances[chip] + 1
                    queue.append(before)
        return distances

    def _routes(self, source: int, destination: int) -> tuple[tuple[int, ...], ...]:
        distances = self._distances(destination)
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
        for following in sorted(self._links[chip]):
            if following in seen or distances.get(following, hops) > hops - 1:
                continue
            for link in self._links[chip][following]:
                if len(found) < _ROUTES:
                    self._extend(
                        following, destination, hops - 1, (*links, link), seen | {following}, distances, found
                    )


class LinkScheduler:
    """Reservation tables of all links at one interval."""

    def __init__(self, target: Target, interval: int, router: Router | None = None) -> None:
        self.rule, self.interval = target.link, interval
        # Cut-through: a hop starts one flit and one hop latency after the hop before it.
        self.stride = self.rule.cycles_per_flit + self.rule.hop_latency
        self.router = router or Router(target.topology)
        self.sent: list[SentTensor] = []
        self._tables: dict[int, ModuloTable] = {}

    def send(self, tensor: Tensor, source: int, destination: int, ready: ReadyMap) -> SentTensor:
        """Schedule a whole tensor; raises NoRoom when the links are full at this interval."""
        size = self._chunk_elements(tensor)
        flat = map_step(ready, Reshape((tensor.elements,)))
        ready_cycles = block_maximum(flat, (size,)).tolist()
        bounds = [(low, min(low + size, tensor.elements)) for low in range(0, tensor.elements, size)]
        chunks = tuple(
            self._send_chunk(tensor, first, last, source, destination, cycle)
            for (first, last), cycle in zip(bounds, ready_cycles, strict=True)
        )
        arrivals = np.array([self._arrival(chunk) for chunk in chunks])
        flat = grid_map((tensor.elements,), (0,), (size,), arrivals, (tensor.elements,))
        sent = SentTensor(
            tensor.name,
            source,
            destination,
            chunks,
            map_step(flat, Reshape(tensor.shape)),
            first_departure=min(chunk.start for chunk in chunks),
            last_departure=max(chunk.start + chunk.slot for chunk in chunks),
            first_arrival=min(chunk.hop_starts()[-1] for chunk in chunks),
            last_arrival=int(arrivals.max()),
        )
        self.sent.append(sent)
        return sent

    def _chunk_elements(self, tensor: Tensor) -> int:
        flits = ceil(tensor.nbytes / self.rule.flit_bytes)
        chunks = max(1, min(_CHUNKS, flits // _FLITS_A_CHUNK))
        return max(1, ceil(flits / chunks) * self.rule.flit_bytes // tensor.dtype.itemsize)

    def _arrival(self, chunk: Chunk) -> int:
        return chunk.hop_starts()[-1] + chunk.slot + self.rule.hop_latency

    def _send_chunk(
        self, tensor: Tensor, first: int, last: int, source: int, destination: int, ready: int
    ) -> Chunk:
        slot = ceil((last - first) * tensor.dtype.itemsize / self.rule.flit_bytes) * self.rule.cycles_per_flit
        best: Chunk | None = None
        for links in self.router.routes(source, destination):
            limit = None if best is None else self._arrival(best)
            start = self._earliest(links, slot, ready)
            if start is None:
                continue
            chunk = Chunk(first, last, links, start, slot, self.stride)
            if limit is None or self._arrival(chunk) < limit:
                best = chunk
        if best is None:
            raise NoRoom(f"the links from chip {source} to chip {destination} are full")
        for link, start in zip(best.links, best.hop_starts(), strict=True):
            self._table(link).reserve(start, start + slot)
        return best

    def _table(self, link: int) -> ModuloTable:
        return self._tables.setdefault(link, ModuloTable(self.interval))

    def _earliest(self, links: tuple[int, ...], slot: int, ready: int) -> int | None:
        """First cycle from which every hop's slot is free, or None."""
        if slot > self.interval:
            return None
        stride = self.stride
        start, limit = ready, ready + 2 * self.interval
        while start < limit:
            later = start
            for hop, link in enumerate(links):
                later = max(later, self._free_from(link, start + hop * stride, slot) - hop * stride)
            if later == start:
                return start
            start = later
        return None

    def _free_from(self, link: int, cycle: int, slot: int) -> int:
        """First cycle >= `cycle` from which the link is free for `slot` cycles."""
        table = self._table(link)
        for _ in range(len(table) + 2):
            try:
                low, high = table.gap_after(cycle)
            except NoRoom:
                break
            if high - low >= slot:
                return low
            cycle = high
        return cycle + 2 * self.interval
