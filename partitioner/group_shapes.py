"""Which shapes of group are worth planning for on a system."""

from math import prod

from chiplan.ir import Target

from .group_walk import Walk, walk_chips

_IN_NODE = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_NODES = (2, 3, 4, 6, 8, 9, 12, 16, 24, 32)
_RACK = 9
"""Nodes of a group that need not all be linked to each other: what they exchange takes more hops."""

_EVERY = 16
"""Up to so many chips every number of them inside a node is tried."""


def group_shapes(target: Target, max_chips: int) -> list[tuple[int, tuple[int, ...]]]:
    """(chips, mesh) of sensible groups, ascending; at most `max_chips` chips each.

    Inside a node (a clique) one axis; over several nodes two, (nodes, chips of a node), so that the last
    axis stays inside nodes. Nodes of a group have direct links where the system has such runs of nodes.
    Where nodes are no cliques, a group is a run of neighbours with one axis.
    """
    walk = walk_chips(target.topology)
    node = max(map(len, walk.units))
    most = min(max_chips, target.topology.chips)
    if node == 1:
        node = most
    inside = [size for size in range(1, min(node, most) + 1) if most <= _EVERY or size in (*_IN_NODE, node)]
    meshes: list[tuple[int, ...]] = [(size,) for size in inside]
    meshes += [(nodes, node) for nodes in _node_counts(walk, most // node)]
    return sorted((prod(mesh), mesh) for mesh in meshes)


def _node_counts(walk: Walk, most: int) -> list[int]:
    """Numbers of nodes: usual ones up to a rack, more only where they are all linked to each other."""
    longest = max(walk.reach_of.count(reach) for reach in set(walk.reach_of))
    usual = [nodes for nodes in _NODES if nodes <= min(most, max(walk.all_linked, min(longest, _RACK)))]
    return sorted({*usual, most} if 1 < most <= walk.all_linked else usual)
