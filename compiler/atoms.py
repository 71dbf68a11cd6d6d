"""Atoms: the finest factors into which the views of a graph take its dimensions and loops apart.

A dimension is a product of atoms, major first: the 2304 columns of a fused projection are 3 x 12 x 64
when a slice takes thirds of them and a reshape makes heads of those. A chip's share of an operator is a
piece of one atom of one factor, on each axis of the chip's mesh.
"""

from dataclasses import dataclass

FactorAtom = tuple[int, int]
"""(factor of the operator, atom of that factor); atoms count from the major one."""

TensorAtom = tuple[int, int]
"""(dimension of the stored tensor, atom of that dimension)."""

Decision = tuple[FactorAtom | None, ...]
"""What one operator splits: one entry a mesh axis, None to run whole on all chips along that axis."""


@dataclass(frozen=True)
class OperandAtoms:
    """Which factor atom runs along each atom of a stored tensor, in `tensor_atoms` order, when it is read
    (or written) like this: None where the atom is fixed, sliced, windowed or otherwise not run through
    as a whole by one factor atom, so that the tensor must be there uncut along it."""

    along: dict[TensorAtom, FactorAtom | None]


@dataclass(frozen=True)
class OperatorAtoms:
    """factors[f]: extents of the atoms of factor f, major first; their product is the factor's extent.
    operands, results: one entry each of the operator's."""

    factors: tuple[tuple[int, ...], ...]
    operands: tuple[OperandAtoms, ...]
    results: tuple[OperandAtoms, ...]


@dataclass(frozen=True)
class GraphAtoms:
    """tensors[name][d]: extents of the atoms of dimension d, major first. operators: one a graph operator.
    outputs[i]: the tensor atoms that output i may leave cut (its view sees them whole)."""

    tensors: dict[str, tuple[tuple[int, ...], ...]]
    operators: tuple[OperatorAtoms, ...]
