"""SRAM addresses: first fit, largest buffer first, over lifetimes on the circle of one interval.

In the steady state micro-batch n uses a buffer n intervals later than micro-batch 0, so two buffers
may share bytes when their lifetimes do not meet modulo the interval. A buffer that lives longer than
the interval has several copies, used in rotation, which share with nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chiplan.ir import Chip


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


def rotation_copies(birth: int, death: int, interval: int) -> int:
    """Copies of a buffer that lives [birth, death), one micro-batch an interval."""
    return max(1, -(-(death - birth) // interval))


def assign_addresses(chip_id: int, needs: Sequence[BufferNeed], chip: Chip, interval: int) -> list[int]:
    """Address of every buffer, in the order given; raises OutOfSram."""
    strides = np.array([-(-need.nbytes // chip.alignment) * chip.alignment for need in needs], dtype=np.int64)
    sizes = strides * [need.copies for need in needs]
    births = np.array([need.birth for need in needs], dtype=np.int64)
    lengths = np.array([max(1, need.death - need.birth) for need in needs], dtype=np.int64)
    alone = np.array([need.death < 0 or need.copies > 1 for need in needs], dtype=bool)
    names = [need.tensor for need in needs]
    order = sorted(
        range(len(needs)), key=lambda i: (needs[i].death >= 0, -int(sizes[i]), births[i], names[i])
    )
    addresses = np.full(len(needs), -1, dtype=np.int64)
    placed: list[int] = []
    for index in order:
        others = np.array(placed, dtype=np.int64)
        ahead, behind = (
            (births[others] - births[index]) % interval,
            (births[index] - births[others]) % interval,
        )
        meets = alone[index] | alone[others] | (ahead < lengths[index]) | (behind < lengths[others])
        addresses[index] = _first_gap(addresses[others[meets]], sizes[others[meets]], int(sizes[index]))
        placed.append(index)
    top = int((addresses + sizes).max(initial=0))
    if top > chip.usable_bytes:
        raise OutOfSram(chip_id, top, chip.usable_bytes)
    return [int(address) for address in addresses]


def _first_gap(starts: np.ndarray, sizes: np.ndarray, size: int) -> int:
    """Lowest address where `size` bytes overlap none of the blocks."""
    order = np.argsort(starts, kind="stable")
    free_from = np.concatenate([[0], np.maximum.accumulate((starts + sizes)[order])])
    fits = starts[order] - free_from[:-1] >= size
    return int(free_from[np.argmax(fits)] if fits.any() else free_from[-1])
