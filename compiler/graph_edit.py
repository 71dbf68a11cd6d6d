"""What every graph pass needs: who writes and reads a tensor, dead code, a stable topological order."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush

from chiplan.ir import Graph, Operator, Tensor


def writers_of(operators: Iterable[Operator]) -> dict[str, list[int]]:
    """Indices of the operators that write each tensor."""
    writers: dict[str, list[int]] = {}
    for index, operator in enumerate(operators):
        for result in operator.results:
            writers.setdefault(result.tensor, []).append(index)
    return writers


def readers_of(operators: Iterable[Operator]) -> dict[str, list[int]]:
    """Indices of the operators that read each tensor, once each."""
    readers: dict[str, list[int]] = {}
    for index, operator in enumerate(operators):
        for operand in operator.operands:
            found = readers.setdefault(operand.tensor, [])
            if not found or found[-1] != index:
                found.append(index)
    return readers


def kept_tensors(graph: Graph) -> set[str]:
    """Tensors that must be there at the end, whoever reads them: outputs and states."""
    return {output.tensor for output in graph.outputs} | {state.tensor for state in graph.states}


def sorted_graph(graph: Graph, operators: list[Operator], tensors: dict[str, Tensor] | None = None) -> Graph:
    """The graph with these operators in a stable topological order, without dead ones and tensors."""
    needed = kept_tensors(graph)
    if _in_order(operators):
        ordered = _needed_in_order(operators, needed)
    else:
        live = _live(operators, needed)
        ordered = _ordered([operator for operator, keep in zip(operators, live, strict=True) if keep])
    used = needed.union(graph.inputs, *map(_touched, ordered))
    known = tensors or graph.tensors
    return replace(
        graph, operators=tuple(ordered), tensors={name: known[name] for name in known if name in used}
    )


def _touched(operator: Operator) -> list[str]:
    return [o.tensor for o in operator.operands] + [r.tensor for r in operator.results]


def _in_order(operators: Sequence[Operator]) -> bool:
    """Whether nothing is read before it is written, but by its writer."""
    last = {result.tensor: index for index, operator in enumerate(operators) for result in operator.results}
    for index, operator in enumerate(operators):
        for operand in operator.operands:
            if last.get(operand.tensor, index) > index:
                return False
    return True


def _needed_in_order(operators: Sequence[Operator], kept: Collection[str]) -> list[Operator]:
    """Those, in order, on which a kept tensor depends."""
    needed, found = set(kept), []
    for operator in reversed(operators):
        if not needed.isdisjoint(result.tensor for result in operator.results):
            needed.update([operand.tensor for operand in operator.operands])
            found.append(operator)
    return found[::-1]


def _ordered(operators: Sequence[Operator]) -> list[Operator]:
    """Each behind all writers of what it reads, as near to the order given as that allows."""
    writers = writers_of(operators)
    waiting = [
        {w for operand in operator.operands for w in writers.get(operand.tensor, ()) if w != index}
        for index, operator in enumerate(operators)
    ]
    following: list[list[int]] = [[] for _ in operators]
    for index, before in enumerate(waiting):
        for writer in sorted(before):
            following[writer].append(index)
    counts = [len(before) for before in waiting]
    ready = [index for index, count in enumerate(counts) if not count]
    heapify(ready)
    ordered: list[Operator] = []
    while ready:
        index = heappop(ready)
        ordered.append(operators[index])
        for after in following[index]:
            counts[after] -= 1
            if not counts[after]:
                heappush(ready, after)
    if len(ordered) != len(operators):
        stuck = [operators[i].name for i, count in enumerate(counts) if count]
        raise ValueError(f"operators wait for each other: {', '.join(stuck[:5])}")
    return ordered


def _live(operators: Sequence[Operator], kept: Collection[str]) -> list[bool]:
    """Which operators a kept tensor depends on."""
    writers = writers_of(operators)
    live = [False] * len(operators)
    stack = [w for name in sorted(kept) for w in writers.get(name, ())]
    while stack:
        index = stack.pop()
        if not live[index]:
            live[index] = True
            stack += [w for operand in operators[index].operands for w in writers.get(operand.tensor, ())]
    return live
