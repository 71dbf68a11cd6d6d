"""Types and shapes of one node's outputs, by the ONNX project's own shape inference.

Identical layers ask the same question many times, so answers are kept by operator, attributes,
input types and the small constants among the inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError, infer_node_outputs

from .import_nodes import Node

_CONSTANT_LIMIT = 512
"""Elements: larger constants are values of data, never shapes, axes or sizes."""
RANK_LIMIT = 64
"""Dimensions: numpy holds no more."""


class ShapeMismatch(Exception):
    """Shape inference refuses the node; the text is ONNX's reason."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """ONNX element type and extents; None: not known from shapes and constants alone."""

    element_type: int
    shape: tuple[int | None, ...] | None

    @property
    def is_static(self) -> bool:
        return self.shape is not None and None not in self.shape

    @property
    def extents(self) -> tuple[int, ...]:
        """The shape of a static tensor."""
        return tuple(size or 0 for size in self.shape or ())


InputTypes: TypeAlias = Sequence[TensorType | None]
"""Type of each input of a node, None for an absent optional one."""


class ShapeInference:
    """Infers node by node for one operator set version."""

    def __init__(self, opset: int, domains: Mapping[str, int]) -> None:
        versions = {**domains, "": opset}
        self._imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        self._known: dict[object, tuple[TensorType, ...]] = {}

    def infer(
        self, schema: onnx.defs.OpSchema, node: Node, types: InputTypes, values: Sequence[np.ndarray | None]
    ) -> tuple[TensorType, ...]:
        """One type an output (that of an unused output means nothing). Raises ShapeMismatch."""
        small = [value if value is not None and value.size <= _CONSTANT_LIMIT else None for value in values]
        constants = tuple(None if value is None else value.tobytes() for value in small)
        outputs = tuple(bool(name) for name in node.outputs)
        key = (node.key(), tuple(types), constants, outputs)
        if key not in self._known:
            self._known[key] = self._infer(schema, node, types, small)
        return self._known[key]

    def _infer(
        self, schema: onnx.defs.OpSchema, node: Node, types: InputTypes, values: Sequence[np.ndarray | None]
    ) -> tuple[TensorType, ...]:
        proto = node.proto()
        named = {f"i{index}": _proto(kind) for index, kind in enumerate(types) if kind is not None}
        data = {f"i{i}": numpy_helper.from_array(v) for i, v in enumerate(values) if v is not None}
        try:
            inferred = infer_node_outputs(schema, proto, named, data, opset_imports=self._imports)
        except (InferenceError, ValidationError, ValueError, RuntimeError) as error:
            raise ShapeMismatch(_reason(error)) from error
        results = tuple(_read(inferred.get(name)) for name in proto.output)
        rank = max((len(result.shape or ()) for result in results), default=0)
        if rank > RANK_LIMIT:
            raise ShapeMismatch(f"its result would have {rank} dimensions, more than {RANK_LIMIT}")
        return results


def _proto(kind: TensorType) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(kind.element_type, kind.shape)


def _read(proto: onnx.TypeProto | None) -> TensorType:
    if proto is None or not proto.HasField("tensor_type"):
        return TensorType(0, None)
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return TensorType(tensor.elem_type, None)
    sizes = (dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return TensorType(tensor.elem_type, tuple(sizes))


def _reason(error: Exception) -> str:
    """ONNX's reason without its tag and without the operator's name."""
    text = str(error).split("] ", 1)[-1]
    return " ".join(text.split()).rstrip(".")
