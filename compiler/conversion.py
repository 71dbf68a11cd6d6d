"""Values in another type: saturating casts, and symmetric int8 codes with their scales."""

import numpy as np

from chiplan.ir import DType

_LARGEST_HALF = float(np.finfo(np.float16).max)
_LARGEST_BYTE = 127


def convert(array: np.ndarray, dtype: DType) -> np.ndarray:
    """`array` in another type. A finite value that is too large for fp16 becomes its largest, as a mask
    of -3e38 must stay a number: minus infinity minus itself would be none."""
    if dtype is DType.FP16 and array.dtype.itemsize > 2:
        array = np.where(np.isfinite(array), np.clip(array, -_LARGEST_HALF, _LARGEST_HALF), array)
    with np.errstate(all="ignore"):
        return array.astype(dtype.numpy, copy=False)


def quantisation_scales(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """max|w| / 127 for every index of `axes`, other extents 1, fp32; 1 where all weights are zero."""
    others = tuple(axis for axis in range(array.ndim) if axis not in axes)
    largest = np.abs(array.astype(np.float32)).max(axis=others, keepdims=True)
    scales: np.ndarray = largest / np.float32(_LARGEST_BYTE)
    return np.asarray(np.where(largest > 0, scales, np.float32(1)))


def quantise(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Symmetric int8: round(w / scale), half to even, one scale an index of `axes`."""
    steps: np.ndarray = np.rint(array.astype(np.float32) / quantisation_scales(array, axes))
    return np.asarray(np.clip(steps, -_LARGEST_BYTE, _LARGEST_BYTE), dtype=np.int8)
