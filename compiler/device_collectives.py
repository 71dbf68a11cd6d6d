"""Collectives: partial results become results, by exchanges between chips and sums on the vector unit.

one-shot      every chip gathers all partials and sums them all
two-shot      every chip receives its own piece of all partials, sums them, and all gather the sums
ring          a sum travels around the chips and takes up each one's piece
hierarchical  two-shot along the last mesh axis; in between, the sums along the other axes
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TypeAlias

from chiplan.ir import (
    DType,
    Exchange,
    ExchangeKind,
    Operator,
    Reducer,
    Role,
    Shape,
    Split,
    Tensor,
    mesh_ways,
)

from .atoms import TensorAtom
from .collective_costs import unbuildable
from .device_forms import Atoms, Cuts, Form, broken, plain_form
from .device_pieces import Pieces, Read, Summation, entries, pieces_of


@dataclass(frozen=True)
class CollectiveRequest:
    """A collective whose algorithm is to be chosen.

    kind: "all_reduce", "all_gather" or "reduce_scatter", along the mesh `axes` together. elements, of
    `dtype`: of what every chip has before a reduction, and of the whole after a gather. without: algorithms
    that cannot be built for it.
    """

    kind: str
    axes: tuple[int, ...]
    mesh: tuple[int, ...]
    elements: int
    dtype: DType
    without: frozenset[str] = frozenset()

    def buildable(self, algorithm: str) -> str:
        """The algorithm itself, or what is built in its place where there is no such thing: the one-shot way
        for short pieces along other mesh axes, two shots for a ring of uneven pieces or a single axis."""
        if self.kind == "reduce_scatter":
            return algorithm if algorithm == "ring" and algorithm not in self.without else "one-shot"
        if "two-shot" in self.without:
            return "one-shot"
        is_flat = algorithm == "hierarchical" and len(self.axes) == 1
        return "two-shot" if is_flat or algorithm in self.without else algorithm


Choose: TypeAlias = Callable[[CollectiveRequest], str]
"""The algorithm of a collective: "one-shot", "two-shot", "ring" or "hierarchical"."""

_ALGORITHMS = ("one-shot", "two-shot", "ring", "hierarchical")


@dataclass(frozen=True)
class Partials:
    """Partial results of tensor `name`, one a chip along the mesh `axes`.

    cuts: the pieces that chips have along the other mesh axes. body: in which extents the operators that
    make the partials write them. dtype, wire: types of the result and of the partials.
    mark: what no name of the model holds. nodes: for messages.
    """

    name: str
    mark: str
    nodes: tuple[str, ...]
    atoms: Atoms
    mesh: tuple[int, ...]
    cuts: Cuts
    body: Shape
    axes: tuple[int, ...]
    reducer: Reducer
    dtype: DType
    wire: DType

    @cached_property
    def plain(self) -> Form:
        """A chip's piece of the result by itself; short pieces in dimensions of their own."""
        form = plain_form(self.atoms, self.mesh, self.cuts)
        return replace(form, body=tuple(prod(form.piece[d][low:high]) for d, low, high in self._ranges))

    @property
    def alone(self) -> Form:
        """Partials by themselves."""
        return replace(self.plain, body=self.body)

    @property
    def splits(self) -> tuple[Split, ...]:
        """Of an operator over the extents of a piece."""
        cuts, found = dict(self.cuts), []
        for number, (d, low, high) in enumerate(self._ranges):
            axes = tuple(sorted(axis for p in range(low, high) for axis in cuts.get((d, p), ())))
            if axes:
                found.append(Split(number, axes, prod(self.atoms[d][low:high])))
        return tuple(found)

    @property
    def _ranges(self) -> list[tuple[int, int, int]]:
        groups = broken(self.atoms, dict(self.cuts), self.mesh)
        ranges = [(d, low, high) for d, dimension in enumerate(groups) for low, high in dimension]
        return [(d, low, high) for d, low, high in ranges if prod(self.atoms[d][low:high]) > 1]

    def named(self, what: str) -> str:
        """A name for a tensor on the way to the result."""
        return f"{self.name}{self.mark}{what}"


@dataclass(frozen=True)
class Reduction:
    """What reduces partials: they are stored as tensor `source` in form `partial`, the result in `form`.

    operators and exchanges follow the operators that make the partials; tensors: all that they need
    besides the result. algorithm: what was built.
    """

    source: str
    partial: Form
    form: Form
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    exchanges: tuple[Exchange, ...]
    algorithm: str


