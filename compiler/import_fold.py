"""Evaluates nodes whose inputs are all constants, with the ONNX project's reference operators."""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from .import_fold_limits import Spent, folding_work, is_foldable
from .import_nodes import Node
from .import_operators import DATA_DEPENDENT, ELEMENTWISE, VIEWS
from .import_shapes import TensorType
from .import_values import CONSTANT_LIMIT, nbytes

TABLE_LIMIT = 4 * 1024 * 1024
"""Bytes: a result up to this size is folded if keeping its node would cost more than its bytes."""
_CHEAP = frozenset(f"{ELEMENTWISE} {VIEWS} Concat".split())
"""Computing these where they are needed costs less than storing their results."""
_NEVER = frozenset(("QuantizeLinear", "DequantizeLinear"))
"""They say how a tensor is stored; folded, the type that the model chose would be lost. A single
number (an exponent, an epsilon) is no stored tensor."""
_INDEX_GRIDS = frozenset(f"{VIEWS} Concat".split())
"""With these, exporters build the constant indices of a gather, which folded become a slice."""


class CannotFold(Exception):
    """The reference operator refuses the values; the text is its reason."""


class Folding:
    """Keeps results by operator, attributes and input values: layers repeat the same arithmetic."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._spent = Spent()
        self._known: dict[object, tuple[np.ndarray, ...]] = {}

    def allows(self, node: Node, results: Sequence[TensorType]) -> bool:
        """Whether the results of a node with constant inputs are to be stored in its place."""
        if _is_random(node) or (node.op_type in _NEVER and any(kind.shape != () for kind in results)):
            return False
        if not is_foldable(node):
            return False
        if node.op_type in DATA_DEPENDENT:
            return True
        return all(kind.is_static and nbytes(kind) <= _limit(node, kind) for kind in results)

    def evaluate(self, node: Node, values: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
        """The values of the node's outputs. Raises CannotFold, and BadInput where a model asks for more
        work or more bytes than MOST_WORK and MOST_BYTES."""
        self._spent.add(sum(v.size for v in values if v is not None))
        contents = tuple(None if v is None else (v.dtype.str, v.shape, v.tobytes()) for v in values)
        key = (node.key(), len(node.outputs), contents)
        if key not in self._known:
            self._spent.add(folding_work(node, values))
            found = self._known[key] = self._evaluate(node, values)
            self._spent.add(0, sum(v.nbytes for v in (*values, *found) if v is not None))
        return self._known[key]

    def _evaluate(self, node: Node, values: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
        proto = node.proto()
        feeds = {f"i{index}": value for index, value in enumerate(values) if value is not None}
        try:
            with np.errstate(all="ignore"):
                evaluator = ReferenceEvaluator(proto, opsets={node.domain: self._opset})
                results = evaluator.run([name for name in proto.output if name], feeds)
        except (TypeError, ValueError) as error:
            raise CannotFold(str(error)) from error
        except Exception as error:
            # What a reference operator makes of strange values is nobody's promise.
            raise CannotFold(f"{type(error).__name__}: {error}") from error
        arrays = iter([np.asarray(result) for result in results])
        return tuple(next(arrays) if name else np.empty(0) for name in proto.output)


def _limit(node: Node, kind: TensorType) -> int:
    is_grid = node.op_type in _INDEX_GRIDS and kind.element_type == TensorProto.INT64
    return CONSTANT_LIMIT if node.op_type in _CHEAP and not is_grid else TABLE_LIMIT


def _is_random(node: Node) -> bool:
    return node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")
