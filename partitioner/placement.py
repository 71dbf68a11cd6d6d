"""Put stages on physical chips so that neighbouring stages are near each other."""

from collections.abc import Mapping
from functools import cache

import numpy as np

from chiplan.ir import Certificate, Topology

_STARTS = 8


class Distances:
    """Fewest links from a chip to every other; searched when first asked for."""

    def __init__(self, topology: Topology) -> None:
        self._following: list[list[int]] = [[] for _ in range(topology.chips)]
        for link in topology.links:
            self._following[link.source].append(int(link.destination))
        self.from_chip = cache(self._search)

    def _search(self, source: int) -> np.ndarray:
        """int64[chips]; the number of chips where there is no way."""
        far = len(self._following)
        distances = np.full(far, far, dtype=np.int64)
        distances[source], frontier, hops = 0, [source], 0
        while frontier:
            hops += 1
            reached = sorted({n for chip in frontier for n in self._following[chip] if distances[n] == far})
            distances[reached] = hops
            frontier = reached
        return distances


def place_stages(
    stages: int, traffic: Mapping[tuple[int, int], int], topology: Topology
) -> tuple[tuple[int, ...], Certificate]:
    """A chip for every stage, and how far it is from the bound of one hop a transfer.

    Walks the stages in order, each on the free chip that is cheapest for what is placed already; the
    best of a few starting chips. `traffic[a, b]` is in link cycles, with a < b.
    """
    distances, bound = Distances(topology), sum(traffic.values())
    best: tuple[int, tuple[int, ...]] | None = None
    for start in range(min(_STARTS, topology.chips)):
        chips = _walk(stages, start, traffic, distances, topology.chips)
        cost = sum(
            cycles * int(distances.from_chip(chips[a])[chips[b]]) for (a, b), cycles in traffic.items()
        )
        if best is None or cost < best[0]:
            best = cost, chips
        if cost == bound:
            break
    assert best is not None
    gap = (best[0] - bound) / max(1, bound)
    status = "optimal" if best[0] == bound else "feasible"
    return best[1], Certificate("placement: link cycles x hops", status, best[0], bound, gap, 0.0)


def _walk(
    stages: int, start: int, traffic: Mapping[tuple[int, int], int], distances: Distances, count: int
) -> tuple[int, ...]:
    placed = [start]
    free = np.ones(count, dtype=bool)
    free[start] = False
    for stage in range(1, stages):
        # Without traffic from what is placed, near the stage before is as good as anywhere.
        cost = distances.from_chip(placed[-1]).copy()
        for other, chip in enumerate(placed):
            if cycles := traffic.get((other, stage), 0):
                cost += cycles * count * distances.from_chip(chip)
        chip = int(np.where(free, cost, np.iinfo(np.int64).max).argmin())
        placed.append(chip)
        free[chip] = False
    return tuple(placed)
