"""Put groups of chips on a system: groups in one piece where they fit, neighbouring stages near each other.

Ranks are numbered node by node, in the order of a stage's `chips`: on a mesh (nodes, in-node) the first
axis runs over nodes and the last inside each, and a mesh of one axis fills its first node before its next.
"""

from collections.abc import Collection, Mapping, Sequence
from math import prod

import numpy as np

from chiplan.ir import Certificate, ChipId, Infeasible, Problem, Topology

from .group_packing import pack_groups
from .group_walk import walk_chips

Traffic = Mapping[tuple[int, int], int]
"""Link cycles from one group to a later one, by their numbers."""


def place_groups(
    meshes: Sequence[tuple[int, ...]], traffic: Traffic, topology: Topology, failed: Collection[int] = ()
) -> tuple[list[tuple[ChipId, ...]], Certificate]:
    """Chips of every group in rank order, and how far the transfers go against one hop each.

    Nodes that are cliques hold groups of up to their size whole, larger ones take neighbouring nodes;
    elsewhere (rings, meshes of chips) a group is a run of neighbours. Raises Infeasible when there are
    fewer working chips than the groups need.
    """
    needed, working = sum(map(prod, meshes)), topology.chips - len(set(failed))
    if needed > working:
        message = f"the groups take {needed} chips, and {working} of {topology.chips} work; allow fewer chips"
        raise Infeasible(Problem("too_few_chips", message, needed=needed, available=working))
    groups = pack_groups(meshes, walk_chips(topology, failed))
    return [tuple(map(ChipId, chips)) for chips in groups], _proof(groups, traffic, topology, failed)


def _proof(
    groups: Sequence[tuple[int, ...]], traffic: Traffic, topology: Topology, failed: Collection[int]
) -> Certificate:
    """Link cycles x hops, a chip of the receiving group taking from the nearest of the sending one."""
    hops = _Hops(topology, failed)
    cost = sum(round(cycles * hops.mean(groups[a], groups[b])) for (a, b), cycles in sorted(traffic.items()))
    bound = sum(traffic.values())
    status = "optimal" if cost == bound else "feasible"
    gap = (cost - bound) / max(1, bound)
    return Certificate("placement of groups: link cycles x hops", status, cost, bound, gap, 0.0)


class _Hops:
    """Fewest links between groups, by rings around the sender."""

    def __init__(self, topology: Topology, failed: Collection[int]) -> None:
        ends = np.array([link[:2] for link in topology.links], dtype=np.int64).reshape(-1, 2)
        ends = ends[~np.isin(ends, list(failed)).any(axis=1)]
        ends = ends[np.argsort(ends[:, 0], kind="stable")]
        self._chips = topology.chips
        self._far = ends[:, 1]
        self._begin = np.searchsorted(ends[:, 0], np.arange(topology.chips + 1))

    def mean(self, source: tuple[int, ...], destination: tuple[int, ...]) -> float:
        """Over the chips of `destination`; as far as there are chips where there is no way."""
        distance = np.full(self._chips, self._chips, dtype=np.int64)
        wanted = np.array(destination)
        ring, hops = np.array(source), 0
        while len(ring):
            distance[ring] = hops
            if (distance[wanted] <= hops).all():
                break
            ring, hops = self._next_ring(ring, distance), hops + 1
        return float(distance[wanted].mean())

    def _next_ring(self, ring: np.ndarray, distance: np.ndarray) -> np.ndarray:
        counts = self._begin[ring + 1] - self._begin[ring]
        starts = np.repeat(self._begin[ring] - (np.cumsum(counts) - counts), counts)
        reached = np.unique(self._far[starts + np.arange(len(starts))])
        fresh: np.ndarray = reached[distance[reached] == self._chips]
        return fresh