def scatter_atom(atoms: Atoms, mesh: tuple[int, ...], cuts: Cuts) -> TensorAtom | None:
    """The atom whose shards are runs of a piece's row-major elements: the outermost one of which a chip
    has several elements. None where it is cut already, or where some piece is short."""
    form = plain_form(atoms, mesh, cuts)
    several = (
        (d, p) for d, extents in enumerate(form.piece) for p, extent in enumerate(extents) if extent > 1
    )
    atom = next(several, None)
    return atom if form.is_even and atom not in dict(cuts) else None


def reduce_partials(
    partials: Partials, scatter: TensorAtom | None, gathered: tuple[TensorAtom, ...], choose: Choose
) -> Reduction:
    """The operators and exchanges of a reduction, by the algorithm that is chosen.

    scatter: the atom along which the result is cut over `partials.axes` (see `scatter_atom`); None for a
    result that all have. gathered: the result's cut atoms whose pieces stand side by side.
    Pieces that do not come out even take the two-shot way instead of the ring, and the one-shot way where
    chips have short pieces along other mesh axes: nobody computes what is beyond their ends.
    """
    request = _request(partials, scatter)
    algorithm = choose(request)
    if algorithm not in _ALGORITHMS:
        raise ValueError(f"algorithm {algorithm}: expected one of {', '.join(_ALGORITHMS)}")
    built = request.buildable(algorithm)
    builder = _Builder(partials, gathered, built)
    if scatter is not None:
        return builder.scatter(scatter)
    if built == "one-shot":
        return builder.one_shot()
    return builder.hierarchical(choose) if built == "hierarchical" else builder.two_shot()


def _request(partials: Partials, scatter: TensorAtom | None) -> CollectiveRequest:
    plain = partials.plain
    elements, ways = prod(plain.body), mesh_ways(partials.mesh, partials.axes)
    kind = "all_reduce" if scatter is None else "reduce_scatter"
    cut = elements if scatter is None else plain.piece[scatter[0]][scatter[1]]
    without = unbuildable(elements, is_even=cut % ways == 0, has_short=not plain.is_even)
    return CollectiveRequest(kind, partials.axes, partials.mesh, elements, partials.wire, without)


