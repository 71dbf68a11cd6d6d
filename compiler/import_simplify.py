"""Small rewrites of primitive nodes that do nothing, or work on tensors without elements."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from onnx import helper

from .import_nodes import Node, constant_node
from .import_shapes import TensorType


@dataclass(frozen=True)
class Context:
    """Types of the node's outputs and of all known values, and the values of the constants."""

    outputs: Mapping[str, TensorType]
    types: Mapping[str, TensorType]
    constants: Mapping[str, np.ndarray]


Rule: TypeAlias = Callable[[Node, Context], tuple[Node, ...] | None]


def simplify(
    node: Node,
    outputs: Mapping[str, TensorType],
    types: Mapping[str, TensorType],
    constants: Mapping[str, np.ndarray],
) -> tuple[Node, ...] | None:
    """The nodes that replace a primitive node, or None if it is to be kept as it is."""
    rule = _RULES.get(node.op_type)
    return None if rule is None else rule(node, Context(outputs, types, constants))


def _identity(node: Node) -> tuple[Node, ...]:
    return (node.rewritten("Identity", node.inputs[:1]),)


def _same_type(node: Node, context: Context) -> tuple[Node, ...] | None:
    """A view or a conversion to what the tensor is already."""
    same = context.types[node.inputs[0]] == context.outputs[node.outputs[0]]
    return _identity(node) if same else None


def _slice(node: Node, context: Context) -> tuple[Node, ...] | None:
    steps = context.constants.get(node.inputs[4]) if len(node.inputs) > 4 else np.ones(1, np.int64)
    return _same_type(node, context) if steps is not None and (steps > 0).all() else None


def _transpose(node: Node, context: Context) -> tuple[Node, ...] | None:
    perm = node.integers("perm")
    return _identity(node) if perm is not None and perm == tuple(range(len(perm))) else None


def _concat(node: Node, context: Context) -> tuple[Node, ...] | None:
    """Pieces without elements fall away."""
    filled = tuple(name for name in node.inputs if 0 not in context.types[name].extents)
    if len(filled) == 1:
        return (node.rewritten("Identity", filled),)
    if not filled or len(filled) == len(node.inputs):
        return None
    return (replace(node, inputs=filled),)


def _split(node: Node, context: Context) -> tuple[Node, ...] | None:
    """Pieces without elements become constants of their own, the others stay."""
    named = {name: context.outputs[name] for name in node.outputs if name}
    empty = [name for name, kind in named.items() if 0 in kind.extents]
    if len(named) == 1 and named[node.outputs[0]] == context.types[node.inputs[0]]:
        return _identity(node)
    if not empty or len(named) < len(node.outputs):
        return None
    constants = [_empty_constant(name, named[name], node) for name in empty]
    rest = [name for name in node.outputs if name not in empty]
    axis = node.integer("axis", 0)
    sizes = constant_node(
        f"{node.name}/sizes", np.asarray([named[name].extents[axis] for name in rest], np.int64), near=node
    )
    attributes = {name: value for name, value in node.attributes.items() if name != "num_outputs"}
    inputs = (node.inputs[0], sizes.outputs[0])
    return (*constants, sizes, replace(node, inputs=inputs, outputs=tuple(rest), attributes=attributes))


def _empty_constant(name: str, kind: TensorType, node: Node) -> Node:
    dtype = helper.tensor_dtype_to_np_dtype(kind.element_type)
    return constant_node(name, np.zeros(kind.extents, dtype), near=node)


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Cast", "Pad"), _same_type
    ),
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
