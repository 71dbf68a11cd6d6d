"""Topologies of nodes: the chips of a node form a clique, and global cables join the nodes.

Which chip owns which global port is not published for the systems that this describes, so the rule
here is an assumption, the same one everywhere: with c chips a node, global port g of a node is on
chip g mod c of that node, as its port (c - 1) + g // c, behind its c - 1 local ports. So the cables
between two nodes start from different chips, and a chip's global ports lead to different nodes.

    dragonfly   in an all-to-all rack of N nodes with L cables a node pair, cable l from node a to
                node b leaves from global port ((b - a) mod N - 1) L + l; with several racks, the
                (N - 1) L ports are followed by the node's share of the ports between racks
    quadfour    cable l to the node o places further leaves from global port 4 (o - 1) + l and arrives
                at global port 16 + 4 (o - 1) + l, so that it joins chips of equal number
"""

import numpy as np

from .cabling import Cables, ParameterRefused, clique, clique_pairs, refuse_too_many

REACH = 4
"""QuadFour: how many nodes before and after a node it has cables to, and how many cables to each."""


def dragonfly(
    chips_per_node: int,
    global_ports_per_chip: int,
    nodes: int,
    links_per_node_pair: int,
    racks: int = 1,
    links_per_rack_pair: int = 1,
) -> Cables:
    """`racks` all-to-all racks of `nodes` nodes each; `links_per_rack_pair` cables join two racks.

    The ports of a rack to the other racks are dealt to its nodes in runs: node 0 reaches the racks
    that come next after its own, and so on around.
    """
    chips = racks * nodes * chips_per_node
    refuse_too_many("nodes", chips, chips * (chips_per_node - 1 + global_ports_per_chip))
    inside = (nodes - 1) * links_per_node_pair
    outside = -(-(racks - 1) * links_per_rack_pair // nodes)
    _refuse_missing_ports("nodes", inside + outside, chips_per_node, global_ports_per_chip)
    in_rack = _all_to_all(nodes, links_per_node_pair)
    in_racks = in_rack.repeat(racks, axis=0)
    in_racks[:, [0, 2]] += np.tile(np.arange(racks) * nodes, len(in_rack))[:, None]
    between = _all_to_all(racks, links_per_rack_pair)
    run = max(outside, 1)
    between[:, [0, 2]] = between[:, [0, 2]] * nodes + between[:, [1, 3]] // run
    between[:, [1, 3]] = inside + between[:, [1, 3]] % run
    return _wire(racks * nodes, chips_per_node, np.concatenate([in_racks, between]))


def quadfour(chips_per_node: int, global_ports_per_chip: int, nodes: int) -> Cables:
    """Nodes in a row, each with 4 cables to each of its 4 next and 4 previous nodes; not closed."""
    chips = nodes * chips_per_node
    refuse_too_many("nodes", chips, chips * (chips_per_node - 1 + global_ports_per_chip))
    _refuse_missing_ports("global_ports_per_chip", 2 * REACH * REACH, chips_per_node, global_ports_per_chip)
    axes = np.arange(nodes), np.arange(1, REACH + 1), np.arange(REACH)
    node, offset, cable = (column.ravel() for column in np.meshgrid(*axes, indexing="ij"))
    port = REACH * (offset - 1) + cable
    joined = np.column_stack([node, port, node + offset, REACH * REACH + port])
    return _wire(nodes, chips_per_node, joined[node + offset < nodes])


def _refuse_missing_ports(parameter: str, needed: int, chips_per_node: int, ports_per_chip: int) -> None:
    if needed > chips_per_node * ports_per_chip:
        raise ParameterRefused(
            f"a node needs {needed:,} global ports, but {chips_per_node} chips with {ports_per_chip} each "
            f"have {chips_per_node * ports_per_chip}; ask for fewer nodes, racks or links a pair",
            parameter,
        )


def _all_to_all(members: int, links: int) -> np.ndarray:
    """`links` cables between any two members, int64[cables, 4]: member, its port, member, its port.

    A member's ports are ordered by how far around the circle of members the other end is.
    """
    pairs = np.repeat(clique_pairs(members), links, axis=0)
    cable = np.tile(np.arange(links), members * (members - 1) // 2)
    distance = pairs[:, 1] - pairs[:, 0]
    port, far_port = (distance - 1) * links + cable, (members - distance - 1) * links + cable
    return np.column_stack([pairs[:, 0], port, pairs[:, 1], far_port])


def _wire(nodes: int, chips_per_node: int, joined: np.ndarray) -> Cables:
    """Node cliques, and cables between global ports, int64[cables, 4]: node, its port, node, its port."""
    owner = joined[:, [0, 2]] * chips_per_node + joined[:, [1, 3]] % chips_per_node
    port = chips_per_node - 1 + joined[:, [1, 3]] // chips_per_node
    far = np.column_stack([owner[:, 0], port[:, 0], owner[:, 1], port[:, 1]])
    local = clique(chips_per_node).ends
    shift = np.arange(nodes)[:, None, None] * np.array([chips_per_node, 0, chips_per_node, 0])
    return Cables(nodes * chips_per_node, np.concatenate([(local + shift).reshape(-1, 4), far]))
