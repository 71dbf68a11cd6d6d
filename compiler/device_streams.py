"""Which loops of a stage run through the pieces that its chips exchange, and would do better woven.

Atoms of tensors and of factors that run along each other are one *stream*: the rows of a transformer, say.
Where chips exchange tensors of which each has a piece of the outermost atom, everybody who runs along all
of that atom's stream takes a little of every piece in turn.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod

from chiplan.ir import Graph, Operator, Role, Unit, matrix_factors, mesh_ways

from .atoms import FactorAtom, GraphAtoms, TensorAtom
from .device_forms import Atoms, Form
from .device_operators import LocalFactors
from .device_stages import DeviceStage
from .device_weaving import Weave

_Node = tuple[str | int, int, int]
"""An atom: of a tensor (name, dimension, atom) or an operator (index, factor, atom)."""


def find_weaves(graph: Graph, atoms: GraphAtoms, stage: DeviceStage) -> dict[int, Weave]:
    """The loops of a stage that are to be woven, by operator: indices into the whole graph."""
    streams = _Streams()
    for index in stage.stage.operators:
        _connect(streams, graph, atoms, index)
    pieces = _pieces(graph, stage, streams)
    found = {}
    for index in stage.stage.operators if pieces else ():
        weave = _weave(index, graph.operators[index], stage.local[index], streams, pieces)
        if weave is not None:
            found[index] = weave
    return found


class _Streams:
    """Disjoint sets of atoms."""

    def __init__(self) -> None:
        self._above: dict[_Node, _Node] = {}

    def find(self, node: _Node) -> _Node:
        """The atom that stands for all of a stream."""
        root = node
        while (above := self._above.get(root, root)) != root:
            root = above
        while node != root:
            self._above[node], node = root, self._above.get(node, root)
        return root

    def join(self, first: _Node, second: _Node) -> None:
        self._above[self.find(first)] = self.find(second)


def _connect(streams: _Streams, graph: Graph, atoms: GraphAtoms, index: int) -> None:
    operator, entry = graph.operators[index], atoms.operators[index]
    names = [operand.tensor for operand in operator.operands]
    names += [result.tensor for result in operator.results]
    for name, found in zip(names, (*entry.operands, *entry.results), strict=True):
        if graph.tensors[name].role is Role.VALUE:
            for tensor_atom, along in found.along.items():
                if along is not None:
                    streams.join((name, *tensor_atom), (index, *along))


def _pieces(graph: Graph, stage: DeviceStage, streams: _Streams) -> dict[_Node, int]:
    """By stream, into how many pieces most of what is exchanged is cut along it; for those where it is."""
    nbytes: dict[_Node, Counter[int]] = {}
    for name, stored in stage.stored.items():
        atom = _outermost(stored.form.atoms)
        if atom is None or name not in stage.written:
            continue
        tensor = graph.tensors[name]
        if stored.is_gathered or stage.written[name].reduction is not None:
            counts = nbytes.setdefault(streams.find((name, *atom)), Counter())
            counts[_ways(stored.form, atom)] += tensor.nbytes
    most = {stream: max(counts, key=lambda ways: (counts[ways], ways)) for stream, counts in nbytes.items()}
    return {stream: ways for stream, ways in most.items() if ways > 1}


def _ways(form: Form, atom: TensorAtom) -> int:
    """Into how many even pieces of its outermost atom a tensor is exchanged."""
    cut = next((axes for place, axes in form.cuts if place == atom), form.flat)
    ways = mesh_ways(form.mesh, cut)
    return ways if form.atoms[atom[0]][atom[1]] % ways == 0 else 1


def _outermost(atoms: Atoms) -> TensorAtom | None:
    several = ((d, p) for d, extents in enumerate(atoms) for p, extent in enumerate(extents) if extent > 1)
    return next(several, None)


def _weave(
    index: int, operator: Operator, local: LocalFactors, streams: _Streams, pieces: Mapping[_Node, int]
) -> Weave | None:
    """The loop of an operator that is to be woven: one that every result has."""
    for f, position in _candidates(operator, local):
        ways = pieces.get(streams.find((index, f, position)), 1)
        extents = local.local[f]
        if ways == 1 or extents[position] % ways or extents[position] == ways:
            continue
        group = next(n for n, (low, high) in enumerate(local.groups[f]) if low <= position < high)
        low, _ = local.groups[f][group]
        return Weave(local.numbers[f][group], prod(extents[low:position]), ways)
    return None


def _candidates(operator: Operator, local: LocalFactors) -> Iterator[FactorAtom]:
    """Atoms of factors that the chip runs all of, outermost first: rows of the matrix unit, any parallel
    factor of the vector unit. Instructions that know dimensions by number keep them."""
    factors: tuple[int, ...] = ()
    if any(instruction.attribute("axis") is not None for instruction in operator.body):
        return
    if operator.unit is Unit.MATRIX and len(operator.body) == 1:
        factors = matrix_factors(operator).rows
    elif operator.unit is Unit.VECTOR:
        factors = tuple(f for f, factor in enumerate(operator.factors) if factor.reducer is None)
    cut = {f for f, _ in local.cuts}
    for f in factors:
        if f not in cut and not operator.factors[f].whole and not operator.factors[f].gathered:
            yield from ((f, position) for position in range(len(local.local[f])))
