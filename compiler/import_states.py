"""Finds KV-cache pairs by the structure of the graph: present = Concat(past, new rows) along one axis,
possibly seen through transposes; or an Attention operator that appends by itself.

New rows that are computed from their own past make no state. A state is one tensor, past and new rows
together, and who reads of it waits for its rows: such rows would wait for themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import networkx as nx

from .import_nodes import Node
from .imported import StatePair

MOST_TRANSPOSES = 64
"""Transposes and copies in a row between a cache and what is appended to it."""
_SAME = ("Identity", "Transpose")
_SIZES = ("Shape", "Size")
"""Operators that read the extents of a value and none of its elements."""


@dataclass(frozen=True)
class _Traced:
    """Value `name`, seen through transposes: dimension d of the view is dimension perm[d] of it."""

    name: str
    perm: tuple[int, ...]


def find_states(
    nodes: Sequence[Node], input_ranks: Mapping[str, int], outputs: Sequence[str]
) -> tuple[StatePair, ...]:
    """State pairs in the order of the outputs. `input_ranks`: rank of every model input."""
    producers = {output: node for node in nodes for output in node.outputs if output}
    found = [_pair(output, producers, input_ranks) for output in outputs]
    pairs = [pair for pair in found if pair is not None]
    rows = {pair.past: _new_rows(pair, producers) for pair in pairs}
    waiting = _waiting_for_themselves(rows, nodes)
    return tuple(pair for pair in pairs if pair.past not in waiting)


def _new_rows(pair: StatePair, producers: Mapping[str, Node]) -> tuple[str, ...]:
    """The values that the new rows are made of: for Attention the keys and the values."""
    node, _ = _through_views(pair.present, producers)
    if node is None:
        return ()
    return node.inputs[1:] if node.op_type == "Concat" else node.inputs[1:3]


def _waiting_for_themselves(rows: Mapping[str, tuple[str, ...]], nodes: Sequence[Node]) -> set[str]:
    """Pasts whose new rows depend on them, or on a state whose new rows do: those on a ring of reads."""
    reads: nx.DiGraph = nx.DiGraph()
    for node in nodes:
        if node.op_type not in _SIZES:
            reads.add_edges_from(product(filter(None, node.outputs), filter(None, node.inputs)))
    reads.add_edges_from((past, source) for past, sources in rows.items() for source in sources)
    rings = (ring for ring in nx.strongly_connected_components(reads) if len(ring) > 1)
    return set().union(*rings) | {past for past, sources in rows.items() if past in sources}


def _pair(output: str, producers: Mapping[str, Node], ranks: Mapping[str, int]) -> StatePair | None:
    node, steps = _through_views(output, producers)
    if node is None:
        return None
    past, axis = _appended(node, steps[0].inputs[0] if steps else output)
    source, past_steps = _source(past, producers)
    rank = ranks.get(source)
    if rank is None or not -rank <= axis < rank:
        return None
    inner = _compose(past_steps, rank)
    outer = _compose(steps, rank)
    if inner is None or outer is None:
        return None
    layout = tuple(inner[d] for d in outer)
    if layout != tuple(range(rank)):
        return None
    return StatePair(source, output, outer.index(axis % rank))


def _through_views(name: str, producers: Mapping[str, Node]) -> tuple[Node | None, list[Node]]:
    """The first node behind `name` that is no transpose, and the transposes, nearest to it first. Behind
    more than MOST_TRANSPOSES (in a file made to confuse, endlessly many) there is none."""
    steps: list[Node] = []
    node = producers.get(name)
    while node is not None and node.op_type in _SAME and not node.domain:
        if len(steps) == MOST_TRANSPOSES:
            return None, []
        steps.append(node)
        node = producers.get(node.inputs[0])
    return node, steps[::-1]


def _source(name: str, producers: Mapping[str, Node]) -> tuple[str, list[Node]]:
    node, steps = _through_views(name, producers)
    first = steps[0].inputs[0] if steps else name
    return (first, steps) if node is None else ("", steps)


def _appended(node: Node, written: str) -> tuple[str, int]:
    """The value that the node appends to, and the axis; an empty name if it appends to none."""
    if node.op_type == "Concat" and not node.domain and len(node.inputs) == 2:
        return node.inputs[0], node.integer("axis", 0)
    if node.op_type == "Attention" and not node.domain and written in node.outputs[1:3]:
        index = 3 + node.outputs.index(written)
        return (node.inputs[index], 2) if index < len(node.inputs) else ("", 0)
    return "", 0


def _compose(steps: Sequence[Node], rank: int) -> tuple[int, ...] | None:
    """The permutation that the transposes make together, first step first."""
    total = tuple(range(rank))
    for step in steps:
        if step.op_type == "Identity":
            continue
        perm = step.integers("perm") or tuple(reversed(range(rank)))
        if sorted(perm) != list(range(rank)):
            return None
        total = tuple(total[d] for d in perm)
    return total
