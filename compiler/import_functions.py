"""Replaces a composite operator by the nodes of its function body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import onnx
from onnx import AttributeProto, helper

from .import_composites import composite
from .import_nodes import Node
from .import_shapes import InputTypes, TensorType


@dataclass(frozen=True)
class _Body:
    """A function's nodes, with the function's own names for its values."""

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class FunctionBodies:
    """Finds bodies: our own decompositions first, then ONNX's. Equal nodes share one body."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._known: dict[object, _Body | None] = {}

    def expand(self, node: Node, types: InputTypes) -> tuple[Node, ...] | None:
        """The nodes that node stands for, or None if it has no function body."""
        key = (node.key(), tuple(types), tuple(bool(name) for name in node.outputs))
        if key not in self._known:
            self._known[key] = self._find(node, types)
        body = self._known[key]
        return None if body is None else _instantiate(node, body)

    def _find(self, node: Node, types: InputTypes) -> _Body | None:
        function = composite(node, types)
        if function is None:
            function = self._schema_function(node, types)
        if function is None:
            return None
        attributes = _all_attributes(node, function, self._opset)
        protos = tuple(_resolve(proto, attributes) for proto in function.node)
        return _Body(protos, tuple(function.input), tuple(function.output))

    def _schema_function(self, node: Node, types: InputTypes) -> onnx.FunctionProto | None:
        if node.domain or not onnx.defs.has(node.op_type, self._opset):
            return None
        schema = cast(_FunctionSchema, onnx.defs.get_schema(node.op_type, self._opset))
        if schema.has_context_dependent_function:
            version = _version(schema.context_dependent_function_opset_versions, self._opset)
            kinds = [_type_proto(kind).SerializeToString() for kind in types]
            proto = node.proto().SerializeToString()
            text = schema.get_context_dependent_function_with_opset_version(version, proto, kinds)
        elif schema.has_function:
            version = _version(schema.function_opset_versions, self._opset)
            text = schema.get_function_with_opset_version(version)
        else:
            return None
        return onnx.FunctionProto.FromString(text) if text else None


class _FunctionSchema(Protocol):
    """The part of `onnx.defs.OpSchema` that ONNX's own stubs leave out."""

    has_function: bool
    has_context_dependent_function: bool
    function_opset_versions: Sequence[int]
    context_dependent_function_opset_versions: Sequence[int]

    def get_function_with_opset_version(self, version: int, /) -> bytes: ...

    def get_context_dependent_function_with_opset_version(
        self, version: int, node: bytes, types: Sequence[bytes], /
    ) -> bytes: ...


def _version(versions: Sequence[int], opset: int) -> int:
    """The newest body that is written for this operator set or an older one."""
    return max((version for version in versions if version <= opset), default=min(versions))


def _type_proto(kind: TensorType | None) -> onnx.TypeProto:
    if kind is None:
        return onnx.TypeProto()
    return helper.make_tensor_type_proto(kind.element_type, kind.extents)


def _all_attributes(node: Node, function: onnx.FunctionProto, opset: int) -> Mapping[str, AttributeProto]:
    """What a reference to an attribute of the function may find: given, or by default."""
    found = {attribute.name: attribute for attribute in function.attribute_proto}
    if not node.domain and onnx.defs.has(node.op_type, opset):
        schema = onnx.defs.get_schema(node.op_type, opset)
        defaults = {name: attribute.default_value for name, attribute in schema.attributes.items()}
        found |= {name: value for name, value in defaults.items() if value.type != AttributeProto.UNDEFINED}
    return found | dict(node.attributes)


def _resolve(proto: onnx.NodeProto, attributes: Mapping[str, AttributeProto]) -> onnx.NodeProto:
    """Replace references to the function's attributes by their values; absent ones fall away."""
    if not any(attribute.ref_attr_name for attribute in proto.attribute):
        return proto
    resolved = onnx.NodeProto()
    resolved.CopyFrom(proto)
    del resolved.attribute[:]
    for attribute in proto.attribute:
        if not attribute.ref_attr_name:
            resolved.attribute.append(attribute)
        elif attribute.ref_attr_name in attributes:
            value = AttributeProto()
            value.CopyFrom(attributes[attribute.ref_attr_name])
            value.name = attribute.name
            resolved.attribute.append(value)
    return resolved


def _instantiate(node: Node, body: _Body) -> tuple[Node, ...]:
    """The body with the node's own values, every inner value named after the node."""
    names = {"": ""}
    names |= dict(zip(body.inputs, (*node.inputs, *[""] * len(body.inputs)), strict=False))
    names |= {inner: outer for inner, outer in zip(body.outputs, node.outputs, strict=False) if outer}
    made = []
    for index, proto in enumerate(body.nodes, start=1):
        inputs = tuple(names.setdefault(name, f"{node.name}/{name}") for name in proto.input)
        outputs = tuple(names.setdefault(name, f"{node.name}/{name}") for name in proto.output)
        inner = Node(proto.op_type, proto.domain, _trimmed(inputs), outputs, _named(proto), "", "", "")
        made.append(replace(inner, name=f"{node.name}/{index}", source=node.source, origin=node.origin))
    return tuple(made)


def _named(proto: onnx.NodeProto) -> Mapping[str, AttributeProto]:
    return {attribute.name: attribute for attribute in proto.attribute}


def _trimmed(inputs: tuple[str, ...]) -> tuple[str, ...]:
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    return inputs
