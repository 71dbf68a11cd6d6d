"""Import an ONNX model: read, find states and roles, bind dimensions, walk, hand on what is left."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from chiplan.ir import BadInput, DType, Problem, dtype_of

from .import_dimensions import Bound, Request, bind_dimensions
from .import_load import GraphFile, load_graph_file
from .import_nodes import Node, attribute_values, read_nodes
from .import_normalise import OLDEST_FORM
from .import_positions import PositionTable, find_position_table
from .import_roles import ModelInput, Roles, find_roles
from .import_shapes import TensorType
from .import_states import find_states
from .import_symbols import Expression, parse_dimension
from .import_walk import Walk
from .imported import ImportedModel, ImportedNode, ImportedTensor, StatePair

_NO_BINDINGS: Mapping[str, int] = {}


def import_model(
    path: Path,
    *,
    name: str | None = None,
    batch: int = 1,
    sequence: int | None = None,
    context: int | None = None,
    bind: Mapping[str, int] = _NO_BINDINGS,
) -> ImportedModel:
    """The model with every shape static, in primitive operators; weights stay on disk.

    Raises BadInput with every problem found (docs/importing.md lists the codes).
    """
    outline = read_outline(path)
    request = Request(batch, sequence, context, bind)
    bound = bind_dimensions(outline.inputs, outline.roles, outline.table, request)
    return _Import(outline, bound, name or path.stem).run()


@dataclass(frozen=True)
class Outline:
    """What is known of a model before any dimension is bound."""

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
    nodes = _live_nodes(read_nodes(graph.node), outputs)
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


def _live_nodes(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[Node, ...]:
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


class _Import:
    """One import with bound dimensions."""

    def __init__(self, outline: Outline, bound: Bound, name: str) -> None:
        self._outline = outline
        self._bound = bound
        self._name = name
        file = outline.file
        domains = {entry.domain: entry.version for entry in file.model.opset_import if entry.domain}
        self._opset = max(file.opset, OLDEST_FORM)
        self._walk = Walk(self._opset, file.opset, domains)

    def run(self) -> ImportedModel:
        outline, bound, walk = self._outline, self._bound, self._walk
        self._define_inputs()
        for tensor in outline.file.model.graph.initializer:
            walk.values.define_initializer(tensor)
        walk.visit_all(outline.nodes)
        self._name_outputs()
        self._raise_problems()
        nodes = _live_nodes(walk.kept, outline.outputs)
        tensors = self._tensors(nodes)
        self._raise_problems()
        ranks = {entry.name: len(entry.dimensions) for entry in outline.inputs}
        return ImportedModel(
            name=self._name,
            path=outline.file.path,
            opset=self._opset,
            nodes=tuple(self._imported(node) for node in nodes),
            tensors=tensors,
            inputs=tuple(ranks),
            outputs=outline.outputs,
            states=find_states(nodes, ranks, outline.outputs),
            bindings=bound.values,
            batch=bound.batch,
            sequence=bound.sequence or 1,
            context=bound.context,
            assumptions=bound.assumptions,
            fingerprint=outline.file.fingerprint,
        )

    def _define_inputs(self) -> None:
        for entry in self._outline.inputs:
            shape = tuple(size.substitute(self._bound.values).constant for size in entry.dimensions)
            self._walk.values.define(entry.name, TensorType(entry.element_type, shape))

    def _name_outputs(self) -> None:
        """An output that is another value under a new name keeps an Identity of its own."""
        walk = self._walk
        for name in self._outline.outputs:
            source = walk.values.resolve(name)
            if source == name or name in walk.values.unknown or source in walk.values.unknown:
                continue
            if source not in walk.values.types:
                message = f"Output {name} is defined by no node; export the model again."
                walk.problems.append(Problem("file_broken", message))
                continue
            walk.values.types[name] = walk.values.types[source]
            walk.kept.append(Node("Identity", "", (source,), (name,), {}, f"output {name}", name, "Identity"))

    def _raise_problems(self) -> None:
        if self._walk.problems:
            raise BadInput(self._walk.problems)

    def _tensors(self, nodes: Sequence[Node]) -> dict[str, ImportedTensor]:
        names = dict.fromkeys(entry.name for entry in self._outline.inputs)
        for node in nodes:
            names |= dict.fromkeys(name for name in (*node.inputs, *node.outputs) if name)
        names |= dict.fromkeys(self._outline.outputs)
        made = {name: self._tensor(name) for name in names}
        return {name: tensor for name, tensor in made.items() if tensor is not None}

    def _tensor(self, name: str) -> ImportedTensor | None:
        values = self._walk.values
        kind = values.types[name]
        dtype = _dtype(kind.element_type)
        if dtype is None:
            message = f"Tensor {name} has a type that no chip stores ({_type_name(kind)}); export it as another."
            self._walk.problems.append(Problem("unsupported_type", message, dimension=name))
            return None
        constant = values.constants.get(name)
        return ImportedTensor(name, kind.extents, dtype, constant, values.initializers.get(name))

    def _imported(self, node: Node) -> ImportedNode:
        attributes = attribute_values(node, self._opset)
        return ImportedNode(
            node.name, node.op_type, node.domain, node.inputs, node.outputs, attributes, node.source
        )


def _dtype(element_type: int) -> DType | None:
    try:
        return dtype_of(np.dtype(helper.tensor_dtype_to_np_dtype(element_type)))
    except (KeyError, TypeError):
        return None


def _type_name(kind: TensorType) -> str:
    names = {value: name for name, value in TensorProto.DataType.items()}
    return names.get(kind.element_type, str(kind.element_type)).lower()
