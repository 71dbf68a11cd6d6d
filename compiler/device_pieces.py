"""Pieces of partial results that chips send each other, and the sums of what they receive."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TypeAlias

from chiplan.ir import (
    DType,
    Factor,
    Instruction,
    Operand,
    Operator,
    Own,
    Reducer,
    Reshape,
    Result,
    Shape,
    Slice,
    Split,
    Unit,
    View,
    mesh_ways,
    simplify_view,
)

Read: TypeAlias = tuple[str, View]
"""A tensor, and the view through which it is read."""

_COMBINE = {Reducer.SUM: "Add", Reducer.MAX: "Max", Reducer.MIN: "Min"}


@dataclass(frozen=True)
class Pieces:
    """Elements seen as [extent, *rest], cut along `extent` over the mesh `axes`, `ways` together."""

    axes: tuple[int, ...]
    ways: int
    extent: int
    rest: Shape

    @property
    def shape(self) -> Shape:
        """Extents of the largest piece."""
        return (-(-self.extent // self.ways), *self.rest)

    @property
    def is_even(self) -> bool:
        return self.extent % self.ways == 0

    @property
    def splits(self) -> tuple[Split, ...]:
        """Of an operator over the extents of a piece."""
        return (Split(0, self.axes, self.extent),)

    def own(self, name: str, shape: Shape, shift: int = 0) -> Read:
        """A chip's own piece, or with `shift` that of another chip, of tensor `name`."""
        view: View = (Reshape((self.extent, *self.rest)), Own(0, self.axes, self.ways, shift % self.ways))
        if self.is_even:
            # Piece by piece, so that an element is there when the same one of all pieces is.
            pieces = Reshape((self.ways, *self.shape))
            view = (pieces, Own(0, self.axes, self.ways, shift % self.ways), Reshape(self.shape))
        return name, _simplified(view, shape)


def pieces_of(shape: Shape, axes: tuple[int, ...], mesh: tuple[int, ...]) -> Pieces:
    """Pieces of the outermost extent of `shape` where it divides, else of the flat elements."""
    dims = tuple(extent for extent in shape if extent > 1)
    ways = mesh_ways(mesh, axes)
    if dims[0] % ways:
        return Pieces(axes, ways, prod(dims), ())
    return Pieces(axes, ways, dims[0], dims[1:])


def entries(name: str, shape: Shape, seen: Shape) -> list[Read]:
    """Every entry of the leading dimension of tensor `name`, of `shape`, seen as `seen`."""
    return [(name, view) for view in _entry_views(shape, seen)]


@lru_cache(maxsize=4096)
def _entry_views(shape: Shape, seen: Shape) -> tuple[View, ...]:
    zeros, ones = (0,) * (len(shape) - 1), (1,) * len(shape)
    rows = (Slice((row, *zeros), (row + 1, *shape[1:]), ones) for row in range(shape[0]))
    return tuple(simplify_view((row, Reshape(seen)), shape) for row in rows)


_simplified = lru_cache(maxsize=4096)(simplify_view)


@dataclass(frozen=True)
class Summation:
    """How partial results combine: partials are of type `wire`, results of type `dtype`."""

    reducer: Reducer
    dtype: DType
    wire: DType
    nodes: tuple[str, ...]

    def operator(
        self,
        target: str,
        reads: Sequence[Read],
        shape: Shape,
        dtype: DType,
        lead: tuple[int, ...],
        splits: tuple[Split, ...],
    ) -> Operator:
        """What combines `reads`, in order, over the iteration space `shape`, into tensor `target` of type
        `dtype`; with mesh axes `lead`, into the chip's own entry of its leading dimension."""
        axes = tuple(range(len(shape)))
        body = self._chain(len(reads), dtype)
        result = Result(
            target,
            (None, *axes) if lead else axes,
            (0,) * (len(shape) + bool(lead)),
            len(body) - 1,
            lead,
        )
        return Operator(
            f"{target}/reduce",
            Unit.VECTOR,
            tuple(Factor(f"d{axis}", extent) for axis, extent in enumerate(shape)),
            tuple(Operand(name, view, axes) for name, view in reads),
            (result,),
            body,
            self.nodes,
            splits,
        )

    def _chain(self, count: int, dtype: DType) -> tuple[Instruction, ...]:
        """In the wider of the two types, then converted to `dtype`."""
        wide = max(self.dtype, self.wire, key=lambda kind: kind.itemsize)
        if count == 1:
            return (Instruction("Copy", (0,), dtype),)
        opcode = _COMBINE[self.reducer]
        # The first instruction combines operands 0 and 1, each later one the last value and an operand.
        body = [Instruction(opcode, (0, 1), wide)]
        body += [Instruction(opcode, (count + number - 2, number), wide) for number in range(2, count)]
        if wide is not dtype:
            body.append(Instruction("Cast", (count + len(body) - 1,), dtype))
        return tuple(body)
