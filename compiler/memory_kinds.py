"""What the bytes of a chip are for, and which are alive together: one description for pages and refusals.

| kind | buffers |
|---|---|
| weight, state | what is there for ever; a state once a user |
| collective | what chips of the group send each other: targets of the graph's exchanges |
| received | what another stage or the host sends: inputs, values that no operator of the stage writes |
| activation | values that the stage makes |
| in flight | copies beyond the first of the last three, as several micro-batches are inside |
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from chiplan.ir import Chip, Graph, HeldBuffer, MemoryPeak, Role

from .addresses import BufferNeed, allocation_problem, padded_bytes
from .graph_edit import readers_of, writers_of


class Kind(Enum):
    """What a buffer is for."""

    WEIGHT = "weight"
    STATE = "state"
    ACTIVATION = "activation"
    RECEIVED = "received"
    COLLECTIVE = "collective"
    IN_FLIGHT = "in_flight"


@dataclass(frozen=True)
class KindOf:
    """Kinds of a stage's buffers. written: tensors that its operators write."""

    graph: Graph
    written: Collection[str]
    exchanged: Collection[str]

    def __call__(self, tensor: str) -> Kind:
        role = self.graph.tensors[tensor].role
        if role is Role.WEIGHT:
            return Kind.WEIGHT
        if role is Role.STATE:
            return Kind.STATE
        if tensor in self.exchanged:
            return Kind.COLLECTIVE
        return Kind.ACTIVATION if tensor in self.written else Kind.RECEIVED


def kinds_of_stage(graph: Graph, operators: Collection[int]) -> KindOf:
    """Kinds of the buffers of a stage that executes these operators (graph indices)."""
    written = {result.tensor for index in operators for result in graph.operators[index].results}
    exchanged = {exchange.target for exchange in graph.exchanges if exchange.source in written}
    return KindOf(graph, written, exchanged)


def peak_of_chip(
    needs: Sequence[BufferNeed], kind_of: KindOf, chip: Chip, interval: int, *, chip_id: int, shown: int = 5
) -> MemoryPeak:
    """What a chip holds in its fullest cycle."""
    problem = allocation_problem(needs, chip, interval)
    alive = problem.alive_at(problem.peak_cycle).tolist()
    kinds = dict.fromkeys((kind.value for kind in Kind), 0)
    for index in alive:
        need, total = needs[index], int(problem.padded[index])
        kind, one = kind_of(need.tensor), padded_bytes(need.nbytes, int(chip.alignment))
        first = total if kind in (Kind.WEIGHT, Kind.STATE) else one
        kinds[kind.value] += first
        kinds[Kind.IN_FLIGHT.value] += total - first
    ranked = sorted(alive, key=lambda index: (-int(problem.padded[index]), needs[index].tensor))[:shown]
    graph = kind_of.graph
    nodes = _nodes(graph) if shown else {}
    largest = tuple(
        HeldBuffer(
            needs[index].tensor,
            nodes.get(needs[index].tensor),
            kind_of(needs[index].tensor).value,
            int(problem.padded[index]),
            needs[index].copies,
        )
        for index in ranked
    )
    cycle, alive_bytes = problem.peak_cycle, problem.peak
    return MemoryPeak(chip_id, cycle, None, alive_bytes, alive_bytes, problem.capacity, kinds, largest)


def peak_by_estimate(graph: Graph, chip: Chip, users: int, shown: int = 5) -> MemoryPeak:
    """What one chip would hold of the whole model while the operator with the largest activations runs: all
    that is known where nothing can be scheduled."""
    tensors, alignment = graph.tensors, int(chip.alignment)
    resident = [t for t in tensors.values() if t.role in (Role.WEIGHT, Role.STATE)]
    live = [_activations(graph, index) for index in range(len(graph.operators))]
    sizes = [sum(padded_bytes(tensors[name].nbytes, alignment) for name in names) for names in live]
    fullest = int(np.argmax(sizes)) if sizes else 0
    needs = [BufferNeed(t.name, t.nbytes, users if t.role is Role.STATE else 1, 0, -1) for t in resident]
    needs += [BufferNeed(name, tensors[name].nbytes, 1, 0, 1) for name in (live[fullest] if live else ())]
    found = peak_of_chip(
        needs, kinds_of_stage(graph, range(len(graph.operators))), chip, 1, chip_id=0, shown=shown
    )
    operator = graph.operators[fullest]
    node = operator.nodes[0] if operator.nodes else operator.name
    return replace(found, chip=None, cycle=None, node=node)


def _activations(graph: Graph, index: int) -> list[str]:
    operator = graph.operators[index]
    touched = {operand.tensor for operand in operator.operands} | {r.tensor for r in operator.results}
    return sorted(name for name in touched if graph.tensors[name].role in (Role.VALUE, Role.INPUT))


def _nodes(graph: Graph) -> dict[str, str]:
    """Of every tensor the ONNX node that makes it, or the first that reads it."""
    names = [operator.nodes[0] if operator.nodes else operator.name for operator in graph.operators]
    read = {tensor: names[indices[0]] for tensor, indices in readers_of(graph.operators).items()}
    return read | {tensor: names[indices[0]] for tensor, indices in writers_of(graph.operators).items()}
