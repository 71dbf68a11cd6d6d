"""Scalar types shared by every layer: integers that carry units, and element types."""

from enum import Enum
from typing import NewType

import numpy as np

Cycle = NewType("Cycle", int)
"""A point in time or a duration, in chip clock cycles. Intervals are half-open."""
Bytes = NewType("Bytes", int)
ChipId = NewType("ChipId", int)
LinkId = NewType("LinkId", int)
"""Index into `Topology.links`; a link is directed."""
Lines = NewType("Lines", str)
"""Text of several lines; every other string in a plan is shown on one."""

Shape = tuple[int, ...]


class DType(Enum):
    """Element type of a tensor. The value is its name in targets, plans and messages."""

    FP64 = "fp64"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT64 = "int64"
    INT32 = "int32"
    INT16 = "int16"
    INT8 = "int8"
    UINT8 = "uint8"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype:
        """The numpy type that stores one element (bfloat16 comes from ml_dtypes)."""
        return _NUMPY[self]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return _NUMPY[self].itemsize

    @property
    def is_float(self) -> bool:
        return self in (DType.FP64, DType.FP32, DType.FP16, DType.BF16)


def _numpy_types() -> dict[DType, np.dtype]:
    import ml_dtypes

    names = {
        DType.FP64: "float64",
        DType.FP32: "float32",
        DType.FP16: "float16",
        DType.INT64: "int64",
        DType.INT32: "int32",
        DType.INT16: "int16",
        DType.INT8: "int8",
        DType.UINT8: "uint8",
        DType.BOOL: "bool",
    }
    return {dtype: np.dtype(name) for dtype, name in names.items()} | {
        DType.BF16: np.dtype(ml_dtypes.bfloat16)
    }


_NUMPY = _numpy_types()
_BY_NUMPY = {dtype: name for name, dtype in _NUMPY.items()}


def dtype_of(array_type: np.dtype) -> DType:
    """The `DType` of a numpy type; raises KeyError for one that no chip stores."""
    return _BY_NUMPY[np.dtype(array_type)]
