"""SRAM addresses: first fit, largest buffer first, over lifetimes on the circle of one interval.

In the steady state micro-batch n uses a buffer n intervals later than micro-batch 0, so two buffers
may share bytes when their lifetimes do not meet modulo the interval. A buffer that lives longer than
the interval has several copies, used in rotation, which share with nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chiplan.ir import Chip

_ATTEMPTS = 16


@dataclass(frozen=True)
class BufferNeed:
    """A buffer of one chip. `death` -1: there for ever (weights, states)."""

    tensor: str
    nbytes: int
    copies: int
    birth: int
    death: int


class OutOfSram(Exception):
    """The buffers of a chip do not fit; carries the bytes asked for and there."""

    def __init__(self, chip: int, needed: int, available: int) -> None:
        super().__init__(f"chip {chip}: {needed} of {available} bytes")
        self.chip, self.needed, self.available = chip, needed, available


def padded_bytes(nbytes: int, alignment: int) -> int:
    """Bytes of SRAM that a buffer takes: whole aligned units."""
    return -(-nbytes // alignment) * alignment


def rotation_copies(birth: int, death: int, interval: int) -> int:
    """Copies of a buffer that lives [birth, death), one micro-batch an interval."""
    return max(1, -(-(death - birth) // interval))


class _Circle:
    """The buffers of one chip as columns: bytes with all copies, and lifetimes modulo the interval."""

    def __init__(self, needs: Sequence[BufferNeed], alignment: int, interval: int) -> None:
        self.interval = interval
        copies = np.array([need.copies for need in needs], dtype=np.int64)
        self.sizes = -(-np.array([need.nbytes for need in needs], dtype=np.int64) // alignment)
        self.sizes *= alignment * copies
        self.births = np.array([need.birth for need in needs], dtype=np.int64)
        self.lengths = np.array([max(1, need.death - need.birth) for need in needs], dtype=np.int64)
        self.alone = np.array([need.death < 0 or need.copies > 1 for need in needs], dtype=bool)

    def meets(self, index: int, others: np.ndarray) -> np.ndarray:
        """Which of `others` are alive together with buffer `index`, in any micro-batch."""
        ahead = (self.births[others] - self.births[index]) % self.interval
        behind = (self.births[index] - self.births[others]) % self.interval
        together = (ahead < self.lengths[index]) | (behind < self.lengths[others])
        return np.asarray(self.alone[index] | self.alone[others] | together)

    def first_fit(self, order: Sequence[int]) -> np.ndarray:
        """Addresses of all buffers, each at the lowest that the ones before it in `order` leave."""
        addresses = np.full(len(order), -1, dtype=np.int64)
        placed = np.array(order, dtype=np.int64)
        # Those that share with nothing lie one behind the other.
        solid = int(np.append(self.alone[placed], False).argmin())
        ends = self.sizes[placed[:solid]].cumsum()
        addresses[placed[:solid]] = ends - self.sizes[placed[:solid]]
        floor = int(ends[-1]) if solid else 0
        for position, index in enumerate(order[solid:], solid):
            others = placed[solid:position]
            others = others[self.meets(index, others)]
            addresses[index] = _first_gap(
                floor, addresses[others], self.sizes[others], int(self.sizes[index])
            )
        return addresses

    def peak(self) -> int:
        """Bytes alive at once in the fullest cycle: no addresses take less."""
        if not len(self.births):
            return 0
        since = (self.births[:, None] - self.births) % self.interval
        return int((((since < self.lengths) | self.alone) * self.sizes).sum(axis=1).max())


def assign_addresses(chip_id: int, needs: Sequence[BufferNeed], chip: Chip, interval: int) -> list[int]:
    """Address of every buffer, in the order given; raises OutOfSram.

    Where holes between buffers alone are what is short, the buffers that stuck out go first and all
    are placed again, a few times.
    """
    circle = _Circle(needs, int(chip.alignment), interval)
    order = sorted(
        range(len(needs)),
        key=lambda i: (needs[i].death >= 0, -int(circle.sizes[i]), needs[i].birth, needs[i].tensor),
    )
    tops = []
    for _ in range(_ATTEMPTS):
        addresses = circle.first_fit(order)
        ends = addresses + circle.sizes
        tops.append(int(ends.max(initial=0)))
        if tops[-1] <= chip.usable_bytes:
            return [int(address) for address in addresses]
        if len(tops) == 1 and circle.peak() > chip.usable_bytes:
            break
        sticking_out = ends > chip.usable_bytes
        order.sort(key=lambda i: (needs[i].death >= 0, not sticking_out[i]))
    raise OutOfSram(chip_id, min(tops), chip.usable_bytes)


def _first_gap(floor: int, starts: np.ndarray, sizes: np.ndarray, size: int) -> int:
    """Lowest address from `floor` on where `size` bytes overlap none of the blocks."""
    if not len(starts):
        return floor
    order = np.argsort(starts, kind="stable")
    free_from = np.concatenate([[floor], np.maximum.accumulate((starts + sizes)[order])])
    fits = starts[order] - free_from[:-1] >= size
    return int(free_from[np.argmax(fits)] if fits.any() else free_from[-1])
