"""What the operators of each distinct block split, in words: choices, their collectives, the next best."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chiplan.ir import Graph, Operator, PlannedCollective, ShardingChoice

from .atoms import Decision, FactorAtom, GraphAtoms, TensorAtom
from .blocks import Block
from .collective_costs import CollectiveCosts
from .pins import pins_of
from .placements import Partial, Placement, Placements, Shard, placements
from .sharding_problem import BlockSharding
from .sharding_tensors import Held, collectives_of


@dataclass(frozen=True)
class SolvedBlock:
    """A distinct block: the one that was solved, the answer, and all blocks that are like it."""

    block: Block
    sharding: BlockSharding
    instances: tuple[Block, ...]


class ShardingReport:
    """Choices on groups of one mesh."""

    def __init__(
        self,
        graph: Graph,
        atoms: GraphAtoms,
        mesh: tuple[int, ...],
        costs: CollectiveCosts,
        pins: Mapping[str, str],
    ) -> None:
        self.graph, self.atoms, self.mesh, self.costs, self.pins = graph, atoms, mesh, costs, pins

    def choices(
        self, blocks: Sequence[SolvedBlock], stages: Mapping[int, Collection[int]]
    ) -> Iterator[ShardingChoice]:
        """What is split in `stages`: their numbers, and the operators of the graph that each executes."""
        held = {stage: frozenset(operators) for stage, operators in stages.items()}
        for number, solved in enumerate(blocks):
            changes = self._changes(solved)
            for index in solved.sharding.decisions:
                where = tuple(stage for stage, inside in held.items() if _is_in(solved, index, inside))
                if where:
                    yield self._choice(number, index, where, solved.sharding, changes.get(index, ()))
        decided = {
            index - solved.block.first + like.first
            for solved in blocks
            for like in solved.instances
            for index in solved.sharding.decisions
        }
        for index in sorted({index for inside in held.values() for index in inside} - decided):
            yield self._undecided(index, tuple(stage for stage, inside in held.items() if index in inside))

    def _undecided(self, index: int, stages: tuple[int, ...]) -> ShardingChoice:
        """An operator that every stage executes which needs it, whole on every chip."""
        operator, axes = self.graph.operators[index], len(self.mesh)
        return ShardingChoice(
            block=-1,
            stages=stages,
            node=operator.nodes[0] if operator.nodes else "",
            operator=operator.name,
            mesh=self.mesh,
            factors=("none",) * axes,
            gives=("Replicate",) * axes,
            cycles=0,
            collectives=(),
            next_factors=(),
            next_cost=-1,
        )

    def _choice(
        self,
        block: int,
        index: int,
        stages: tuple[int, ...],
        sharding: BlockSharding,
        changes: Sequence[tuple[str, Held]],
    ) -> ShardingChoice:
        operator, decision = self.graph.operators[index], sharding.decisions[index]
        other = sharding.alternatives(index)
        _, gives = placements(self.graph, self.atoms, index, decision)
        return ShardingChoice(
            block=block,
            stages=stages,
            node=operator.nodes[0] if operator.nodes else "",
            operator=operator.name,
            mesh=self.mesh,
            factors=self._splits(index, decision),
            gives=self._held(operator.results[0].tensor, gives[0], index),
            cycles=sharding.pieces[index].latency,
            collectives=tuple(c for name, held in changes for c in self._collectives(name, held, index)),
            next_factors=self._splits(index, other[0]) if other else (),
            next_cost=other[1] if other else -1,
            pinned=bool(pins_of(operator, self.atoms.operators[index], self.pins)),
        )

    def _changes(self, solved: SolvedBlock) -> dict[int, list[tuple[str, Held]]]:
        """Values that are converted, by the operator that makes them, or that reads them first."""
        found: dict[int, list[tuple[str, Held]]] = {}
        for name, held, index in solved.sharding.converted(self.graph):
            found.setdefault(index, []).append((name, held))
        return found

    def _collectives(self, name: str, held: Held, index: int) -> Iterator[PlannedCollective]:
        """What a conversion takes: sums, then gathers."""
        dtype = self.graph.tensors[name].dtype
        made, used = self._held(name, held.made, index), self._held(name, held.used, index)
        hidden = held.hidden
        for wanted in collectives_of(self.atoms.tensors[name], held, self.mesh):
            wire = dtype if wanted.kind == "all_gather" else self.costs.wired(dtype)
            algorithm, cost = wanted.cost(self.costs, dtype, self.mesh)
            nbytes = wanted.elements * wire.itemsize
            yield PlannedCollective(
                name, made, used, wanted.kind, algorithm, wire, nbytes, cost.cycles, hidden
            )
            hidden = 0

    def _splits(self, index: int, decision: Decision) -> tuple[str, ...]:
        return tuple("none" if atom is None else self._factor(index, atom) for atom in decision)

    def _factor(self, index: int, atom: FactorAtom) -> str:
        """A factor's name, and the extent of the atom where it has several."""
        name, extents = self.graph.operators[index].factors[atom[0]].name, self.atoms.operators[index].factors
        return name if len(extents[atom[0]]) == 1 else f"{name}:{extents[atom[0]][atom[1]]}"

    def _held(self, name: str, held: Placements, index: int) -> tuple[str, ...]:
        return tuple(self._placement(name, placement, index) for placement in held)

    def _placement(self, name: str, placement: Placement, index: int) -> str:
        if isinstance(placement, Partial):
            return f"Partial({placement.reducer.value})"
        if isinstance(placement, Shard):
            return f"Shard({self._dimension(name, placement.atom, index)})"
        return "Replicate"

    def _dimension(self, name: str, atom: TensorAtom, index: int) -> str:
        """The factor of operator `index` along an atom of a tensor that it makes or reads."""
        operator, own = self.graph.operators[index], self.atoms.operators[index]
        for access, entry in zip(_accesses(operator), (*own.results, *own.operands), strict=True):
            along = entry.along.get(atom) if access == name else None
            if along is not None:
                return self._factor(index, along)
        return f"dim {atom[0]}"


def _accesses(operator: Operator) -> tuple[str, ...]:
    """Names of what an operator writes, then of what it reads."""
    return (*(r.tensor for r in operator.results), *(o.tensor for o in operator.operands))


def _is_in(solved: SolvedBlock, index: int, inside: Collection[int]) -> bool:
    """Whether one of the operators like `index` is among `inside`."""
    offset = index - solved.block.first
    return any(like.first + offset in inside for like in solved.instances)
