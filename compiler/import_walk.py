"""The one topological walk: every node is folded, inlined, decomposed or kept, with static shapes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from chiplan.ir import Problem

from .import_fold import CONSTANT_LIMIT, CannotFold, Folding
from .import_functions import FunctionBodies
from .import_nodes import Node, constant_node, read_nodes
from .import_normalise import normalise
from .import_operators import DATA_DEPENDENT, PRIMITIVES
from .import_shapes import ShapeInference, ShapeMismatch, TensorType
from .import_simplify import simplify

ELEMENTS_LIMIT = 2**40
"""Elements of one tensor: more is a wrong binding, not a model."""


@dataclass
class Values:
    """What is known of every value: its type, its contents if constant, its initializer if large."""

    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    initializers: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """Values behind a node that was refused: what hangs on them is not refused again."""

    def resolve(self, name: str) -> str:
        return self.aliases.get(name, name)

    def define(self, name: str, kind: TensorType) -> str:
        """A new value. A name of an inlined branch may come twice; the later one is renamed."""
        unique = name
        while unique in self.types:
            unique += "'"
        self.types[unique] = kind
        self.aliases[name] = unique
        return unique

    def define_constant(self, name: str, value: np.ndarray, element_type: int) -> None:
        unique = self.define(name, TensorType(element_type, tuple(value.shape)))
        self.constants[unique] = value

    def define_initializer(self, tensor: TensorProto) -> None:
        """A small one is read; a large one, or one in a side file, is only named."""
        shape = tuple(tensor.dims)
        outside = tensor.data_location == TensorProto.EXTERNAL
        if not outside and tensor.data_type != TensorProto.STRING and _nbytes(tensor) <= CONSTANT_LIMIT:
            self.define_constant(tensor.name, numpy_helper.to_array(tensor), tensor.data_type)
        else:
            unique = self.define(tensor.name, TensorType(tensor.data_type, shape))
            self.initializers[unique] = tensor.name


def _nbytes(tensor: TensorProto) -> int:
    try:
        itemsize = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    except (KeyError, TypeError):
        return CONSTANT_LIMIT + 1
    return prod(tensor.dims) * itemsize


class Walk:
    """Visits nodes in order; afterwards `kept` are the primitive nodes and `problems` what is wrong."""

    def __init__(self, opset: int, written_for: int, domains: Mapping[str, int]) -> None:
        self.values = Values()
        self.kept: list[Node] = []
        self.problems: list[Problem] = []
        self._opset = opset
        self._written_for = written_for
        self._inference = ShapeInference(opset, domains)
        self._folding = Folding(opset)
        self._bodies = FunctionBodies(opset)
        self._names: dict[str, int] = {}

    def visit_all(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self.visit(node)

    def visit(self, node: Node) -> None:
        """Take one node in. A node that hangs on a refused value is passed over in silence."""
        node = replace(node, inputs=tuple(self.values.resolve(name) for name in node.inputs))
        if not self._has_inputs(node):
            self._poison(node)
            return
        special = _SPECIAL.get(node.op_type) if not node.domain else None
        if special is not None:
            special(self, node)
            return
        types = self._types(node)
        modern = normalise(node, types, self._written_for)
        if modern is not None:
            self.visit_all(modern)
        elif not node.domain and node.op_type in DATA_DEPENDENT and not self._is_constant(node):
            self._refuse_data_dependent(node, f"the size of its result depends on the data of {node.inputs[0]}")
        elif self._has_schema(node):
            self._visit_operator(node, types)
        else:
            self._decompose(node, types)

    def _visit_operator(self, node: Node, types: Sequence[TensorType | None]) -> None:
        constants = [self.values.constants.get(name) for name in node.inputs]
        schema = onnx.defs.get_schema(node.op_type, self._opset, node.domain)
        try:
            results = self._inference.infer(schema, node, types, constants)
        except ShapeMismatch as error:
            self._refuse_shapes(node, str(error))
            return
        if self._is_constant(node) and self._folding.allows(node, results):
            self._fold(node, results)
        elif node.op_type in PRIMITIVES and not node.domain and not _is_variadic(node):
            self._keep(node, results)
        else:
            self._decompose(node, types)

    def _fold(self, node: Node, results: Sequence[TensorType]) -> None:
        constants = [self.values.constants.get(name) for name in node.inputs]
        try:
            folded = self._folding.evaluate(node, constants)
        except CannotFold as error:
            self._refuse_shapes(node, f"its constant inputs cannot be evaluated ({error})")
            return
        for name, value, kind in zip(node.outputs, folded, results, strict=True):
            if name:
                self.values.define_constant(name, value, kind.element_type)

    def _keep(self, node: Node, results: Sequence[TensorType]) -> None:
        named = [(name, kind) for name, kind in zip(node.outputs, results, strict=True) if name]
        unsized = [name for name, kind in named if not kind.is_static]
        if unsized:
            self._refuse_data_dependent(node, f"the shape of {unsized[0]} depends on computed values")
            return
        if any(prod(kind.extents) > ELEMENTS_LIMIT for _, kind in named):
            self._refuse_size(node, named)
            return
        simpler = simplify(node, dict(named), self.values.types, self.values.constants)
        if simpler is not None:
            self.visit_all(simpler)
            return
        outputs = dict(zip(node.outputs, node.outputs, strict=True))
        for name, kind in named:
            outputs[name] = self._define_computed(name, kind)
        self.kept.append(replace(node, outputs=tuple(outputs.values()), name=self._unique(node.name)))

    def _define_computed(self, name: str, kind: TensorType) -> str:
        """A tensor without elements is a constant, whatever computes it."""
        unique = self.values.define(name, kind)
        if 0 in kind.extents:
            dtype = helper.tensor_dtype_to_np_dtype(kind.element_type)
            self.values.constants[unique] = np.zeros(kind.extents, dtype)
        return unique

    def _decompose(self, node: Node, types: Sequence[TensorType | None]) -> None:
        body = self._bodies.expand(node, types)
        if body is None:
            self._refuse_operator(node)
        else:
            self.visit_all(body)

    def _unique(self, name: str) -> str:
        """Exporters repeat node names; the second one gets a number."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else self._unique(f"{name}#{count}")

    def _types(self, node: Node) -> list[TensorType | None]:
        return [self.values.types[name] if name else None for name in node.inputs]

    def _is_constant(self, node: Node) -> bool:
        return all(name in self.values.constants for name in node.inputs if name)

    def _has_schema(self, node: Node) -> bool:
        return bool(onnx.defs.has(node.op_type, self._opset, node.domain))

    def _has_inputs(self, node: Node) -> bool:
        if any(name in self.values.unknown for name in node.inputs):
            return False
        missing = [name for name in node.inputs if name and name not in self.values.types]
        for name in missing[:1]:
            message = f"reads {name}, which no earlier node, input or initializer defines; export the model again."
            self._refuse("file_broken", node, message)
        return not missing

    def _poison(self, node: Node) -> None:
        self.values.unknown.update(name for name in node.outputs if name)

    def _refuse(self, code: str, node: Node, message: str, dimension: str | None = None) -> None:
        via = f", inside {node.origin}" if node.origin not in ("", node.op_type) else ""
        text = f"Node {node.source} ({node.op_type}{via}): {message}"
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        self.problems.append(Problem(code, text, node.source, operator, dimension))
        self._poison(node)

    def _refuse_operator(self, node: Node) -> None:
        domain = node.domain or "ONNX"
        message = (
            f"chiplan has no rule for this operator of {domain}, and it has no function body; "
            "export the model without it (see docs/importing.md for what is supported)."
        )
        self._refuse("unknown_operator", node, message)

    def _refuse_data_dependent(self, node: Node, why: str) -> None:
        message = f"{why}, and a static plan needs every shape; export the model without it."
        self._refuse("data_dependent_shape", node, message, node.outputs[0] if node.outputs else None)

    def _refuse_shapes(self, node: Node, why: str) -> None:
        shapes = [str(list(kind.extents)) if kind else "-" for kind in self._types(node)]
        message = (
            f"{why}, with inputs of shapes {', '.join(shapes)}; check the values bound to the symbolic "
            "dimensions, or the export."
        )
        self._refuse("shape_mismatch", node, message, ", ".join(shapes))

    def _refuse_size(self, node: Node, named: Sequence[tuple[str, TensorType]]) -> None:
        name, kind = max(named, key=lambda entry: prod(entry[1].extents))
        message = (
            f"{name} would have the shape {list(kind.extents)}, more than 2^40 elements; "
            "bind smaller dimensions."
        )
        self._refuse("tensor_too_large", node, message, name)


