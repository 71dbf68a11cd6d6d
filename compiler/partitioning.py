"""From a graph to stages on chips: builds the partition problem, solves it, places the stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import networkx as nx
import numpy as np

from chiplan.ir import Graph, Operator, Role, Target, Tensor, Unit
from chiplan.partitioner import Carried, PartitionProblem, Recomputed, Resident

from .addresses import padded_bytes
from .graph_edit import kept_tensors, readers_of, writers_of
from .tile_choice import TiledOperator

UNITS = tuple(Unit)


def link_cycles(tensor: Tensor, target: Target) -> int:
    """Cycles of one link that a whole tensor takes."""
    return ceil(tensor.nbytes / target.link.flit_bytes) * target.link.cycles_per_flit


@dataclass(frozen=True)
class GraphProblem:
    """A partition problem and what its numbers stand for.

    items: graph indices of the operators of every item. recomputed: graph indices of the operators
    that every stage which needs them executes.
    """

    problem: PartitionProblem
    items: tuple[tuple[int, ...], ...]
    recomputed: tuple[int, ...]

    def operators_of(self, stage_of: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Operators (ascending) of every stage, recomputed ones included."""
        stages = max(stage_of) + 1
        chosen: list[set[int]] = [set() for _ in range(stages)]
        for item, stage in enumerate(stage_of):
            chosen[stage].update(self.items[item])
        for index in reversed(range(len(self.recomputed))):
            entry = self.problem.recomputed[index]
            for stage in range(stages):
                needed = any(stage_of[item] == stage for item in entry.items)
                if needed or any(self.recomputed[cone] in chosen[stage] for cone in entry.cones):
                    chosen[stage].add(self.recomputed[index])
        return [tuple(sorted(operators)) for operators in chosen]


