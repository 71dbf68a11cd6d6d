"""What one tile computes: an operator's body on numpy blocks.

Arrays are *aligned* where possible: one axis a factor of the operator, extent 1 where the operand
or value does not have the factor, so that instructions are plain broadcasting numpy operations.
"""

from collections.abc import Mapping
from functools import partial
from types import EllipsisType
from typing import NamedTuple

import numpy as np

from chiplan.ir import DType, Instruction, MeshPlace, Operator, Tensor, Unit

from .kernels_matrix import Contraction
from .kernels_memory import MOVERS, SELECTORS
from .kernels_pointwise import POINTWISE, Pointwise, pointwise_step
from .pieces import HeldRows, held_rows

_REDUCTIONS = {
    "ReduceMax": np.maximum,
    "ReduceMin": np.minimum,
    "ReduceProd": np.multiply,
    "ReduceSum": np.add,
}

OPCODES = POINTWISE | frozenset(_REDUCTIONS) | frozenset(MOVERS) | {"MatMul"}
"""Every opcode that a body may hold."""


class Alignment(NamedTuple):
    """How an array whose dimension d runs along factor `axes[d]` becomes an aligned one."""

    pick: tuple[int | slice | EllipsisType, ...]
    permutation: tuple[int, ...]
    expand: tuple[slice | EllipsisType | None, ...]

    @classmethod
    def of(cls, axes: tuple[int | None, ...], factors: int) -> "Alignment":
        held = [axis for axis in axes if axis is not None]
        # The ellipsis keeps a view of an array without dimensions an array.
        return cls(
            (*(0 if axis is None else slice(None) for axis in axes), ...),
            tuple(sorted(range(len(held)), key=held.__getitem__)),
            (*(slice(None) if factor in held else None for factor in range(factors)), ...),
        )

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A view of `array` with one axis a factor."""
        return array[self.pick].transpose(self.permutation)[self.expand]


def block_shape(axes: tuple[int | None, ...], extents: tuple[int, ...]) -> tuple[int, ...]:
    """Extents of a tile's block whose dimensions run along `axes`."""
    return tuple(1 if axis is None else extents[axis] for axis in axes)


def unalign(array: np.ndarray, axes: tuple[int | None, ...], extents: tuple[int, ...]) -> np.ndarray:
    """The aligned `array` with dimensions along `axes`; factors outside them have extent 1."""
    held = [axis for axis in axes if axis is not None]
    full = tuple(extents[f] if f in held else 1 for f in range(len(extents)))
    rest = [f for f in range(len(extents)) if f not in held]
    moved = np.broadcast_to(array, full).transpose(held + rest)
    return moved.reshape(block_shape(axes, extents))


def _reduce(instruction: Instruction, array: np.ndarray, extents: tuple[int, ...]) -> np.ndarray:
    """Over the factors in attribute `factors`; half precision adds up in fp32 and rounds once."""
    chosen = instruction.attribute("factors")
    factors = chosen if isinstance(chosen, tuple) else (chosen,)
    axes = tuple(int(f) for f in factors if f is not None)
    shape = tuple(extents[f] if f in axes else extent for f, extent in enumerate(array.shape))
    kind = instruction.dtype.numpy
    wide = np.dtype(np.float32) if instruction.dtype.is_float and kind.itemsize == 2 else kind
    source = np.broadcast_to(array, shape).astype(wide, copy=False)
    if source.size == 0:
        rest = tuple(1 if f in axes else extent for f, extent in enumerate(shape))
        return np.full(rest, _identity(instruction), kind)
    total = _REDUCTIONS[instruction.opcode].reduce(source, axis=axes, keepdims=True, dtype=wide)
    return np.asarray(total).astype(kind, copy=False)


def _identity(instruction: Instruction) -> int | float:
    """What a reduction over nothing gives: it changes no other partial result."""
    opcode, dtype = instruction.opcode, instruction.dtype
    if opcode in ("ReduceSum", "ReduceProd"):
        return int(opcode == "ReduceProd")
    if dtype.is_float:
        return -np.inf if opcode == "ReduceMax" else np.inf
    if dtype is DType.BOOL:
        return int(opcode == "ReduceMin")
    limits = np.iinfo(dtype.numpy)
    return int(limits.min if opcode == "ReduceMax" else limits.max)


