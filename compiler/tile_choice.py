"""How each operator is cut into tiles: block sizes, loop order and the instances that run them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, prod

import numpy as np

from chiplan.ir import (
    Chip,
    Graph,
    MatrixRule,
    Operand,
    Operator,
    Shape,
    Tensor,
    Tiling,
    Unit,
    block_extents,
    load_rate,
    matrix_factors,
    matrix_rules,
    tile_timing,
    unit_instances,
)

from .tile_steps import block_of_steps, outer_loop, seen_by, written

# A tile shorter than this costs more in bookkeeping than its early result saves; one longer than
# this holds back the consumers that wait for it.
_SHORTEST, _LONGEST = 16, 64
_PIECES = 16


def choose_tiling(operator: Operator, tensors: Mapping[str, Tensor], chip: Chip) -> Tiling:
    """The tiling of an operator on a chip; raises BadInput (`no_cycle_rule`) like `tile_timing`."""
    if operator.unit is Unit.MATRIX:
        return _matrix_tiling(operator, tensors, chip)
    return _streaming_tiling(operator, tensors, chip)


def _matrix_tiling(operator: Operator, tensors: Mapping[str, Tensor], chip: Chip) -> Tiling:
    """Loop order batch and m as the operator has them, n, k: one output block accumulates in one go. The
    rows are cut so that the blocks deal evenly onto the instances; a chunk shorter than a block's load
    would expose the load.
    """
    roles = matrix_factors(operator)
    extents = [factor.extent for factor in operator.factors]
    rows = prod(extents[f] for f in roles.rows)
    itemsize = tensors[operator.operands[1].tensor].dtype.itemsize

    def cost(choice: tuple[MatrixRule, tuple[int, ...]]) -> tuple[int, int]:
        rule, chunk = choice
        load = ceil(rule.rows * rule.columns * itemsize / load_rate(chip))
        gaps = np.maximum(_chunk_rows(extents, roles.rows, chunk) * rule.cycles_per_row, load)
        atoms = prod(extents[f] for f in roles.batch) * _pieces(extents, roles.columns, rule.columns)
        idle = -atoms * len(gaps) % chip.matrix.instances * int(gaps.max())
        cycles = ceil((atoms * int(gaps.sum()) + idle) / chip.matrix.instances)
        depth = _pieces(extents, roles.reduced, rule.rows)
        return cycles * depth, abs(prod(chunk) * rule.cycles_per_row - _LONGEST // 2)

    chunks = dict.fromkeys(
        tuple(_fill_inner(extents, roles.rows, ceil(rows / count)).values())
        for count in range(1, min(rows, 4 * _PIECES) + 1)
    )
    rule, chunk = min(product(matrix_rules(operator, tensors, chip), chunks), key=cost)
    blocks = [1] * len(extents)
    for f, block in (
        *_filled(extents, roles.columns, rule.columns).items(),
        *_filled(extents, roles.reduced, rule.rows).items(),
        *zip(roles.rows, chunk, strict=True),
    ):
        blocks[f] = block
    gathered = tuple(f for f, factor in enumerate(operator.factors) if factor.gathered)
    for f in gathered:
        blocks[f] = extents[f]
    streamed = sorted((*roles.batch, *roles.rows))
    return Tiling(tuple(blocks), (*streamed, *roles.columns, *roles.reduced, *gathered))


def _chunk_rows(extents: list[int], factors: tuple[int, ...], chunk: tuple[int, ...]) -> np.ndarray:
    """Rows of every chunk that blocks of the row factors make, int64[chunks]."""
    rows = np.ones(1, dtype=np.int64)
    for f, block in zip(factors, chunk, strict=True):
        rows = np.multiply.outer(rows, block_extents(extents[f], block)).ravel()
    return rows


def _filled(extents: list[int], factors: tuple[int, ...], side: int) -> dict[int, int]:
    """Blocks of `factors` that together fill a side of a stationary block, the innermost first."""
    blocks = {}
    for f in reversed(factors):
        blocks[f] = max(1, min(extents[f], side))
        side //= blocks[f]
    return blocks


def _pieces(extents: list[int], factors: tuple[int, ...], side: int) -> int:
    return prod(ceil(extents[f] / block) for f, block in _filled(extents, factors, side).items())


def _fill_inner(extents: list[int], factors: tuple[int, ...], budget: int) -> dict[int, int]:
    """Blocks of `factors`, in their order: `budget` iterations go to the innermost first, in even pieces."""
    blocks = {}
    for f in reversed(factors):
        pieces = ceil(extents[f] / max(1, min(budget, extents[f])))
        blocks[f] = ceil(extents[f] / pieces)
        budget //= blocks[f]
    return {f: blocks[f] for f in factors}


def _streaming_tiling(operator: Operator, tensors: Mapping[str, Tensor], chip: Chip) -> Tiling:
    """Row-major tiles of some tens of cycles; reduced and whole factors stay in one piece."""
    extents = [factor.extent for factor in operator.factors]
    uncut = [
        f for f, factor in enumerate(operator.factors) if factor.reducer or factor.whole or factor.gathered
    ]
    cut = tuple(f for f in range(len(extents)) if f not in uncut)
    per_cycle = _elements_per_cycle(operator, tensors, chip)
    cycles = ceil(
        prod(e for e, f in zip(extents, operator.factors, strict=True) if not f.gathered) / per_cycle
    )
    wanted = min(_LONGEST, max(_SHORTEST, ceil(cycles / _PIECES)))
    blocks = list(extents)
    streamed = [f for f in uncut if not operator.factors[f].gathered]
    budget = max(1, wanted * per_cycle // prod(extents[f] for f in streamed))
    for f, block in _fill_inner(extents, cut, budget).items():
        blocks[f] = block
    return Tiling(tuple(blocks), (*cut, *uncut))


def _elements_per_cycle(operator: Operator, tensors: Mapping[str, Tensor], chip: Chip) -> int:
    if operator.unit is Unit.VECTOR:
        return chip.vector.lanes
    copy = chip.switch if operator.unit is Unit.SWITCH else chip.memory
    return max(1, copy.bytes_per_cycle // tensors[operator.results[0].tensor].dtype.itemsize)


@dataclass(frozen=True)
class TiledOperator:
    """An operator with its tiles. An *atom* is a run of tiles that may not be interrupted: the k tiles
    of one output block on the matrix unit, a single tile elsewhere.

    offset, occupancy, load: int64[atoms, tiles an atom]; offset is from the atom's start.
    work: cycles of one instance if the atoms were dealt perfectly evenly (a lower bound).
    """

    operator: Operator
    tiling: Tiling
    offset: np.ndarray
    occupancy: np.ndarray
    load: np.ndarray
    depth: int
    work: int

    def durations(self, longest_load: int) -> np.ndarray:
        """Cycles from each atom's start until any next atom may start on its instance, int64[atoms],
        when no block of the program takes longer than `longest_load` to load."""
        durations: np.ndarray = self.offset[:, -1] + np.maximum(self.occupancy[:, -1], longest_load)
        return durations


def tile_operator(
    operator: Operator, tensors: Mapping[str, Tensor], chip: Chip, tiling: Tiling | None = None
) -> TiledOperator:
    """Cut an operator into tiles, those of `tiling` if given, and time them."""
    tiling = tiling or choose_tiling(operator, tensors, chip)
    timing = tile_timing(operator, tiling, tensors, chip)
    grid = tiling.grid(operator)
    run = 1
    if operator.unit is Unit.MATRIX:
        run = prod(grid[f] for f in matrix_factors(operator).reduced)
    occupancy, load = timing.occupancy.reshape(-1, run), timing.load.reshape(-1, run)
    gaps = np.maximum(occupancy[:, :-1], load[:, 1:])
    offset = np.concatenate([np.zeros((len(gaps), 1), dtype=np.int64), np.cumsum(gaps, axis=1)], axis=1)
    instances = unit_instances(chip, operator.unit)
    work = ceil(max(int(occupancy.sum()), int(load.sum())) / instances)
    return TiledOperator(operator, tiling, offset, occupancy, load, timing.depth, work)


def tile_graph(graph: Graph, chip: Chip) -> dict[int, TiledOperator]:
    """Every operator of a graph in tiles; operators of equal shape, as in repeated layers, once.

    Where chips exchange tensors, a small operator has as many tiles as what it reads: a single one would
    hold up everything until all of that is there.
    """
    seen: dict[object, TiledOperator] = {}
    tiled: dict[int, TiledOperator] = {}
    makers: dict[str, int] = {}
    for index, operator in enumerate(graph.operators):
        key = _structure(operator, graph)
        if key not in seen:
            seen[key] = tile_operator(operator, graph.tensors, chip)
        if graph.exchanges and operator.unit is Unit.VECTOR and len(seen[key].offset) == 1:
            tiling = _following(seen[key], graph, tiled, makers)
            key = (key, tiling)
            if key not in seen:
                seen[key] = tile_operator(operator, graph.tensors, chip, tiling)
        tiled[index] = replace(seen[key], operator=operator)
        makers |= {result.tensor: index for result in operator.results}
    return tiled


def _structure(operator: Operator, graph: Graph) -> tuple[object, ...]:
    """What an operator's tiles depend on."""
    types = tuple(graph.tensors[o.tensor].dtype for o in operator.operands)
    results = tuple((r.axes, graph.tensors[r.tensor].dtype) for r in operator.results)
    axes = tuple(o.axes for o in operator.operands)
    body = tuple(i.dtype for i in operator.body)
    return operator.unit, operator.factors, axes, types, results, body


