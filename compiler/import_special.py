"""Operators that the walk settles by itself: constants, shapes, aliases, branches."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import TypeAlias

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from chiplan.ir import Problem

from .import_nodes import Node, constant_node, read_nodes
from .import_refusals import Refusals
from .import_values import Values

Handler: TypeAlias = Callable[[Node, Values, Refusals], tuple[Node, ...]]
"""Settles a node whose inputs are known; returns the nodes to visit in its place."""


def define_tensor(tensor: TensorProto, values: Values, refusals: Refusals) -> None:
    """A stored tensor; one whose bytes do not fit its shape is refused."""
    try:
        values.define_initializer(tensor)
    except (KeyError, TypeError, ValueError) as error:
        message = (
            f"Initializer {tensor.name} does not hold what its type and its shape {list(tensor.dims)} say "
            f"({error}); export the model again."
        )
        refusals.problems.append(Problem("file_broken", message, dimension=tensor.name))
        values.unknown.add(tensor.name)


def _constant(node: Node, values: Values, refusals: Refusals) -> tuple[Node, ...]:
    attribute = next(iter(node.attributes.values()), None)
    if attribute is None or attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.UNDEFINED):
        refusals.refuse("unsupported_type", node, "the constant has no dense value; export the model again.")
    elif attribute.type == AttributeProto.TENSOR:
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.outputs[0]
        define_tensor(tensor, values, refusals)
    else:
        value = _array(attribute)
        values.define_constant(node.outputs[0], value, helper.np_dtype_to_tensor_dtype(value.dtype))
    return ()


def _array(attribute: AttributeProto) -> np.ndarray:
    value = helper.get_attribute_value(attribute)
    if attribute.type in (AttributeProto.INT, AttributeProto.INTS):
        return np.asarray(value, np.int64)
    if attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
        return np.asarray(value, np.float32)
    return np.asarray(value, object)


def _identity(node: Node, values: Values, _refusals: Refusals) -> tuple[Node, ...]:
    values.aliases[node.outputs[0]] = node.inputs[0]
    return ()


def _shape(node: Node, values: Values, _refusals: Refusals) -> tuple[Node, ...]:
    shape = values.types[node.inputs[0]].extents
    start, end = node.integer("start", 0), node.integer("end", len(shape))
    values.define_constant(node.outputs[0], np.asarray(shape[start:end], np.int64), TensorProto.INT64)
    return ()


def _size(node: Node, values: Values, _refusals: Refusals) -> tuple[Node, ...]:
    count = np.asarray(prod(values.types[node.inputs[0]].extents), np.int64)
    values.define_constant(node.outputs[0], count, TensorProto.INT64)
    return ()


def _stored(tensor: TensorProto) -> np.ndarray | None:
    """The values of a stored tensor; None where its bytes do not fit its type and shape."""
    try:
        return numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError):
        return None


def _constant_of_shape(node: Node, values: Values, refusals: Refusals) -> tuple[Node, ...]:
    """A filled tensor is one number, expanded."""
    if node.inputs[0] not in values.constants:
        refusals.data_dependent(node, f"its shape {node.inputs[0]} is computed from data")
        return ()
    given = node.attributes.get("value")
    value = np.zeros(1, np.float32) if given is None else _stored(given.t)
    if value is None or value.size != 1:
        refusals.refuse("file_broken", node, "its value is not one number; export the model again.")
        return ()
    scalar = f"{node.name}/value"
    filled = node.rewritten("Expand", (scalar, node.inputs[0]))
    return (constant_node(scalar, value.reshape(()), near=node), filled)


def _if(node: Node, values: Values, refusals: Refusals) -> tuple[Node, ...]:
    condition = values.constants.get(node.inputs[0])
    if condition is None:
        message = (
            f"its condition {node.inputs[0]} is not constant, and a static plan has no branches; if it is a "
            "control input of the model, fix it with --bind NAME=0 or 1."
        )
        refusals.refuse("data_dependent_branch", node, message, node.inputs[0])
        return ()
    branch = node.attributes["then_branch" if bool(condition.item()) else "else_branch"].g
    for tensor in branch.initializer:
        define_tensor(tensor, values, refusals)
    results = (
        replace(node.rewritten("Identity", (inner.name,)), outputs=(output,))
        for output, inner in zip(node.outputs, branch.output, strict=True)
        if output
    )
    return (*read_nodes(branch.node, prefix=f"{node.name}/"), *results)


SPECIAL: dict[str, Handler] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": _identity,
    "If": _if,
    "Shape": _shape,
    "Size": _size,
}
"""By operator of the ONNX domain."""
