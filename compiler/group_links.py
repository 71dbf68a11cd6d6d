"""The links of a group of chips: how long it takes when every chip sends to every peer at once.

Estimates: routes are shortest ones, dealt to the least loaded links; between neighbours the two-hop routes
over chips that have nothing to do take a share. The link schedule finds its own routes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import floor

from chiplan.ir import LinkRule, Target, Topology

Pairs = Sequence[tuple[int, int]]
Cables = dict[int, dict[int, int]]
"""Parallel cables from a chip to each neighbour."""


@lru_cache(maxsize=4)
def cables_of(topology: Topology) -> Cables:
    """Cables between any two neighbours, both directions listed."""
    found: Cables = {chip: {} for chip in range(topology.chips)}
    for link in topology.links:
        ends = found[link.source]
        ends[link.destination] = ends.get(link.destination, 0) + 1
    return found


def representative_group(target: Target, size: int) -> tuple[int, ...]:
    """The first `size` chips, node by node, those without links aside.

    Raises ValueError when the target has fewer.
    """
    cables = cables_of(target.topology)
    whole = [chip for chip in sorted(cables) if cables[chip] or target.topology.chips == 1]
    order = sorted(whole, key=lambda chip: (target.topology.node_of[chip], chip))
    if size > len(order):
        raise ValueError(f"a group of {size} chips: {target.name} has {len(order)} with links")
    return tuple(order[:size])


@dataclass(frozen=True)
class Phase:
    """What one step of an exchange takes: `cycles` until the last flit is there, and `busy` cycles of the
    busiest link."""

    cycles: int
    busy: int


@dataclass(frozen=True)
class Routes:
    """How a set of pairs of chips, all sending at once, share the links.

    hops: of the longest route. load: pairs on the busiest cable. detours: cables' worth of two-hop
    routes over idle chips that each pair has to itself; zero unless all are neighbours.
    """

    hops: int
    load: int
    detours: float

    def phase(self, flits: int, rule: LinkRule) -> Phase:
        """Every pair sends `flits`; flits are whole."""
        if flits == 0 or self.hops == 0:
            return Phase(0, 0)
        flit, hop = int(rule.cycles_per_flit), int(rule.hop_latency)
        direct = flits * self.load
        if self.detours:
            direct = self._direct_share(flits, flit, hop)
        cycles = direct * flit + hop + (self.hops - 1) * (flit + hop)
        return Phase(max(cycles, self._detour_end(flits - direct, flit, hop)), direct * flit)

    def _direct_share(self, flits: int, flit: int, hop: int) -> int:
        """Fewest flits on the direct cable so that the detours are not later than it."""
        low, high = 1, flits
        while low < high:
            middle = (low + high) // 2
            if self._detour_end(flits - middle, flit, hop) <= middle * flit + hop:
                high = middle
            else:
                low = middle + 1
        return low

    def _detour_end(self, flits: int, flit: int, hop: int) -> int:
        return -floor(-flits / self.detours) * flit + flit + 2 * hop if flits and self.detours else 0


class GroupLinks:
    """Routes between the chips of a group."""

    def __init__(self, topology: Topology, chips: Sequence[int]) -> None:
        self.cables, self.chips = cables_of(topology), tuple(chips)

    def routes(self, sets: Sequence[Sequence[int]]) -> Routes:
        """All pairs within each of `sets` (positions in `chips`) send at once."""
        peers = [tuple(self.chips[rank] for rank in ranks) for ranks in sets]
        hops, load = self._loads([(a, b) for chips in peers for a in chips for b in chips if a != b])
        detours = 0.0
        if hops == 1 and load == 1:
            detours = min(self._detours(chips) for chips in peers)
        return Routes(hops, load, detours)

    def ring(self, sets: Sequence[Sequence[int]]) -> Routes:
        """Every chip of each of `sets` sends to the next one."""
        peers = [[self.chips[rank] for rank in ranks] for ranks in sets]
        pairs = [(a, b) for chips in peers for a, b in zip(chips, chips[1:] + chips[:1], strict=True)]
        return Routes(*self._loads(pairs), 0.0)

    def pair(self, source: int, destination: int) -> Routes:
        """One chip sends to one other; both are chip numbers."""
        hops, load = self._loads([(source, destination)])
        return Routes(hops, load, float(self._common(source, destination, set())) if hops == 1 else 0.0)

    def _detours(self, peers: Sequence[int]) -> float:
        """Of the least provided pair. A chip of the group outside of `peers` has an exchange of its own with
        its peers, over other cables; its cables to us serve its detours as well as ours."""
        inside = set(peers)
        pairs = [(a, b) for a in peers for b in peers if a != b]
        return min((self._common(a, b, inside) / (len(peers) - 1) for a, b in pairs), default=0.0)

    def _common(self, source: int, destination: int, inside: set[int]) -> float:
        group = set(self.chips)
        found = 0.0
        for middle, cables in self.cables[source].items():
            if middle in inside or middle == destination:
                continue
            both = min(cables, self.cables[middle].get(destination, 0))
            found += both / 2 if middle in group else both
        return found

    def _loads(self, pairs: Pairs) -> tuple[int, int]:
        """Hops of the longest route, and pairs on the busiest cable."""
        used: dict[tuple[int, int], int] = {}
        hops = 0
        by_source: dict[int, list[int]] = {}
        for source, destination in pairs:
            by_source.setdefault(source, []).append(destination)
        for source, destinations in by_source.items():
            before = self._search(source, set(destinations))
            for destination in destinations:
                hops = max(hops, self._walk(source, destination, before, used))
        load = max((-(-n // self.cables[a][b]) for (a, b), n in used.items()), default=0)
        return hops, load

    def _search(self, source: int, wanted: set[int]) -> dict[int, list[int]]:
        """Predecessors on shortest routes from `source`, searched until all of `wanted` are reached."""
        before: dict[int, list[int]] = {source: []}
        frontier = [source]
        missing = wanted - {source}
        while missing and frontier:
            reached: dict[int, list[int]] = {}
            for chip in frontier:
                for following in self.cables[chip]:
                    if following not in before:
                        reached.setdefault(following, []).append(chip)
            before |= reached
            missing -= reached.keys()
            frontier = list(reached)
        if missing:
            raise ValueError(f"no links lead from chip {source} to chips {sorted(missing)}")
        return before

    def _walk(
        self,
        source: int,
        destination: int,
        before: dict[int, list[int]],
        used: dict[tuple[int, int], int],
    ) -> int:
        """Take the least used of the shortest routes, backwards; returns its hops."""
        hops, chip = 0, destination
        while chip != source:
            previous = min(
                before[chip], key=lambda near: (used.get((near, chip), 0) / self.cables[near][chip], near)
            )
            used[previous, chip] = used.get((previous, chip), 0) + 1
            chip, hops = previous, hops + 1
        return hops