def _following(
    single: TiledOperator, graph: Graph, tiled: Mapping[int, TiledOperator], makers: Mapping[str, int]
) -> Tiling:
    """The tiling of an operator of one tile that takes what it reads in the steps in which it is made."""
    operator, tiling = single.operator, single.tiling
    factor = next((f for f in tiling.order if operator.factors[f].extent > 1), None)
    if factor is None or operator.factors[factor].reducer or operator.factors[factor].whole:
        return tiling
    extent = operator.factors[factor].extent
    block = extent
    for operand in operator.operands:
        if (maker := makers.get(operand.tensor)) is not None:
            found = _block_made(operand, factor, tiled[maker], graph.tensors[operand.tensor].shape)
            block = min(block, found or extent)
    blocks = list(tiling.blocks)
    blocks[factor] = max(block, ceil(extent / _PIECES))
    return replace(tiling, blocks=tuple(blocks))


def _block_made(operand: Operand, factor: int, maker: TiledOperator, shape: Shape) -> int | None:
    """How many iterations of `factor` find what they read made in one step; None for all of them."""
    loop = outer_loop(maker.operator, maker.tiling)
    if loop is None:
        return None
    results = [result for result in maker.operator.results if result.tensor == operand.tensor]
    made = written(maker.operator, results[0], loop, shape)
    return block_of_steps(made, seen_by(operand), factor)
