"""Collectives: partial results become results, by exchanges between chips and sums on the vector unit.

one-shot      every chip gathers all partials and sums them all
two-shot      every chip receives its own piece of all partials, sums them, and all gather the sums
ring          a sum travels around the chips and takes up each one's piece
hierarchical  two-shot along the last mesh axis; in between, the sums along the other axes
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod

from chiplan.ir import (
    DType,
    Exchange,
    ExchangeKind,
    Factor,
    Instruction,
    Operand,
    Operator,
    Own,
    Reducer,
    Reshape,
    Result,
    Role,
    Shape,
    Slice,
    Split,
    Tensor,
    Unit,
    View,
    ViewStep,
    mesh_ways,
    simplify_view,
)

from .atoms import TensorAtom
from .device_forms import Atoms, Cuts, Form, Groups, broken, grouped, plain_form


@dataclass(frozen=True)
class CollectiveRequest:
    """A collective whose algorithm is to be chosen.

    kind: "all_reduce", "all_gather" or "reduce_scatter", along the mesh `axes` together. elements, of
    `dtype`: of what every chip has before a reduction, and of the whole after a gather.
    """

    kind: str
    axes: tuple[int, ...]
    mesh: tuple[int, ...]
    elements: int
    dtype: DType


Choose = Callable[[CollectiveRequest], str]
"""The algorithm of a collective: "one-shot", "two-shot", "ring" or "hierarchical"."""

_ALGORITHMS = ("one-shot", "two-shot", "ring", "hierarchical")

_COMBINE = {Reducer.SUM: "Add", Reducer.MAX: "Max", Reducer.MIN: "Min"}

_Read = tuple[str, View]
"""A tensor, and the view through which it is read."""


@dataclass(frozen=True)
class Partials:
    """Partial results of tensor `name`, one a chip along the mesh `axes`.

    cuts: the pieces that chips have along the other mesh axes. body: in which extents the operators that
    make the partials write them. dtype, wire: types of the result and of the partials. nodes: for messages.
    """

    name: str
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
        return replace(form, body=grouped(form.piece, self.groups))

    @cached_property
    def alone(self) -> Form:
        """Partials by themselves."""
        return replace(self.plain, body=self.body)

    @cached_property
    def groups(self) -> Groups:
        return broken(self.atoms, dict(self.cuts), self.mesh)


@dataclass(frozen=True)
class Reduction:
    """What reduces partials: they are stored as tensor `source` in form `partial`, the result in `form`.

    operators and exchanges follow the operators that make the partials; tensors: all that they need
    besides the result.
    """

    source: str
    partial: Form
    form: Form
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    exchanges: tuple[Exchange, ...]


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
    kind = "all_reduce" if scatter is None else "reduce_scatter"
    elements = prod(partials.plain.body)
    algorithm = choose(CollectiveRequest(kind, partials.axes, partials.mesh, elements, partials.wire))
    if algorithm not in _ALGORITHMS:
        raise ValueError(f"algorithm {algorithm}: expected one of {', '.join(_ALGORITHMS)}")
    builder = _Builder(partials, gathered)
    if scatter is not None:
        return builder.scatter(scatter, algorithm == "ring")
    if algorithm == "one-shot" or elements == 1 or not partials.plain.is_even:
        return builder.one_shot()
    if algorithm == "hierarchical" and len(partials.axes) > 1:
        return builder.hierarchical(choose)
    return builder.two_shot(algorithm == "ring")


@dataclass(frozen=True)
class _Pieces:
    """Elements seen as [extent, *rest], cut along `extent` over the mesh `axes`, `ways` together."""

    axes: tuple[int, ...]
    ways: int
    extent: int
    rest: Shape

    @property
    def shape(self) -> Shape:
        return (-(-self.extent // self.ways), *self.rest)

    @property
    def is_even(self) -> bool:
        return self.extent % self.ways == 0

    def own(self, shift: int = 0) -> View:
        """A chip's own piece, or that of a neighbour, of a tensor that has all of them."""
        return (Reshape((self.extent, *self.rest)), Own(0, self.axes, self.ways, shift % self.ways))


def _pieces(shape: Shape, axes: tuple[int, ...], mesh: tuple[int, ...]) -> _Pieces:
    """Pieces of the outermost extent where it divides, else of the flat elements."""
    dims = tuple(extent for extent in shape if extent > 1)
    ways = mesh_ways(mesh, axes)
    return (
        _Pieces(axes, ways, dims[0], dims[1:]) if dims[0] % ways == 0 else _Pieces(axes, ways, prod(dims), ())
    )


