"""What one chip of a group executes of an operator: its pieces of the factors, and where the results go."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import numpy as np

from chiplan.ir import (
    Attribute,
    DType,
    Factor,
    Instruction,
    Operand,
    Operator,
    Result,
    Split,
    Unit,
    View,
    mesh_ways,
)

from .atoms import Decision, FactorAtom, OperandAtoms, OperatorAtoms, TensorAtom
from .device_forms import (
    Atoms,
    Cuts,
    Form,
    Groups,
    Tail,
    broken,
    kept_cuts,
    local_atoms,
    reading_view,
    whole_groups,
)
from .device_storage import Stored, Written


@dataclass(frozen=True)
class LocalFactors:
    """An operator's factors on one chip.

    cuts: the factor atoms that are split, with their mesh axes. atoms, local: extents of the atoms of
    the whole factors, and of the chip's. groups: how factors are taken apart for uneven splits.
    numbers[f]: the chip's factors that whole factor f has come to.
    """

    cuts: Mapping[FactorAtom, tuple[int, ...]]
    mesh: tuple[int, ...]
    atoms: Atoms
    local: Atoms
    groups: Groups
    numbers: tuple[tuple[int, ...], ...]
    factors: tuple[Factor, ...]
    splits: tuple[Split, ...]


def effective(decision: Decision, mesh: tuple[int, ...]) -> Decision:
    """A decision without what it splits along mesh axes of one chip."""
    return tuple(split if ways > 1 else None for split, ways in zip(decision, mesh, strict=True))


def split_axes(decision: Decision) -> dict[FactorAtom, tuple[int, ...]]:
    """The factor atoms that a decision splits, each with all of its mesh axes."""
    axes: dict[FactorAtom, tuple[int, ...]] = {}
    for axis, split in enumerate(decision):
        if split is not None:
            axes[split] = (*axes.get(split, ()), axis)
    return axes


def local_factors(
    operator: Operator, atoms: OperatorAtoms, decision: Decision, mesh: tuple[int, ...]
) -> LocalFactors:
    """The chip's factors under an effective decision.

    Raises ValueError for a split of a `whole` factor, or of a gathered one within its rows.
    """
    for f, position in filter(None, decision):
        factor = operator.factors[f]
        if factor.whole or position >= len(atoms.factors[f]):
            raise ValueError(f"{operator.name}: factor {factor.name} cannot be split at atom {position}")
        if factor.gathered and position:
            raise ValueError(f"{operator.name}: an index counts whole rows; {factor.name} is split in them")
    return _local_factors(operator.factors, atoms.factors, decision, mesh)


@lru_cache(maxsize=16384)
def _local_factors(
    whole: tuple[Factor, ...], atoms: Atoms, decision: Decision, mesh: tuple[int, ...]
) -> LocalFactors:
    cuts = split_axes(decision)
    local = local_atoms(atoms, cuts, mesh)
    groups = broken(atoms, cuts, mesh)
    numbers: list[tuple[int, ...]] = []
    factors: list[Factor] = []
    splits: list[Split] = []
    for f, (factor, ranges) in enumerate(zip(whole, groups, strict=True)):
        numbers.append(tuple(range(len(factors), len(factors) + len(ranges))))
        for number, (low, high) in enumerate(ranges):
            name = factor.name if len(ranges) == 1 else f"{factor.name}/{number}"
            axes = tuple(sorted(axis for a in range(low, high) for axis in cuts.get((f, a), ())))
            if axes:
                splits.append(Split(len(factors), axes, prod(atoms[f][low:high])))
            factors.append(replace(factor, name=name, extent=prod(local[f][low:high])))
    return LocalFactors(cuts, mesh, atoms, local, groups, tuple(numbers), tuple(factors), tuple(splits))


def local_operand(
    operand: Operand, entry: OperandAtoms, need: Cuts, stored: Stored, local: LocalFactors
) -> Operand:
    """The operand on one chip, read from the tensor as it is `stored`. need: the pieces it would like."""
    form = stored.form
    if stored.name == operand.tensor and form.is_whole and not local.cuts:
        return operand
    cuts = dict(form.cuts)
    # Pieces that came from a group of another mesh are pieces of another size.
    is_alike = form.mesh == local.mesh
    kept = tuple(a for a, _ in kept_cuts(form.atoms, form.mesh, form.cuts, [need])) if is_alike else ()
    foreign = [atom for atom in cuts if atom not in kept and atom not in form.gathered]
    if foreign:
        raise ValueError(f"{operand.tensor} is cut along {foreign}, where a reader needs all of it")
    served = {entry.along[atom]: cuts[atom] for atom in kept}
    tails = tuple(_tail(axis, served, local) for axis in operand.axes)
    view: View = operand.view
    if any(tails) or not form.is_whole:
        view = reading_view(form, view, kept, tails)
    axes = tuple(n for axis in operand.axes for n in ((None,) if axis is None else local.numbers[axis]))
    return Operand(stored.name, view, axes)


def _tail(
    axis: int | None, served: Mapping[FactorAtom | None, tuple[int, ...]], local: LocalFactors
) -> Tail | None:
    """What an operand does along the dimension of factor `axis`; `served`: the factor atoms that are cut
    there before, and over which mesh axes."""
    if axis is None:
        return None
    atoms = list(local.atoms[axis])
    owned = []
    for (f, atom), axes in sorted(local.cuts.items()):
        if f == axis:
            before = served.get((f, atom), ())
            atoms[atom] = -(-atoms[atom] // mesh_ways(local.mesh, before))
            if rest := axes[len(before) :]:
                owned.append((atom, rest, mesh_ways(local.mesh, rest)))
    ranges = local.groups[axis]
    if not owned and len(ranges) == 1:
        return None
    return Tail(tuple(atoms), tuple(owned), tuple(prod(local.local[axis][low:high]) for low, high in ranges))


def tensor_fronts(
    operator: Operator, result: Result, entry: OperandAtoms, local: LocalFactors
) -> set[TensorAtom]:
    """The atoms of a result's tensor at whose front its dimensions are taken apart, as the factors are."""
    found: set[TensorAtom] = set()
    if len(local.factors) == len(operator.factors):
        return found
    places = {along: atom for atom, along in entry.along.items() if along is not None}
    for axis in (axis for axis in result.axes if axis is not None):
        for low, _ in local.groups[axis][1:]:
            if (axis, low) not in places:
                raise ValueError(f"{operator.name}: no atom of {result.tensor} starts where a piece does")
            found.add(places[axis, low])
    return found


