"""QuantizeLinear and DequantizeLinear, recognised in a graph: codes, scale and zero point of a value.

A value is `scale * (codes - zero point)`. What is found here are the bodies that
`canonical_pointwise` makes of the two ONNX operators.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from chiplan.ir import (
    DType,
    Operand,
    Operator,
    Reshape,
    Shape,
    Tensor,
    Transpose,
    Unit,
    View,
    apply_view,
    simplify_view,
    view_shape,
)

Tensors = Mapping[str, Tensor]

_DEQUANTISE = (("Cast", (0,)), ("Mul", (2, 1)))
_DEQUANTISE_FROM_ZERO_POINT = (("Cast", (0,)), ("Cast", (2,)), ("Sub", (3, 4)), ("Mul", (5, 1)))
_QUANTISE = (("Div", (0, 1)), ("Round", (4,)), ("Max", (5, 2)), ("Min", (6, 3)), ("Cast", (7,)))
_QUANTISE_TO_ZERO_POINT = (
    ("Div", (0, 1)), ("Round", (5,)), ("Cast", (2,)), ("Add", (6, 7)), ("Max", (8, 3)), ("Min", (9, 4)),
    ("Cast", (10,)),
)  # fmt: skip


class Seen(NamedTuple):
    """A tensor through a view, with one dimension for each of the value that it belongs to."""

    tensor: str
    view: View


class Quantised(NamedTuple):
    """One side of a quantisation. `data`: the codes of a DequantizeLinear, what a QuantizeLinear
    rounds; scale and zero point have extent 1 where they do not vary. No zero point: zero."""

    data: Seen
    scale: Seen
    zero: Seen | None


def dequantised(operator: Operator, tensors: Tensors) -> Quantised | None:
    """The codes that `operator` dequantises; None when it does something else."""
    return _matched(operator, tensors, (_DEQUANTISE, _DEQUANTISE_FROM_ZERO_POINT))


def quantised(operator: Operator, tensors: Tensors) -> Quantised | None:
    """The value that `operator` quantises; None when it does something else."""
    return _matched(operator, tensors, (_QUANTISE, _QUANTISE_TO_ZERO_POINT))


_Pattern = tuple[tuple[str, tuple[int, ...]], ...]


def _matched(operator: Operator, tensors: Tensors, patterns: tuple[_Pattern, _Pattern]) -> Quantised | None:
    found = tuple((i.opcode, i.inputs) for i in operator.body)
    if operator.unit is not Unit.VECTOR or found not in patterns or len(operator.results) != 1:
        return None
    seen = [aligned(operator, operand, tensors) for operand in operator.operands]
    data, scale = seen[:2]
    has_zero = found == patterns[1]
    zero = seen[2] if has_zero else None
    (result,) = operator.results
    shape = tensors[result.tensor].shape
    if data is None or scale is None or (has_zero and zero is None) or seen_shape(data, tensors) != shape:
        return None
    return Quantised(data, scale, zero)


def aligned(operator: Operator, operand: Operand, tensors: Tensors) -> Seen | None:
    """The operand with the dimensions of the operator's one result, extent 1 where it does not vary;
    None when the result is a part of a tensor or was reduced."""
    (result,) = operator.results
    shape = tensors[result.tensor].shape
    extents = tuple(1 if axis is None else operator.factors[axis].extent for axis in result.axes)
    held = [axis for axis in operand.axes if axis is not None]
    if shape != extents or any(axis not in result.axes for axis in held):
        return None
    order = [axis for axis in result.axes if axis in held]
    steps = (
        *operand.view,
        Reshape(tuple(operator.factors[axis].extent for axis in held)),
        Transpose(tuple(held.index(axis) for axis in order)),
        Reshape(tuple(1 if axis not in held else n for axis, n in zip(result.axes, extents, strict=True))),
    )
    return Seen(operand.tensor, simplify_view(steps, tensors[operand.tensor].shape))


def behind(seen: Seen, view: View, tensors: Tensors) -> Seen:
    """What is seen, through one more view."""
    return Seen(seen.tensor, simplify_view((*seen.view, *view), tensors[seen.tensor].shape))


def seen_shape(seen: Seen, tensors: Tensors) -> Shape:
    return view_shape(seen.view, tensors[seen.tensor].shape)


def constant_of(seen: Seen, tensors: Tensors) -> np.ndarray | None:
    """The values of a folded constant; None when they are computed or on disk."""
    value = tensors[seen.tensor].value
    return None if value is None else apply_view(seen.view, value)


def uniform_zero(zero: Seen | None, tensors: Tensors) -> int | None:
    """The one zero point of a whole tensor; None when it is not known, or when there are several."""
    if zero is None:
        return 0
    values = constant_of(zero, tensors)
    if values is None or not values.size or (values != values.flat[0]).any():
        return None
    return int(values.flat[0])


def is_byte(seen: Seen, tensors: Tensors) -> bool:
    return tensors[seen.tensor].dtype in (DType.INT8, DType.UINT8)
