"""Ready times through views equal the dense array seen through the same views."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.ready_times import ReadyMap, block_maximum, grid_map, latest, map_view
from chiplan.ir import Expand, Reshape, Slice, Transpose, ViewStep, Window, apply_view, step_shape


def dense(ready: ReadyMap) -> np.ndarray:
    cells = [
        np.searchsorted(b, np.arange(n), side="right") - 1
        for b, n in zip(ready.breaks, ready.shape, strict=True)
    ]
    return ready.cycles[np.ix_(*cells)] if cells else ready.cycles


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


@st.composite
def factorisations(draw, product: int) -> tuple[int, ...]:
    extents = []
    while product > 1 and len(extents) < 3:
        extents.append(draw(st.sampled_from(divisors(product))))
        product //= extents[-1]
    return (*extents, product)


@st.composite
def steps(draw, shape: tuple[int, ...]) -> ViewStep:
    kind = draw(st.sampled_from(["reshape", "transpose", "slice", "expand", "window"]))
    if kind == "reshape":
        return Reshape(draw(factorisations(int(np.prod(shape)))))
    if kind == "transpose":
        return Transpose(tuple(draw(st.permutations(range(len(shape))))))
    if kind == "expand":
        return Expand(tuple(n if n > 1 else draw(st.integers(1, 3)) for n in shape))
    if kind == "window":
        axis = draw(st.integers(0, len(shape) - 1))
        size = draw(st.integers(1, shape[axis]))
        return Window(
            axis,
            size,
            draw(st.integers(1, 3)),
            draw(st.integers(1, max(1, (shape[axis] - 1) // max(1, size - 1)))),
        )
    bounds = []
    for n in shape:
        low = draw(st.integers(0, n - 1))
        bounds.append((low, draw(st.integers(low + 1, n)), draw(st.integers(1, 3))))
    return Slice(*map(tuple, zip(*bounds, strict=True)))


@st.composite
def views(draw):
    shape = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4).map(tuple))
    view, seen = [], shape
    for _ in range(draw(st.integers(0, 5))):
        step = draw(steps(seen))
        seen = step_shape(step, seen)
        if np.prod(seen) > 20_000:
            break
        view.append(step)
    return shape, tuple(view)


@given(views(), st.data())
@settings(max_examples=300, deadline=None)
def test_views_of_ready_times_are_exact(case, data) -> None:
    shape, view = case
    blocks = [data.draw(st.integers(1, n)) for n in shape]
    grid = tuple(-(-n // b) for n, b in zip(shape, blocks, strict=True))
    cycles = np.random.default_rng(0).integers(1, 1000, grid)
    ready = grid_map(shape, (0,) * len(shape), blocks, cycles, shape)
    seen = map_view(ready, view)
    expected = apply_view(view, dense(ready))
    assert seen.shape == expected.shape
    np.testing.assert_array_equal(dense(seen), expected)
    reads = [data.draw(st.integers(1, n)) for n in seen.shape]
    for axis, block in enumerate(reads):
        expected = np.maximum.reduceat(expected, np.arange(0, expected.shape[axis], block), axis=axis)
    np.testing.assert_array_equal(block_maximum(seen, reads), expected)


def test_boxes_of_one_tensor_combine() -> None:
    left = grid_map((4, 6), (0, 0), (2, 3), np.array([[1], [2]]), (4, 3))
    right = grid_map((4, 6), (0, 3), (4, 2), np.array([[7, 8]]), (4, 3))
    expected = np.zeros((4, 6), dtype=int)
    expected[:2, :3], expected[2:, :3], expected[:, 3:5], expected[:, 5:] = 1, 2, 7, 8
    np.testing.assert_array_equal(dense(latest([left, right])), expected)