class _Builder:
    """Collects the tensors, operators and exchanges of one reduction."""

    def __init__(self, partials: Partials, gathered: tuple[TensorAtom, ...]) -> None:
        self.partials, self.gathered = partials, gathered
        self.source = f"{partials.name}/partial"
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.exchanges: list[Exchange] = []

    def one_shot(self) -> Reduction:
        given, plain = self.partials, self.partials.plain
        # No parts of one result stand in this leading dimension, but the partial results of all chips.
        partial = replace(given.alone, flat=given.axes)
        self._declare(self.source, partial.shape, given.wire)
        self._gather(self.source, given.axes)
        rows = self._rows(self.source, partial.shape, plain.body)
        extents = grouped(given.atoms, given.groups)
        cuts, splits = dict(given.cuts), []
        ranges = [(d, low, high) for d, dimension in enumerate(given.groups) for low, high in dimension]
        for number, (d, low, high) in enumerate(ranges):
            axes = tuple(sorted(axis for p in range(low, high) for axis in cuts.get((d, p), ())))
            splits += [Split(number, axes, extents[number])] if axes else []
        form = replace(plain, gathered=self.gathered)
        self._sum(given.name, rows, plain.body, given.dtype, form.lead, tuple(splits))
        return self._done(partial, form)

    def scatter(self, atom: TensorAtom, ring: bool) -> Reduction:
        given, plain = self.partials, self.partials.plain
        d, p = atom
        ways = mesh_ways(given.mesh, given.axes)
        rest = tuple(prod(dims) for dims in (plain.piece[d][p + 1 :], *plain.piece[d + 1 :]))
        pieces = _Pieces(given.axes, ways, plain.piece[d][p], tuple(n for n in rest if n > 1))
        cuts = tuple(sorted((*given.cuts, (atom, given.axes))))
        form = Form(given.atoms, given.mesh, cuts, self.gathered, body=pieces.shape)
        self._finish(pieces, ring, form)
        return self._done(given.alone, form)

    def two_shot(self, ring: bool) -> Reduction:
        given, plain = self.partials, self.partials.plain
        pieces = _pieces(plain.body, given.axes, given.mesh)
        form = replace(plain, gathered=self.gathered, flat=given.axes, body=pieces.shape)
        self._finish(pieces, ring, form)
        return self._done(given.alone, form)

    def hierarchical(self, choose: Choose) -> Reduction:
        given, plain = self.partials, self.partials.plain
        *outer_axes, inner_axis = given.axes
        outer = tuple(outer_axes)
        pieces = _pieces(plain.body, (inner_axis,), given.mesh)
        between = f"{given.name}/pieces"
        request = CollectiveRequest("all_reduce", outer, given.mesh, prod(pieces.shape), given.wire)
        ways = mesh_ways(given.mesh, outer)
        self._declare(self.source, given.alone.shape, given.wire)
        reads = self._scattered(self.source, pieces, ring=False)
        if choose(request) == "one-shot" or not pieces.is_even or pieces.shape[0] % ways:
            shape = (ways, *pieces.shape)
            self._declare(between, shape, given.wire)
            self._sum(between, reads, pieces.shape, given.wire, outer, _splits(pieces))
            self._gather(between, outer)
            form = replace(plain, gathered=self.gathered, flat=(inner_axis,), body=pieces.shape)
            rows = self._rows(between, shape, pieces.shape)
            self._sum(given.name, rows, pieces.shape, given.dtype, form.lead, _splits(pieces))
        else:
            self._declare(between, pieces.shape, given.wire)
            self._sum(between, reads, pieces.shape, given.wire, (), _splits(pieces))
            parts = _Pieces(outer, ways, pieces.shape[0], pieces.rest)
            form = replace(plain, gathered=self.gathered, flat=(inner_axis, *outer), body=parts.shape)
            reads = self._scattered(between, parts, ring=False)
            self._sum(given.name, reads, parts.shape, given.dtype, form.lead, _splits(parts))
        return self._done(given.alone, form)

    def _finish(self, pieces: _Pieces, ring: bool, form: Form) -> None:
        """Scatter and sum the partials, which are stored by themselves."""
        given = self.partials
        self._declare(self.source, given.alone.shape, given.wire)
        reads = self._scattered(self.source, pieces, ring and pieces.is_even)
        self._sum(given.name, reads, pieces.shape, given.dtype, form.lead, _splits(pieces))

    def _scattered(self, source: str, pieces: _Pieces, ring: bool) -> list[_Read]:
        """What a chip sums to have its piece of `source` summed over all chips."""
        if ring:
            return self._ring(source, pieces)
        received = f"{source}/received"
        shape = (pieces.ways - 1, prod(pieces.shape))
        self._declare(received, shape, self.partials.wire)
        self.exchanges.append(Exchange(source, received, ExchangeKind.SCATTER, pieces.axes))
        return [(source, pieces.own()), *self._rows(received, shape, pieces.shape)]

    def _ring(self, source: str, pieces: _Pieces) -> list[_Read]:
        """The sum of piece c starts on chip c + 1, and takes up the piece of every chip that it visits."""
        wire, reads = self.partials.wire, [(source, pieces.own(-1))]
        for step in range(1, pieces.ways):
            sent, received = f"{source}/sent{step}", f"{source}/received{step}"
            self._declare(sent, pieces.shape, wire)
            self._declare(received, pieces.shape, wire)
            self._sum(sent, reads, pieces.shape, wire, (), ())
            self.exchanges.append(Exchange(sent, received, ExchangeKind.SHIFT, pieces.axes, by=1))
            reads = [(received, ()), (source, pieces.own(-1 - step))]
        return reads

    def _rows(self, name: str, shape: Shape, seen: Shape) -> list[_Read]:
        """Every entry of a tensor's leading dimension, seen as `seen`."""
        return [(name, (_entry(row, shape), Reshape(seen))) for row in range(shape[0])]

    def _gather(self, name: str, axes: tuple[int, ...]) -> None:
        self.exchanges.append(Exchange(name, name, ExchangeKind.GATHER, axes))

    def _declare(self, name: str, shape: Shape, dtype: DType) -> None:
        self.tensors[name] = Tensor(name, shape, dtype, Role.VALUE)

    def _sum(
        self,
        target: str,
        reads: list[_Read],
        shape: Shape,
        dtype: DType,
        lead: tuple[int, ...],
        splits: tuple[Split, ...],
    ) -> None:
        """An operator that combines what it reads, in order, over the iteration space `shape`."""
        axes = tuple(range(len(shape)))
        operands = tuple(
            Operand(name, _simplified(view, self.tensors[name].shape), axes) for name, view in reads
        )
        body = self._combination(len(reads), dtype)
        result = Result(
            target,
            (None, *axes) if lead else axes,
            (0,) * (len(shape) + bool(lead)),
            len(body) - 1,
            lead,
        )
        factors = tuple(Factor(f"d{axis}", extent) for axis, extent in enumerate(shape))
        name, nodes = f"{target}/reduce", self.partials.nodes
        self.operators.append(Operator(name, Unit.VECTOR, factors, operands, (result,), body, nodes, splits))

    def _combination(self, count: int, dtype: DType) -> tuple[Instruction, ...]:
        """A chain over `count` operands in the wider of the two types, then converted to `dtype`."""
        wide = max(self.partials.dtype, self.partials.wire, key=lambda kind: kind.itemsize)
        body: list[Instruction] = []
        for number in range(1, count):
            left = 0 if number == 1 else count + number - 2
            body.append(Instruction(_COMBINE[self.partials.reducer], (left, number), wide))
        if not body:
            return (Instruction("Copy", (0,), dtype),)
        if wide is not dtype:
            body.append(Instruction("Cast", (count + count - 2,), dtype))
        return tuple(body)

    def _done(self, partial: Form, form: Form) -> Reduction:
        tensors = tuple(self.tensors.values())
        return Reduction(self.source, partial, form, tensors, tuple(self.operators), tuple(self.exchanges))


def _splits(pieces: _Pieces) -> tuple[Split, ...]:
    return (Split(0, pieces.axes, pieces.extent),)


_simplified = lru_cache(maxsize=16384)(simplify_view)


@lru_cache(maxsize=16384)
def _entry(row: int, shape: Shape) -> ViewStep:
    """Entry `row` of the leading dimension."""
    starts, stops = (row, *[0] * (len(shape) - 1)), (row + 1, *shape[1:])
    return Slice(starts, stops, (1,) * len(shape))
