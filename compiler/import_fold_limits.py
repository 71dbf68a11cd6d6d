"""What folding constants may cost: a graph of a few nodes can ask for years and terabytes."""

from collections.abc import Sequence
from math import prod

import numpy as np
from onnx import AttributeProto

from chiplan.ir import BadInput, Problem

from .import_nodes import Node
from .import_operators import DATA_DEPENDENT, PRIMITIVES

MOST_WORK = 2**32
"""Elements that all folding of a model reads and computes; numpy takes about a nanosecond each."""
MOST_BYTES = 2**28
"""Bytes of all folded constants of a model, and of what they were folded from."""
_IN_PYTHON = frozenset(
    ("ScatterND", "ScatterElements", "GatherND", "GatherElements", "OneHot", "TopK", "Pad", "Tile")
)
"""Primitive operators whose reference walks over elements one by one."""
_SLOWLY = 1000
"""How many elements of numpy one such step costs."""


class Spent:
    """Work and bytes so far. Raises BadInput beyond the limits, the same on every machine."""

    def __init__(self) -> None:
        self._work = self._bytes = 0

    def add(self, work: int, nbytes: int = 0) -> None:
        self._work += work
        self._bytes += nbytes
        if self._work > MOST_WORK or self._bytes > MOST_BYTES:
            message = (
                f"the model computes more from its constants than is folded ({MOST_WORK:,} elements, "
                f"{MOST_BYTES:,} bytes); export it with its constants computed."
            )
            raise BadInput(Problem("constants_too_large", message))


def is_foldable(node: Node) -> bool:
    """Whether a node may be evaluated: no loops and no graphs inside, which may go on for ever."""
    return not any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attributes.values())


def folding_work(node: Node, values: Sequence[np.ndarray | None]) -> int:
    """Elements that evaluating a node goes through, at most; those gone through in Python count more."""
    given = [value for value in values if value is not None]
    elements = sum(value.size for value in given)
    if node.op_type in ("MatMul", "MatMulInteger", "Gemm"):
        shared = min(given[0].shape, default=1)
        return max(1, given[0].size) * max(1, given[1].size) // max(1, shared)
    if node.op_type in ("Conv", "Einsum"):
        return prod(max(1, value.size) for value in given)
    if node.op_type == "NonMaxSuppression":
        return _SLOWLY * elements * elements
    if node.op_type == "NonZero":
        return sum(value.size * max(1, value.ndim) for value in given)
    known = node.op_type in PRIMITIVES or node.op_type in DATA_DEPENDENT
    return elements * (1 if known and node.op_type not in _IN_PYTHON else _SLOWLY)
