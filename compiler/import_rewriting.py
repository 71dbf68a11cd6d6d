"""What a rewrite of a primitive node may look at."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .import_nodes import Node
from .import_refusals import Refusals
from .import_shapes import TensorType
from .import_values import Values


@dataclass(frozen=True)
class Context:
    """Types of the outputs of the node at hand, everything known of its inputs, and where to refuse."""

    outputs: Mapping[str, TensorType]
    values: Values
    refusals: Refusals

    def output(self, node: Node) -> TensorType:
        """Type of the node's first output."""
        return self.outputs[node.outputs[0]]

    def input_type(self, node: Node, index: int) -> TensorType:
        return self.values.types[node.inputs[index]]

    def constant(self, node: Node, index: int) -> np.ndarray | None:
        """Contents of an input, None if it is computed, large or absent."""
        return self.values.constants.get(node.inputs[index]) if index < len(node.inputs) else None
