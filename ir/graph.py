"""The graph that is planned: operators as loop nests, tensors, and views between them.

Views (reshape, transpose, slice, expand) are no operators: an operand reads its tensor through a
view. So every dimension of a viewed operand is one factor of the operator's nest, or a broadcast.
"""

from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import TypeAlias

import numpy as np

from .mesh import Exchange, Sharding, Split
from .nest import Factor
from .types import Bytes, DType, Shape
from .views import View

Attribute: TypeAlias = int | float | str | tuple[int, ...] | tuple[float, ...]


class Role(Enum):
    """Where a tensor's bytes come from."""

    INPUT = "input"
    """Given with every micro-batch."""
    WEIGHT = "weight"
    """Resident for ever: an initializer, or a constant that the importer folded."""
    STATE = "state"
    """Resident, one copy a user, partly there before the run (a KV cache)."""
    VALUE = "value"
    """Computed in the run."""


@dataclass(frozen=True)
class Origin:
    """How numerics finds a weight's values in the model file.

    The initializer is read, seen through `view`, then converted:
    "cast"         to the tensor's dtype;
    "quantise"     symmetric int8 over all axes but `axes`: round(w / scale);
    "scale"        the scales of the same quantisation: max|w| / 127, one an index of `axes`;
    "sum"          its values summed over all axes but `axes`, in the tensor's dtype.
    """

    initializer: str
    view: View = ()
    conversion: str = "cast"
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """A stored tensor, row-major and contiguous in SRAM.

    `value` holds a folded constant (small); `origin` an initializer whose values stay on disk.
    `resident_rows` of a state: (axis, count) rows present before the run; the run appends the rest.
    `sharding` of an input, weight, state or output: each chip of a group holds its piece; `shape` is
    a piece's, `value` and `origin` the whole tensor's. Without it every chip holds all.
    Where the row axis of a state is cut, `resident_rows` are those of the chip that appends.
    """

    name: str
    shape: Shape
    dtype: DType
    role: Role
    value: np.ndarray | None = field(default=None, compare=False)
    origin: Origin | None = None
    resident_rows: tuple[int, int] | None = None
    sharding: Sharding | None = None

    @property
    def whole_shape(self) -> Shape:
        """Extents of the whole tensor, of which a chip may hold a piece."""
        return self.shape if self.sharding is None else self.sharding.shape

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> Bytes:
        return Bytes(self.elements * self.dtype.itemsize)


@dataclass(frozen=True)
class Operand:
    """A tensor read through a view. `axes[d]` is the factor that runs along dimension d of the
    viewed tensor, or None where the dimension has extent 1 and is broadcast."""

    tensor: str
    view: View
    axes: tuple[int | None, ...]


@dataclass(frozen=True)
class Result:
    """A tensor, or a box of one, written. `axes[d]` is the factor that runs along dimension d (None:
    extent 1); iteration f writes index `offsets[d] + f`. Several operators may write disjoint boxes
    of one tensor: that is how a concatenation and an append to a state are expressed.
    `value` is the index of the instruction in the body whose value is stored.
    `own`: dimension 0 (axes[0] None, offset 0) is written at the chip's position along these mesh axes.
    `only`: (mesh axis, coordinate) pairs; chips with other coordinates do not write."""

    tensor: str
    axes: tuple[int | None, ...]
    offsets: tuple[int, ...]
    value: int
    own: tuple[int, ...] = ()
    only: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Instruction:
    """One scalar operation of an operator's body, named by its ONNX operator.

    `inputs` below the number of operands name operands; `len(operands) + i` names instruction i.
    `dtype` is the type of its value. A reduction reduces over the factors in attribute `factors`.
    """

    opcode: str
    inputs: tuple[int, ...]
    dtype: DType
    attributes: tuple[tuple[str, Attribute], ...] = ()

    def attribute(self, name: str) -> Attribute | None:
        return dict(self.attributes).get(name)


class Unit(Enum):
    """Kind of functional unit that runs an operator."""

    MATRIX = "matrix"
    VECTOR = "vector"
    SWITCH = "switch"
    MEMORY = "memory"


@dataclass(frozen=True)
class Operator:
    """One operator: a loop nest on one kind of unit.

    matrix: body ends with one "MatMul"; operand 0 is streamed, operand 1 is stationary (loaded block
        by block); a third input of the MatMul holds the scales of a weight that is dequantised at
        the load. Factors in both operands and the result are batch, in operand 0 and the result
        rows (m), in operand 1 and the result columns (n), in both operands only the reduced
        factor (k).
        Indexed load: the body is first "Gather"(operand 1, index), and "Gather"(scales, index) if
        there are scales, then the MatMul of what they select. Operand 1 is the whole table; its
        `gathered` factor plays no role in a block, and the factors of the index operand are batch:
        for every index another block is loaded. The index must be there before the load.
    vector: body is a chain over one iteration space; a reduction ends at a result.
    switch: body is one "Copy".
    memory: body is one "Gather"-like instruction or a "Copy" into resident rows.
    `nodes` are the ONNX nodes that it came from, for messages and reports.
    `splits` are the factors of which a chip of a group has a piece.
    """

    name: str
    unit: Unit
    factors: tuple[Factor, ...]
    operands: tuple[Operand, ...]
    results: tuple[Result, ...]
    body: tuple[Instruction, ...]
    nodes: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()


@dataclass(frozen=True)
class State:
    """A KV-cache pair: model input `past`, model output `present`, held in tensor `tensor`, which
    is as large as the present: rows [0, resident) of `axis` come from the past."""

    past: str
    present: str
    tensor: str
    axis: int


@dataclass(frozen=True)
class Output:
    """A model output: a stored tensor seen through a view; the whole of it where chips hold pieces."""

    name: str
    tensor: str
    view: View


@dataclass(frozen=True)
class Graph:
    """Operators in topological order over named tensors.

    In a plan a graph may be what *one chip* of each stage executes: extents are those of a chip's
    pieces, and `exchanges` say which tensors the chips of a group send each other.
    """

    name: str
    tensors: dict[str, Tensor]
    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    states: tuple[State, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