def build_problem(
    graph: Graph,
    tiled: Mapping[int, TiledOperator],
    target: Target,
    *,
    stages: int,
    objective: str,
    users: int,
    spare: int = 0,
) -> GraphProblem:
    """Items, work, carried tensors and resident bytes of a graph on at most `stages` chips.

    `spare` bytes a chip are left for activations besides those that the largest operator needs at once;
    with any, the cut may still be good, but what is proved of it holds for that much less SRAM alone.
    """
    cheap = recomputable(graph, tiled, target)
    items = shared_items(graph, frozenset(cheap))
    item_of = {operator: item for item, operators in enumerate(items) for operator in operators}
    work = np.zeros((len(items), len(UNITS)), dtype=np.int64)
    for operator, item in item_of.items():
        work[item, UNITS.index(graph.operators[operator].unit)] += tiled[operator].work
    problem = PartitionProblem(
        work=work,
        activations=np.array([max(active_bytes(graph, op) for op in item) for item in items], dtype=np.int64),
        carried=_carried(graph, item_of, target),
        resident=_residents(graph, item_of, cheap, users, target.chip.alignment),
        recomputed=_recomputed(graph, cheap, item_of, tiled),
        stages=stages,
        capacity=target.chip.usable_bytes - spare,
        link_ways=max(1, len(target.topology.links) // target.topology.chips // 3),
        objective=objective,
    )
    return GraphProblem(problem, tuple(items), cheap)


def active_bytes(graph: Graph, index: int) -> int:
    """Bytes of the values that an operator reads and writes: they are all there at its last tile."""
    operator = graph.operators[index]
    names = {operand.tensor for operand in operator.operands} | {r.tensor for r in operator.results}
    return sum(t.nbytes for t in map(graph.tensors.__getitem__, names) if t.role in (Role.VALUE, Role.INPUT))


def recomputable(graph: Graph, tiled: Mapping[int, TiledOperator], target: Target) -> tuple[int, ...]:
    """Operators whose whole history from the inputs takes fewer cycles than carrying the result over
    one link: masks, rotary tables, position arithmetic."""
    writers, kept = writers_of(graph.operators), kept_tensors(graph)
    history: dict[int, frozenset[int]] = {}
    for index, operator in enumerate(graph.operators):
        before = [w for operand in operator.operands for w in writers.get(operand.tensor, ())]
        if not _is_cheap_kind(operator, graph, target) or any(w not in history for w in before):
            continue
        if any(result.tensor in kept or len(writers[result.tensor]) > 1 for result in operator.results):
            continue
        cone = frozenset({index}).union(*(history[w] for w in before))
        carrying = min(link_cycles(graph.tensors[result.tensor], target) for result in operator.results)
        if sum(tiled[i].work for i in cone) < carrying + target.link.hop_latency:
            history[index] = cone
    return tuple(sorted(history))


_SMALL_TABLE = 64
"""A weight that takes less than this part of a chip's SRAM may be held on every stage."""


def _is_cheap_kind(operator: Operator, graph: Graph, target: Target) -> bool:
    small = target.chip.usable_bytes // _SMALL_TABLE
    tensors = [graph.tensors[operand.tensor] for operand in operator.operands]
    return operator.unit is not Unit.MATRIX and all(
        t.role is not Role.STATE and not (t.role is Role.WEIGHT and t.nbytes > small) for t in tensors
    )


def shared_items(graph: Graph, cheap: frozenset[int]) -> list[tuple[int, ...]]:
    """Operators that must share a chip, merged, in topological order: the writers of one tensor, and
    all that touch one state."""
    flow: nx.DiGraph = nx.DiGraph()
    flow.add_nodes_from(i for i in range(len(graph.operators)) if i not in cheap)
    writers, readers = writers_of(graph.operators), readers_of(graph.operators)
    for name, made in writers.items():
        for writer in made:
            flow.add_edges_from((writer, r) for r in readers.get(name, ()) if writer in flow and r in flow)
        together = list(made)
        if graph.tensors[name].role is Role.STATE:
            together += readers.get(name, [])
        for one, other in pairwise(together):
            flow.add_edges_from([(one, other), (other, one)])
    merged = nx.condensation(flow)
    order = nx.lexicographical_topological_sort(merged, key=lambda node: min(merged.nodes[node]["members"]))
    return [tuple(sorted(merged.nodes[node]["members"])) for node in order]


def _carried(graph: Graph, item_of: Mapping[int, int], target: Target) -> tuple[Carried, ...]:
    writers, readers = writers_of(graph.operators), readers_of(graph.operators)
    carried = []
    for name, made in writers.items():
        if made[0] not in item_of or graph.tensors[name].role is not Role.VALUE:
            continue
        producer = item_of[made[0]]
        consumers = sorted({item_of[r] for r in readers.get(name, ()) if r in item_of} - {producer})
        if consumers:
            carried.append(Carried(producer, tuple(consumers), link_cycles(graph.tensors[name], target)))
    return tuple(carried)


def _residents(
    graph: Graph, item_of: Mapping[int, int], cheap: tuple[int, ...], users: int, alignment: int
) -> tuple[Resident, ...]:
    readers, writers = readers_of(graph.operators), writers_of(graph.operators)
    residents = []
    for name, tensor in graph.tensors.items():
        if tensor.role not in (Role.WEIGHT, Role.STATE):
            continue
        touched = [*readers.get(name, ()), *writers.get(name, ())]
        items = tuple(sorted({item_of[i] for i in touched if i in item_of}))
        recomputed = tuple(number for number, operator in enumerate(cheap) if operator in touched)
        copies = users if tensor.role is Role.STATE else 1
        if items or recomputed:
            residents.append(Resident(padded_bytes(tensor.nbytes, alignment) * copies, items, recomputed))
    return tuple(residents)


def _recomputed(
    graph: Graph, cheap: tuple[int, ...], item_of: Mapping[int, int], tiled: Mapping[int, TiledOperator]
) -> tuple[Recomputed, ...]:
    readers = readers_of(graph.operators)
    position = {operator: index for index, operator in enumerate(cheap)}
    entries = []
    for operator in cheap:
        users = sorted(
            {r for result in graph.operators[operator].results for r in readers.get(result.tensor, ())}
        )
        work = [0] * len(UNITS)
        work[UNITS.index(graph.operators[operator].unit)] = tiled[operator].work
        items = tuple(sorted({item_of[u] for u in users if u in item_of}))
        entries.append(Recomputed(tuple(work), items, tuple(position[u] for u in users if u in position)))
    return tuple(entries)
