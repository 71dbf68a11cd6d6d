"""Placements: how the chips of a group hold a tensor, and what an operator's decision asks of its tensors.

Along each axis of the group's mesh a tensor is whole on every chip, or each chip has a piece of one of
its atoms, or each chip has a partial result of the whole that a reducer combines.
"""

from dataclasses import dataclass
from typing import TypeAlias

from chiplan.ir import Graph, Operator, Reducer, Result, Unit

from .atoms import Decision, FactorAtom, GraphAtoms, OperandAtoms, TensorAtom


@dataclass(frozen=True)
class Replicate:
    """Every chip along the mesh axis has the same."""


@dataclass(frozen=True)
class Shard:
    """Each chip along the mesh axis has a piece of one atom of the tensor."""

    atom: TensorAtom


@dataclass(frozen=True)
class Partial:
    """Each chip along the mesh axis has partial results, which `reducer` combines."""

    reducer: Reducer


Placement: TypeAlias = Replicate | Shard | Partial
Placements: TypeAlias = tuple[Placement, ...]
"""One placement a mesh axis."""

REPLICATE = Replicate()


def placements(
    graph: Graph, atoms: GraphAtoms, index: int, decision: Decision
) -> tuple[tuple[Placements, ...], tuple[Placements, ...]]:
    """What operator `index` needs of each operand's tensor, and gives of each result's, under `decision`.

    A need is Replicate or Shard; a tensor that is Replicate serves every need.
    Raises ValueError where a result would be written in pieces of what no chip has a piece of.
    """
    operator, own = graph.operators[index], atoms.operators[index]
    needs = tuple(tuple(_need(entry, split) for split in decision) for entry in own.operands)
    gives = tuple(
        tuple(_gift(operator, result, entry, split) for split in decision)
        for result, entry in zip(operator.results, own.results, strict=True)
    )
    return needs, gives


def _need(entry: OperandAtoms, split: FactorAtom | None) -> Placement:
    atom = _atom_along(entry, split)
    return REPLICATE if atom is None else Shard(atom)


def _atom_along(entry: OperandAtoms, split: FactorAtom | None) -> TensorAtom | None:
    """The atom of the tensor that a factor atom runs along; None where it runs along several or none."""
    found = [] if split is None else [atom for atom, along in entry.along.items() if along == split]
    return found[0] if len(found) == 1 else None


def _gift(operator: Operator, result: Result, entry: OperandAtoms, split: FactorAtom | None) -> Placement:
    if split is None:
        return REPLICATE
    atom = _atom_along(entry, split)
    if atom is not None:
        return Shard(atom)
    factor = operator.factors[split[0]]
    if split[0] in result.axes:
        raise ValueError(f"{operator.name}: pieces of {factor.name} are no pieces of {result.tensor}")
    if factor.gathered:
        return Partial(Reducer.SUM)
    return Partial(factor.reducer) if _reduces(operator, result, split[0]) and factor.reducer else REPLICATE


def _reduces(operator: Operator, result: Result, factor: int) -> bool:
    """Whether a result's value was reduced over the factor, rather than never to have run along it."""
    if operator.unit is not Unit.VECTOR:
        return True
    chosen = operator.body[result.value].attribute("factors")
    return chosen == factor or (isinstance(chosen, tuple) and factor in chosen)
