"""Atoms: the finest factors into which the views of a graph take its dimensions and loops apart.

A dimension is a product of atoms, major first: the 2304 columns of a fused projection are 3 x 12 x 64
when a slice takes thirds of them and a reshape makes heads of those. A chip's share of an operator is a
piece of one atom of one factor, on each axis of the chip's mesh.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import mul
from typing import NamedTuple

from chiplan.ir import Graph, Instruction, Operator, Reducer, Slice, Unit

from .atom_links import Segment, ViewLinks, link_box, link_view

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
    """tensors[name][d]: extents of the atoms of dimension d, major first; none where the extent is 1.
    operators: one a graph operator."""

    tensors: dict[str, tuple[tuple[int, ...], ...]]
    operators: tuple[OperatorAtoms, ...]


class _Access(NamedTuple):
    """One operand or result of an operator; `sliced` if it does not see its tensor whole."""

    tensor: str
    axes: tuple[int | None, ...]
    links: ViewLinks
    sliced: bool


def find_atoms(graph: Graph) -> GraphAtoms:
    """The common refinement of all dimensions and factors of `graph` under all its views.

    Where two views contradict each other (6 and 4 of 12), the one that comes later in the graph, or that
    slices, sees no atoms there.
    """
    chains = _Chains()
    dimensions = {name: [chains.add(n) for n in tensor.shape] for name, tensor in graph.tensors.items()}
    loops = [[chains.add(factor.extent) for factor in operator.factors] for operator in graph.operators]
    accesses = [_accesses(operator, graph) for operator in graph.operators]
    for sliced in (False, True):
        for factors, found in zip(loops, accesses, strict=True):
            for access in found:
                if access.sliced is sliced:
                    _join(chains, access, dimensions[access.tensor], factors)
        chains.spread()
    tensors = {name: tuple(map(chains.atoms, nodes)) for name, nodes in dimensions.items()}
    operators = []
    for operator, factors, found in zip(graph.operators, loops, accesses, strict=True):
        atoms = tuple(map(chains.atoms, factors))
        along = [OperandAtoms(_along(a.links, a.axes, tensors[a.tensor], atoms)) for a in found]
        count = len(operator.operands)
        operators.append(OperatorAtoms(atoms, tuple(along[:count]), tuple(along[count:])))
    return GraphAtoms(tensors, tuple(operators))


def _accesses(operator: Operator, graph: Graph) -> list[_Access]:
    found = []
    for operand in operator.operands:
        links = link_view(operand.view, graph.tensors[operand.tensor].shape)
        sliced = any(isinstance(step, Slice) for step in operand.view)
        found.append(_Access(operand.tensor, operand.axes, links, sliced))
    for result in operator.results:
        shape = graph.tensors[result.tensor].shape
        box = tuple(1 if axis is None else operator.factors[axis].extent for axis in result.axes)
        found.append(_Access(result.tensor, result.axes, link_box(shape, box, result.offsets), box != shape))
    return found


def _join(chains: "_Chains", access: _Access, dimensions: Sequence[int], factors: Sequence[int]) -> None:
    """Let bounds pass between the tensor's dimensions and the factors that run along them."""
    for dimension, low, high, seen, seen_low in access.links.segments:
        factor = access.axes[seen]
        if factor is not None and access.axes.count(factor) == 1:
            chains.join(dimensions[dimension], low, high, factors[factor], seen_low)
    for dimension, bound in access.links.bounds:
        chains.demand(dimensions[dimension], bound)


