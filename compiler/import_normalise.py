"""Brings nodes of old operator sets to the form of set 18: axes, sizes and limits are inputs.

So the rest of chiplan knows one form of each operator. What a newer set changed beyond that is
written out (Softmax before 13 flattens) or refused by shape inference.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from .import_nodes import MICROSOFT, Node, constant_node, make_attributes
from .import_shapes import InputTypes

OLDEST_FORM = 18
Rewrite: TypeAlias = Callable[[Node, InputTypes], tuple[Node, ...] | None]
"""The nodes that replace a node; None: it has the new form already."""


def normalise(node: Node, types: InputTypes, opset: int) -> tuple[Node, ...] | None:
    """The modern form of a node, or None if it has it. `opset` is what the model was written for."""
    if node.domain == MICROSOFT:
        return (replace(node, domain=""),) if node.op_type in _MIRRORED else None
    if node.domain:
        return None
    if opset < 13 and node.op_type in ("Softmax", "LogSoftmax"):
        return _flattened_softmax(node, types)
    rewrite = _REWRITES.get(node.op_type)
    return None if rewrite is None else rewrite(node, types)


def _integers_as_input(attribute: str, position: int) -> Rewrite:
    """Move an attribute of integers to the input at `position`."""

    def rewrite(node: Node, _types: InputTypes) -> tuple[Node, ...] | None:
        values = node.integers(attribute)
        if values is None or len(node.inputs) > position:
            return None
        return _with_inputs(node, (attribute,), {position: np.asarray(values, np.int64)})

    return rewrite


def _with_inputs(node: Node, dropped: tuple[str, ...], added: dict[int, np.ndarray]) -> tuple[Node, ...]:
    inputs = list(node.inputs)
    constants = []
    for position, value in sorted(added.items()):
        inputs += [""] * (position + 1 - len(inputs))
        inputs[position] = f"{node.name}/input{position}"
        constants.append(constant_node(inputs[position], value, near=node))
    attributes = {name: value for name, value in node.attributes.items() if name not in dropped}
    return (*constants, replace(node, inputs=tuple(inputs), attributes=attributes))


def _number(value: float, types: InputTypes) -> np.ndarray:
    first = types[0]
    half = first is not None and first.element_type == 10
    return np.asarray(value, np.float16 if half else np.float32)


def _clip(node: Node, types: InputTypes) -> tuple[Node, ...] | None:
    limits = {1: "min", 2: "max"}
    given = {p: _number(node.real(n, 0.0), types) for p, n in limits.items() if n in node.attributes}
    return _with_inputs(node, ("min", "max"), given) if given else None


def _pad(node: Node, types: InputTypes) -> tuple[Node, ...] | None:
    pads = node.integers("pads")
    if pads is None:
        return None
    value = _number(node.real("value", 0.0), types)
    return _with_inputs(node, ("pads", "value"), {1: np.asarray(pads, np.int64), 2: value})


def _slice(node: Node, _types: InputTypes) -> tuple[Node, ...] | None:
    starts, ends = node.integers("starts"), node.integers("ends")
    if starts is None or ends is None:
        return None
    axes = node.integers("axes") or tuple(range(len(starts)))
    arrays = {1: starts, 2: ends, 3: axes}
    return _with_inputs(
        node, ("starts", "ends", "axes"), {p: np.asarray(v, np.int64) for p, v in arrays.items()}
    )


def _top_k(node: Node, _types: InputTypes) -> tuple[Node, ...] | None:
    if "k" not in node.attributes:
        return None
    return _with_inputs(node, ("k",), {1: np.asarray([node.integer("k", 1)], np.int64)})


def _split(node: Node, types: InputTypes) -> tuple[Node, ...] | None:
    """A Split without sizes makes equal pieces: since set 18 it says how many."""
    sized = _integers_as_input("split", 1)(node, types)
    if sized is not None or len(node.inputs) > 1 or "num_outputs" in node.attributes:
        return sized
    attributes = {**node.attributes, **make_attributes(num_outputs=len(node.outputs))}
    return (replace(node, attributes=attributes),)


def _dropout(node: Node, _types: InputTypes) -> tuple[Node, ...] | None:
    """Nothing is dropped in inference."""
    return (replace(node.rewritten("Identity", node.inputs[:1]), outputs=node.outputs[:1]),)


def _flattened_softmax(node: Node, types: InputTypes) -> tuple[Node, ...] | None:
    """Before set 13 the dimensions from `axis` on were one; for the last axis nothing changes."""
    first = types[0]
    rank = 0 if first is None else len(first.extents)
    axis = node.integer("axis", 1) % max(rank, 1)
    if rank == 0 or axis == rank - 1:
        attributes = make_attributes(axis=-1)
        return None if node.integer("axis", 1) == -1 else (replace(node, attributes=attributes),)
    flat, soft, shape = (f"{node.name}/{part}" for part in ("flat", "soft", "shape"))
    sizes = np.asarray(first.extents if first is not None else (), np.int64)
    return (
        replace(node.rewritten("Flatten", node.inputs, axis=axis), outputs=(flat,)),
        replace(node.rewritten(node.op_type, (flat,), axis=-1), outputs=(soft,)),
        constant_node(shape, sizes, near=node),
        node.rewritten("Reshape", (soft, shape)),
    )


_MIRRORED = frozenset(("QuantizeLinear", "DequantizeLinear"))
"""Operators that onnxruntime copies to its own domain for wider types."""
_REWRITES: dict[str, Rewrite] = {
    "Clip": _clip,
    "Dropout": _dropout,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
    "TopK": _top_k,
    "Squeeze": _integers_as_input("axes", 1),
    "Unsqueeze": _integers_as_input("axes", 1),
    **dict.fromkeys(
        (
            *("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2"),
            *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
        ),
        _integers_as_input("axes", 1),
    ),
}
