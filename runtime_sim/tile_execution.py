"""One operator on one chip: its tiles read, compute and store in the chip's bytes."""

from collections.abc import Mapping
from itertools import product
from math import prod
from types import EllipsisType

import numpy as np

from chiplan.ir import Operator, Shape, Tensor, Tiling, View, apply_view

from .kernels import Alignment, Body
from .memory import ChipMemory
from .pieces import is_idle, real_extents, result_box, writes_here

Index = tuple[slice, ...]
_ALL = slice(None)


def _held(axes: tuple[int | None, ...], factors: int) -> tuple[int | None, ...]:
    """For every factor itself if it is in `axes`, else None."""
    return tuple(f if f in axes else None for f in range(factors))


class _Region:
    """A tensor in a chip's memory as an operator sees it; one view of the bytes a buffer copy.

    A view that numpy cannot express by strides is read through an array of element numbers.
    """

    def __init__(
        self, memory: ChipMemory, tensor: Tensor, view: View, axes: tuple[int | None, ...], box: Index | None
    ) -> None:
        self._memory, self._tensor, self._view, self._box = memory, tensor, view, box
        self._copies = memory.copies(tensor.name)
        self._axes = axes
        self._alignment: Alignment | None = None
        self._arrays: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}

    def align(self, factors: int) -> "_Region":
        """See the tensor with one axis a factor from now on."""
        self._alignment = Alignment.of(self._axes, factors)
        self._axes = _held(self._axes, factors)
        return self

    def _seen(self, array: np.ndarray) -> np.ndarray:
        array = apply_view(self._view, array, self._memory.place)
        if self._box is not None:
            # The ellipsis keeps a tensor without dimensions an array.
            box: tuple[slice | EllipsisType, ...] = (*self._box, ...)
            array = array[box]
        return self._alignment.apply(array) if self._alignment else array

    def _prepared(self, micro_batch: int) -> tuple[np.ndarray, np.ndarray | None]:
        copy = micro_batch % self._copies
        if copy not in self._arrays:
            base = self._memory.array(self._tensor.name, copy)
            seen, elements = self._seen(base), None
            if self._view and not np.may_share_memory(seen, base):
                elements = self._seen(np.arange(base.size).reshape(base.shape))
                seen = base.reshape(-1)
            self._arrays[copy] = (seen, elements)
        return self._arrays[copy]

    def _index(self, tile: Index) -> Index:
        return tuple([_ALL if axis is None else tile[axis] for axis in self._axes])

    def read(self, tile: Index, micro_batch: int) -> np.ndarray:
        array, elements = self._prepared(micro_batch)
        index = self._index(tile)
        return array[index] if elements is None else array[elements[index]]

    def write(self, tile: Index, micro_batch: int, value: np.ndarray) -> None:
        self._prepared(micro_batch)[0][self._index(tile)] = value


