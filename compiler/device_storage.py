"""How one stage stores its tensors: forms that follow from who writes them, who reads them, and from
where."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chiplan.ir import DType, Operator, Reducer, Result, Tensor, Unit, mesh_ways

from .atoms import TensorAtom
from .device_collectives import Choose, Partials, Reduction, reduce_partials, scatter_atom
from .device_forms import Atoms, Cuts, Form, Groups, cuts_of, grouped, kept_cuts, partial_axes, plain_form
from .placements import Partial, Placements


@dataclass(frozen=True)
class Stored:
    """A tensor on the chips of a group: its name there, and its form. `is_gathered`: chips send each
    other the pieces of the leading dimension."""

    name: str
    form: Form
    is_gathered: bool = False


@dataclass(frozen=True)
class Written:
    """Where operators write a tensor: the name, form and type of the result itself, or of the partial
    results of which `reduction` makes it. groups: how the body of the form takes dimensions apart."""

    name: str
    form: Form
    groups: Groups
    dtype: DType
    reduction: Reduction | None = None


@dataclass(frozen=True)
class Layout:
    """What the operators that write a tensor make of it: the tensor's atoms, the placement that they
    give, and how they take its dimensions apart. wire: the type of partial results. mark: what no name
    of the model holds. nodes: for messages."""

    atoms: Atoms
    mesh: tuple[int, ...]
    given: Placements
    groups: Groups
    wire: DType
    mark: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Uses:
    """Who needs a tensor. needs: the pieces that each reader in the stage would like; `crosses` to later
    stages; `is_output` of the model."""

    needs: tuple[Cuts, ...]
    crosses: bool
    is_output: bool


def resident_cuts(atoms: Atoms, mesh: tuple[int, ...], needs: Sequence[Cuts]) -> Cuts:
    """How a weight or an input is cut: so that each reader finds its own piece in what its chip has."""
    every = dict.fromkeys(cut for need in needs for cut in need)
    found: dict[TensorAtom, tuple[int, ...]] = {}
    for atom, axes in kept_cuts(atoms, mesh, tuple(every), needs):
        found[atom] = max(axes, found.get(atom, ()), key=len)
    return tuple(sorted(found.items()))


def agreed(name: str, gives: Sequence[Placements]) -> Placements:
    """The placement that all operators give that write a tensor. Raises ValueError."""
    if any(other != gives[0] for other in gives[1:]):
        raise ValueError(f"the operators that write {name} place it differently: {gives}")
    return gives[0]


def store_value(
    tensor: Tensor, name: str, layout: Layout, uses: Uses, choose: Choose
) -> tuple[Stored, Written]:
    """How a value that the stage computes is stored, as device tensor `name`.

    Raises ValueError for partial results of different reducers.
    """
    if partial_axes(layout.given):
        return _store_reduced(tensor, name, layout, uses, choose)
    cuts = cuts_of(layout.given)
    piece = plain_form(layout.atoms, layout.mesh, cuts)
    gathered, is_gathered = _gathering(layout, cuts, uses)
    form = replace(piece, gathered=gathered, body=grouped(piece.piece, layout.groups))
    return Stored(name, form, is_gathered), Written(name, form, layout.groups, tensor.dtype)


def _store_reduced(
    tensor: Tensor, name: str, layout: Layout, uses: Uses, choose: Choose
) -> tuple[Stored, Written]:
    """How a value is stored of which the operators make partial results."""
    cuts, axes = cuts_of(layout.given), partial_axes(layout.given)
    partials = Partials(
        name=name,
        mark=layout.mark,
        nodes=layout.nodes,
        atoms=layout.atoms,
        mesh=layout.mesh,
        cuts=cuts,
        body=grouped(plain_form(layout.atoms, layout.mesh, cuts).piece, layout.groups),
        axes=axes,
        reducer=_reducer(tensor.name, layout.given),
        dtype=tensor.dtype,
        wire=layout.wire,
    )
    scatter = _scattering(partials, uses)
    target = cuts if scatter is None else tuple(sorted((*cuts, (scatter, axes))))
    gathered, is_gathered = _gathering(layout, target, uses)
    if uses.is_output and scatter is None:
        # Sums may come in flat parts, of which no sharding makes the whole.
        gathered, is_gathered = tuple(atom for atom, _ in target), True
    reduction = reduce_partials(partials, scatter, gathered, choose)
    form = reduction.form
    is_gathered = bool(form.lead) and (is_gathered or bool(form.flat and uses.needs))
    written = Written(reduction.source, reduction.partial, layout.groups, layout.wire, reduction)
    return Stored(name, form, is_gathered), written


def _gathering(layout: Layout, cuts: Cuts, uses: Uses) -> tuple[tuple[TensorAtom, ...], bool]:
    """The cut atoms whose pieces stand side by side, and whether the stage's chips exchange them."""
    kept = kept_cuts(layout.atoms, layout.mesh, cuts, uses.needs)
    needed = tuple(cut[0] for cut in cuts if cut not in kept)
    if uses.crosses or (uses.is_output and needed):
        every = tuple(atom for atom, _ in cuts)
        return every, bool(needed) or (uses.is_output and bool(every))
    return needed, bool(needed)


def _scattering(partials: Partials, uses: Uses) -> TensorAtom | None:
    """The atom along which sums stay scattered: if nobody in the stage needs more than such a piece."""
    atom = scatter_atom(partials.atoms, partials.mesh, partials.cuts)
    if atom is None or not all((atom, partials.axes) in need for need in uses.needs):
        return None
    extent, ways = partials.atoms[atom[0]][atom[1]], mesh_ways(partials.mesh, partials.axes)
    return atom if uses.needs or extent >= ways else None


def _reducer(name: str, given: Placements) -> Reducer:
    reducers = {placement.reducer for placement in given if isinstance(placement, Partial)}
    if len(reducers) > 1:
        raise ValueError(f"{name} is a partial result of different reducers: {given}")
    return reducers.pop()


def wire_type(operator: Operator, result: Result, dtype: DType, wire: DType | None) -> DType:
    """The type in which an operator stores partial results: `wire` where it makes them in any float type
    anyway, else that of the result."""
    if wire is None or not (wire.is_float and dtype.is_float):
        return dtype
    others = [other.value for other in operator.results if other is not result]
    opcode = operator.body[result.value].opcode
    makes = opcode == "MatMul" if operator.unit is Unit.MATRIX else opcode.startswith("Reduce")
    return wire if makes and result.value not in others else dtype


def store_state(
    tensor: Tensor, atoms: Atoms, mesh: tuple[int, ...], needs: Sequence[Cuts], gives: Sequence[Placements]
) -> Form:
    """How a state is cut: as all that read it need it, else as those that append to it have the rows.

    Raises ValueError where they do not agree.
    """
    given = [cuts_of(placements) for placements in gives]
    cuts = needs[0] if needs else given[0] if given else ()
    partial = any(partial_axes(placements) for placements in gives)
    if partial or any(need != cuts for need in needs) or any(set(give) - set(cuts) for give in given):
        raise ValueError(f"the operators that touch state {tensor.name} need different pieces of it")
    return plain_form(atoms, mesh, cuts)