def _is_variadic(node: Node) -> bool:
    return node.op_type in ("Min", "Max") and len(node.inputs) != 2


def _constant(walk: Walk, node: Node) -> None:
    attribute = next(iter(node.attributes.values()), None)
    if attribute is None or attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.UNDEFINED):
        walk._refuse("unsupported_type", node, "the constant has no dense value; export the model again.")
        return
    if attribute.type == AttributeProto.TENSOR:
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.outputs[0]
        walk.values.define_initializer(tensor)
        return
    value = _array(attribute)
    walk.values.define_constant(node.outputs[0], value, helper.np_dtype_to_tensor_dtype(value.dtype))


def _array(attribute: AttributeProto) -> np.ndarray:
    value = helper.get_attribute_value(attribute)
    if attribute.type in (AttributeProto.INT, AttributeProto.INTS):
        return np.asarray(value, np.int64)
    if attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
        return np.asarray(value, np.float32)
    return np.asarray(value, object)


def _identity(walk: Walk, node: Node) -> None:
    walk.values.aliases[node.outputs[0]] = node.inputs[0]


def _shape(walk: Walk, node: Node) -> None:
    shape = walk.values.types[node.inputs[0]].extents
    start, end = node.integer("start", 0), node.integer("end", len(shape))
    sizes = np.asarray(shape[slice(start, end)], np.int64)
    walk.values.define_constant(node.outputs[0], sizes, TensorProto.INT64)


