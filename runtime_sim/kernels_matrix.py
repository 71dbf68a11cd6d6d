"""The matrix unit: one contraction of a streamed by a stationary operand.

Operands come aligned: one axis a factor, extent 1 where the operand does not have the factor.
"""

from collections.abc import Mapping
from math import prod

import numpy as np

from chiplan.ir import DType, Operator, matrix_factors

from .kernels_memory import in_range
from .pieces import NO_SPLIT, HeldRows

_EXACT_INTEGERS = np.dtype(np.float64)
"""Products of bytes and their sums stay below 2**53, so double precision adds them exactly, and far
faster than numpy's integer matmul."""


def select_blocks(
    table: np.ndarray, index: np.ndarray, axis: int, held: HeldRows | None = None
) -> np.ndarray:
    """What an indexed load brings: `table` at `index` along `axis`, both with one axis a factor. The
    result has extent 1 there, and runs along the index's own axes. Where the chip has some rows of a
    larger table, it loads zeros for the others."""
    if held is not None:
        rows, is_here = held.find(in_range(index, held.whole))
        return np.where(is_here, select_blocks(table, rows, axis), table.dtype.type(0))
    index = in_range(index, table.shape[axis])
    if index.size == 1:
        row = int(index.flat[0])
        return table[(slice(None),) * axis + (slice(row, row + 1),)]
    return np.take_along_axis(table, index, axis)


class Contraction:
    """`MatMul` over the factors of one operator, perhaps of blocks that an index selects.

    Accumulates in fp32 (fp64 for fp64, int32 for integers). A third input of the MatMul holds the
    scales of a stationary int8 weight, which is first dequantised to the streamed type.
    """

    def __init__(self, operator: Operator, streamed: DType, held: Mapping[int, HeldRows] = NO_SPLIT) -> None:
        batch, rows, columns, reduced = matrix_factors(operator)
        self._groups = (batch, rows, columns, reduced)
        # Once the blocks are selected, nothing runs along the gathered factor.
        gathered = tuple(f for f, factor in enumerate(operator.factors) if factor.gathered)
        self._streamed_axes = batch + rows + reduced + columns + gathered
        self._stationary_axes = batch + reduced + columns + rows + gathered
        self._result_axes = tuple(np.argsort(batch + rows + columns + reduced + gathered).tolist())
        *self._gathers, self._product = operator.body
        self._gathered, self._held = gathered, held.get(gathered[0]) if gathered else None
        self._dtype = self._product.dtype.numpy
        self._is_integer = not streamed.is_float
        self._wide = _EXACT_INTEGERS if self._is_integer or streamed is DType.FP64 else np.dtype(np.float32)

    def partial(self, arrays: list[np.ndarray], extents: tuple[int, ...]) -> np.ndarray:
        """Accumulators of the tile: one axis a factor, extent 1 along the reduced ones."""
        values = list(arrays)
        for gather in self._gathers:
            table, index = gather.inputs
            values.append(select_blocks(values[table], values[index], self._gathered[0], self._held))
        streamed, stationary, *scales = [values[i] for i in self._product.inputs]
        if self._gathers:
            streamed = self._along_index(streamed, extents)
        if scales:
            stationary = stationary.astype(streamed.dtype) * scales[0].astype(streamed.dtype)
        batch, rows, columns, reduced = self._groups
        count = [prod(extents[f] for f in group) for group in self._groups]
        left = streamed.transpose(self._streamed_axes).reshape(count[0], count[1], count[3])
        right = stationary.transpose(self._stationary_axes).reshape(count[0], count[3], count[2])
        wide = [array.astype(self._wide, copy=False) for array in (left, right)]
        product: np.ndarray = np.matmul(wide[0], wide[1])
        if self._is_integer:
            product = product.astype(np.int32)
        shape = [extents[f] for f in batch + rows + columns] + [1] * len(reduced + self._gathered)
        return product.reshape(shape).transpose(self._result_axes)

    def _along_index(self, streamed: np.ndarray, extents: tuple[int, ...]) -> np.ndarray:
        """What is streamed, alike for every index that it does not run along itself."""
        shape = tuple(extents[f] if f in self._groups[0] else n for f, n in enumerate(streamed.shape))
        return streamed if shape == streamed.shape else np.broadcast_to(streamed, shape)

    def round(self, accumulators: np.ndarray) -> np.ndarray:
        """What the unit stores of finished accumulators."""
        return accumulators.astype(self._dtype, copy=False)
