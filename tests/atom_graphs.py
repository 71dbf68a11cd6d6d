"""Random views, graphs of one operator that reads through a view, and pieces of arrays along one atom."""

from math import ceil, prod

import numpy as np
from hypothesis import strategies as st

from chiplan.compiler.atoms import OperandAtoms, TensorAtom
from chiplan.compiler.local_views import Dimensions
from chiplan.ir import (
    DType,
    Expand,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Output,
    Reshape,
    Result,
    Role,
    Shape,
    Slice,
    Tensor,
    Transpose,
    Unit,
    View,
    ViewStep,
    Window,
    step_shape,
    view_shape,
)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


@st.composite
def _reshapes(draw, shape: Shape) -> Reshape:
    """Merge two neighbours, or split one dimension; now and then any factorisation at all."""
    axis = draw(st.integers(0, len(shape) - 1))
    kind = draw(st.sampled_from(["split", "merge", "any"]))
    if kind == "split":
        minor = draw(st.sampled_from(_divisors(shape[axis])))
        return Reshape((*shape[:axis], shape[axis] // minor, minor, *shape[axis + 1 :]))
    if kind == "merge" and axis:
        return Reshape((*shape[: axis - 1], shape[axis - 1] * shape[axis], *shape[axis + 1 :]))
    minor = draw(st.sampled_from(_divisors(prod(shape))))
    return Reshape((prod(shape) // minor, minor))


@st.composite
def _slices(draw, shape: Shape) -> Slice:
    """Of one dimension: an equal piece, every step-th element, or any range."""
    axis = draw(st.integers(0, len(shape) - 1))
    extent = shape[axis]
    kind = draw(st.sampled_from(["piece", "step", "any"]))
    size = draw(st.sampled_from(_divisors(extent)))
    chosen = range(draw(st.integers(0, size - 1)), extent, size)
    if kind == "piece":
        first = draw(st.integers(0, extent // size - 1)) * size
        chosen = range(first, first + size)
    elif kind == "any":
        first = draw(st.integers(0, extent - 1))
        chosen = range(first, draw(st.integers(first + 1, extent)))
    bounds = [range(n) for n in shape]
    bounds[axis] = chosen
    return Slice(
        *(tuple(column) for column in zip(*((b.start, b.stop, b.step) for b in bounds), strict=True))
    )


@st.composite
def _steps(draw, shape: Shape) -> ViewStep:
    kind = draw(st.sampled_from(["reshape", "reshape", "transpose", "slice", "expand", "window"]))
    if kind == "transpose":
        return Transpose(tuple(draw(st.permutations(range(len(shape))))))
    if kind == "slice":
        return draw(_slices(shape))
    if kind == "expand":
        return Expand(tuple(n if n > 1 else draw(st.integers(1, 3)) for n in shape))
    if kind == "window":
        axis = draw(st.integers(0, len(shape) - 1))
        return Window(axis, draw(st.integers(1, shape[axis])), draw(st.integers(1, 2)), 1)
    return draw(_reshapes(shape))


@st.composite
def seen_shapes(draw) -> tuple[View, Shape]:
    """A view, and a shape that it fits."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 12]), min_size=1, max_size=3)))
    view: list[ViewStep] = []
    extents = shape
    for _ in range(draw(st.integers(0, 5))):
        view.append(draw(_steps(extents)))
        extents = step_shape(view[-1], extents)
    return tuple(view), shape


def copy_through(view: View, shape: Shape) -> Graph:
    """One operator that copies a tensor `x` of `shape`, seen through `view`, into `y`."""
    seen = view_shape(view, shape)
    factors = tuple(Factor(f"d{axis}", extent) for axis, extent in enumerate(seen))
    axes = tuple(range(len(seen)))
    operator = Operator(
        name="copy",
        unit=Unit.SWITCH,
        factors=factors,
        operands=(Operand("x", view, axes),),
        results=(Result("y", axes, (0,) * len(seen), 0),),
        body=(Instruction("Copy", (0,), DType.FP32),),
    )
    tensors = {
        "x": Tensor("x", shape, DType.FP32, Role.INPUT),
        "y": Tensor("y", seen, DType.FP32, Role.VALUE),
    }
    return Graph("copy", tensors, (operator,), ("x",), (Output("y", "y", ()),))


def piece_of(array: np.ndarray, dims: Dimensions, atom: TensorAtom, part: int, number: int) -> np.ndarray:
    """Piece `number` of `part` elements of one atom; a short one repeats its last element."""
    last = dims[atom[0]][atom[1]] - 1
    axis = sum(map(len, dims[: atom[0]])) + atom[1]
    apart = array.reshape([extent for atoms in dims for extent in atoms])
    rows = np.minimum(np.arange(number * part, (number + 1) * part), last)
    shape = list(array.shape)
    shape[atom[0]] = shape[atom[0]] // (last + 1) * part
    return apart.take(rows, axis).reshape(shape)


def real_part(dims: Dimensions, atom: TensorAtom, part: int, number: int) -> int:
    """How many elements of a piece are not filled up."""
    return max(0, min(part, dims[atom[0]][atom[1]] - number * part))


def seen_dimensions(operand: Operand | Result, factors: tuple[tuple[int, ...], ...]) -> Dimensions:
    """Atoms of every dimension that an operator sees."""
    return tuple(() if factor is None else factors[factor] for factor in operand.axes)


def pieces(extent: int, ways: int) -> list[tuple[int, int]]:
    """(part, number) of every piece of `extent` cut `ways`-fold."""
    part = ceil(extent / ways)
    return [(part, number) for number in range(ceil(extent / part))]


def run_atoms(found: OperandAtoms) -> dict[TensorAtom, tuple[int, int]]:
    """The tensor atoms that a factor atom runs through."""
    return {atom: factor for atom, factor in found.along.items() if factor is not None}
