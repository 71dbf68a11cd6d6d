"""Held cycles, against counting them one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chiplan.compiler.occupancy import busy_in_bins, busy_until, busy_with_others, folded_in_bins

INTERVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=8)


def _columns(intervals: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    start = np.array([first for first, _ in intervals], dtype=np.int64)
    return start, start + np.array([length for _, length in intervals], dtype=np.int64)


def _held(intervals: list[tuple[int, int]], cycle: int) -> int:
    return sum(first <= cycle < first + length for first, length in intervals)


@given(INTERVALS, st.lists(st.integers(0, 90), min_size=1, max_size=6).map(sorted))
def test_bins_hold_what_lies_within_them(intervals: list[tuple[int, int]], edges: list[int]) -> None:
    start, end = _columns(intervals)
    before = [sum(_held(intervals, cycle) for cycle in range(edge)) for edge in edges]
    assert busy_until(start, end, np.array(edges)).tolist() == before
    assert busy_in_bins(start, end, np.array(edges)).tolist() == np.diff(before).tolist()


@given(INTERVALS, st.integers(1, 25))
def test_steady_state_is_every_micro_batch_on_one_circle(
    intervals: list[tuple[int, int]], interval: int
) -> None:
    start, end = _columns(intervals)
    folded = [0] * interval
    for first, length in intervals:
        for cycle in range(first, first + length):
            folded[cycle % interval] += 1
    assert folded_in_bins(start, end, np.arange(interval + 1), interval).tolist() == folded


@given(INTERVALS, st.integers(1, 25), st.integers(0, 60), st.integers(0, 20))
def test_others_are_all_micro_batches_but_one(
    intervals: list[tuple[int, int]], interval: int, first: int, length: int
) -> None:
    start, end = _columns(intervals)
    expected = sum(
        _held(intervals, cycle - number * interval)
        for cycle in range(first, first + length)
        for number in range(-100, 101)
        if number
    )
    last = np.array([first + length])
    assert busy_with_others(start, end, np.array([first]), last, interval).tolist() == [expected]
