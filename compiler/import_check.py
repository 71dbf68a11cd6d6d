"""Checks that nodes have the inputs, outputs and attributes that their operators ask for.

What reads a node after this (ONNX's shape inference too, which crashes on some malformed nodes)
may rely on it. Operators without a schema are left to the walk.
"""

from collections.abc import Iterator, Sequence

import onnx
from onnx import AttributeProto
from onnx.checker import C, ValidationError

from chiplan.ir import Problem

from .import_nodes import Node, read_nodes

_NEWEST_IR = 10
"""Nodes are the same in every version of the file format; the checker wants one."""


def check_nodes(nodes: Sequence[Node], opset: int) -> list[Problem]:
    """One problem a malformed node, those inside of branches included."""
    context = C.CheckerContext()
    context.ir_version = _NEWEST_IR
    context.opset_imports = {"": opset}
    return [problem for node in nodes for problem in _check(node, opset, context)]


def _check(node: Node, opset: int, context: C.CheckerContext) -> Iterator[Problem]:
    fault = _fault(node, opset, context)
    if fault is not None:
        message = f"Node {node.source} ({node.op_type}) is malformed: {fault}; export the model again."
        yield Problem("file_broken", message, node.source, node.op_type)
        return
    for attribute in node.attributes.values():
        if attribute.type == AttributeProto.GRAPH:
            for inner in read_nodes(attribute.g.node, prefix=f"{node.name}/"):
                yield from _check(inner, opset, context)


def _fault(node: Node, opset: int, context: C.CheckerContext) -> str | None:
    if any(name != attribute.name or attribute.ref_attr_name for name, attribute in node.attributes.items()):
        return "an attribute refers to a function that there is none of"
    if node.op_type == "If" and not node.domain:
        return _branch_fault(node)
    if node.integer("batch_dims", 0) < 0:
        return "batch_dims is negative"
    if node.domain or not onnx.defs.has(node.op_type, opset):
        return None
    try:
        onnx.checker.check_node(node.proto(), context)
    except ValidationError as error:
        return " ".join(str(error).split("\n")[0].split()).rstrip(".")
    return _absent_input(node, onnx.defs.get_schema(node.op_type, opset))


def _branch_fault(node: Node) -> str | None:
    branches = [node.attributes.get(name) for name in ("then_branch", "else_branch")]
    if len(node.inputs) != 1 or not node.inputs[0]:
        return "a branch has one input, its condition"
    if any(branch is None or branch.type != AttributeProto.GRAPH for branch in branches):
        return "it needs two branches"
    if any(branch is None or len(branch.g.output) != len(node.outputs) for branch in branches):
        return "both branches must have as many results as the node"
    return None


def _absent_input(node: Node, schema: onnx.defs.OpSchema) -> str | None:
    """The checker lets an empty name pass among inputs of any number."""
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    parameters = list(schema.inputs)
    for index, name in enumerate(node.inputs):
        if not name and parameters[min(index, len(parameters) - 1)].option == variadic:
            return f"input {index} has no name"
    return None
