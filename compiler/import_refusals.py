"""Words for what the walk refuses. Every refusal names node, operator, dimension and cure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from chiplan.ir import Problem

from .import_nodes import Node
from .import_shapes import TensorType
from .import_values import Values


@dataclass
class Refusals:
    """Collects problems; the outputs of a refused node become unknown, so it is refused once."""

    values: Values
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, code: str, node: Node, message: str, dimension: str | None = None) -> None:
        inside = f", inside {node.origin}" if node.origin != node.op_type else ""
        text = f"Node {node.source} ({node.op_type}{inside}): {message}"
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        self.problems.append(Problem(code, text, node.source, operator, dimension))
        self.values.unknown.update(name for name in node.outputs if name)

    def operator(self, node: Node) -> None:
        domain = node.domain or "ONNX"
        message = (
            f"chiplan has no rule for this operator of {domain}, and it has no function body; "
            "export the model without it (docs/importing.md lists what is supported)."
        )
        self.refuse("unknown_operator", node, message)

    def data_dependent(self, node: Node, why: str) -> None:
        message = f"{why}, and a static plan needs every shape; export the model without it."
        self.refuse("data_dependent_shape", node, message, node.outputs[0] if node.outputs else None)

    def undefined(self, node: Node, name: str) -> None:
        message = (
            f"reads {name}, which no input, initializer or earlier node defines; export the model again."
        )
        self.refuse("file_broken", node, message)

    def shapes(self, node: Node, why: str) -> None:
        shapes = [str(list(kind.extents)) if kind else "-" for kind in self.values.input_types(node)]
        message = (
            f"{why}, with inputs of shapes {', '.join(shapes)}; check the values bound to the symbolic "
            "dimensions, or the export."
        )
        self.refuse("shape_mismatch", node, message, ", ".join(shapes))

    def size(self, node: Node, results: Mapping[str, TensorType]) -> None:
        name = max(results, key=lambda output: prod(results[output].extents))
        message = (
            f"{name} would have the shape {list(results[name].extents)}, more than 2^40 elements; "
            "bind smaller dimensions."
        )
        self.refuse("tensor_too_large", node, message, name)

    def index(self, node: Node, index: int, extent: int) -> None:
        message = (
            f"reads row {index} of {node.inputs[0]}, which has {extent}; "
            "if it is a table of positions, use a smaller --sequence or --context."
        )
        self.refuse("index_out_of_range", node, message, node.inputs[0])