class _Builder:
    """Collects the tensors, operators and exchanges of one reduction."""

    def __init__(self, partials: Partials, gathered: tuple[TensorAtom, ...], algorithm: str) -> None:
        self.partials, self.gathered, self.algorithm = partials, gathered, algorithm
        self.source = partials.named("partial")
        self.summation = Summation(partials.reducer, partials.dtype, partials.wire, partials.nodes)
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.exchanges: list[Exchange] = []

    def one_shot(self) -> Reduction:
        given = self.partials
        # No parts of one result stand in this leading dimension, but the partial results of all chips.
        partial = replace(given.alone, flat=given.axes)
        form = replace(given.plain, gathered=self.gathered)
        self._declare(self.source, partial.shape)
        self._gather(self.source, given.axes)
        reads = entries(self.source, partial.shape, form.body)
        self._sum(reads, form, given.splits)
        return self._done(partial, form)

    def scatter(self, atom: TensorAtom) -> Reduction:
        given, piece = self.partials, self.partials.plain.piece
        d, p = atom
        rest = (prod(piece[d][p + 1 :]), *map(prod, piece[d + 1 :]))
        ways = mesh_ways(given.mesh, given.axes)
        pieces = Pieces(given.axes, ways, piece[d][p], tuple(extent for extent in rest if extent > 1))
        cuts = tuple(sorted((*given.cuts, (atom, given.axes))))
        form = Form(given.atoms, given.mesh, cuts, self.gathered, body=pieces.shape)
        return self._through_pieces(pieces, form)

    def two_shot(self) -> Reduction:
        given = self.partials
        pieces = pieces_of(given.plain.body, given.axes, given.mesh)
        form = replace(given.plain, gathered=self.gathered, flat=given.axes, body=pieces.shape)
        return self._through_pieces(pieces, form)

    def _through_pieces(self, pieces: Pieces, form: Form) -> Reduction:
        alone = self.partials.alone
        self._declare(self.source, alone.shape)
        collect = self._ring if self.algorithm == "ring" else self._scattered
        self._sum(collect(self.source, alone.shape, pieces), form, pieces.splits)
        return self._done(alone, form)

    def hierarchical(self, choose: Choose) -> Reduction:
        """Pieces along the last mesh axis, which are then reduced along the others."""
        given = self.partials
        *others, inner = given.axes
        outer, ways = tuple(others), mesh_ways(given.mesh, others)
        pieces = pieces_of(given.plain.body, (inner,), given.mesh)
        alone = given.alone
        self._declare(self.source, alone.shape)
        reads = self._scattered(self.source, alone.shape, pieces)
        request = CollectiveRequest("all_reduce", outer, given.mesh, prod(pieces.shape), given.wire)
        if choose(request) == "one-shot" or not pieces.is_even or pieces.shape[0] % ways:
            axes: tuple[int, ...] = (inner,)
            parts = pieces
            reads = self._copies(reads, pieces, outer)
        else:
            again = Pieces(outer, ways, pieces.shape[0], pieces.rest)
            axes, parts = (inner, *outer), again
            reads = self._pieces_again(reads, pieces, again)
        form = replace(given.plain, gathered=self.gathered, flat=axes, body=parts.shape)
        self._sum(reads, form, parts.splits)
        return self._done(alone, form)

    def _copies(self, reads: Sequence[Read], pieces: Pieces, axes: tuple[int, ...]) -> list[Read]:
        """The sums of a piece from all chips along `axes`, one-shot."""
        name = self.partials.named("pieces")
        shape = (mesh_ways(self.partials.mesh, axes), *pieces.shape)
        self._declare(name, shape)
        self._sum_between(name, reads, pieces.shape, axes, pieces.splits)
        self._gather(name, axes)
        return entries(name, shape, pieces.shape)

    def _pieces_again(self, reads: Sequence[Read], pieces: Pieces, again: Pieces) -> list[Read]:
        """Pieces of the sums of a piece from all chips, two-shot."""
        name = self.partials.named("pieces")
        self._declare(name, pieces.shape)
        self._sum_between(name, reads, pieces.shape, (), pieces.splits)
        return self._scattered(name, pieces.shape, again)

    def _scattered(self, source: str, shape: Shape, pieces: Pieces) -> list[Read]:
        """What a chip sums to have its piece of `source` summed over all chips."""
        received = f"{source}/received"
        rows = (pieces.ways - 1, prod(pieces.shape))
        self._declare(received, rows)
        self.exchanges.append(Exchange(source, received, ExchangeKind.SCATTER, pieces.axes))
        return [pieces.own(source, shape), *entries(received, rows, pieces.shape)]

    def _ring(self, source: str, shape: Shape, pieces: Pieces) -> list[Read]:
        """The sum of piece c starts on chip c + 1, and takes up the piece of every chip that it visits."""
        reads = [pieces.own(source, shape, -1)]
        for step in range(1, pieces.ways):
            sent, received = f"{source}/sent{step}", f"{source}/received{step}"
            self._declare(sent, pieces.shape)
            self._declare(received, pieces.shape)
            self._sum_between(sent, reads, pieces.shape, (), ())
            self.exchanges.append(Exchange(sent, received, ExchangeKind.SHIFT, pieces.axes, by=1))
            reads = [(received, ()), pieces.own(source, shape, -1 - step)]
        return reads

    def _sum(self, reads: Sequence[Read], form: Form, splits: tuple[Split, ...]) -> None:
        """The operator that makes the result."""
        given = self.partials
        made = self.summation.operator(given.name, reads, form.body, given.dtype, form.lead, splits)
        self.operators.append(made)

    def _sum_between(
        self,
        name: str,
        reads: Sequence[Read],
        shape: Shape,
        lead: tuple[int, ...],
        splits: tuple[Split, ...],
    ) -> None:
        made = self.summation.operator(name, reads, shape, self.partials.wire, lead, splits)
        self.operators.append(made)

    def _gather(self, name: str, axes: tuple[int, ...]) -> None:
        self.exchanges.append(Exchange(name, name, ExchangeKind.GATHER, axes))

    def _declare(self, name: str, shape: Shape) -> None:
        self.tensors[name] = Tensor(name, shape, self.partials.wire, Role.VALUE)

    def _done(self, partial: Form, form: Form) -> Reduction:
        tensors, operators = tuple(self.tensors.values()), tuple(self.operators)
        exchanges = tuple(self.exchanges)
        return Reduction(self.source, partial, form, tensors, operators, exchanges, self.algorithm)
