"""An order of the operators in which layers are contiguous."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from chiplan.ir import Graph, Role, Unit

from .blocks import Block, find_blocks
from .graph_edit import writers_of

_TABLE = 1 << 20
"""Elements from which a weight is no small table."""


def layer_order(graph: Graph) -> Graph:
    """The same operators in an order in which layers are contiguous, if another than the graph's own helps:
    small tables that several layers read first, then each operator as late as what reads it allows."""
    orders = (graph, tables_first(graph), _depth_first(tables_first(graph)))
    return min(orders, key=lambda order: _layering(find_blocks(order)))


def _layering(blocks: Sequence[Block]) -> tuple[int, int]:
    """What is best small: operators of which a plan must think (those of one block of each kind), and
    operators before the first layer that repeats."""
    distinct = {block.kind: block.last - block.first for block in blocks}
    counts = Counter(block.kind for block in blocks)
    before = next((block.first for block in blocks if counts[block.kind] > 1), 0)
    return sum(distinct.values()), before


def tables_first(graph: Graph) -> Graph:
    """Operators that need neither the matrix unit, nor a state, nor a large weight, before all others:
    masks, rotary tables, position arithmetic."""
    writers = writers_of(graph.operators)
    early: set[int] = set()
    for index, operator in enumerate(graph.operators):
        tensors = [graph.tensors[o.tensor] for o in operator.operands] + [
            graph.tensors[r.tensor] for r in operator.results
        ]
        small = all(
            t.role is not Role.STATE and not (t.role is Role.WEIGHT and t.elements >= _TABLE) for t in tensors
        )
        before = [w for operand in operator.operands for w in writers.get(operand.tensor, ())]
        if operator.unit is not Unit.MATRIX and small and all(w in early for w in before):
            early.add(index)
    order = sorted(range(len(graph.operators)), key=lambda index: index not in early)
    return replace(graph, operators=tuple(graph.operators[index] for index in order))


def _depth_first(graph: Graph) -> Graph:
    """Each operator just before the first that needs it, what nobody reads by how deep it lies."""
    before, depth = _needed(graph), [0] * len(graph.operators)
    for index, needed in enumerate(before):
        depth[index] = 1 + max((depth[other] for other in needed), default=0)
    ends = set(range(len(before))).difference(*before)
    order: dict[int, None] = {}
    for end in sorted(ends, key=lambda index: (depth[index], index)):
        stack = [(end, iter(before[end]))]
        while stack:
            index, needed_next = stack[-1]
            following = next((other for other in needed_next if other not in order), None)
            if following is None:
                order[index] = None
                stack.pop()
            else:
                stack.append((following, iter(before[following])))
    return replace(graph, operators=tuple(graph.operators[index] for index in order))


def _needed(graph: Graph) -> list[list[int]]:
    """Operators that each reads from, in the order in which it names them; of several that write one tensor
    in the order of the places they write."""
    writers = writers_of(graph.operators)

    def place(name: str, writer: int) -> tuple[tuple[int, ...], ...]:
        return tuple(r.offsets for r in graph.operators[writer].results if r.tensor == name)

    for name, made in writers.items():
        made.sort(key=lambda writer: place(name, writer))
    return [
        [w for operand in operator.operands for w in writers.get(operand.tensor, ()) if w != index]
        for index, operator in enumerate(graph.operators)
    ]
