"""Put stages on physical chips so that neighbouring stages are near each other."""

from collections.abc import Mapping, Sequence

import networkx as nx

from chiplan.ir import Certificate, Topology

_STARTS = 8


def hop_counts(topology: Topology) -> dict[int, dict[int, int]]:
    """Fewest links between every two chips that are connected."""
    graph = nx.DiGraph((int(link.source), int(link.destination)) for link in topology.links)
    graph.add_nodes_from(range(topology.chips))
    return {source: dict(lengths) for source, lengths in nx.all_pairs_shortest_path_length(graph)}


def place_stages(
    stages: int, traffic: Mapping[tuple[int, int], int], topology: Topology
) -> tuple[tuple[int, ...], Certificate]:
    """A chip for every stage, and how far it is from the bound of one hop a transfer.

    Walks the stages in order, each on the free chip that is cheapest for what is placed already; the
    best of a few starting chips. `traffic[a, b]` is in link cycles.
    """
    hops = hop_counts(topology)
    bound = sum(traffic.values())
    best: tuple[int, tuple[int, ...]] | None = None
    for start in range(min(_STARTS, topology.chips)):
        chips = _walk(stages, start, traffic, hops)
        cost = sum(
            cycles * hops[chips[a]].get(chips[b], len(hops)) for (a, b), cycles in sorted(traffic.items())
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
    stages: int, start: int, traffic: Mapping[tuple[int, int], int], hops: Mapping[int, Mapping[int, int]]
) -> tuple[int, ...]:
    placed: list[int] = []
    free = set(hops)
    for stage in range(stages):
        chip = start if not placed else min(free, key=lambda c: (_cost(c, stage, placed, traffic, hops), c))
        placed.append(chip)
        free.discard(chip)
    return tuple(placed)


def _cost(
    chip: int,
    stage: int,
    placed: Sequence[int],
    traffic: Mapping[tuple[int, int], int],
    hops: Mapping[int, Mapping[int, int]],
) -> int:
    far = len(hops)
    return sum(
        traffic.get((other, stage), 0) * hops[at].get(chip, far)
        + traffic.get((stage, other), 0) * hops[chip].get(at, far)
        for other, at in enumerate(placed)
    )
