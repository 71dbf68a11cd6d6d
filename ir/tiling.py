"""Tiles: how an operator's iteration space is cut, and how long each piece takes.

This module is the instruction-set manual. A tile's duration is a function of the target and of the
tile's extents alone: the scheduler asks here, the simulator recomputes from here and never trusts
the figure in a plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from .bandwidth import load_rate, moved_bytes, unit_rate
from .errors import BadInput, Problem
from .graph import Operator, Tensor, Unit
from .target import Chip, MatrixRule
from .types import DType


@dataclass(frozen=True)
class Tiling:
    """Factor f is cut into ceil(extent / blocks[f]) pieces, the last one ragged.

    Tile number t counts the grid in row-major order of `order` (factor indices, outermost first).
    """

    blocks: tuple[int, ...]
    order: tuple[int, ...]

    def grid(self, operator: Operator) -> tuple[int, ...]:
        """Pieces a factor, in the nest's factor order."""
        return tuple(
            -(-factor.extent // block) for factor, block in zip(operator.factors, self.blocks, strict=True)
        )

    def tiles(self, operator: Operator) -> int:
        return prod(self.grid(operator))


def block_extents(extent: int, block: int) -> np.ndarray:
    """Extents of the pieces of one factor, int64[pieces]."""
    starts = np.arange(0, extent, block)
    return np.minimum(block, extent - starts)


def tile_extents(operator: Operator, tiling: Tiling) -> np.ndarray:
    """Extent of every tile along every factor, int64[tiles, factors], in tile order."""
    pieces = [block_extents(operator.factors[f].extent, tiling.blocks[f]) for f in tiling.order]
    columns = np.meshgrid(*pieces, indexing="ij") if pieces else []
    extents = np.ones((tiling.tiles(operator), len(operator.factors)), dtype=np.int64)
    for f, column in zip(tiling.order, columns, strict=True):
        extents[:, f] = column.ravel()
    return extents


class MatrixFactors(NamedTuple):
    """Factor indices of a matrix operator by role."""

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    reduced: tuple[int, ...]


def load_index(operator: Operator) -> int | None:
    """Position of the operand that selects what a matrix operator loads; None without indexed load."""
    first = operator.body[0]
    indexed = operator.unit is Unit.MATRIX and first.opcode == "Gather"
    return first.inputs[1] if indexed else None


def matrix_factors(operator: Operator) -> MatrixFactors:
    """Roles of a matrix operator's factors (see `Operator`); the gathered factor has none."""
    index_operand = load_index(operator)
    selecting = set() if index_operand is None else set(operator.operands[index_operand].axes)
    streamed = {axis for axis in operator.operands[0].axes if axis is not None}
    stationary = {axis for axis in operator.operands[1].axes if axis is not None}
    roles: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    for index, factor in enumerate(operator.factors):
        if factor.gathered:
            continue
        if factor.reducer is not None:
            roles[3].append(index)
        elif index in selecting or (index in streamed and index in stationary):
            roles[0].append(index)
        elif index in stationary:
            roles[2].append(index)
        else:
            roles[1].append(index)
    return MatrixFactors(*map(tuple, roles))


@dataclass(frozen=True)
class TileTiming:
    """Cycles of every tile of an operator, int64[tiles] each.

    occupancy: the instance is busy in [start, start + occupancy).
    load: the stationary block is loaded in [start - load, start); zero but on the matrix unit. On
        one instance start[i] >= start[i-1] + max(occupancy[i-1], load[i]).
    depth: the result is in SRAM at start + occupancy + depth. Every tile reads its operands in
        [start, start + occupancy), and a stationary operand in [start - load, start).
    """

    occupancy: np.ndarray
    load: np.ndarray
    depth: int


def missing_rule(operator: Operator, unit: str, dtype: DType, known: list[DType]) -> BadInput:
    """The refusal for a dtype that a unit has no cycle rule for."""
    node = operator.nodes[0] if operator.nodes else operator.name
    instruction = operator.body[-1 if operator.unit is Unit.MATRIX else 0]
    return BadInput(
        Problem(
            "no_cycle_rule",
            f"operator {node}: the {unit} unit has no cycle rule for {dtype.value}; it has "
            f"{', '.join(sorted(d.value for d in known))}. Choose --precision or another target.",
            node=node,
            operator=instruction.opcode,
        )
    )


def matrix_rules(operator: Operator, tensors: Mapping[str, Tensor], chip: Chip) -> tuple[MatrixRule, ...]:
    """Block shapes that the matrix unit has for this operator's streamed dtype.

    Raises BadInput (`no_cycle_rule`), naming the operator.
    """
    dtype = tensors[operator.operands[0].tensor].dtype
    rules = chip.matrix.rules.get(dtype)
    if rules is None:
        raise missing_rule(operator, "matrix", dtype, list(chip.matrix.rules))
    return rules


def tile_timing(operator: Operator, tiling: Tiling, tensors: Mapping[str, Tensor], chip: Chip) -> TileTiming:
    """Durations of all tiles; raises BadInput when a dtype has no cycle rule on the unit.

    matrix: occupancy = rows streamed x cycles a row; load = bytes of the block / `load_rate`. An
        indexed load takes as long as any other: the table's other blocks are not touched.
    vector: ceil(elements of the iteration space / lanes) x cycles of the widest dtype in the body x
        ceil(instructions / chained operations). Streams are packed: ragged rows cost no lanes.
    switch, memory: ceil(bytes written / bytes a cycle).
    No occupancy is shorter than the `moved_bytes` of the tile take at the instance's `unit_rate`.
    """
    extents = tile_extents(operator, tiling)
    none = np.zeros(len(extents), dtype=np.int64)
    occupancy, load, depth = none, none, 0
    if operator.unit is Unit.MATRIX:
        rule = matrix_rules(operator, tensors, chip)[0]
        batch, rows, columns, reduced = matrix_factors(operator)
        block = extents[:, columns + reduced].prod(axis=1)
        itemsize = tensors[operator.operands[1].tensor].dtype.itemsize
        load = -(-block * itemsize // load_rate(chip))
        occupancy = extents[:, batch + rows].prod(axis=1) * rule.cycles_per_row
        depth = int(chip.matrix.depth)
    elif operator.unit is Unit.VECTOR:
        occupancy = -(-extents.prod(axis=1) // chip.vector.lanes) * _vector_passes(operator, chip)
        depth = int(chip.vector.depth)
    else:
        copy = chip.switch if operator.unit is Unit.SWITCH else chip.memory
        result = operator.results[0]
        written = [axis for axis in result.axes if axis is not None]
        nbytes = extents[:, written].prod(axis=1) * tensors[result.tensor].dtype.itemsize
        occupancy, depth = -(-nbytes // copy.bytes_per_cycle), int(copy.depth)
    rate = unit_rate(chip, operator.unit)
    if rate is not None:
        occupancy = np.maximum(occupancy, -(-moved_bytes(operator, tensors, extents) // rate))
    return TileTiming(occupancy, load, depth)


def _vector_passes(operator: Operator, chip: Chip) -> int:
    """Cycles that every vector of `lanes` elements takes."""
    vector = chip.vector
    unknown = [i.dtype for i in operator.body if i.dtype not in vector.cycles]
    if unknown:
        raise missing_rule(operator, "vector", unknown[0], list(vector.cycles))
    cycles = max(vector.cycles[i.dtype] for i in operator.body)
    return -(-len(operator.body) // vector.chained) * cycles