def groups_at(atoms: Atoms, fronts: set[TensorAtom]) -> Groups:
    """Dimensions taken apart at the front of certain atoms."""
    if not fronts:
        return whole_groups(atoms)
    found = []
    for d, extents in enumerate(atoms):
        starts = sorted({0, *(position for dimension, position in fronts if dimension == d)})
        found.append(tuple(zip(starts, [*starts[1:], len(extents)], strict=True)))
    return tuple(found)


def local_result(
    operator: Operator,
    result: Result,
    entry: OperandAtoms,
    written: Written,
    local: LocalFactors,
) -> Result:
    """The result on one chip, as it is `written`.

    Raises ValueError where the box is no box of a piece, or lies in several pieces.
    """
    form, groups = written.form, written.groups
    if written.name == result.tensor and form.is_whole and not local.cuts:
        return result
    axes: list[int | None] = []
    offsets: list[int] = []
    only: list[tuple[int, int]] = []
    for d, (axis, offset) in enumerate(zip(result.axes, result.offsets, strict=True)):
        numbers = () if axis is None else local.numbers[axis]
        count = len(groups[d])
        if len(numbers) > count:
            raise ValueError(f"{operator.name}: {result.tensor} is not taken apart as its factors are")
        axes += [*[None] * (count - len(numbers)), *numbers]
        owner = _owner_axes(operator, d, entry, form, local)
        if owner:
            extent = 1 if axis is None else operator.factors[axis].extent
            local_offset, where = _owned_offset(operator, form, d, (offset, extent), owner)
            offsets.append(local_offset)
            only += where
        else:
            offsets += _local_offsets(operator, form, d, offset, groups[d])
    lead = form.lead
    if lead:
        axes, offsets = [None, *axes], [0, *offsets]
    return Result(written.name, tuple(axes), tuple(offsets), result.value, lead, tuple(sorted(only)))


