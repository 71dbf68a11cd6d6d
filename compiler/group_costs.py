"""What the operators of a graph cost on groups of every shape: distinct blocks are solved once a shape."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np

from chiplan.ir import Certificate, DType, Graph, Role, ShardingChoice, Target, Unit

from .addresses import padded_bytes
from .atoms import Decision, GraphAtoms
from .blocks import Block
from .collective_costs import CollectiveCosts, representative_group
from .pins import pin_names
from .placements import placements
from .sharding_build import ShardingTask
from .sharding_problem import BlockSharding, shard_block_frontier
from .sharding_report import ShardingReport, SolvedBlock
from .sharding_tensors import local_elements

UNITS = tuple(Unit)
RESOURCES = len(UNITS) + 1
"""The units of a chip, then its busiest link."""

Mesh = tuple[int, ...]


@dataclass(frozen=True)
class ShapeCosts:
    """One shape of group. decisions: of every planned operator. Arrays have an entry an operator of the
    graph, zero for recomputed ones: latency int64[operators] cycles, work int64[resources, operators]
    cycles, resident, states, activations int64[operators] bytes a chip; unable bool[operators], whose pins
    nothing keeps on this shape. choices: what is split in stages,
    given by number with their operators; the next best takes some solving to find."""

    mesh: Mesh
    decisions: Mapping[int, Decision]
    costs: CollectiveCosts
    latency: np.ndarray
    work: np.ndarray
    resident: np.ndarray
    states: np.ndarray
    activations: np.ndarray
    unable: np.ndarray
    certificates: tuple[Certificate, ...]
    choices: Callable[[Mapping[int, Collection[int]]], Iterator[ShardingChoice]]

    @property
    def size(self) -> int:
        return prod(self.mesh)


def carried_ends(graph: Graph, first: Block, second: Block) -> list[tuple[str, str]]:
    """(value that enters `first`, value that leaves it) for values that enter the next, equal block
    `second` in the same place."""
    made = {r.tensor for i in range(first.first, first.last) for r in graph.operators[i].results}
    pairs: dict[tuple[str, str], None] = {}
    for offset in range(first.last - first.first):
        before, after = graph.operators[first.first + offset], graph.operators[second.first + offset]
        for entering, leaving in zip(before.operands, after.operands, strict=True):
            if leaving.tensor in made and entering.tensor not in made:
                pairs[entering.tensor, leaving.tensor] = None
    return list(pairs)


class GroupCosts:
    """Shards the blocks of a graph on groups of any shape. `planned` are the operators that belong to one
    stage, those besides are recomputed where they are needed. instances: the blocks of every kind that
    have planned operators, in their order."""

    def __init__(
        self,
        graph: Graph,
        atoms: GraphAtoms,
        blocks: Sequence[Block],
        planned: Sequence[int],
        target: Target,
        users: int,
        pins: Mapping[str, str],
        wire: DType | None,
    ) -> None:
        self.graph, self.atoms, self.target = graph, atoms, target
        self.users, self.pins, self.wire = users, pins, wire
        self.planned = frozenset(planned)
        self.instances: dict[int, list[Block]] = {}
        self._number: dict[Block, int] = {}  # as `show --sharding` numbers them
        kinds: dict[tuple[int, tuple[int, ...], tuple[tuple[int, str], ...]], int] = {}
        for block in blocks:
            alike = block.kind, self._planned_of(block), self._pins_of(block)
            if not alike[1]:
                continue
            kind = kinds.setdefault(alike, len(kinds))
            self.instances.setdefault(kind, []).append(block)
            self._number[block] = kind

    def _planned_of(self, block: Block) -> tuple[int, ...]:
        """The operators of the block that one stage executes: blocks are alike only where the same ones are
        recomputed, as in the first layer, whose norm follows from the inputs alone."""
        return tuple(i - block.first for i in range(block.first, block.last) if i in self.planned)

    def _pins_of(self, block: Block) -> tuple[tuple[int, str], ...]:
        """(operator of the block, pinned factor): blocks are alike only where they are pinned alike."""
        return tuple(
            (index - block.first, self.pins[node])
            for index in range(block.first, block.last)
            for node in pin_names(self.graph.operators[index])
            if node in self.pins
        )

    def shapes(self, mesh: Mesh) -> list[ShapeCosts]:
        """Decisions and costs of all operators on a group of this mesh: the fastest, then, where that
        repeats weights on several chips, slower ones of fewer bytes."""
        costs = CollectiveCosts(self.target, representative_group(self.target, prod(mesh)), self.wire)
        found = {kind: self.solve(instances, mesh, costs) for kind, instances in self.instances.items()}
        levels = max((len(shardings) for _, shardings in found.values()), default=1)
        return [
            self._shape(
                mesh,
                costs,
                {
                    kind: (b, shardings[min(level, len(shardings) - 1)])
                    for kind, (b, shardings) in found.items()
                },
            )
            for level in range(levels)
        ]

    def _shape(
        self, mesh: Mesh, costs: CollectiveCosts, solved: dict[int, tuple[Block, BlockSharding]]
    ) -> ShapeCosts:
        rows, count = RESOURCES + 4, len(self.graph.operators)
        table = np.zeros((rows, count), dtype=np.int64)
        unable = np.zeros(count, dtype=bool)
        decisions: dict[int, Decision] = {}
        for kind, instances in self.instances.items():
            block, sharding = solved[kind]
            part = self._table(block, sharding, mesh)
            for instance in instances:
                table[:, instance.first : instance.last] = part
                unable[[index - block.first + instance.first for index in sharding.unable]] = True
                decisions |= {
                    index - block.first + instance.first: d for index, d in sharding.decisions.items()
                }
        assert decisions.keys() == self.planned, "a planned operator without a decision"
        report = ShardingReport(self.graph, self.atoms, mesh, costs, self.pins)
        blocks = [SolvedBlock(*solved[kind], tuple(instances)) for kind, instances in self.instances.items()]
        return ShapeCosts(
            mesh,
            decisions,
            costs,
            latency=table[RESOURCES],
            work=table[:RESOURCES],
            resident=table[RESOURCES + 1],
            states=table[RESOURCES + 2],
            activations=table[RESOURCES + 3],
            unable=unable,
            certificates=tuple(sharding.certificate for _, sharding in solved.values()),
            choices=partial(report.choices, blocks),
        )

    def solve(
        self, instances: Sequence[Block], mesh: Mesh, costs: CollectiveCosts
    ) -> tuple[Block, tuple[BlockSharding, ...]]:
        """The block of a kind that stands for all, and its decisions. One in the middle: the first may
        begin differently."""
        chosen = min(1, max(0, len(instances) - 2))
        block, ends = instances[chosen], list[tuple[str, str]]()
        if len(instances) > 1 and instances[chosen + 1].first >= block.last:
            ends = carried_ends(self.graph, block, instances[chosen + 1])
        operators = [index + block.first for index in self._planned_of(block)]
        chip = self.target.chip
        task = ShardingTask(
            self.graph, self.atoms, operators, mesh, costs, chip, self.users, self.pins, ends,
            block=self._number[instances[0]],
        )  # fmt: skip
        return block, shard_block_frontier(task)

    def _table(self, block: Block, sharding: BlockSharding, mesh: Mesh) -> np.ndarray:
        """int64[rows, operators of the block]: work a resource, latency, resident, states, activations."""
        table = np.zeros((RESOURCES + 4, block.last - block.first), dtype=np.int64)
        operators = self.graph.operators
        seen: set[str] = set()
        for index, decision in sharding.decisions.items():
            column = table[:, index - block.first]
            piece = sharding.pieces[index]
            column[UNITS.index(operators[index].unit)] = piece.work
            column[RESOURCES] = piece.latency
            column[RESOURCES + 1 :] = self._bytes(index, decision, mesh, seen)
        for _, held, index in sharding.converted(self.graph):
            column = table[:, index - block.first]
            column[len(UNITS)] += held.cost.link
            column[UNITS.index(Unit.VECTOR)] += held.cost.vector
            column[RESOURCES] += held.cycles
        return table

    def _bytes(self, index: int, decision: Decision, mesh: Mesh, seen: set[str]) -> tuple[int, int, int]:
        """Bytes a chip of weights, of one user's states, and of values that the operator touches."""
        needs, gives = placements(self.graph, self.atoms, index, decision)
        operator = self.graph.operators[index]
        touched = [
            *zip((o.tensor for o in operator.operands), needs, strict=True),
            *zip((r.tensor for r in operator.results), gives, strict=True),
        ]
        found = {Role.WEIGHT: 0, Role.STATE: 0, Role.VALUE: 0}
        for name, held in dict(touched).items():
            tensor = self.graph.tensors[name]
            role = Role.VALUE if tensor.role is Role.INPUT else tensor.role
            if role is not Role.VALUE and name in seen:
                continue
            seen.add(name)
            elements = local_elements(self.atoms.tensors[name], held, mesh)
            nbytes = elements * tensor.dtype.itemsize
            found[role] += padded_bytes(nbytes, int(self.target.chip.alignment))
        return found[Role.WEIGHT], found[Role.STATE], found[Role.VALUE]


