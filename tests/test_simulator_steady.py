"""Arithmetic modulo the interval against micro-batches unrolled one by one."""

from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.ir import BufferColumns, Cycle, Plan
from chiplan.runtime_sim import simulate
from chiplan.runtime_sim.circle import arcs_meet, circular_neighbours
from chiplan.runtime_sim.memory_map import check_sharing
from chiplan.runtime_sim.simulator import Simulation
from chiplan.runtime_sim.steady_state import user_rhythm

from .handmade import edited, small_plan, with_tiles

ARC = st.tuples(st.integers(0, 30), st.integers(1, 6))


def starts_of(plan: Plan, count: int) -> list[int]:
    """Starts of micro-batches, by the definition."""
    starts: list[int] = []
    for n in range(count):
        start = 0 if n == 0 else starts[n - 1] + plan.interval
        if plan.graph.states and n >= plan.users:
            start = max(start, starts[n - plan.users] + plan.latency)
        starts.append(int(start))
    return starts


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), ARC), min_size=1, max_size=5), st.integers(6, 20))
def test_neighbours_on_the_circle(work: list[tuple[int, tuple[int, int]]], period: int) -> None:
    resource = np.array([r for r, _ in work])
    start, length = np.array([a for _, a in work]).T
    pairs = circular_neighbours(resource, start, period)
    busy: set[tuple[int, int]] = set()
    collides = False
    for r, (begin, size) in work:
        for cycle in range(begin, begin + size):
            collides |= (r, cycle % period) in busy
            busy.add((r, cycle % period))
    assert bool((pairs.gap < length[pairs.first]).any()) == collides
    assert sorted(pairs.first) == sorted(pairs.second) == list(range(len(work)))


@settings(max_examples=80, deadline=None)
@given(ARC, ARC, st.integers(1, 15))
def test_arcs_on_the_circle(one: tuple[int, int], two: tuple[int, int], period: int) -> None:
    cycles = [{cycle % period for cycle in range(begin, begin + size)} for begin, size in (one, two)]
    numbers = [np.array([value]) for value in (*one, *two, period)]
    assert bool(arcs_meet(*numbers)[0]) == bool(cycles[0] & cycles[1])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(100, 1200), st.integers(100, 2400), st.booleans())
def test_starts_follow_the_definition(users: int, interval: int, latency: int, with_state: bool) -> None:
    plan = replace(small_plan(with_state), users=users, interval=Cycle(interval), latency=Cycle(latency))
    rhythm = user_rhythm(plan, interval)
    assert [rhythm.start(n) for n in range(12)] == starts_of(plan, 12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(360, 1100), st.integers(906, 1300), st.booleans())
def test_units_and_links_in_steady_state(users: int, interval: int, latency: int, with_state: bool) -> None:
    plan = small_plan(with_state, interval, users)
    plan = replace(plan, latency=Cycle(latency))
    assert _named(plan, "unit_overlap") == _unrolled_conflict(plan, _unit_work(plan))
    assert _named(plan, "link_overlap") == _unrolled_conflict(plan, _link_work(plan))


def _named(plan: Plan, name: str) -> bool:
    return any(fault.name == name for fault in simulate(plan).faults)


def _unit_work(plan: Plan) -> list[tuple[object, int, int]]:
    work: list[tuple[object, int, int]] = []
    for stage in plan.stages:
        tiles = stage.program.tiles
        work += [
            ((stage.chips[0], int(unit), int(instance)), int(start), int(end))
            for unit, instance, start, end in zip(
                tiles.unit, tiles.instance, tiles.start, tiles.end, strict=True
            )
            # A load may hold a matrix instance longer than its tile; vector tiles are held alone.
            if unit != 0
        ]
    return work


def _link_work(plan: Plan) -> list[tuple[object, int, int]]:
    hops = plan.hops
    return list(zip(hops.link.tolist(), hops.start.tolist(), hops.end.tolist(), strict=True))


def _unrolled_conflict(plan: Plan, work: list[tuple[object, int, int]]) -> bool:
    """Whether two pieces of work meet: at the claimed interval, or as users wait for their states."""
    claimed = [n * int(plan.interval) for n in range(8)]
    waiting = starts_of(plan, 8)
    return any(
        resource == other and a + start < b + last and b + first < a + end
        for starts in (claimed, waiting)
        for (i, a), (j, b) in combinations(list(enumerate(starts)), 2)
        for resource, start, end in work
        for other, first, last in work
    )


@st.composite
def shared_memory(draw: st.DrawFn) -> Plan:
    """A plan whose buffers are replaced by three on chip 0, close together."""
    with_state = draw(st.booleans())
    interval, users = draw(st.integers(360, 700)), draw(st.integers(1, 3))
    plan = small_plan(with_state, interval, users)
    names = [plan.tensor_names.index(name) for name in ("x", "y", "z")]
    copies = draw(st.lists(st.integers(1, 3), min_size=3, max_size=3))
    births = draw(st.lists(st.integers(0, 900), min_size=3, max_size=3))
    lives = [draw(st.integers(1, interval * number)) for number in copies]
    addresses = sorted(draw(st.lists(st.integers(0, 5), min_size=3, max_size=3)))
    buffers = BufferColumns(
        tensor=np.array(names, dtype=np.int32),
        chip=np.zeros(3, dtype=np.int32),
        address=np.array(addresses) * 32,
        nbytes=np.array([32, 20, 64]),
        copies=np.array(copies, dtype=np.int32),
        birth=np.array(births),
        death=np.array(births) + np.array(lives),
    )
    return replace(plan, buffers=buffers, latency=Cycle(draw(st.integers(906, 1500))))


@settings(max_examples=80, deadline=None)
@given(shared_memory())
def test_shared_bytes_in_steady_state(plan: Plan) -> None:
    found = list(check_sharing(Simulation(plan).memory))
    claimed = [n * int(plan.interval) for n in range(24)]
    assert bool(found) == any(_bytes_meet(plan, starts) for starts in (claimed, starts_of(plan, 24)))


def _bytes_meet(plan: Plan, starts: list[int]) -> bool:
    """Whether two buffers of any two micro-batches hold the same byte in the same cycle."""
    buffers = plan.buffers
    uses = []
    for row in range(len(buffers.chip)):
        stride = -(-int(buffers.nbytes[row]) // 32) * 32
        for n, start in enumerate(starts):
            low = int(buffers.address[row]) + n % int(buffers.copies[row]) * stride
            birth, death = int(buffers.birth[row]), int(buffers.death[row])
            uses.append((row, low, low + int(buffers.nbytes[row]), start + birth, start + death))
    return any(
        a[0] != b[0] and a[1] < b[2] and b[1] < a[2] and a[3] < b[4] and b[3] < a[4]
        for a, b in combinations(uses, 2)
    )


def test_a_sum_interrupted_by_the_next_micro_batch() -> None:
    plan = small_plan(with_state=False, interval=1000)
    tiles = plan.stages[0].program.tiles
    matrix = [i for i in range(8) if tiles.instance[i] == 0]
    assert [int(tiles.start[i]) for i in matrix] == [20, 39, 71, 90]
    # The second tile of the first sum a whole interval later: its own next micro-batch runs between.

    late = with_tiles(plan, 0, start={1: 1039}, end={1: 1051})
    late = replace(late, buffers=edited(late.buffers, death=lambda c: np.where(c < 0, c, c + 5000)))
    names = {(f.name, f.tile) for f in simulate(late).faults if f.unit == "matrix"}
    assert ("accumulation_interrupted", 1) in names
    assert not any(name == "unit_overlap" for name, _ in names)
