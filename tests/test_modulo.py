"""The modulo table against a bitmap of the circle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.modulo import ModuloTable, NoRoom, place_in_order


@given(
    st.integers(5, 60),
    st.lists(
        st.tuples(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 7)), min_size=1, max_size=6)),
        max_size=6,
    ),
)
@settings(max_examples=300, deadline=None)
def test_placed_work_is_in_order_ready_and_never_overlaps_modulo_the_interval(interval, queues) -> None:
    table = ModuloTable(interval)
    taken = np.zeros(interval, dtype=int)
    for (queue,) in queues:
        ready = np.array([r for r, _ in queue])
        durations = np.array([d for _, d in queue])
        try:
            starts = place_in_order(table, ready, durations)
        except NoRoom:
            return
        assert (starts >= ready).all()
        assert (starts[1:] >= (starts + durations)[:-1]).all()
        for start, duration in zip(starts, durations, strict=True):
            taken[np.arange(start, start + duration) % interval] += 1
        assert taken.max() <= 1
        assert table.busy == taken.sum()


@given(
    st.integers(6, 40),
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 6)), max_size=8),
    st.integers(0, 100),
)
@settings(max_examples=300, deadline=None)
def test_a_gap_is_the_first_free_stretch(interval, work, cycle) -> None:
    table = ModuloTable(interval)
    free = np.ones(interval, dtype=bool)
    for ready, duration in work:
        try:
            start = int(place_in_order(table, np.array([ready]), np.array([duration]))[0])
        except NoRoom:
            continue
        free[np.arange(start, start + duration) % interval] = False
    if not free.any():
        with pytest.raises(NoRoom):
            table.gap_after(cycle)
        return
    low, high = table.gap_after(cycle)
    assert low == next(c for c in range(cycle, cycle + interval + 1) if free[c % interval])
    assert free[np.arange(low, high) % interval].all()
    assert high - low == interval or not free[high % interval]
