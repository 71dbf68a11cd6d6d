"""What is known of a model before any dimension is bound."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto

from chiplan.ir import BadInput, Problem

from .import_check import check_nodes
from .import_load import GraphFile, load_graph_file
from .import_nodes import Node, read_nodes
from .import_positions import PositionTable, find_position_table
from .import_roles import ModelInput, Roles, find_roles
from .import_states import find_states
from .import_symbols import Expression, parse_dimension
from .imported import StatePair


@dataclass(frozen=True)
class Outline:
    """Read from the file alone: its live nodes in order, inputs, outputs, and what they mean."""

    file: GraphFile
    nodes: tuple[Node, ...]
    inputs: tuple[ModelInput, ...]
    outputs: tuple[str, ...]
    states: tuple[StatePair, ...]
    roles: Roles
    table: PositionTable | None


def read_outline(path: Path) -> Outline:
    """Read the file and find inputs, states, roles and position table. Raises BadInput."""
    file = load_graph_file(path)
    graph = file.model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    inputs = tuple(_read_inputs(graph, initializers))
    outputs = tuple(value.name for value in graph.output)
    nodes = live_nodes(read_nodes(graph.node), outputs)
    malformed = check_nodes(nodes, file.opset)
    if malformed:
        raise BadInput(malformed)
    ranks = {entry.name: len(entry.dimensions) for entry in inputs}
    states = find_states(nodes, ranks, outputs)
    table = find_position_table(nodes, initializers, ranks)
    return Outline(file, nodes, inputs, outputs, states, find_roles(inputs, states), table)


def _read_inputs(graph: onnx.GraphProto, initializers: Mapping[str, TensorProto]) -> Iterator[ModelInput]:
    for value in graph.input:
        if value.name in initializers:
            continue
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
            message = f"Input {value.name} is no tensor of known rank; export the model with tensor inputs."
            raise BadInput(Problem("unsupported_type", message))
        sizes = (_dimension(value.name, axis, size) for axis, size in enumerate(kind.shape.dim))
        yield ModelInput(value.name, kind.elem_type, tuple(sizes))


def _dimension(name: str, axis: int, size: onnx.TensorShapeProto.Dimension) -> Expression:
    """A dimension without number or symbol is called INPUT.AXIS."""
    if size.HasField("dim_value"):
        return Expression(size.dim_value)
    return parse_dimension(size.dim_param) if size.dim_param else Expression(0, ((f"{name}.{axis}", 1),))


def live_nodes(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[Node, ...]:
    """The nodes that an output depends on, in their order."""
    needed = set(outputs)
    live = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            live.append(node)
            needed.update(node.inputs)
            needed.update(_captured(node))
    return tuple(reversed(live))


def _captured(node: Node) -> Iterator[str]:
    """Every name that the branches of a node mention: some are values of the outer graph."""
    for attribute in node.attributes.values():
        if attribute.type == AttributeProto.GRAPH:
            yield from (output.name for output in attribute.g.output)
            for inner in read_nodes(attribute.g.node):
                yield from inner.inputs
                yield from _captured(inner)
