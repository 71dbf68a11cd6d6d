"""What an operator may split over a group, what that asks of its tensors, and what it costs."""

from dataclasses import dataclass
from itertools import product
from math import ceil, prod

from chiplan.ir import Chip, Graph, Operator

from .atoms import Decision, FactorAtom, GraphAtoms, splittable
from .placements import Placements, placements
from .sharding_costs import PieceCost, PieceCosts


@dataclass(frozen=True)
class Choice:
    """needs, gives: what it asks of every operand's tensor and gives of every result's, an entry a mesh
    axis. cost: of the largest piece."""

    decision: Decision
    needs: tuple[Placements, ...]
    gives: tuple[Placements, ...]
    cost: PieceCost

    @property
    def splits(self) -> int:
        """Mesh axes along which the chips have different pieces."""
        return sum(atom is not None for atom in self.decision)


def operator_choices(
    graph: Graph, atoms: GraphAtoms, index: int, mesh: tuple[int, ...], chip: Chip
) -> tuple[Choice, ...]:
    """All of an operator's choices, the unsplit one first."""
    operator, own = graph.operators[index], atoms.operators[index]
    splits: list[FactorAtom | None] = [None, *splittable(operator, own)]
    asked = {split: placements(graph, atoms, index, (split,)) for split in splits}
    costs = PieceCosts(operator, graph.tensors, chip)
    found = []
    for decision in product(*(splits if ways > 1 else [None] for ways in mesh)):
        parts = atom_parts(own.factors, decision, mesh)
        if parts is None:
            continue
        extents = [
            prod(parts.get((f, a), extent) for a, extent in enumerate(extents))
            for f, extents in enumerate(own.factors)
        ]
        needs = tuple(
            tuple(asked[split][0][operand][0] for split in decision)
            for operand in range(len(operator.operands))
        )
        gives = tuple(
            tuple(asked[split][1][result][0] for split in decision) for result in range(len(operator.results))
        )
        found.append(Choice(decision, needs, gives, costs.of(extents)))
    return tuple(found)


def atom_parts(
    factors: tuple[tuple[int, ...], ...], decision: Decision, mesh: tuple[int, ...]
) -> dict[FactorAtom, int] | None:
    """Extents of a chip's piece of every split atom; None where one axis would leave the next nothing to
    split."""
    parts: dict[FactorAtom, int] = {}
    ways: dict[FactorAtom, int] = {}
    for atom, count in zip(decision, mesh, strict=True):
        if atom is None:
            continue
        extent = factors[atom[0]][atom[1]]
        if parts.get(atom, extent) < 2:
            return None
        ways[atom] = ways.get(atom, 1) * count
        parts[atom] = ceil(extent / ways[atom])
    return parts


def factor_names(operator: Operator, decision: Decision) -> tuple[str, ...]:
    """The split factor's name, or "none", for every mesh axis."""
    return tuple("none" if atom is None else operator.factors[atom[0]].name for atom in decision)
