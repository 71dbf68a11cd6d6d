"""ONNX nodes for the steps that every exported operator shares: constants, casts, views."""

from collections.abc import Collection, Iterator
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from chiplan.ir import (
    DType,
    Expand,
    Own,
    Reshape,
    Shape,
    Slice,
    Transpose,
    View,
    ViewStep,
    Window,
    step_shape,
)

_SMALL = 64
"""Elements up to which equal constants are shared."""


def onnx_type(dtype: DType) -> int:
    """The element type's number in ONNX."""
    return int(helper.np_dtype_to_tensor_dtype(dtype.numpy))


class NodeList:
    """Collects the nodes and constants of one ONNX graph; every value has a number for a name, but none of
    the names `taken`."""

    def __init__(self, taken: Collection[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names: Iterator[str] = (name for name in map("v{}".format, count()) if name not in taken)
        self._constants: dict[tuple[str, Shape, bytes], str] = {}

    def add(self, opcode: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Append one node; returns the names of its outputs."""
        names = [next(self._names) for _ in range(outputs)]
        self.nodes.append(helper.make_node(opcode, inputs, names, **attributes))
        return names

    def one(self, opcode: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node with one output; returns its name."""
        return self.add(opcode, inputs, **attributes)[0]

    def constant(self, array: np.ndarray) -> str:
        """An initializer; equal small ones are shared."""
        key = (array.dtype.str, array.shape, array.tobytes() if array.size <= _SMALL else b"")
        if array.size <= _SMALL and key in self._constants:
            return self._constants[key]
        name = next(self._names)
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        if array.size <= _SMALL:
            self._constants[key] = name
        return name

    def integers(self, values: tuple[int, ...] | list[int]) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def reshape(self, value: str, shape: Shape) -> str:
        return self.one("Reshape", [value, self.integers(shape)])

    def transpose(self, value: str, permutation: tuple[int, ...] | list[int]) -> str:
        if list(permutation) == sorted(permutation):
            return value
        return self.one("Transpose", [value], perm=permutation)

    def expand(self, value: str, shape: Shape) -> str:
        return self.one("Expand", [value, self.integers(shape)])

    def cast(self, value: str, current: DType, wanted: DType) -> str:
        return value if current is wanted else self.one("Cast", [value], to=onnx_type(wanted))

    def view(self, view: View, value: str, shape: Shape) -> str:
        """`value` of `shape` seen through `view`."""
        for step in view:
            value, shape = self._step(step, value, shape), step_shape(step, shape)
        return value

    def _step(self, step: ViewStep, value: str, shape: Shape) -> str:
        match step:
            case Reshape(shape=new):
                return self.reshape(value, new)
            case Transpose(permutation=permutation):
                return self.transpose(value, permutation)
            case Slice(starts=starts, stops=stops, steps=steps):
                axes = tuple(range(len(shape)))
                return self.one("Slice", [value, *map(self.integers, (starts, stops, axes, steps))])
            case Expand(shape=new):
                return self.expand(value, new)
            case Window(axis=axis, size=size, stride=stride, dilation=dilation):
                first = np.arange(step_shape(step, shape)[axis])[:, None] * stride
                return self.one(
                    "Gather", [value, self.constant(first + np.arange(size) * dilation)], axis=axis
                )
            case Own():
                raise ValueError("a graph of pieces has no meaning outside its group")
