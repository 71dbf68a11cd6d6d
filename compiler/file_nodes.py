"""The nodes of an ONNX file as the exporter sees them: what each needs and makes, and its name in a plan."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx
from onnx import AttributeProto

_SHAPES = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class FileNode:
    """name: as `Operator.nodes` has it. needs: values of the graph that it or its branches read."""

    name: str
    op_type: str
    needs: tuple[str, ...]
    makes: tuple[str, ...]

    @property
    def reads_shapes(self) -> bool:
        """Whether it needs extents alone, not the elements."""
        return self.op_type in _SHAPES


@dataclass(frozen=True)
class FileNodes:
    """All nodes of a graph in order. Their order is topological: the importer has checked it."""

    nodes: tuple[FileNode, ...]
    outputs: tuple[str, ...]

    @cached_property
    def maker_of(self) -> dict[str, int]:
        """Position of the node that makes a value; inputs and initializers have none."""
        return {value: index for index, node in enumerate(self.nodes) for value in node.makes}

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position of every node whose name no other has: of two with one name, a plan tells no apart."""
        counts = Counter(node.name for node in self.nodes)
        return {node.name: index for index, node in enumerate(self.nodes) if counts[node.name] == 1}

    def owner(self, name: str) -> int | None:
        """The node that a planned node's name means: itself, or the one in whose branch it lies."""
        while name:
            if name in self.positions:
                return self.positions[name]
            name = name.rpartition("/")[0]
        return None


def file_nodes(graph: onnx.GraphProto) -> FileNodes:
    """Read from the file's graph; a node without a name is called as the importer calls it."""
    nodes = tuple(_file_node(node, index) for index, node in enumerate(graph.node))
    return FileNodes(nodes, tuple(output.name for output in graph.output))


def _file_node(node: onnx.NodeProto, index: int) -> FileNode:
    name = node.name or f"{node.op_type}_{index}"
    needs = tuple(dict.fromkeys(_needs(node)))
    return FileNode(name, node.op_type, needs, tuple(output for output in node.output if output))


def _needs(node: onnx.NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield from _captured(attribute.g)


def _captured(graph: onnx.GraphProto) -> Iterator[str]:
    """Values of the outer graph that a branch reads."""
    own = {value.name for value in (*graph.input, *graph.initializer)}
    own.update(output for node in graph.node for output in node.output)
    for node in graph.node:
        yield from (name for name in _needs(node) if name not in own)
    yield from (output.name for output in graph.output if output.name not in own)
