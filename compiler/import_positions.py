"""Finds the model's position table: how many positions it was built for.

A table is an initializer of rank 2 that a Gather reads row by row. It is a position table when its
index is made from positions alone (an input of position ids, Range, a stored row of positions,
counting with CumSum), and a token table when the index is the tokens themselves. Bucketed
relative positions (with Log, Min, Clip, ...) are no positions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from .import_nodes import Node
from .import_operators import VIEWS

_MOVES = frozenset(f"{VIEWS} Cast Gather GatherElements".split())
_ARITHMETIC = frozenset(("Add", "Mul", "Sub"))
_STORED_POSITIONS_LIMIT = 2**20
"""Elements of a stored row of positions that are looked at."""


@dataclass(frozen=True)
class PositionTable:
    """`rows` positions can be used: rows of initializer `name` less the offset that the model adds."""

    name: str
    node: str
    rows: int


def find_position_table(
    nodes: Sequence[Node], initializers: Mapping[str, onnx.TensorProto], inputs: Iterable[str]
) -> PositionTable | None:
    """The smallest position table of the model, None if it has none."""
    trace = _Trace({o: n for n in nodes for o in n.outputs if o}, initializers, frozenset(inputs), {})
    found = [table for node in nodes if (table := trace.table(node)) is not None]
    return min(found, key=lambda table: (table.rows, table.name), default=None)


@dataclass(frozen=True)
class _Trace:
    producers: Mapping[str, Node]
    initializers: Mapping[str, onnx.TensorProto]
    inputs: frozenset[str]
    offsets: dict[str, int | None]
    """Offset of a value that counts positions, None for one that does not; filled on the way."""

    def table(self, node: Node) -> PositionTable | None:
        if node.op_type != "Gather" or node.domain or node.integer("axis", 0) != 0:
            return None
        tensor = self._initializer(node.inputs[0])
        if tensor is None or len(tensor.dims) != 2 or tensor.data_type in (6, 7):
            return None
        offset = self.offset(node.inputs[1])
        if offset is None:
            return None
        return PositionTable(tensor.name, node.source, int(tensor.dims[0]) - offset)

    def _initializer(self, name: str) -> onnx.TensorProto | None:
        """The initializer behind a name; a table may be shared or dequantised on the way."""
        node = self.producers.get(name)
        while node is not None and node.op_type in ("Identity", "Cast", "DequantizeLinear"):
            name = node.inputs[0]
            node = self.producers.get(name)
        return self.initializers.get(name)

    def offset(self, name: str) -> int | None:
        if name not in self.offsets:
            self.offsets[name] = None
            self.offsets[name] = self._offset(name)
        return self.offsets[name]

    def _offset(self, name: str) -> int | None:
        if name in self.inputs:
            return 0 if "position" in name and "bias" not in name else None
        node = self.producers.get(name)
        stored = self._stored(name)
        if stored is not None:
            return 0 if _counts(stored) else None
        if node is None:
            return None
        if node.op_type == "Range":
            return 0
        if node.op_type == "CumSum":
            return 1 - node.integer("exclusive", 0)
        if node.op_type in _MOVES:
            return self.offset(node.inputs[0])
        if node.op_type in _ARITHMETIC:
            return self._arithmetic(node)
        return None

    def _arithmetic(self, node: Node) -> int | None:
        """positions + 2 (a table with an offset), positions * mask, positions + cached tokens."""
        left, right = (self.offset(name) for name in node.inputs)
        if left is None and right is None:
            return None
        if node.op_type == "Sub" and left is not None and right is not None:
            return None
        known = max(offset for offset in (left, right) if offset is not None)
        added = sum(self._scalar(name) for name in node.inputs)
        return known + added * {"Add": 1, "Sub": -1, "Mul": 0}[node.op_type]

    def _scalar(self, name: str) -> int:
        node = self.producers.get(name)
        while node is not None and node.op_type in ("Cast", "Identity"):
            name = node.inputs[0]
            node = self.producers.get(name)
        tensor = self._stored(name)
        if tensor is None or np.prod(tensor.dims, dtype=np.int64) != 1 or tensor.data_location:
            return 0
        return int(numpy_helper.to_array(tensor).item())

    def _stored(self, name: str) -> onnx.TensorProto | None:
        node = self.producers.get(name)
        if node is not None and node.op_type == "Constant" and "value" in node.attributes:
            return node.attributes["value"].t
        return self.initializers.get(name)


def _counts(tensor: onnx.TensorProto) -> bool:
    """Whether a stored integer tensor counts 0, 1, 2, ... in one row."""
    if tensor.data_type not in (6, 7) or tensor.data_location or len(tensor.dims) > 2:
        return False
    if not 1 < np.prod(tensor.dims, dtype=np.int64) <= _STORED_POSITIONS_LIMIT:
        return False
    values = numpy_helper.to_array(tensor).reshape(-1)
    return bool(np.array_equal(values, np.arange(values.size)))