def _owner_axes(
    operator: Operator, dimension: int, entry: OperandAtoms, form: Form, local: LocalFactors
) -> tuple[int, ...]:
    """The mesh axes that cut a dimension along which the operator writes a box on one chip alone."""
    for atom, axes in form.cuts:
        along = entry.along.get(atom)
        if atom[0] != dimension or (along is not None and local.cuts.get(along) == axes):
            continue
        if along is not None:
            raise ValueError(f"{operator.name} writes all of atom {atom}, of which each chip has a piece")
        return axes
    return ()


def _owned_offset(
    operator: Operator, form: Form, dimension: int, box: tuple[int, int], axes: tuple[int, ...]
) -> tuple[int, list[tuple[int, int]]]:
    """Offset in the piece of the chip that holds the box (offset, extent), and that chip's coordinates."""
    offset, extent = box
    cuts = [position for (d, position), _ in form.cuts if d == dimension]
    part = prod(form.piece[dimension])
    owner = offset // part
    if cuts != [0] or (offset + extent - 1) // part != owner:
        raise ValueError(f"{operator.name}: its rows [{offset}, {offset + extent}) lie in several pieces")
    coordinates = np.unravel_index(owner, [form.mesh[axis] for axis in axes])
    return offset - owner * part, [(a, int(c)) for a, c in zip(axes, coordinates, strict=True)]


def _local_offsets(
    operator: Operator, form: Form, dimension: int, offset: int, ranges: tuple[tuple[int, int], ...]
) -> list[int]:
    """`offset` in a chip's piece of a dimension, one number a group of atoms."""
    cut = {position for (d, position), _ in form.cuts if d == dimension}
    if offset == 0 or (not cut and len(ranges) == 1):
        return [offset, *[0] * (len(ranges) - 1)]
    whole, piece = form.atoms[dimension], form.piece[dimension]
    digits = np.unravel_index(offset, whole)
    if any(digits[position] for position in cut):
        raise ValueError(f"{operator.name}: offset {offset} lies within the pieces of dimension {dimension}")
    return [
        int(np.ravel_multi_index(digits[low:high], piece[low:high])) if high > low else 0
        for low, high in ranges
    ]


def local_body(
    operator: Operator, local: LocalFactors, dtypes: Mapping[int, DType]
) -> tuple[Instruction, ...]:
    """The body over the chip's factors; dtypes: instructions whose value is stored in another type."""
    if len(local.factors) == len(operator.factors) and not dtypes:
        return operator.body
    body = []
    for number, instruction in enumerate(operator.body):
        attributes = tuple(_attribute(operator, local, name, value) for name, value in instruction.attributes)
        dtype = dtypes.get(number, instruction.dtype)
        body.append(replace(instruction, dtype=dtype, attributes=attributes))
    return tuple(body)


_BY_AXIS = frozenset({
    "ArgMax", "ArgMin", "Copy", "CumSum", "Gather", "GatherElements", "ScatterElements", "TopKIndices",
    "TopKValues",
})  # fmt: skip
"""Instructions that know the dimensions of operand 0 by attribute `axis` alone."""


def _attribute(operator: Operator, local: LocalFactors, name: str, value: Attribute) -> tuple[str, Attribute]:
    """An attribute that counts factors or dimensions, over the chip's factors."""
    if name == "factors":
        chosen = value if isinstance(value, tuple) else (value,)
        return name, tuple(n for f in chosen for n in local.numbers[int(f)])
    unknown = sorted({instruction.opcode for instruction in operator.body} - _BY_AXIS)
    if unknown and operator.unit is Unit.MEMORY:
        raise ValueError(f"{operator.name}: the dimensions of {', '.join(unknown)} cannot be taken apart")
    # On the matrix unit a Gather selects weights, whose axis the factors tell.
    if name != "axis" or not isinstance(value, int) or operator.unit is Unit.MATRIX:
        return name, value
    axes = operator.operands[0].axes
    return name, sum(1 if f is None else len(local.numbers[f]) for f in axes[: value % len(axes)])