class _Chains:
    """Dimensions and factors as chains of cumulative products from the minor side: 1 | 64 | 768 | 2304.

    A bound passes along what joins two chains, until nothing changes. What does not divide into a chain
    that is there already is left out.
    """

    def __init__(self) -> None:
        self.bounds: list[list[int]] = []
        self._joins: list[list[tuple[int, int, int, int]]] = []
        self._waiting: deque[tuple[int, int]] = deque()

    def add(self, extent: int) -> int:
        """A new chain; its number."""
        self.bounds.append([1, extent] if extent > 1 else [1])
        self._joins.append([])
        return len(self.bounds) - 1

    def join(self, left: int, low: int, high: int, right: int, right_low: int) -> None:
        """Digits [low, high) of chain `left` are digits of chain `right`, from `right_low` on."""
        right_high = right_low * (high // low)
        self._joins[left].append((right, low, high, right_low))
        self._joins[right].append((left, right_low, right_high, low))
        self._waiting.extend((left, bound) for bound in self.bounds[left])
        self._waiting.extend((right, bound) for bound in self.bounds[right])

    def demand(self, chain: int, bound: int) -> None:
        """Cut a chain at `bound`, if it divides."""
        bounds = self.bounds[chain]
        position = bisect_left(bounds, bound)
        if position == len(bounds) or bounds[position] == bound:
            return
        if bound % bounds[position - 1] == 0 and bounds[position] % bound == 0:
            bounds.insert(position, bound)
            self._waiting.append((chain, bound))

    def spread(self) -> None:
        """Pass all bounds on, in the order in which they came up."""
        bounds, joins, waiting = self.bounds, self._joins, self._waiting
        while waiting:
            chain, bound = waiting.popleft()
            for other, low, high, other_low in joins[chain]:
                if bound >= low and not bound % low and not high % bound:
                    passed = bound // low * other_low
                    if passed not in bounds[other]:
                        self.demand(other, passed)

    def atoms(self, chain: int) -> tuple[int, ...]:
        """Extents between the bounds, major first."""
        return tuple(above // below for below, above in pairwise(self.bounds[chain]))[::-1]


def _spans(atoms: tuple[int, ...]) -> list[tuple[int, int]]:
    """The digits [low, high) that each atom is."""
    highs = list(accumulate(reversed(atoms), mul))
    return list(zip([1, *highs], highs, strict=False))[::-1]


@lru_cache(maxsize=16384)
def _along(
    links: ViewLinks,
    axes: tuple[int | None, ...],
    dimensions: tuple[tuple[int, ...], ...],
    factors: tuple[tuple[int, ...], ...],
) -> dict[TensorAtom, FactorAtom | None]:
    loops = {
        (factor, low, high): (factor, position)
        for factor, atoms in enumerate(factors)
        for position, (low, high) in enumerate(_spans(atoms))
    }
    along: dict[TensorAtom, FactorAtom | None] = {}
    for dimension, atoms in enumerate(dimensions):
        segments = [segment for segment in links.segments if segment.dimension == dimension]
        for position, (low, high) in enumerate(_spans(atoms)):
            along[dimension, position] = next(
                (loops[span] for span in _seen_spans(segments, axes, low, high) if span in loops), None
            )
    return along


def _seen_spans(
    segments: Sequence[Segment], axes: tuple[int | None, ...], low: int, high: int
) -> list[tuple[int, int, int]]:
    """(factor, low, high) along which digits [low, high) of a tensor's dimension run."""
    found = []
    for segment in segments:
        first, last, factor = segment.forward(low), segment.forward(high), axes[segment.seen]
        if first is not None and last is not None and factor is not None and axes.count(factor) == 1:
            found.append((factor, first, last))
    return found


def splittable(operator: Operator, atoms: OperatorAtoms) -> list[FactorAtom]:
    """Factor atoms that chips may share: the results are then pieces of the whole results, or partial
    results that the factor's reducer combines.

    Left out: atoms of extent 1, of `whole` factors, and those that some operand or result does not run
    through as one atom; of a gathered factor all but the outermost, since an index counts whole pieces; and
    the table's rows of an indexed load, which would save memory but no cycle.
    Pieces of an inner atom interleave: when they are uneven, the padding of a short one lies between rows.
    """
    found: list[FactorAtom] = []
    for factor, extents in enumerate(atoms.factors):
        if _may_split(operator, factor):
            count = min(len(extents), 1) if operator.factors[factor].gathered else len(extents)
            candidates = ((factor, position) for position in range(count))
            found += (atom for atom in candidates if _is_run_through(operator, atoms, atom))
    return found


def _is_run_through(operator: Operator, atoms: OperatorAtoms, atom: FactorAtom) -> bool:
    axes = [operand.axes for operand in operator.operands] + [result.axes for result in operator.results]
    return all(
        atom[0] not in labels or atom in found.along.values()
        for labels, found in zip(axes, (*atoms.operands, *atoms.results), strict=True)
    )


def _may_split(operator: Operator, index: int) -> bool:
    factor = operator.factors[index]
    if factor.whole:
        return False
    if factor.gathered:
        return operator.unit is Unit.MEMORY
    return operator.unit is not Unit.VECTOR or _results_combine(operator, index)


class _Share(Enum):
    """What chips that share a factor hold of a value."""

    SAME = "the value, whichever piece they have"
    PIECE = "a piece of the value"
    PARTIAL = "a partial result"
    NOTHING = "nothing that can be combined"


_REDUCERS = {"ReduceSum": Reducer.SUM, "ReduceMax": Reducer.MAX, "ReduceMin": Reducer.MIN}


def _results_combine(operator: Operator, factor: int) -> bool:
    """Whether every result of a vector body is a piece or a partial result when `factor` is split: a body
    that goes on after its reduction would go on with a part of it."""
    shares = [_Share.PIECE if factor in operand.axes else _Share.SAME for operand in operator.operands]
    for instruction in operator.body:
        inputs = {shares[i] for i in instruction.inputs}
        shares.append(_share(instruction, factor, operator.factors[factor].reducer, inputs))
    apart = {_Share.SAME} if operator.factors[factor].reducer is None else {_Share.PARTIAL}
    return all(
        shares[len(operator.operands) + result.value]
        in ({_Share.SAME, _Share.PIECE} if factor in result.axes else apart)
        for result in operator.results
    )


def _share(instruction: Instruction, factor: int, reducer: Reducer | None, inputs: set[_Share]) -> _Share:
    if inputs & {_Share.PARTIAL, _Share.NOTHING}:
        return _Share.NOTHING
    reduced = instruction.attribute("factors")
    if reduced == factor or (isinstance(reduced, tuple) and factor in reduced):
        return _Share.PARTIAL if _REDUCERS.get(instruction.opcode) is reducer is not None else _Share.NOTHING
    return _Share.PIECE if _Share.PIECE in inputs else _Share.SAME
