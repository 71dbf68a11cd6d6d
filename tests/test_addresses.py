"""Addresses: no two buffers that are alive in one cycle of the steady state share a byte."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.addresses import BufferNeed, OutOfSram, assign_addresses, rotation_copies
from chiplan.models import load_target

CHIP = load_target("tiny-ring").chip


@given(
    st.integers(3, 40),
    st.lists(
        st.tuples(st.integers(1, 900), st.integers(0, 100), st.integers(0, 90), st.booleans()), max_size=12
    ),
)
@settings(max_examples=200, deadline=None)
def test_live_buffers_never_overlap(interval: int, cases: list[tuple[int, int, int, bool]]) -> None:
    needs = [
        BufferNeed(
            f"t{i}",
            size,
            1 if stays else rotation_copies(birth, birth + life, interval),
            birth,
            -1 if stays else birth + life,
        )
        for i, (size, birth, life, stays) in enumerate(cases)
    ]
    addresses = assign_addresses(0, needs, CHIP, interval).addresses
    alive = []
    for need, address in zip(needs, addresses, strict=True):
        assert address % CHIP.alignment == 0
        stride = -(-need.nbytes // CHIP.alignment) * CHIP.alignment
        for batch in range(12):
            low = address + (batch % need.copies) * stride
            born, dead = (
                (0, 10**9)
                if need.death < 0
                else (need.birth + batch * interval, need.death + batch * interval)
            )
            alive.append((need.tensor, batch if need.death >= 0 else 0, low, low + need.nbytes, born, dead))
    for one, other in combinations(sorted(set(alive)), 2):
        share_bytes = one[2] < other[3] and other[2] < one[3]
        share_time = one[4] < other[5] and other[4] < one[5]
        assert not (share_bytes and share_time), (one, other)


def test_what_does_not_fit_is_refused_with_the_shortage() -> None:
    half = CHIP.usable_bytes // 2 + CHIP.alignment
    needs = [BufferNeed("a", half, 1, 0, -1), BufferNeed("b", half, 1, 0, -1)]
    with pytest.raises(OutOfSram) as refusal:
        assign_addresses(3, needs, CHIP, 100)
    assert refusal.value.chip == 3
    assert refusal.value.needed >= 2 * half > refusal.value.available == CHIP.usable_bytes


def test_what_sticks_out_is_placed_first() -> None:
    """In sixteenths of the SRAM. Largest first puts a at 0 and b, d behind it at 8: c then ends at 17."""
    unit = CHIP.usable_bytes // 16 // CHIP.alignment * CHIP.alignment
    cases = [("a", 8, 5, 6), ("b", 5, 8, 9), ("c", 4, 7, 12), ("d", 5, 5, 10)]
    needs = [BufferNeed(name, size * unit, 1, birth, death) for name, size, birth, death in cases]
    addresses = assign_addresses(0, needs, CHIP, 20).addresses
    assert max(a + n.nbytes for a, n in zip(addresses, needs, strict=True)) <= CHIP.usable_bytes
