"""An order of the operators in which layers are contiguous."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from chiplan.ir import Graph, Role, Tensor, Unit

from .blocks import Block, find_blocks, structures
from .graph_edit import writers_of

_TABLE = 1 << 20
"""Elements from which a weight is no small table."""


Order = tuple[int, ...]
"""Operators of a graph, by index."""


def layer_order(graph: Graph) -> Graph:
    """The same operators in an order in which layers are contiguous, if another than the graph's own helps:
    small tables that several layers read first, then each operator as late as what reads it allows."""
    structure, tabled = structures(graph), _tables_first(graph)
    deep = tuple(tabled[index] for index in _depth_first(_in_order(graph, tabled)))

    def layering(order: Order) -> tuple[int, int]:
        return _layering(find_blocks(_in_order(graph, order), structure[list(order)]))

    own = tuple(range(len(graph.operators)))
    return _in_order(graph, min(dict.fromkeys((own, tabled, deep)), key=layering))


def _in_order(graph: Graph, order: Order) -> Graph:
    return replace(graph, operators=tuple(graph.operators[index] for index in order))


def _layering(blocks: Sequence[Block]) -> tuple[int, int]:
    """What is best small: operators of which a plan must think (those of one block of each kind), and
    operators before the first layer that repeats."""
    distinct = {block.kind: block.last - block.first for block in blocks}
    counts = Counter(block.kind for block in blocks)
    before = next((block.first for block in blocks if counts[block.kind] > 1), 0)
    return sum(distinct.values()), before


def _tables_first(graph: Graph) -> Order:
    """Operators that need neither the matrix unit, nor a state, nor a large weight, before all others:
    masks, rotary tables, position arithmetic."""
    writers = writers_of(graph.operators)
    early: set[int] = set()
    for index, operator in enumerate(graph.operators):
        if operator.unit is Unit.MATRIX:
            continue
        before = [w for operand in operator.operands for w in writers.get(operand.tensor, ())]
        touched = [o.tensor for o in operator.operands] + [r.tensor for r in operator.results]
        if early.issuperset(before) and all(_is_small(graph.tensors[name]) for name in touched):
            early.add(index)
    return tuple(sorted(range(len(graph.operators)), key=lambda index: index not in early))


def _is_small(tensor: Tensor) -> bool:
    return tensor.role is not Role.STATE and not (tensor.role is Role.WEIGHT and tensor.elements >= _TABLE)


def _depth_first(graph: Graph) -> Order:
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
    return tuple(order)


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
