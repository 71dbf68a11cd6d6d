"""What a chip's piece of an operator takes: closed forms of what tiles will take, per choice of pieces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from chiplan.ir import (
    Chip,
    MatrixRule,
    Operator,
    Tensor,
    Unit,
    load_rate,
    matrix_factors,
    matrix_rules,
    moved_bytes,
    unit_instances,
    unit_rate,
)

_CHUNKS = np.arange(1, 65)


@dataclass(frozen=True)
class PieceCost:
    """latency: cycles until the piece's last result is in SRAM, its operands all there. work: cycles of one
    instance if its tiles were dealt evenly."""

    latency: int
    work: int


class PieceCosts:
    """Costs of an operator on one chip, by the extents of its factors there."""

    def __init__(self, operator: Operator, tensors: Mapping[str, Tensor], chip: Chip) -> None:
        self._operator, self._tensors, self._chip = operator, tensors, chip
        self._instances = unit_instances(chip, operator.unit)
        self._rate = unit_rate(chip, operator.unit)
        self._seen: dict[tuple[int, ...], PieceCost] = {}
        self._roles = matrix_factors(operator) if operator.unit is Unit.MATRIX else None

    def of(self, extents: Sequence[int]) -> PieceCost:
        """One extent a factor; raises BadInput (`no_cycle_rule`) like `tile_timing`."""
        key = tuple(extents)
        if key not in self._seen:
            self._seen[key] = self._matrix(key) if self._roles else self._streaming(key)
        return self._seen[key]

    def _matrix(self, extents: tuple[int, ...]) -> PieceCost:
        """The best of all row chunks, as the tile choice weighs them."""
        found = [
            self._blocks(extents, rule) for rule in matrix_rules(self._operator, self._tensors, self._chip)
        ]
        best = min(found, key=lambda cost: (cost.latency, cost.work))
        return PieceCost(best.latency + int(self._chip.matrix.depth), best.work)

    def _blocks(self, extents: tuple[int, ...], rule: MatrixRule) -> PieceCost:
        assert self._roles is not None
        batch, rows, columns, reduced = (prod(extents[f] for f in group) for group in self._roles)
        itemsize = self._tensors[self._operator.operands[1].tensor].dtype.itemsize
        block = min(columns, rule.columns) * min(reduced, rule.rows) * itemsize
        load = ceil(block / load_rate(self._chip))
        chunks = _CHUNKS[: max(1, rows)]
        pieces = batch * prod(ceil(extents[f] / rule.columns) for f in self._roles.columns) * chunks
        depth = prod(ceil(extents[f] / rule.rows) for f in self._roles.reduced)
        streaming = -(-rows // chunks) * self._row_cycles(
            rule, min(columns, rule.columns), min(reduced, rule.rows)
        )
        gap = depth * np.maximum(np.ceil(streaming).astype(np.int64), load)
        latency = -(-pieces // self._instances) * gap
        best = int(latency.argmin())
        return PieceCost(int(latency[best]), -(-int(pieces[best] * gap[best]) // self._instances))

    def _row_cycles(self, rule: MatrixRule, columns: int, reduced: int) -> float:
        """Cycles of a row through a block of that extent."""
        if self._rate is None:
            return rule.cycles_per_row
        entering = self._tensors[self._operator.operands[0].tensor].dtype.itemsize * reduced
        leaving = self._tensors[self._operator.results[0].tensor].dtype.itemsize * columns
        return max(rule.cycles_per_row, (entering + leaving) / self._rate)

    def _streaming(self, extents: tuple[int, ...]) -> PieceCost:
        chip, operator = self._chip, self._operator
        if operator.unit is Unit.VECTOR:
            unit = chip.vector
            rate = max((unit.cycles.get(i.dtype, 1) for i in operator.body), default=1)
            cycles = ceil(prod(extents) / unit.lanes) * ceil(len(operator.body) / unit.chained) * rate
            depth = int(unit.depth)
        else:
            copy = chip.switch if operator.unit is Unit.SWITCH else chip.memory
            result = operator.results[0]
            written = prod(extents[axis] for axis in result.axes if axis is not None)
            nbytes = written * self._tensors[result.tensor].dtype.itemsize
            cycles, depth = ceil(nbytes / copy.bytes_per_cycle), int(copy.depth)
        work = ceil(max(cycles, self._moving(extents)) / self._instances)
        return PieceCost(work + depth, work)

    def _moving(self, extents: tuple[int, ...]) -> int:
        """Cycles of one instance that moving operands and results takes, where a rule limits it."""
        if self._rate is None:
            return 0
        moved = moved_bytes(self._operator, self._tensors, np.array(extents, dtype=np.int64))
        return ceil(int(moved) / self._rate)
