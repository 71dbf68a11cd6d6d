"""Import an ONNX model: read, find states and roles, bind dimensions, walk, hand on what is left."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
from onnx import TensorProto

from chiplan.ir import BadInput, DType, Problem, dtype_of, printable

from .import_dimensions import Bound, Request, bind_dimensions, check_limits
from .import_nodes import Node, attribute_values
from .import_normalise import OLDEST_FORM
from .import_outline import Outline, live_nodes, read_outline
from .import_shapes import TensorType
from .import_special import define_tensor
from .import_states import find_states
from .import_values import numpy_type
from .import_walk import ELEMENTS_LIMIT, Walk
from .imported import ImportedModel, ImportedNode, ImportedTensor

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
    return _bound_import(path, name, Request(batch, sequence, context, bind)).run()


def value_types(path: Path, bind: Mapping[str, int]) -> dict[str, TensorType]:
    """Element type and extents of every value of the file's graph on which an output depends, by name, with
    all dimensions bound. Raises BadInput like `import_model`."""
    return _bound_import(path, None, Request(1, None, None, bind)).types()


def _bound_import(path: Path, name: str | None, asked: Request) -> "_Import":
    check_limits(asked)
    outline = read_outline(path)
    controls = _controls(outline, asked.bind)
    dimensions = {symbol: value for symbol, value in asked.bind.items() if symbol not in controls}
    bound = bind_dimensions(outline.inputs, outline.roles, outline.table, replace(asked, bind=dimensions))
    return _Import(outline, bound, controls, printable(name or path.stem))


def _controls(outline: Outline, bind: Mapping[str, int]) -> dict[str, int]:
    """Inputs of one integer or truth value that the user fixes, such as `use_cache_branch`."""
    kinds = (TensorProto.BOOL, TensorProto.INT32, TensorProto.INT64)
    single = {
        entry.name
        for entry in outline.inputs
        if entry.element_type in kinds
        and all(not size.terms for size in entry.dimensions)
        and prod(size.constant for size in entry.dimensions) == 1
    }
    return {name: value for name, value in bind.items() if name in single}


class _Import:
    """One import with bound dimensions."""

    def __init__(self, outline: Outline, bound: Bound, controls: Mapping[str, int], name: str) -> None:
        self._outline = outline
        self._bound = bound
        self._controls = controls
        self._name = name
        file = outline.file
        domains = {entry.domain: entry.version for entry in file.model.opset_import if entry.domain}
        self._opset = max(file.opset, OLDEST_FORM)
        self._walk = Walk(self._opset, file.opset, domains)

    def types(self) -> dict[str, TensorType]:
        self._walk_all()
        self._raise_problems()
        values = self._walk.values
        return {name: values.types[values.resolve(held)] for name, held in values.aliases.items()}

    def _walk_all(self) -> None:
        self._define_inputs()
        for tensor in self._outline.file.model.graph.initializer:
            define_tensor(tensor, self._walk.values, self._walk.refusals)
        self._walk.visit_all(self._outline.nodes)

    def run(self) -> ImportedModel:
        self._walk_all()
        self._name_outputs()
        self._raise_problems()
        nodes = live_nodes(self._walk.kept, self._outline.outputs)
        tensors = self._tensors(nodes)
        self._raise_problems()
        return self._model(nodes, tensors)

    def _model(self, nodes: Sequence[Node], tensors: Mapping[str, ImportedTensor]) -> ImportedModel:
        outline, bound = self._outline, self._bound
        ranks = {e.name: len(e.dimensions) for e in outline.inputs if e.name not in self._controls}
        return ImportedModel(
            name=self._name,
            path=outline.file.path,
            opset=self._opset,
            nodes=tuple(self._imported(node) for node in nodes),
            tensors=tensors,
            inputs=tuple(ranks),
            outputs=outline.outputs,
            states=find_states(nodes, ranks, outline.outputs),
            bindings={**bound.values, **self._controls},
            batch=bound.batch,
            sequence=bound.sequence or 1,
            context=bound.context,
            assumptions=bound.assumptions,
            fingerprint=outline.file.fingerprint,
            is_annotated=any(node.device_configurations for node in outline.file.model.graph.node),
        )

    def _define_inputs(self) -> None:
        values = self._walk.values
        for entry in self._outline.inputs:
            shape = tuple(size.substitute(self._bound.values).constant for size in entry.dimensions)
            if entry.name in self._controls:
                filled = np.full(shape, self._controls[entry.name], numpy_type(entry.element_type))
                values.define_constant(entry.name, filled, entry.element_type)
            else:
                values.define(entry.name, TensorType(entry.element_type, shape))
                self._check_elements(entry.name, shape)

    def _check_elements(self, name: str, shape: tuple[int, ...]) -> None:
        if prod(shape) > ELEMENTS_LIMIT:
            message = (
                f"Input {name} would have the shape {list(shape)}, more than 2^40 elements; "
                "bind smaller dimensions."
            )
            self._problem("tensor_too_large", message, name)
            self._walk.values.unknown.add(name)

    def _name_outputs(self) -> None:
        """Give every output that is another value under a new name its name back.

        A computed value takes the output's name; an input, a constant or a value with two names is
        copied by an Identity."""
        walk, outputs = self._walk, self._outline.outputs
        computed = {name for node in walk.kept for name in node.outputs} - set(outputs)
        names: dict[str, str] = {}
        for name in outputs:
            source = walk.values.resolve(name)
            if not {name, source}.isdisjoint(walk.values.unknown):
                continue
            if source not in walk.values.types:
                self._problem("file_broken", f"Output {name} is defined by no node; export the model again.")
                continue
            if source == name:
                continue
            walk.values.types[name] = walk.values.types[source]
            if source in computed and source not in names:
                names[source] = name
            else:
                walk.kept.append(_identity(source, name))
        walk.kept = [_renamed(node, names) for node in walk.kept]

    def _problem(self, code: str, message: str, dimension: str | None = None) -> None:
        self._walk.refusals.problems.append(Problem(code, message, dimension=dimension))

    def _raise_problems(self) -> None:
        if self._walk.refusals.problems:
            raise BadInput(self._walk.refusals.problems)

    def _tensors(self, nodes: Sequence[Node]) -> dict[str, ImportedTensor]:
        inputs = (entry.name for entry in self._outline.inputs)
        names = dict.fromkeys(name for name in inputs if name not in self._controls)
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
            message = (
                f"Tensor {name} has a type that no chip stores ({_type_name(kind)}); "
                "export the model with another."
            )
            self._problem("unsupported_type", message, name)
            return None
        constant = values.constants.get(name)
        return ImportedTensor(name, kind.extents, dtype, constant, values.initializers.get(name))

    def _imported(self, node: Node) -> ImportedNode:
        attributes = attribute_values(node, self._opset)
        return ImportedNode(
            node.name, node.op_type, node.domain, node.inputs, node.outputs, attributes, node.source
        )


def _identity(source: str, output: str) -> Node:
    return Node("Identity", "", (source,), (output,), {}, f"output {output}", output, "Identity")


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    if not any(name in names for name in (*node.inputs, *node.outputs)):
        return node
    inputs = tuple(names.get(name, name) for name in node.inputs)
    return replace(node, inputs=inputs, outputs=tuple(names.get(name, name) for name in node.outputs))


def _dtype(element_type: int) -> DType | None:
    try:
        return dtype_of(numpy_type(element_type))
    except (KeyError, TypeError):
        return None


def _type_name(kind: TensorType) -> str:
    return str(TensorProto.DataType.Name(kind.element_type)).lower()
