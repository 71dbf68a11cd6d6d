"""Evaluates nodes whose inputs are all constants, with the ONNX project's reference operators."""

from collections.abc import Sequence
from math import prod

import numpy as np
from onnx import helper
from onnx.reference import ReferenceEvaluator

from .import_nodes import Node
from .import_shapes import TensorType

CONSTANT_LIMIT = 64 * 1024
"""Bytes: a constant up to this size is read and folded."""
TABLE_LIMIT = 4 * 1024 * 1024
"""Bytes: a result up to this size is folded if keeping its node would cost more than its bytes."""
_CHEAP = frozenset(
    "Add Sub Mul Div Pow Sqrt Reciprocal Exp Log Erf Tanh Sigmoid Relu Neg Abs Cos Sin Where Cast Equal "
    "Less LessOrEqual Greater GreaterOrEqual And Or Xor Not IsNaN IsInf Min Max Mod Floor Ceil Round Sign "
    "Clip Reshape Transpose Unsqueeze Squeeze Flatten Expand Slice Split Identity Tile Concat".split()
)
"""Elementwise operators and views: computing them where they are needed costs less than storing them."""
_NEVER = frozenset(("QuantizeLinear", "DequantizeLinear"))
"""They say how a tensor is stored; folded, the type that the model chose would be lost."""
_SIZED_BY_VALUES = frozenset(("NonZero", "Unique", "Compress"))
"""Inference cannot size them, but their result is never much larger than their input."""
_RANDOM = frozenset(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"))


class CannotFold(Exception):
    """The reference operator refuses the values; the text is its reason."""


class Folding:
    """Keeps results by operator, attributes and input values: layers repeat the same arithmetic."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._known: dict[object, tuple[np.ndarray, ...]] = {}

    def allows(self, node: Node, results: Sequence[TensorType]) -> bool:
        """Whether the results of a node with constant inputs are to be stored in its place."""
        if node.op_type in _NEVER | _RANDOM:
            return False
        if node.op_type in _SIZED_BY_VALUES and not node.domain:
            return True
        limit = CONSTANT_LIMIT if node.op_type in _CHEAP else TABLE_LIMIT
        return all(kind.is_static and _nbytes(kind) <= limit for kind in results)

    def evaluate(self, node: Node, values: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
        """The values of the node's outputs. Raises CannotFold."""
        contents = tuple(None if v is None else (v.dtype.str, v.shape, v.tobytes()) for v in values)
        key = (node.key(), len(node.outputs), contents)
        if key not in self._known:
            self._known[key] = self._evaluate(node, values)
        return self._known[key]

    def _evaluate(self, node: Node, values: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
        proto = node.proto()
        feeds = {f"i{index}": value for index, value in enumerate(values) if value is not None}
        try:
            with np.errstate(all="ignore"):
                evaluator = ReferenceEvaluator(proto, opsets={node.domain: self._opset})
                results = evaluator.run([name for name in proto.output if name], feeds)
        except (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError) as error:
            raise CannotFold(f"{type(error).__name__}: {error}") from error
        except (TypeError, ValueError) as error:
            raise CannotFold(str(error)) from error
        arrays = iter([np.asarray(result) for result in results])
        return tuple(next(arrays) if name else np.empty(0) for name in proto.output)


def _nbytes(kind: TensorType) -> int:
    try:
        itemsize = np.dtype(helper.tensor_dtype_to_np_dtype(kind.element_type)).itemsize
    except (KeyError, TypeError):
        return TABLE_LIMIT + 1
    return prod(kind.extents) * itemsize
