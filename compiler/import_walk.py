"""The one topological walk: every node is folded, inlined, decomposed or kept, with static shapes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

import onnx

from chiplan.ir import BadInput, Problem

from .import_fold import CannotFold, Folding
from .import_functions import FunctionBodies
from .import_limits import MOST_NODES
from .import_nodes import Node
from .import_normalise import normalise
from .import_operators import DATA_DEPENDENT, PRIMITIVES
from .import_refusals import Refusals
from .import_rewriting import Context
from .import_shapes import InputTypes, ShapeInference, ShapeMismatch, TensorType
from .import_simplify import simplify
from .import_special import SPECIAL
from .import_values import Values

ELEMENTS_LIMIT = 2**40
"""Elements of one tensor: more is a wrong binding, not a model."""
MOST_VISITS = 4 * MOST_NODES
"""Nodes, and those of which composite ones consist."""


class Walk:
    """Visits nodes in order; afterwards `kept` are the primitive nodes, refusals what is wrong.

    `opset` is the operator set of what is kept, `written_for` that of the model."""

    def __init__(self, opset: int, written_for: int, domains: Mapping[str, int]) -> None:
        self.values = Values()
        self.refusals = Refusals(self.values)
        self.kept: list[Node] = []
        self._opset = opset
        self._written_for = written_for
        self._inference = ShapeInference(opset, domains)
        self._folding = Folding(opset)
        self._bodies = FunctionBodies(opset)
        self._names: dict[str, int] = {}
        self._visited = 0

    def visit_all(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self.visit(node)

    def visit(self, node: Node) -> None:
        """Take one node in. A node that hangs on a refused value is passed over in silence."""
        self._visited += 1
        if self._visited > MOST_VISITS:
            message = (
                f"the model's operators stand for more than {MOST_VISITS:,} nodes; export a smaller one."
            )
            raise BadInput(Problem("file_too_large", message))
        node = replace(node, inputs=tuple(map(self.values.resolve, node.inputs)))
        if not self._has_inputs(node):
            self.values.unknown.update(name for name in node.outputs if name)
            return
        special = None if node.domain else SPECIAL.get(node.op_type)
        if special is not None:
            self.visit_all(special(node, self.values, self.refusals))
            return
        types = self.values.input_types(node)
        modern = normalise(node, types, self._written_for)
        if modern is not None:
            self.visit_all(modern)
        elif onnx.defs.has(node.op_type, self._opset, node.domain):
            self._visit_operator(node, types)
        else:
            self._decompose(node, types)

    def _has_inputs(self, node: Node) -> bool:
        """Whether every input has a type; a name that nothing defines is refused."""
        if not self.values.unknown.isdisjoint(node.inputs):
            return False
        missing = [name for name in node.inputs if name and name not in self.values.types]
        if missing:
            self.refusals.undefined(node, missing[0])
        return not missing

    def _visit_operator(self, node: Node, types: InputTypes) -> None:
        is_constant = self.values.has_constant_inputs(node)
        if not node.domain and node.op_type in DATA_DEPENDENT and not is_constant:
            why = f"the size of its result depends on the data in {node.inputs[0]}"
            self.refusals.data_dependent(node, why)
            return
        schema = onnx.defs.get_schema(node.op_type, self._opset, node.domain)
        try:
            results = self._inference.infer(schema, node, types, self.values.input_constants(node))
        except ShapeMismatch as error:
            self.refusals.shapes(node, str(error))
            return
        if is_constant and self._folding.allows(node, results):
            self._fold(node, results)
        elif _is_primitive(node):
            self._visit_primitive(node, results)
        else:
            self._decompose(node, types)

    def _fold(self, node: Node, results: Sequence[TensorType]) -> None:
        try:
            folded = self._folding.evaluate(node, self.values.input_constants(node))
        except CannotFold as error:
            self.refusals.shapes(node, f"its constant inputs cannot be evaluated ({error})")
            return
        for name, value, kind in zip(node.outputs, folded, results, strict=True):
            if name:
                self.values.define_constant(name, value, kind.element_type)

    def _visit_primitive(self, node: Node, results: Sequence[TensorType]) -> None:
        outputs = {name: kind for name, kind in zip(node.outputs, results, strict=True) if name}
        unsized = [name for name, kind in outputs.items() if not kind.is_static]
        if unsized:
            self.refusals.data_dependent(node, f"the shape of {unsized[0]} depends on computed values")
        elif any(prod(kind.extents) > ELEMENTS_LIMIT for kind in outputs.values()):
            self.refusals.size(node, outputs)
        elif node.op_type == "Reshape" and not self._keeps_elements(node, outputs):
            self.refusals.shapes(node, "a reshape keeps the number of elements, and this one does not")
        else:
            self._keep(node, outputs)

    def _keeps_elements(self, node: Node, outputs: Mapping[str, TensorType]) -> bool:
        """What ONNX's shape inference does not ask for."""
        elements = prod(self.values.types[node.inputs[0]].extents)
        return all(prod(kind.extents) == elements for kind in outputs.values())

    def _keep(self, node: Node, outputs: Mapping[str, TensorType]) -> None:
        context = Context(outputs, self.values, self.refusals)
        simpler = simplify(node, context)
        if simpler is not None:
            self.visit_all(simpler)
            return
        names = {name: self.values.define(name, kind) for name, kind in outputs.items()}
        renamed = tuple(names.get(name, "") for name in node.outputs)
        self.kept.append(replace(node, outputs=renamed, name=self._unique(node.name)))

    def _decompose(self, node: Node, types: InputTypes) -> None:
        body = self._bodies.expand(node, types)
        if body is None:
            self.refusals.operator(node)
        else:
            self.visit_all(body)

    def _unique(self, name: str) -> str:
        """Exporters repeat node names; the second one gets a number."""
        while True:
            count = self._names[name] = self._names.get(name, 0) + 1
            if count == 1:
                return name
            name = f"{name}#{count}"


def _is_primitive(node: Node) -> bool:
    variadic = node.op_type in ("Min", "Max") and len(node.inputs) != 2
    return not node.domain and node.op_type in PRIMITIVES and not variadic
