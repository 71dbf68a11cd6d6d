"""What the walk knows of every value: its type, its contents if constant, its initializer if large."""

from dataclasses import dataclass, field
from math import prod

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .import_nodes import Node
from .import_shapes import TensorType

CONSTANT_LIMIT = 64 * 1024
"""Bytes: a constant up to this size is read and folded; a larger initializer is never read."""


@dataclass
class Values:
    """All values by name. `aliases` leads from a name to the value that it stands for."""

    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    initializers: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """Values behind a node that was refused: what hangs on them is not refused again."""
    _repeated: dict[str, int] = field(default_factory=dict)

    def resolve(self, name: str) -> str:
        return self.aliases.get(name, name)

    def define(self, name: str, kind: TensorType) -> str:
        """A new value. Two inlined branches may use one name: the later value is renamed.

        A tensor without elements is a constant, whatever computes it."""
        unique = name
        while unique in self.types:
            count = self._repeated[name] = self._repeated.get(name, 0) + 1
            unique = f"{name}'" if count == 1 else f"{name}'{count}"
        self.types[unique] = kind
        self.aliases[name] = unique
        if kind.is_static and 0 in kind.extents:
            self.constants[unique] = np.zeros(kind.extents, numpy_type(kind.element_type))
        return unique

    def define_constant(self, name: str, value: np.ndarray, element_type: int) -> None:
        unique = self.define(name, TensorType(element_type, tuple(value.shape)))
        self.constants[unique] = value

    def define_initializer(self, tensor: TensorProto) -> None:
        """A small one is read; a large one, or one in a side file, is only named.

        Raises ValueError if the file holds too few or too many bytes for its shape."""
        outside = tensor.data_location == TensorProto.EXTERNAL
        if not outside and _nbytes(tensor) <= CONSTANT_LIMIT:
            self.define_constant(tensor.name, numpy_helper.to_array(tensor), tensor.data_type)
        else:
            unique = self.define(tensor.name, TensorType(tensor.data_type, tuple(tensor.dims)))
            self.initializers[unique] = tensor.name

    def input_types(self, node: Node) -> list[TensorType | None]:
        return [self.types[name] if name else None for name in node.inputs]

    def input_constants(self, node: Node) -> list[np.ndarray | None]:
        return [self.constants.get(name) for name in node.inputs]

    def has_constant_inputs(self, node: Node) -> bool:
        return all(name in self.constants for name in node.inputs if name)


def numpy_type(element_type: int) -> np.dtype:
    """Raises KeyError for a type that numpy cannot hold."""
    return np.dtype(helper.tensor_dtype_to_np_dtype(element_type))


def nbytes(kind: TensorType) -> int:
    """Bytes of a static tensor; text has no size that could be folded."""
    if kind.element_type == TensorProto.STRING:
        return CONSTANT_LIMIT * CONSTANT_LIMIT
    return prod(kind.extents) * numpy_type(kind.element_type).itemsize


def _nbytes(tensor: TensorProto) -> int:
    return nbytes(TensorType(tensor.data_type, tuple(tensor.dims)))
