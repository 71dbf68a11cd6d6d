"""What every nest rule is written with: a collector of factors, and typed access to a node's static
parameters (attributes, or constant inputs in newer opsets)."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from chiplan.ir import Axis, AxisMap, BadInput, Factor, LoopNest, Problem, Reducer, Shape

from .imported import ImportedNode, ImportedTensor

Tensors = Mapping[str, ImportedTensor]


class Loops:
    """Collects the factors of one nest. A dimension of extent 1 needs no factor."""

    def __init__(self) -> None:
        self.factors: list[Factor] = []

    def add(
        self,
        name: str,
        extent: int,
        reducer: Reducer | None = None,
        *,
        whole: bool = False,
        gathered: bool = False,
    ) -> Axis:
        """A new factor, as the index map of a dimension that it runs along alone."""
        if extent == 1:
            return Axis()
        self.factors.append(Factor(name, extent, reducer, whole, gathered))
        return Axis(((len(self.factors) - 1, 1),))

    def parallel(self, shape: Sequence[int], name: str = "d") -> AxisMap:
        """One parallel factor a dimension."""
        return tuple(self.add(f"{name}{axis}", extent) for axis, extent in enumerate(shape))

    def product(self, parts: Sequence[Axis], extents: Sequence[int]) -> Axis:
        """The dimension that is the product of `parts` (with `extents`), major first."""
        terms: list[tuple[int, int]] = []
        for position, part in enumerate(parts):
            below = prod(extents[position + 1 :])
            terms += [(factor, stride * below) for factor, stride in part.terms]
        return Axis(tuple(terms))

    def nest(self, operands: Sequence[AxisMap], results: Sequence[AxisMap]) -> LoopNest:
        return LoopNest(tuple(self.factors), tuple(operands), tuple(results))


def broadcast_map(axes: AxisMap, shape: Shape) -> AxisMap:
    """Index map of an operand of `shape` that is broadcast (numpy rules) against dimensions `axes`."""
    aligned = axes[len(axes) - len(shape) :]
    return tuple(Axis() if extent == 1 else axis for axis, extent in zip(aligned, shape, strict=True))


def refused(node: ImportedNode, code: str, message: str, dimension: str | None = None) -> BadInput:
    """The refusal of one node; `message` says what was expected, what came, and the cure."""
    text = f"node {node.name} ({node.op_type}): {message}"
    return BadInput(Problem(code, text, node=node.name, operator=node.op_type, dimension=dimension))


def shape_of(node: ImportedNode, tensors: Tensors, position: int) -> Shape:
    """Shape of input number `position`."""
    return tensors[node.inputs[position]].shape


def has_input(node: ImportedNode, position: int) -> bool:
    """Whether the optional input is present."""
    return position < len(node.inputs) and node.inputs[position] != ""


def integer(node: ImportedNode, name: str, default: int) -> int:
    """An integer attribute, or `default` when it is absent."""
    value = node.attributes.get(name, default)
    if isinstance(value, int):
        return value
    raise refused(node, "bad_attribute", f"attribute {name} should be an integer, is {value!r}.")


def real(node: ImportedNode, name: str, default: float) -> float:
    """A real attribute, or `default` when it is absent."""
    value = node.attributes.get(name, default)
    if isinstance(value, int | float):
        return float(value)
    raise refused(node, "bad_attribute", f"attribute {name} should be a number, is {value!r}.")


def integers(node: ImportedNode, name: str) -> tuple[int, ...] | None:
    """An attribute that is a list of integers; None when it is absent."""
    value = node.attributes.get(name)
    if value is None:
        return None
    if isinstance(value, tuple) and all(isinstance(entry, int) for entry in value):
        return tuple(int(entry) for entry in value)
    raise refused(node, "bad_attribute", f"attribute {name} should be a list of integers, is {value!r}.")


def text(node: ImportedNode, name: str, default: str) -> str:
    """A string attribute, or `default` when it is absent."""
    value = node.attributes.get(name, default)
    return value if isinstance(value, str) else default


def constant_input(node: ImportedNode, tensors: Tensors, position: int) -> np.ndarray:
    """Values of a static parameter; BadInput when it is computed in the run."""
    tensor = tensors[node.inputs[position]]
    if tensor.constant is None:
        raise refused(
            node,
            "parameter_not_constant",
            f"input {position} ({tensor.name}) should be a constant but is computed in the run. "
            "Export the model with static shapes, or bind the dimension that it comes from.",
        )
    return tensor.constant


def parameter(node: ImportedNode, tensors: Tensors, name: str, position: int) -> tuple[int, ...] | None:
    """A list of integers that is attribute `name` in old opsets and input `position` in new ones."""
    if has_input(node, position):
        return tuple(int(value) for value in constant_input(node, tensors, position).ravel())
    return integers(node, name)


def positive_axis(axis: int, rank: int) -> int:
    """The axis counted from the front."""
    return axis + rank if axis < 0 else axis