class Body:
    """An operator's body, prepared once and run on every tile.

    `aligned` says whether operands come aligned (else with their own dimensions: the memory unit's
    instructions index dimensions by number); results always leave aligned.
    `place` is the chip of a group that runs it: of a split table it holds some of the rows.
    """

    def __init__(
        self, operator: Operator, tensors: Mapping[str, Tensor], place: MeshPlace | None = None
    ) -> None:
        opcodes = {instruction.opcode for instruction in operator.body}
        unknown = sorted(opcodes - OPCODES)
        if unknown:
            raise ValueError(f"{operator.name}: no kernel for {', '.join(unknown)}")
        self.operator, self._held = operator, held_rows(operator, place)
        is_product = operator.unit is Unit.MATRIX
        self.aligned = is_product or opcodes <= POINTWISE | frozenset(_REDUCTIONS)
        self.contraction = None
        if is_product:
            self.contraction = Contraction(operator, tensors[operator.operands[0].tensor].dtype, self._held)
        self._steps = [self._step(i) for i in operator.body] if self.contraction is None else []
        rank = len(operator.factors)
        self.operand_alignments = [Alignment.of(operand.axes, rank) for operand in operator.operands]
        self.result_alignments = [Alignment.of(result.axes, rank) for result in operator.results]

    def _step(self, instruction: Instruction) -> Pointwise | None:
        """None stands for a reduction, which needs the tile's extents."""
        if self._held and instruction.opcode in SELECTORS:
            axes = self.operator.operands[instruction.inputs[0]].axes
            held = {d: self._held[f] for d, f in enumerate(axes) if f is not None and f in self._held}
            return partial(_select, instruction, held)
        if not self.aligned:
            return partial(_move, instruction)
        return None if instruction.opcode in _REDUCTIONS else pointwise_step(instruction)

    def run(self, arrays: list[np.ndarray], extents: tuple[int, ...]) -> list[np.ndarray]:
        """One aligned array a result; it broadcasts to the result's block.

        `arrays`: one an operand, aligned or not as `self.aligned` says. numpy's floating-point
        warnings are the caller's to silence.
        """
        if self.contraction is not None:
            return [self.contraction.round(self.contraction.partial(arrays, extents))]
        values = list(arrays)
        for instruction, step in zip(self.operator.body, self._steps, strict=True):
            inputs = [values[i] for i in instruction.inputs]
            values.append(step(*inputs) if step else _reduce(instruction, inputs[0], extents))
        first = len(arrays)
        found = [values[first + result.value] for result in self.operator.results]
        return found if self.aligned else self._align_results(found, extents)

    def _align_results(self, arrays: list[np.ndarray], extents: tuple[int, ...]) -> list[np.ndarray]:
        return [
            alignment.apply(array.reshape(block_shape(result.axes, extents)))
            for alignment, result, array in zip(
                self.result_alignments, self.operator.results, arrays, strict=True
            )
        ]


def _move(instruction: Instruction, *arrays: np.ndarray) -> np.ndarray:
    """A memory instruction; pointwise ones may stand beside it when shapes agree."""
    mover = MOVERS.get(instruction.opcode)
    if mover is None:
        return pointwise_step(instruction)(*arrays)
    return mover(instruction, list(arrays)).astype(instruction.dtype.numpy, copy=False)


def _select(instruction: Instruction, held: Mapping[int, HeldRows], *arrays: np.ndarray) -> np.ndarray:
    """A gather from a table of which the chip holds the rows `held`, by dimension."""
    found = SELECTORS[instruction.opcode](instruction, list(arrays), held)
    return np.asarray(found).astype(instruction.dtype.numpy, copy=False)


def run_body(
    operator: Operator,
    operand_blocks: list[np.ndarray],
    extents: tuple[int, ...],
    tensors: Mapping[str, Tensor],
    place: MeshPlace | None = None,
) -> list[np.ndarray]:
    """The operator's results on one tile, executed by the chip at `place`.

    operand_blocks: one a operand, with the viewed operand's dimensions restricted to the tile.
    extents: the tile's extent along every factor.
    Returns one block a result, with the dimensions of its `axes` (None: extent 1), in the type of
    the instruction that made it. Raises ValueError for an opcode without a kernel.
    """
    body = Body(operator, tensors, place)
    arrays = _aligned(body, operand_blocks)
    with np.errstate(all="ignore"):
        values = body.run(arrays, extents)
    return [
        unalign(value, result.axes, extents) for value, result in zip(values, operator.results, strict=True)
    ]


def matmul_partial(
    operator: Operator,
    operand_blocks: list[np.ndarray],
    extents: tuple[int, ...],
    tensors: Mapping[str, Tensor],
) -> np.ndarray:
    """Accumulators of one tile of a matrix operator, with the dimensions of its result's `axes`:
    fp32 (fp64 for fp64, int32 for integers), to be added up over the tiles of the reduced factor."""
    body = Body(operator, tensors)
    if body.contraction is None:
        raise ValueError(f"{operator.name} is no matrix operator")
    with np.errstate(all="ignore"):
        accumulators = body.contraction.partial(_aligned(body, operand_blocks), extents)
    return unalign(accumulators, operator.results[0].axes, extents)


def _aligned(body: Body, blocks: list[np.ndarray]) -> list[np.ndarray]:
    if not body.aligned:
        return blocks
    return [alignment.apply(block) for alignment, block in zip(body.operand_alignments, blocks, strict=True)]
