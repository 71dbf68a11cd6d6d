"""The graph under construction: values of the ONNX file as stored tensors seen through views."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from chiplan.ir import (
    Attribute,
    DType,
    Factor,
    Instruction,
    LoopNest,
    Operand,
    Operator,
    Origin,
    Result,
    Role,
    Shape,
    State,
    Tensor,
    Unit,
    View,
    ViewStep,
    view_shape,
)

from .canonical_views import extend_view
from .imported import AttributeValue, ImportedModel, ImportedNode, ImportedTensor
from .nests import data_inputs, loop_nest
from .nests_loops import integer, refused

_LARGEST_KEY = 64
"""Static parameters (shapes, axes) of up to so many elements take part in the key of a nest."""


@dataclass(frozen=True)
class Value:
    """A value of the model: `tensor`, of shape `stored`, seen through `view`; `shape` is what is seen."""

    tensor: str
    stored: Shape
    view: View
    shape: Shape
    dtype: DType

    def seen(self, *steps: ViewStep) -> "Value":
        """The value through more view steps."""
        view = extend_view(self.view, self.stored, steps)
        return replace(self, view=view, shape=_seen_shape(view, self.stored))


_seen_shape = lru_cache(maxsize=65536)(view_shape)


@dataclass
class Body:
    """Instructions of an operator with `operands` operands, in order."""

    operands: int
    instructions: list[Instruction] = field(default_factory=list)

    def add(
        self, opcode: str, dtype: DType, *inputs: int, attributes: tuple[tuple[str, Attribute], ...] = ()
    ) -> int:
        """Appends an instruction; the result names its value in later ones."""
        self.instructions.append(Instruction(opcode, inputs, dtype, attributes))
        return self.operands + len(self.instructions) - 1


class GraphBuilder:
    """Tensors, operators, and the value that every name of the ONNX file stands for."""

    def __init__(self, model: ImportedModel) -> None:
        self.model = model
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.states: list[State] = []
        self.presents: frozenset[str] = frozenset()
        self.values: dict[str, Value] = {}
        self._names: Counter[str] = Counter()
        self._nests: dict[Hashable, LoopNest] = {}

    def imported(self, name: str) -> ImportedTensor:
        return self.model.tensors[name]

    def value(self, name: str) -> Value:
        """What `name` stands for; a constant or an initializer becomes a tensor when first read."""
        if name not in self.values:
            tensor = self.imported(name)
            origin = None if tensor.initializer is None else Origin(tensor.initializer)
            stored = Tensor(name, tensor.shape, tensor.dtype, Role.WEIGHT, tensor.constant, origin)
            self.values[name] = self.store(stored)
        return self.values[name]

    def store(self, tensor: Tensor) -> Value:
        """Registers a tensor; its whole is the value."""
        self.tensors[tensor.name] = tensor
        return Value(tensor.name, tensor.shape, (), tensor.shape, tensor.dtype)

    def scalar(self, number: float, dtype: DType) -> Value:
        """A rank-0 constant."""
        name = f"constant/{dtype.value}/{number!r}"
        if name in self.tensors:
            return Value(name, (), (), (), dtype)
        return self.store(Tensor(name, (), dtype, Role.WEIGHT, np.array(number).astype(dtype.numpy)))

    def constant(self, name: str, values: np.ndarray, dtype: DType) -> Value:
        """A constant tensor that the compiler makes."""
        array = np.ascontiguousarray(values).astype(dtype.numpy)
        return self.store(Tensor(self.unique(name), array.shape, dtype, Role.WEIGHT, array))

    def known(self, name: str) -> np.ndarray | None:
        """The values of a constant; None when it is computed or stays on disk."""
        return self.imported(name).constant

    def unique(self, name: str) -> str:
        """`name`, or with a suffix if a tensor of the model or of the graph has it already."""
        chosen = name
        while chosen in self.tensors:
            self._names[name] += 1
            chosen = f"{name}/{self._names[name]}"
        return chosen

    def computed(self, name: str, shape: Shape, dtype: DType) -> str:
        """A new tensor that the run computes; the result is its name."""
        tensor = Tensor(self.unique(name), shape, dtype, Role.VALUE)
        self.tensors[tensor.name] = tensor
        return tensor.name

    def add(
        self,
        node: ImportedNode,
        unit: Unit,
        factors: Sequence[Factor],
        operands: Sequence[Operand],
        results: Sequence[Result],
        body: Sequence[Instruction],
    ) -> None:
        """Appends an operator named after its node."""
        count = self._names[f"operator {node.name}"]
        self._names[f"operator {node.name}"] += 1
        name = f"{node.name}#{count}" if count else node.name
        self.operators.append(
            Operator(name, unit, tuple(factors), tuple(operands), tuple(results), tuple(body), (node.source,))
        )

    def nest(self, node: ImportedNode) -> LoopNest:
        """The node's loop nest; nodes of equal structure share one."""
        data = set(data_inputs(node))
        key = (
            node.op_type,
            node.domain,
            tuple(node.attributes.items()),
            tuple(self._input_key(name, name in data) for name in node.inputs),
            tuple(self.imported(name).shape for name in node.outputs if name),
        )
        if key not in self._nests:
            self._nests[key] = loop_nest(node, self.model.tensors)
        return self._nests[key]

    def _input_key(self, name: str, is_data: bool) -> Hashable:
        if not name:
            return None
        tensor = self.imported(name)
        if is_data or tensor.constant is None:
            return tensor.shape
        if tensor.constant.size > _LARGEST_KEY:
            return name
        return tensor.shape, tensor.constant.tobytes()


def instruction_attributes(
    attributes: Mapping[str, AttributeValue], *names: str
) -> tuple[tuple[str, Attribute], ...]:
    """The named attributes that are present, as an instruction carries them."""
    found: list[tuple[str, Attribute]] = []
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int | float | str):
            found.append((name, value))
    return tuple(found)


def axis_of(builder: GraphBuilder, node: ImportedNode, default: int, position: int = 0) -> int:
    """Attribute `axis` of a node, counted from the front of input `position`."""
    rank = len(builder.imported(node.inputs[position]).shape)
    axis = integer(node, "axis", default)
    if not -rank <= axis < max(rank, 1):
        raise refused(node, "bad_attribute", f"axis {axis} is outside of the input's {rank} dimensions.")
    return axis % max(rank, 1)
