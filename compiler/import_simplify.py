"""Rewrites of primitive nodes that do nothing, or that work on tensors without elements."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from .import_indices import gather_as_slice, gather_nd_as_view
from .import_nodes import Node, constant_node
from .import_rewriting import Context
from .import_shapes import TensorType
from .import_values import numpy_type

Rule: TypeAlias = Callable[[Node, Context], tuple[Node, ...] | None]


def simplify(node: Node, context: Context) -> tuple[Node, ...] | None:
    """The nodes that replace a primitive node, or None if it is to be kept as it is."""
    rule = _RULES.get(node.op_type)
    return None if rule is None else rule(node, context)


def _identity(node: Node, index: int = 0) -> tuple[Node, ...]:
    return (node.rewritten("Identity", (node.inputs[index],)),)


def _same_type(node: Node, context: Context) -> tuple[Node, ...] | None:
    """A view or a conversion to what the tensor is already."""
    same = context.input_type(node, 0) == context.output(node)
    return _identity(node) if same else None


def _slice(node: Node, context: Context) -> tuple[Node, ...] | None:
    steps = context.constant(node, 4) if len(node.inputs) > 4 else np.ones(1, np.int64)
    return _same_type(node, context) if steps is not None and bool((steps > 0).all()) else None


def _pad(node: Node, context: Context) -> tuple[Node, ...] | None:
    pads = context.constant(node, 1)
    return _same_type(node, context) if pads is not None and not pads.any() else None


def _transpose(node: Node, _context: Context) -> tuple[Node, ...] | None:
    perm = node.integers("perm")
    return _identity(node) if perm is not None and perm == tuple(range(len(perm))) else None


def _neutral(value: object, *positions: int) -> Rule:
    """x * 1, x / 1, x and true, x or false: `positions` are where the neutral constant may stand."""

    def rule(node: Node, context: Context) -> tuple[Node, ...] | None:
        for position in positions:
            constant, other = context.constant(node, position), 1 - position
            kept = context.input_type(node, other) == context.output(node)
            if constant is not None and kept and bool((constant == value).all()):
                return _identity(node, other)
        return None

    return rule


def _concat(node: Node, context: Context) -> tuple[Node, ...] | None:
    """Pieces without elements fall away."""
    kinds = [context.input_type(node, index) for index in range(len(node.inputs))]
    filled = tuple(name for name, kind in zip(node.inputs, kinds, strict=True) if 0 not in kind.extents)
    if len(filled) == 1:
        return (node.rewritten("Identity", filled),)
    if not filled or len(filled) == len(node.inputs):
        return None
    return (replace(node, inputs=filled),)


def _split(node: Node, context: Context) -> tuple[Node, ...] | None:
    """Pieces without elements become constants of their own, the others stay."""
    if len(node.outputs) == 1:
        return _same_type(node, context)
    empty = [name for name, kind in context.outputs.items() if 0 in kind.extents]
    if not empty or len(context.outputs) < len(node.outputs):
        return None
    constants = [_empty_constant(name, context.outputs[name], node) for name in empty]
    rest = tuple(name for name in node.outputs if name not in empty)
    extents = [context.outputs[name].extents[node.integer("axis", 0)] for name in rest]
    sizes = constant_node(f"{node.name}/sizes", np.asarray(extents, np.int64), near=node)
    attributes = {name: value for name, value in node.attributes.items() if name != "num_outputs"}
    inputs = (node.inputs[0], sizes.outputs[0])
    return (*constants, sizes, replace(node, inputs=inputs, outputs=rest, attributes=attributes))


def _empty_constant(name: str, kind: TensorType, node: Node) -> Node:
    return constant_node(name, np.zeros(kind.extents, numpy_type(kind.element_type)), near=node)


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Cast"), _same_type),
    "And": _neutral(True, 0, 1),
    "Concat": _concat,
    "Div": _neutral(1, 1),
    "Gather": gather_as_slice,
    "GatherND": gather_nd_as_view,
    "Mul": _neutral(1, 0, 1),
    "Pad": _pad,
    "Or": _neutral(False, 0, 1),
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
