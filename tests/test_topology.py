"""Topology generators: ports, symmetry, distances, cuts, and what they refuse."""

import time
from collections import Counter

import networkx as nx
import numpy as np
import pytest

from chiplan.ir import BadInput, Topology
from chiplan.models import GENERATORS, build_topology, load_target

GROQ = {"chips_per_node": 8, "nodes_per_rack": 9}


def build(generator: str, **parameters: object) -> Topology:
    return build_topology(generator, parameters, **GROQ)


CASES = {
    "clique of 1": build("clique", chips=1),
    "clique": build("clique", chips=8),
    "ring of 1": build("ring", chips=1),
    "ring of 2": build("ring", chips=2),
    "ring": build("ring", chips=7),
    "line": build("mesh", dims=(5,)),
    "mesh": build("mesh", dims=(3, 4)),
    "torus": build("torus", dims=(2, 3, 4)),
    "edges": build("edges", chips=3, edges=[(0, 1), (2, 1), (0, 1)]),
    "two racks": build("dragonfly", global_ports_per_chip=4, nodes=3, links_per_node_pair=2, racks=2),
} | {name: load_target(name).topology for name in ("groq-rack", "groq-264", "groq-10440", "groq-576")}
GROQ_SYSTEMS = ("groq-rack", "groq-264", "groq-10440", "groq-576")

all_cases = pytest.mark.parametrize("topology", CASES.values(), ids=CASES.keys())


def graph_of(topology: Topology) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(range(topology.chips))
    graph.add_edges_from((link.source, link.destination) for link in topology.links)
    return graph


def pairs_within(topology: Topology, sources: int) -> list[float]:
    """Share of pairs (chip, one of the first `sources` chips) within 0, 1, 2, ... hops, until all are."""
    ends = np.array([link[:2] for link in topology.links])
    reach = np.zeros((topology.chips, sources), dtype=bool)
    reach[np.arange(sources), np.arange(sources)] = True
    shares = [reach.mean()]
    while shares[-1] < 1:
        grown = reach.copy()
        np.logical_or.at(grown, ends[:, 1], reach[ends[:, 0]])
        reach = grown
        shares.append(reach.mean())
        assert shares[-1] > shares[-2], "not connected"
    return shares


@all_cases
def test_links_are_sorted_and_every_port_is_used_once(topology: Topology) -> None:
    assert list(topology.links) == sorted(topology.links)
    ports = Counter((link.source, link.port) for link in topology.links)
    assert not ports or max(ports.values()) == 1
    assert all(link.source != link.destination for link in topology.links)


@all_cases
def test_every_link_has_its_opposite(topology: Topology) -> None:
    there = Counter((link.source, link.destination) for link in topology.links)
    assert there == Counter((link.destination, link.source) for link in topology.links)


