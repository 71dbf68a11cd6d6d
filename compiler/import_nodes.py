"""ONNX nodes as the importer's passes hold them: plain, immutable, cheap to rewrite."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeAlias

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from .imported import AttributeValue

Scalars: TypeAlias = int | float | str | Sequence[int] | Sequence[float] | Sequence[str]
MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Node:
    """One node. An absent optional input or output is the empty string.

    `name` is unique in the model; `source` is the name (and `origin` the operator) of the node in
    the file that it came from, for messages.
    """

    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeProto]
    name: str
    source: str
    origin: str

    def integer(self, name: str, default: int) -> int:
        attribute = self.attributes.get(name)
        return default if attribute is None else int(attribute.i)

    def integers(self, name: str) -> tuple[int, ...] | None:
        attribute = self.attributes.get(name)
        return None if attribute is None else tuple(attribute.ints)

    def real(self, name: str, default: float) -> float:
        attribute = self.attributes.get(name)
        return default if attribute is None else float(attribute.f)

    def text(self, name: str, default: str) -> str:
        attribute = self.attributes.get(name)
        return default if attribute is None else attribute.s.decode()

    def rewritten(self, op_type: str, inputs: Iterable[str], **attributes: Scalars) -> "Node":
        """The same node with another operator of the ONNX domain, other inputs and attributes."""
        made = make_attributes(**attributes)
        return replace(self, op_type=op_type, domain="", inputs=tuple(inputs), attributes=made)

    def key(self) -> tuple[str, str, tuple[bytes, ...]]:
        """Equal for nodes that differ in the names of their values alone."""
        attributes = tuple(a.SerializeToString(deterministic=True) for a in self.attributes.values())
        return (self.domain, self.op_type, attributes)

    def proto(self) -> onnx.NodeProto:
        """The node with its inputs named i0, i1, ... and its outputs o0, o1, ..."""
        inputs = [name and f"i{index}" for index, name in enumerate(self.inputs)]
        outputs = [name and f"o{index}" for index, name in enumerate(self.outputs)]
        proto = helper.make_node(self.op_type, inputs, outputs, domain=self.domain)
        proto.attribute.extend(self.attributes.values())
        return proto


def make_attributes(**attributes: Scalars) -> dict[str, AttributeProto]:
    return {name: helper.make_attribute(name, value) for name, value in attributes.items()}


def constant_node(output: str, value: np.ndarray, near: Node) -> Node:
    """A Constant that an importer's rewrite of node `near` needs."""
    attribute = helper.make_attribute("value", numpy_helper.from_array(value))
    made = {"value": attribute}
    return replace(near, op_type="Constant", domain="", inputs=(), outputs=(output,), attributes=made)


def read_nodes(protos: Iterable[onnx.NodeProto], prefix: str = "") -> tuple[Node, ...]:
    """The nodes of a graph; a node without a name is called after its operator and its place."""
    return tuple(_read_node(proto, index, prefix) for index, proto in enumerate(protos))


def _read_node(proto: onnx.NodeProto, index: int, prefix: str) -> Node:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    name = prefix + (proto.name or f"{proto.op_type}_{index}")
    attributes = {attribute.name: attribute for attribute in proto.attribute}
    return Node(
        proto.op_type, domain, tuple(proto.input), tuple(proto.output), attributes, name, name, proto.op_type
    )


def attribute_values(node: Node, opset: int) -> dict[str, AttributeValue]:
    """The attributes as Python values, those left out with the operator's defaults, sorted by name."""
    values = dict(_defaults(node.op_type, node.domain, opset))
    values |= {name: _value(attribute) for name, attribute in node.attributes.items()}
    return dict(sorted(values.items()))


@cache
def _defaults(op_type: str, domain: str, opset: int) -> tuple[tuple[str, AttributeValue], ...]:
    schema = onnx.defs.get_schema(op_type, opset, domain)
    return tuple(
        (name, _value(attribute.default_value))
        for name, attribute in schema.attributes.items()
        if attribute.default_value.type != AttributeProto.UNDEFINED
    )


def _value(attribute: AttributeProto) -> AttributeValue:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float | str):
        return value
    return tuple(item.decode() if isinstance(item, bytes) else item for item in value)
