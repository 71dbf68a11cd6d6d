"""The memory unit: instructions that move elements by index, with ONNX's attributes.

Operands come as blocks with the viewed operand's own dimensions, and the result has the dimensions
that ONNX gives it. Negative indices count from the end. An index out of range is clamped, as the
hardware would still read some row; the comparison of outputs then shows it.
"""

from collections.abc import Callable, Mapping

import numpy as np

from chiplan.ir import Instruction

from .pieces import NO_SPLIT, HeldRows

Mover = Callable[[Instruction, list[np.ndarray]], np.ndarray]


def _integer(instruction: Instruction, name: str, default: int) -> int:
    value = instruction.attribute(name)
    if value is None:
        return default
    if not isinstance(value, (int, float)):
        raise TypeError(f"{instruction.opcode}: attribute {name} is one number, got {value!r}")
    return int(value)


def _axis(instruction: Instruction, rank: int, default: int) -> int:
    return _integer(instruction, "axis", default) % rank


def in_range(indices: np.ndarray, extent: int) -> np.ndarray:
    """Indices counted from the start; what is out of range is clamped."""
    wide = indices.astype(np.int64)
    return np.clip(np.where(wide < 0, wide + extent, wide), 0, extent - 1)


def _locate(indices: np.ndarray, extent: int, rows: HeldRows | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions in an axis of `extent`; and where the chip holds only some `rows` of a longer axis,
    which of the indices name one of them (None: all)."""
    if rows is None:
        return in_range(indices, extent), None
    return rows.find(in_range(indices, rows.whole))


def _zero_elsewhere(found: np.ndarray, is_here: np.ndarray | None) -> np.ndarray:
    """`found` with zeros for rows that the chip does not hold; `is_here` has the leading dimensions that
    end with the index's own."""
    if is_here is None:
        return found
    is_here = is_here.reshape(is_here.shape + (1,) * (found.ndim - is_here.ndim))
    return np.where(is_here, found, found.dtype.type(0))


def _gather(
    instruction: Instruction, arrays: list[np.ndarray], held: Mapping[int, HeldRows] = NO_SPLIT
) -> np.ndarray:
    data, indices = arrays
    axis = _axis(instruction, data.ndim, 0)
    positions, is_here = _locate(indices, data.shape[axis], held.get(axis))
    found = np.take(data, positions, axis=axis)
    # Dimensions before the indexed one lead; a mask with extent 1 there broadcasts.
    return _zero_elsewhere(found, is_here if is_here is None else is_here[(None,) * axis])


def _tuple_index(data: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, ...]:
    """Index arrays of the first axes, one for each entry of the last dimension."""
    return tuple(in_range(indices[..., i], data.shape[i]) for i in range(indices.shape[-1]))


def _gather_nd(
    instruction: Instruction, arrays: list[np.ndarray], held: Mapping[int, HeldRows] = NO_SPLIT
) -> np.ndarray:
    data, indices = arrays
    first = _integer(instruction, "batch_dims", 0)
    slots = indices.shape[first:-1]
    batch: tuple[np.ndarray, ...] = np.indices(data.shape[:first], sparse=True) if first else ()
    lead = tuple(grid.reshape(grid.shape + (1,) * len(slots)) for grid in batch)
    located = [
        _locate(indices[..., i], data.shape[first + i], held.get(first + i)) for i in range(indices.shape[-1])
    ]
    masks = [is_here for _, is_here in located if is_here is not None]
    found = np.asarray(data[lead + tuple(positions for positions, _ in located)])
    return _zero_elsewhere(found, np.logical_and.reduce(masks) if masks else None)


def _gather_elements(
    instruction: Instruction, arrays: list[np.ndarray], held: Mapping[int, HeldRows] = NO_SPLIT
) -> np.ndarray:
    data, indices = arrays
    axis = _axis(instruction, data.ndim, 0)
    index: list[np.ndarray] = list(np.indices(indices.shape, sparse=True))
    index[axis], is_here = _locate(indices, data.shape[axis], held.get(axis))
    return _zero_elsewhere(np.asarray(data[tuple(index)]), is_here)


def _element_index(data: np.ndarray, indices: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    index: list[np.ndarray] = list(np.indices(indices.shape, sparse=True))
    index[axis] = in_range(indices, data.shape[axis])
    return tuple(index)


_COMBINE = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter(
    instruction: Instruction, data: np.ndarray, index: tuple[np.ndarray, ...], updates: np.ndarray
) -> np.ndarray:
    result = data.copy()
    combine = _COMBINE.get(str(instruction.attribute("reduction")))
    if combine is None:
        result[index] = updates
    else:
        combine.at(result, index, updates)
    return result


def _scatter_nd(instruction: Instruction, arrays: list[np.ndarray]) -> np.ndarray:
    data, indices, updates = arrays
    return _scatter(instruction, data, _tuple_index(data, indices), updates)


def _scatter_elements(instruction: Instruction, arrays: list[np.ndarray]) -> np.ndarray:
    data, indices, updates = arrays
    axis = _axis(instruction, data.ndim, 0)
    return _scatter(instruction, data, _element_index(data, indices, axis), updates)


def _top_order(instruction: Instruction, data: np.ndarray) -> np.ndarray:
    """Indices of the `k` largest (or smallest) along `axis`; among equals the lower index first."""
    axis = _axis(instruction, data.ndim, -1)
    if _integer(instruction, "largest", 1):
        # A stable ascending sort of the reversed axis, reversed again, is a stable descending one.
        backward = np.flip(np.argsort(np.flip(data, axis), axis=axis, kind="stable"), axis)
        order = data.shape[axis] - 1 - backward
    else:
        order = np.argsort(data, axis=axis, kind="stable")
    return np.take(order, np.arange(_integer(instruction, "k", 1)), axis=axis)


def _top_values(instruction: Instruction, arrays: list[np.ndarray]) -> np.ndarray:
    order = _top_order(instruction, arrays[0])
    return np.take_along_axis(arrays[0], order, _axis(instruction, order.ndim, -1))


def _top_indices(instruction: Instruction, arrays: list[np.ndarray]) -> np.ndarray:
    return _top_order(instruction, arrays[0])


def _cumulative_sum(instruction: Instruction, arrays: list[np.ndarray]) -> np.ndarray:
    data = arrays[0]
    axis = _axis(instruction, data.ndim, 0)
    backwards = bool(_integer(instruction, "reverse", 0))
    wide = data.astype(np.float32) if data.dtype.itemsize == 2 and data.dtype.kind not in "iu" else data
    total = np.cumsum(np.flip(wide, axis) if backwards else wide, axis=axis, dtype=wide.dtype)
    if _integer(instruction, "exclusive", 0):
        total = np.roll(total, 1, axis)
        total[(slice(None),) * axis + (0,)] = 0
    return np.flip(total, axis) if backwards else total


def _arg_extreme(instruction: Instruction, arrays: list[np.ndarray]) -> np.ndarray:
    """ArgMax and ArgMin; the lower index wins unless `select_last_index`."""
    data = arrays[0]
    axis = _axis(instruction, data.ndim, 0)
    choose = np.argmax if instruction.opcode == "ArgMax" else np.argmin
    last = bool(_integer(instruction, "select_last_index", 0))
    index: np.ndarray = choose(np.flip(data, axis) if last else data, axis=axis, keepdims=True)
    index = data.shape[axis] - 1 - index if last else index
    return index if _integer(instruction, "keepdims", 1) else index.squeeze(axis)


def _one_hot(instruction: Instruction, arrays: list[np.ndarray]) -> np.ndarray:
    """Operands: indices, and optionally the pair (off, on), else 0 and 1; attribute `depth`."""
    indices = arrays[0]
    depth = _integer(instruction, "depth", 1)
    axis = _axis(instruction, indices.ndim + 1, -1)
    off, on = arrays[1].ravel() if len(arrays) > 1 else (0, 1)
    wide = indices.astype(np.int64)
    wrapped = np.where((wide >= -depth) & (wide < 0), wide + depth, wide)
    slot = np.arange(depth).reshape((-1,) + (1,) * (indices.ndim - axis))
    return np.where(np.expand_dims(wrapped, axis) == slot, on, off)


def _triangle(instruction: Instruction, arrays: list[np.ndarray]) -> np.ndarray:
    cut = np.triu if _integer(instruction, "upper", 1) else np.tril
    return np.asarray(cut(arrays[0], _integer(instruction, "k", 0)))


def _copy(_: Instruction, arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0]


SELECTORS: dict[str, Callable[..., np.ndarray]] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
}
"""Movers that also take, by dimension of the table, the rows of it that a chip of a group holds."""

MOVERS: dict[str, Mover] = {
    "ArgMax": _arg_extreme,
    "ArgMin": _arg_extreme,
    "Copy": _copy,
    "CumSum": _cumulative_sum,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TopKIndices": _top_indices,
    "TopKValues": _top_values,
    "Trilu": _triangle,
}