def _size(walk: Walk, node: Node) -> None:
    count = np.asarray(prod(walk.values.types[node.inputs[0]].extents), np.int64)
    walk.values.define_constant(node.outputs[0], count, TensorProto.INT64)


def _constant_of_shape(walk: Walk, node: Node) -> None:
    """Filled tensors are one number, expanded."""
    if node.inputs[0] not in walk.values.constants:
        walk._refuse_data_dependent(node, f"its shape {node.inputs[0]} is computed from data")
        return
    given = node.attributes.get("value")
    value = numpy_helper.to_array(given.t) if given is not None else np.zeros(1, np.float32)
    scalar = f"{node.name}/value"
    walk.visit(constant_node(scalar, value.reshape(()), near=node))
    walk.visit(node.rewritten("Expand", (scalar, node.inputs[0])))


def _if(walk: Walk, node: Node) -> None:
    condition = walk.values.constants.get(node.inputs[0])
    if condition is None:
        message = (
            f"its condition {node.inputs[0]} is not constant, and a static plan has no branches; if it is a "
            "control input of the model, fix it with --bind NAME=0 or 1."
        )
        walk._refuse("data_dependent_branch", node, message)
        return
    branch = node.attributes["then_branch" if bool(condition.item()) else "else_branch"].g
    for tensor in branch.initializer:
        walk.values.define_initializer(tensor)
    walk.visit_all(read_nodes(branch.node, prefix=f"{node.name}/"))
    for output, inner in zip(node.outputs, branch.output, strict=True):
        walk.visit(replace(node.rewritten("Identity", (inner.name,)), outputs=(output,)))


_SPECIAL = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": _identity,
    "If": _if,
    "Shape": _shape,
    "Size": _size,
}
