"""Which factor of an operator runs along each axis of a value that an ONNX node reads or makes.

A node may become several operators; its main one stands for it: the product on the matrix unit, else the
largest loop nest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from chiplan.ir import Graph, Operand, Operator, Shape, Transpose, Unit, view_shape

from .file_nodes import FileNodes
from .import_shapes import TensorType

Axes = tuple[int | None, ...]
"""A factor's position for every axis; None: the axis has extent 1."""


@dataclass(frozen=True)
class NodeAxes:
    """operator: the main operator of a node, by its position in the graph. values: the axes of those of the
    node's inputs and outputs that are known, outputs first."""

    operator: int
    values: Mapping[str, Axes]


def node_axes(graph: Graph, nodes: FileNodes, types: Mapping[str, TensorType]) -> dict[int, NodeAxes]:
    """By position of the node; nodes that no operator came from are left out.

    graph: whole, as it is planned. types: of the values of the file."""
    main = _main_operators(graph, nodes)
    return {
        position: NodeAxes(index, dict(_values(graph, index, nodes, position, types)))
        for position, index in sorted(main.items())
    }


def _main_operators(graph: Graph, nodes: FileNodes) -> dict[int, int]:
    main: dict[int, int] = {}
    for index, operator in enumerate(graph.operators):
        for name in operator.nodes:
            position = nodes.owner(name)
            if position is not None:
                other = main.get(position)
                if other is None or _weight(operator) >= _weight(graph.operators[other]):
                    main[position] = index
    return main


def _weight(operator: Operator) -> tuple[bool, int]:
    return operator.unit is Unit.MATRIX, prod(factor.extent for factor in operator.factors)


def _values(
    graph: Graph, index: int, nodes: FileNodes, position: int, types: Mapping[str, TensorType]
) -> Iterator[tuple[str, Axes]]:
    operator, node = graph.operators[index], nodes.nodes[position]
    results = {result.tensor: result.axes for result in operator.results}
    made = [(graph.tensors[result.tensor].shape, result.axes) for result in operator.results]
    seen = [(_seen_shape(graph, operand), operand.axes) for operand in operator.operands]
    for name in node.makes:
        if name not in types:
            continue
        shape = types[name].extents
        axes = results.get(name)
        if axes is None or graph.tensors[name].shape != shape:
            axes = _of_shape(shape, made if operator.unit is Unit.MATRIX else [*made, *seen])
        if axes is not None:
            yield name, axes
    read = {operand.tensor: operand for operand in operator.operands}
    for name in node.needs:
        if name in types:
            axes = _stored(read[name]) if name in read else _of_shape(types[name].extents, seen)
            if axes is not None and len(axes) == len(types[name].extents):
                yield name, axes


def _seen_shape(graph: Graph, operand: Operand) -> Shape:
    return view_shape(operand.view, graph.tensors[operand.tensor].shape)


def _of_shape(shape: Shape, accesses: list[tuple[Shape, Axes]]) -> Axes | None:
    """The axes of an access of this shape, where all that have it agree."""
    found = {axes for extents, axes in accesses if extents == shape}
    return found.pop() if len(found) == 1 else None


def _stored(operand: Operand) -> Axes | None:
    """The axes of the tensor itself, where it is read as it is or transposed."""
    axes = operand.axes
    for step in reversed(operand.view):
        if not isinstance(step, Transpose):
            return None
        before: list[int | None] = [None] * len(axes)
        for place, source in enumerate(step.permutation):
            before[source] = axes[place]
        axes = tuple(before)
    return axes