@all_cases
def test_all_chips_are_connected_and_placed(topology: Topology) -> None:
    assert nx.is_strongly_connected(graph_of(topology))
    assert len(topology.node_of) == len(topology.rack_of) == topology.chips
    assert topology.node_of == tuple(chip // 8 for chip in range(topology.chips))
    assert topology.rack_of == tuple(chip // 72 for chip in range(topology.chips))


@pytest.mark.parametrize(
    ("name", "links", "diameter"),
    [
        ("clique of 1", 0, 0),
        ("clique", 56, 1),
        ("ring of 1", 0, 0),
        ("ring of 2", 2, 1),
        ("ring", 14, 3),
        ("line", 8, 4),
        ("mesh", 2 * (2 * 4 + 3 * 3), 5),
        ("torus", 2 * (12 + 24 + 24), 1 + 1 + 2),
        ("edges", 6, 2),
        ("groq-rack", 72 * 11, 3),
        ("groq-264", 264 * 11, 3),
        ("groq-576", 576 * 7 + 2 * 4 * (71 + 70 + 69 + 68), 20),
    ],
)
def test_link_count_and_diameter(name: str, links: int, diameter: int) -> None:
    topology = CASES[name]
    assert len(topology.links) == links
    assert nx.diameter(graph_of(topology)) == diameter


def test_mesh_neighbours_are_row_major() -> None:
    assert [link.destination for link in CASES["mesh"].links if link.source == 5] == [1, 4, 6, 9]


def test_ports_count_neighbours_in_order() -> None:
    assert [tuple(link) for link in CASES["edges"].links] == [
        (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 2, 2), (2, 1, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("name", GROQ_SYSTEMS)
def test_groq_chips_have_seven_local_and_at_most_four_global_ports(name: str) -> None:
    topology = CASES[name]
    local, far = Counter[int](), Counter[int]()
    for link in topology.links:
        inside = topology.node_of[link.source] == topology.node_of[link.destination]
        (local if inside else far)[link.source] += 1
        assert link.port < 7 if inside else 7 <= link.port < 11
    assert set(local.values()) == {7}
    assert len(local) == topology.chips
    assert max(far.values()) == 4
    if name != "groq-576":
        assert set(far.values()) == {4}


@pytest.mark.parametrize(("name", "links"), [("groq-rack", 4), ("groq-264", 1), ("groq-576", 4)])
def test_links_of_a_node_pair_join_different_chips(name: str, links: int) -> None:
    topology = CASES[name]
    joined: dict[tuple[int, int], list[int]] = {}
    for link in topology.links:
        key = (topology.node_of[link.source], topology.node_of[link.destination])
        if key[0] != key[1]:
            joined.setdefault(key, []).append(link.source)
    assert {len(sources) for sources in joined.values()} == {links}
    assert all(len(set(sources)) == links for sources in joined.values())
    if name == "groq-576":
        assert set(joined) == {(a, b) for a in range(72) for b in range(72) if 1 <= abs(a - b) <= 4}
    else:
        nodes = topology.chips // 8
        assert len(joined) == nodes * (nodes - 1)


def test_racks_of_the_large_dragonfly() -> None:
    topology = CASES["groq-10440"]
    between = Counter(
        (topology.rack_of[link.source], topology.rack_of[link.destination]) for link in topology.links
    )
    pairs = {pair: count for pair, count in between.items() if pair[0] != pair[1]}
    assert len(pairs) == 145 * 144
    assert set(pairs.values()) == {1}
    nodes = Counter(
        (topology.node_of[link.source], topology.node_of[link.destination])
        for link in topology.links
        if topology.rack_of[link.source] == topology.rack_of[link.destination]
    )
    assert {count for (a, b), count in nodes.items() if a != b} == {2}


def test_diameter_of_the_large_dragonfly() -> None:
    """Seven hops, where five are published: docs/targets.md says why. The wiring looks the same from
    every rack, so the chips of one rack stand for all."""
    shares = pairs_within(CASES["groq-10440"], sources=72)
    assert len(shares) - 1 == 7
    assert shares[5] == pytest.approx(0.616, abs=0.001)
    assert shares[6] == pytest.approx(0.970, abs=0.001)


def test_quadfour_is_a_line_with_a_bisection_of_forty_links() -> None:
    topology = CASES["groq-576"]
    node = topology.node_of
    crossing = [sum(node[a] <= cut < node[b] for a, b, _ in topology.links) for cut in range(71)]
    assert crossing[:4] == [16, 28, 36, 40]
    assert set(crossing[3:-3]) == {40}
    graph = graph_of(topology)
    assert nx.shortest_path_length(graph, 0, 8) == 1
    survivors = graph.subgraph(chip for chip in range(576) if node[chip] not in (30, 31, 32))
    assert nx.is_strongly_connected(survivors)


def test_large_systems_are_made_in_under_a_second() -> None:
    start = time.perf_counter()
    load_target("groq-10440")
    assert time.perf_counter() - start < 1


def test_the_same_call_makes_the_same_topology() -> None:
    assert load_target("groq-576").topology == CASES["groq-576"]


@pytest.mark.parametrize(
    ("generator", "parameters", "complaint"),
    [
        ("star", {}, "expected one of clique, ring"),
        ("clique", {"chips": 65_536}, "makes 4,294,901,760 links; at most 4,000,000"),
        ("ring", {"chips": 70_000}, "makes 70,000 chips; at most 65,536"),
        ("mesh", {"dims": (65_536,) * 6}, "at most 65,536"),
        ("quadfour", {"nodes": 4, "global_ports_per_chip": 3}, "needs 32 global ports.* have 24"),
        ("quadfour", {"nodes": 9_000, "global_ports_per_chip": 4}, "makes 72,000 chips"),
        (
            "dragonfly",
            {"nodes": 9, "links_per_node_pair": 5, "global_ports_per_chip": 4},
            "nodes: a node needs 40 global ports",
        ),
        (
            "dragonfly",
            {"nodes": 9, "links_per_node_pair": 2, "global_ports_per_chip": 4, "racks": 146},
            "a node needs 33 global ports",
        ),
        ("edges", {"chips": 2, "edges": [(0, 1), (1, 2)]}, r"edges\[1\]: expected two chips from 0 to 1"),
        ("edges", {"chips": 2, "edges": [(0, 1), (1, 1)]}, r"edges\[1\]: expected two different chips"),
        ("edges", {"chips": 5, "edges": [(0, 1), (2, 3)]}, r"chip 2 cannot be reached .*\(3 such\)"),
    ],
)
def test_what_cannot_be_wired_is_refused(
    generator: str, parameters: dict[str, object], complaint: str
) -> None:
    with pytest.raises(BadInput, match=complaint) as refusal:
        build(generator, **parameters)
    assert refusal.value.problems[0].code == "target_value"


def test_generator_names_are_distinct() -> None:
    names = [generator.name for generator in GENERATORS]
    assert len(set(names)) == len(names)