def crossing_bytes(graph: Graph, planned: Sequence[int]) -> np.ndarray:
    """int64[operators + 1]: bytes of the values that a cut before operator p would send to a later stage."""
    crossing = np.zeros(len(graph.operators) + 1, dtype=np.int64)
    made: dict[str, int] = {}
    last: dict[str, int] = {}
    inside = frozenset(planned)
    for index in planned:
        for operand in graph.operators[index].operands:
            last[operand.tensor] = index
        for result in graph.operators[index].results:
            made.setdefault(result.tensor, index)
    for name, index in made.items():
        if graph.tensors[name].role is Role.VALUE and last.get(name, index) > index and index in inside:
            crossing[index + 1] += graph.tensors[name].nbytes
            crossing[last[name] + 1] -= graph.tensors[name].nbytes
    return np.cumsum(crossing)


def crossing_cycles(nbytes: np.ndarray, size: int, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Estimated cycles of latency, and of a link, of bringing values of so many bytes into a group of
    `size` chips: each takes its share over two hops and passes it on to the others."""
    rule = target.link
    hop = int(rule.cycles_per_flit) + int(rule.hop_latency)
    flits = -(-nbytes // (size * int(rule.flit_bytes)))
    busy = flits * int(rule.cycles_per_flit)
    latency = np.where(nbytes > 0, 2 * hop + busy + (hop + busy if size > 1 else 0), 0)
    return latency, 2 * busy