class TileExecution:
    """The tiles of one operator on one chip. `compute` is called at a tile's start, `store` when its
    results reach the memory; in between the values live here, in the unit's pipeline.
    `written` keeps what micro-batch `recorded` stored: one array a result, of the box that it writes.

    Of a split factor the chip executes its own iterations: a tile is cut to them. A tile that has none
    of a parallel factor does nothing; one that has none of a reduced factor adds nothing.
    """

    def __init__(
        self,
        operator: Operator,
        tiling: Tiling,
        tensors: Mapping[str, Tensor],
        memory: ChipMemory,
        recorded: int = 0,
    ) -> None:
        self.operator, self._recorded, place = operator, recorded, memory.place
        self.is_stored = [writes_here(result, place) for result in operator.results]
        self.boxes = [result_box(result, operator, place) for result in operator.results]
        self.written = [
            _box_array(box, tensors[result.tensor])
            for box, result in zip(self.boxes, operator.results, strict=True)
        ]
        self._body = Body(operator, tensors, place)
        rank = len(operator.factors)
        self._operands = [
            _Region(memory, tensors[operand.tensor], operand.view, operand.axes, None)
            for operand in operator.operands
        ]
        if self._body.aligned:
            self._operands = [region.align(rank) for region in self._operands]
        self._records = [
            (alignment.apply(array), _held(result.axes, rank))
            for alignment, array, result in zip(
                self._body.result_alignments, self.written, operator.results, strict=True
            )
        ]
        self._results = [
            _Region(memory, tensors[result.tensor], (), result.axes, box).align(rank)
            for box, result in zip(self.boxes, operator.results, strict=True)
        ]
        self.tiles = tile_slices(operator, tiling)
        self._idle: frozenset[int] = frozenset()
        if operator.splits:
            real = real_extents(operator, place)
            self.tiles = [_cut(tile, real) for tile in self.tiles]
            self._idle = frozenset(
                number
                for number, tile in enumerate(self.tiles)
                if is_idle(operator, tuple(piece.stop - piece.start for piece in tile))
            )
        grid = tiling.grid(operator)
        self._reduced = [f for f in range(rank) if operator.factors[f].reducer is not None]
        self._pieces = prod(grid[f] for f in self._reduced)
        self._in_flight: dict[tuple[int, int], list[np.ndarray]] = {}
        self._accumulators: dict[tuple[int, tuple[int, ...]], tuple[np.ndarray, int]] = {}

    def compute(self, tile: int, micro_batch: int) -> None:
        """Read the tile's operands as they are now, and put its values into the pipeline."""
        if tile in self._idle:
            return
        where = self.tiles[tile]
        arrays = [region.read(where, micro_batch) for region in self._operands]
        extents = tuple([piece.stop - piece.start for piece in where])
        contraction = self._body.contraction
        if contraction is not None:
            values = [contraction.partial(arrays, extents)]
        else:
            # A copy's value may be a view of the memory, which changes before it is stored.
            values = [value.copy() for value in self._body.run(arrays, extents)]
        self._in_flight[micro_batch, tile] = values

    def store(self, tile: int, micro_batch: int) -> None:
        """Write the tile's values where its results are.

        A tile of a contraction adds to its block's accumulators; the last one of the reduced factor
        stores the rounded sum, the ones before it store nothing.
        """
        if tile in self._idle:
            return
        values, where = self._in_flight.pop((micro_batch, tile)), self.tiles[tile]
        contraction = self._body.contraction
        if contraction is not None:
            total = self._accumulate(micro_batch, where, values[0])
            if total is None:
                return
            values = [contraction.round(total)]
        for region, value, is_stored in zip(self._results, values, self.is_stored, strict=True):
            if is_stored:
                region.write(where, micro_batch, value)
        if micro_batch == self._recorded:
            self._record(where, values)

    def _record(self, where: Index, values: list[np.ndarray]) -> None:
        for (array, axes), value in zip(self._records, values, strict=True):
            array[tuple([_ALL if axis is None else where[axis] for axis in axes])] = value

    def _accumulate(self, micro_batch: int, where: Index, partial: np.ndarray) -> np.ndarray | None:
        block = tuple([piece.start for f, piece in enumerate(where) if f not in self._reduced])
        total, done = self._accumulators.pop((micro_batch, block), (None, 0))
        total = partial if total is None else total + partial
        if done + 1 == self._pieces:
            return total
        self._accumulators[micro_batch, block] = (total, done + 1)
        return None


def _box_array(box: Index, tensor: Tensor) -> np.ndarray:
    return np.zeros([piece.stop - piece.start for piece in box], tensor.dtype.numpy)


def _cut(tile: Index, extents: Shape) -> Index:
    """The part of a tile that lies within `extents`; empty ranges stay where the tile starts."""
    return tuple(
        [
            slice(piece.start, max(piece.start, min(piece.stop, extent)))
            for piece, extent in zip(tile, extents, strict=True)
        ]
    )


def tile_slices(operator: Operator, tiling: Tiling) -> list[Index]:
    """For every tile, in tile order, the range of every factor."""
    pieces = {
        f: [slice(low, min(low + block, factor.extent)) for low in range(0, factor.extent, block)]
        for f, (factor, block) in enumerate(zip(operator.factors, tiling.blocks, strict=True))
    }
    place = {f: position for position, f in enumerate(tiling.order)}
    columns = [pieces[f] for f in tiling.order]
    rank = range(len(operator.factors))
    return [tuple([grid[place[f]] for f in rank]) for grid in product(*columns)]
