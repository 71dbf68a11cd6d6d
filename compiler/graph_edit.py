"""What every graph pass needs: who writes and reads a tensor, dead code, a stable topological order."""

from collections.abc import Iterable, Sequence
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
        for name in dict.fromkeys(operand.tensor for operand in operator.operands):
            readers.setdefault(name, []).append(index)
    return readers


def kept_tensors(graph: Graph) -> set[str]:
    """Tensors that must be there at the end, whoever reads them: outputs and states."""
    return {output.tensor for output in graph.outputs} | {state.tensor for state in graph.states}


def sorted_graph(graph: Graph, operators: list[Operator], tensors: dict[str, Tensor] | None = None) -> Graph:
    """The graph with these operators in a stable topological order, without dead ones and tensors."""
    live = _live(graph, operators)
    operators = [operator for operator, keep in zip(operators, live, strict=True) if keep]
    if not _in_order(operators):
        operators = _ordered(operators)
    return replace(
        graph, operators=tuple(operators), tensors=_used_tensors(graph, operators, tensors or graph.tensors)
    )


def _in_order(operators: Sequence[Operator]) -> bool:
    """Whether nothing is read before it is written, but by its writer."""
    last = {result.tensor: index for index, operator in enumerate(operators) for result in operator.results}
    return all(
        last.get(operand.tensor, -1) <= index
        for index, operator in enumerate(operators)
        for operand in operator.operands
    )


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


def _live(graph: Graph, operators: list[Operator]) -> list[bool]:
    writers = writers_of(operators)
    live = [False] * len(operators)
    stack = [w for name in sorted(kept_tensors(graph)) for w in writers.get(name, ())]
    while stack:
        index = stack.pop()
        if not live[index]:
            live[index] = True
            stack += [w for operand in operators[index].operands for w in writers.get(operand.tensor, ())]
    return live


def _used_tensors(graph: Graph, operators: list[Operator], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    used = kept_tensors(graph) | set(graph.inputs)
    used.update(operand.tensor for operator in operators for operand in operator.operands)
    used.update(result.tensor for operator in operators for result in operator.results)
    return {name: tensor for name, tensor in tensors.items() if name in used}
