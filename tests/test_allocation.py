"""Addresses: every allocator against the independent check, on memories that are full to the last byte."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.partitioner import (
    AllocationProblem,
    AllocationRules,
    allocate,
    allocation_fault,
    by_size,
    climb,
    on_a_line,
)

Row = tuple[int, int, int]
LIMIT = 0.05


def cut_rectangle(cycles: int, nbytes: int, pieces: int, seed: int) -> tuple[list[Row], list[int]]:
    """A full memory cut at random, edge to edge, into buffers whose addresses are known: no byte is free in
    any cycle."""
    chance = np.random.default_rng(seed)
    parts = [(0, cycles, 0, nbytes)]
    for _ in range(20 * pieces):
        if len(parts) == pieces:
            break
        low, high, bottom, top = parts.pop(int(chance.integers(len(parts))))
        across = chance.random() < 0.5
        if across and high - low > 1:
            middle = int(chance.integers(low + 1, high))
            parts += [(low, middle, bottom, top), (middle, high, bottom, top)]
        elif not across and top - bottom > 1:
            middle = int(chance.integers(bottom + 1, top))
            parts += [(low, high, bottom, middle), (low, high, middle, top)]
        else:
            parts.append((low, high, bottom, top))
    parts = [parts[number] for number in chance.permutation(len(parts)).tolist()]
    return [(low, high, top - bottom) for low, high, bottom, top in parts], [part[2] for part in parts]


def turned(rows: list[Row], capacity: int, by: int, cycles: int, unit: int = 1) -> AllocationProblem:
    """The same on a circle whose beginning is elsewhere, so that lifetimes reach round it."""
    line = on_a_line([(low, high, size * unit) for low, high, size in rows], capacity * unit, unit)
    return replace(line, births=line.births + by, period=cycles)


@given(st.integers(2, 14), st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([1, 32]))
@settings(max_examples=40, deadline=None)
def test_a_memory_without_a_free_byte_is_filled(pieces: int, seed: int, by: int, unit: int) -> None:
    rows, known = cut_rectangle(16, 24, pieces, seed)
    problem = turned(rows, 24, by, 16, unit)
    assert allocation_fault(problem, [unit * address for address in known]) is None
    assert problem.peak == problem.capacity
    found = allocate(problem, LIMIT)
    assert found.addresses is not None
    assert allocation_fault(problem, found.addresses.tolist()) is None
    assert (found.certificate.status, found.certificate.objective) == ("optimal", problem.peak)


@given(st.integers(2, 12), st.integers(0, 10**6), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_heuristics_are_right_and_above_the_bound(pieces: int, seed: int, by: int) -> None:
    rows, _ = cut_rectangle(12, 20, pieces, seed)
    problem = turned(rows, 20, by, 12)
    greedy = by_size(problem)
    climbed = climb(problem, greedy, turns=20)
    assert problem.peak <= climbed.top <= greedy.top
    for fit in (greedy, climbed):
        roomy = replace(problem, capacity=fit.top)
        assert allocation_fault(roomy, fit.addresses.tolist()) is None


def brute_force_top(problem: AllocationProblem) -> int:
    """The least top over all orders of first fit by hand, cycle by cycle: some order gives the optimum."""
    alive = [
        {(int(birth) + cycle) % problem.period for cycle in range(int(length))}
        for birth, length in zip(problem.births, problem.lengths, strict=True)
    ]
    sizes = problem.padded.tolist()

    def best(placed: dict[int, int]) -> int:
        if len(placed) == len(sizes):
            return max(address + sizes[buffer] for buffer, address in placed.items())
        tops = []
        for buffer in sorted(set(range(len(sizes))) - set(placed)):
            spans = sorted((a, a + sizes[o]) for o, a in placed.items() if alive[o] & alive[buffer])
            address = 0
            for low, high in spans:
                if low < address + sizes[buffer]:
                    address = max(address, high)
            tops.append(best({**placed, buffer: address}))
        return min(tops)

    return best({})


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6), st.integers(1, 5)), min_size=2, max_size=5),
    st.sampled_from([None, *(field.name for field in fields(AllocationRules))]),
)
@settings(max_examples=60, deadline=None)
def test_every_rule_of_the_model_keeps_the_optimum(rows: list[Row], without: str | None) -> None:
    births, lengths, sizes = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    problem = AllocationProblem(sizes, births, lengths, lengths < 0, period=7, capacity=0)
    least = brute_force_top(problem)
    rules = replace(AllocationRules(), **({without: False} if without else {}))
    found = allocate(replace(problem, capacity=least), LIMIT, rules=rules)
    assert found.addresses is not None
    assert allocation_fault(replace(problem, capacity=least), found.addresses.tolist()) is None
    smaller = allocate(replace(problem, capacity=least - 1), LIMIT, rules=rules)
    assert smaller.certificate.status == "infeasible"


@pytest.mark.parametrize(
    ("addresses", "fault"),
    [
        ([0, 4, 0], None),
        ([0, 3, 0], "buffers 0 and 1 share bytes in cycle 2"),
        ([0, 4, 4], "buffers 1 and 2 share bytes in cycle 4"),
        ([8, 4, 0], "buffer 0 lies at 8..12 of 10 bytes"),
        ([0, 4], "2 addresses for 3 buffers"),
    ],
)
def test_the_check_says_what_is_wrong(addresses: list[int], fault: str | None) -> None:
    """A circle of 8 cycles.

    0  ####....   4 bytes
    1  #.######   4 bytes, born in cycle 2
    2  ....###.   3 bytes
    """
    problem = AllocationProblem(
        sizes=np.array([4, 4, 3]),
        births=np.array([0, 2, 4]),
        lengths=np.array([4, 7, 3]),
        always=np.zeros(3, dtype=bool),
        period=8,
        capacity=10,
    )
    assert allocation_fault(problem, addresses) == fault


def test_what_is_always_there_lies_below_and_shares_with_nothing() -> None:
    problem = replace(on_a_line([(0, 2, 5), (0, 1, 4), (1, 2, 4)], 9), always=np.array([True, False, False]))
    found = allocate(problem, LIMIT)
    assert found.addresses is not None
    assert found.addresses.tolist() == [0, 5, 5]


def test_the_same_problem_gives_the_same_addresses() -> None:
    rows, _ = cut_rectangle(40, 60, 40, seed=5)
    one, two = (allocate(on_a_line(rows, 60), LIMIT) for _ in range(2))
    assert one.addresses is not None
    assert two.addresses is not None
    assert one.addresses.tolist() == two.addresses.tolist()
    assert one.certificate == two.certificate


def test_more_than_there_is_room_for_is_refused_by_the_bound_alone() -> None:
    found = allocate(on_a_line([(0, 2, 5), (1, 3, 5)], 9), LIMIT)
    assert (found.addresses, found.certificate.status, found.certificate.bound) == (None, "infeasible", 10)
    assert found.tries == 0
