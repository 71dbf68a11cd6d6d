"""The matrix unit: one contraction of a streamed by a stationary operand.

Operands come aligned: one axis a factor, extent 1 where the operand does not have the factor.
"""

from math import prod

import numpy as np

from chiplan.ir import DType, Operator, matrix_factors

_EXACT_INTEGERS = np.dtype(np.float64)
"""Products of bytes and their sums stay below 2**53, so double precision adds them exactly, and far
faster than numpy's integer matmul."""


class Contraction:
    """`MatMul` over the factors of one operator.

    Accumulates in fp32 (fp64 for fp64, int32 for integers). With three operands the third holds the
    scales of a stationary int8 weight, which is first dequantised to the streamed type.
    """

    def __init__(self, operator: Operator, streamed: DType) -> None:
        batch, rows, columns, reduced = matrix_factors(operator)
        self._groups = (batch, rows, columns, reduced)
        self._streamed_axes = batch + rows + reduced + columns
        self._stationary_axes = batch + reduced + columns + rows
        self._result_axes = tuple(np.argsort(batch + rows + columns + reduced).tolist())
        self._dtype = operator.body[0].dtype.numpy
        self._is_integer = not streamed.is_float
        self._wide = _EXACT_INTEGERS if self._is_integer or streamed is DType.FP64 else np.dtype(np.float32)

    def partial(self, arrays: list[np.ndarray], extents: tuple[int, ...]) -> np.ndarray:
        """Accumulators of the tile: one axis a factor, extent 1 along the reduced ones."""
        streamed, stationary = arrays[0], arrays[1]
        if len(arrays) == 3:
            stationary = stationary.astype(streamed.dtype) * arrays[2].astype(streamed.dtype)
        batch, rows, columns, reduced = self._groups
        count = [prod(extents[f] for f in group) for group in self._groups]
        left = streamed.transpose(self._streamed_axes).reshape(count[0], count[1], count[3])
        right = stationary.transpose(self._stationary_axes).reshape(count[0], count[3], count[2])
        wide = [array.astype(self._wide, copy=False) for array in (left, right)]
        product: np.ndarray = np.matmul(wide[0], wide[1])
        if self._is_integer:
            product = product.astype(np.int32)
        shape = [extents[f] for f in batch + rows + columns] + [1] * len(reduced)
        return product.reshape(shape).transpose(self._result_axes)

    def round(self, accumulators: np.ndarray) -> np.ndarray:
        """What the unit stores of finished accumulators."""
        return accumulators.astype(self._dtype, copy=False)
