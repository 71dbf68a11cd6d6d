"""Ready times by whole arrays against element by element, tile by tile."""

from itertools import product
from math import prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.ir import (
    DType,
    Expand,
    Factor,
    Instruction,
    Operand,
    Operator,
    Reshape,
    Result,
    Slice,
    Tiling,
    Transpose,
    Unit,
    View,
    apply_view,
    view_shape,
)
from chiplan.runtime_sim.ready_times import (
    cell_edges,
    cell_minima,
    operand_needs,
    range_maxima,
    result_grid,
    spread,
    spread_cells,
)

NEVER = 10**6


@st.composite
def views(draw: st.DrawFn, shape: tuple[int, ...]) -> View:
    """Up to three steps over a tensor of `shape`."""
    view: list[Reshape | Transpose | Slice | Expand] = []
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.integers(0, 3)):
            case 0:
                merged = draw(st.booleans())
                view.append(Reshape((prod(shape),) if merged else (*shape, 1)))
            case 1:
                view.append(Transpose(tuple(draw(st.permutations(range(len(shape)))))))
            case 2:
                starts = tuple(draw(st.integers(0, extent - 1)) for extent in shape)
                view.append(Slice(starts, shape, tuple(draw(st.integers(1, 2)) for _ in shape)))
            case _:
                view.append(Expand(tuple(draw(st.integers(1, 3)) if e == 1 else e for e in shape)))
        shape = view_shape((view[-1],), shape)
    return tuple(view)


def operator_over(
    extents: tuple[int, ...], axes: tuple[int | None, ...], written: tuple[int | None, ...]
) -> Operator:
    factors = tuple(Factor(f"f{i}", extent) for i, extent in enumerate(extents))
    return Operator(
        "op",
        Unit.VECTOR,
        factors,
        (Operand("t", (), axes),),
        (Result("r", written, (0,) * len(written), 0),),
        (Instruction("Relu", (0,), DType.FP32),),
    )


@st.composite
def tilings(draw: st.DrawFn, extents: tuple[int, ...]) -> Tiling:
    blocks = tuple(draw(st.integers(1, extent)) for extent in extents)
    return Tiling(blocks, tuple(draw(st.permutations(range(len(extents))))))


def tile_boxes(operator: Operator, tiling: Tiling) -> list[tuple[slice, ...]]:
    """The range of every factor in every tile, by the definition of a tiling."""
    grid = tiling.grid(operator)
    boxes = []
    for pieces in product(*(range(grid[f]) for f in tiling.order)):
        at = dict(zip(tiling.order, pieces, strict=True))
        boxes.append(tuple(slice(at[f] * b, (at[f] + 1) * b) for f, b in enumerate(tiling.blocks)))
    return boxes


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_what_a_tile_needs(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    ready = np.array(data.draw(st.lists(st.integers(0, 99), min_size=prod(shape), max_size=prod(shape))))
    viewed = apply_view(data.draw(views(shape)), ready.reshape(shape))
    # Dimensions of extent 1 may be broadcast; one factor is not read at all.
    order = data.draw(st.permutations(range(viewed.ndim)))
    axes = tuple(
        None if extent == 1 and data.draw(st.booleans()) else order[d]
        for d, extent in enumerate(viewed.shape)
    )
    extents = [1] * viewed.ndim + [data.draw(st.integers(1, 3))]
    for d, axis in enumerate(axes):
        if axis is not None:
            extents[axis] = viewed.shape[d]
    operator = operator_over(tuple(extents), axes, ())
    tiling = data.draw(tilings(tuple(extents)))
    needs = operand_needs(viewed, tiling, operator.operands[0])
    grid = tiling.grid(operator)
    found = np.broadcast_to(needs, [grid[f] for f in tiling.order]).ravel()
    expected = [
        viewed[tuple(slice(None) if axis is None else box[axis] for axis in axes)].max()
        for box in tile_boxes(operator, tiling)
    ]
    assert found.tolist() == expected


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_when_a_result_is_ready(data: st.DataObject) -> None:
    extents = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    kept = data.draw(st.lists(st.sampled_from(range(len(extents))), unique=True))
    written: tuple[int | None, ...] = (*kept, None) if data.draw(st.booleans()) else tuple(kept)
    operator = operator_over(extents, (), written)
    tiling = data.draw(tilings(extents))
    boxes = tile_boxes(operator, tiling)
    ready = np.array(data.draw(st.lists(st.integers(0, 99), min_size=len(boxes), max_size=len(boxes))))
    result = operator.results[0]
    found = spread(result_grid(ready, operator, tiling, result), operator, tiling, result)
    expected = np.zeros([1 if axis is None else extents[axis] for axis in written], dtype=np.int64)
    for box, cycle in zip(boxes, ready, strict=True):
        region = tuple(slice(None) if axis is None else box[axis] for axis in written)
        expected[region] = np.maximum(expected[region], cycle)
    assert np.array_equal(found, expected)


RANGES = st.lists(
    st.tuples(st.integers(0, 11), st.integers(1, 6), st.integers(0, 99), st.integers(0, 1)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=80, deadline=None)
@given(RANGES)
def test_ranges_that_arrive(ranges: list[tuple[int, int, int, int]]) -> None:
    first, size, cycle, chip = (np.array(column) for column in zip(*ranges, strict=True))
    last = np.minimum(first + size, 12)
    expected = np.full((2, 12), NEVER)
    for low, high, when, where in zip(first, last, cycle, chip, strict=True):
        expected[where, low:high] = np.minimum(expected[where, low:high], when)
    edges = cell_edges(12, first, last)
    cells = cell_minima(edges, chip, first, last, cycle, np.full((2, len(edges) - 1), NEVER))
    assert np.array_equal([spread_cells(row, edges) for row in cells], expected)


@settings(max_examples=80, deadline=None)
@given(RANGES, st.lists(st.integers(0, 99), min_size=12, max_size=12))
def test_ranges_that_are_sent(ranges: list[tuple[int, int, int, int]], cycles: list[int]) -> None:
    first = np.array([low for low, *_ in ranges])
    last = np.array([min(low + size, 12) for low, size, *_ in ranges])
    expected = [max(cycles[low:high]) for low, high in zip(first, last, strict=True)]
    assert range_maxima(np.array(cycles), first, last).tolist() == expected
