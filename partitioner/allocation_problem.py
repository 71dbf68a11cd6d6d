"""Addresses in one memory as plain data: sizes of buffers, and when each is alive on a circle of cycles.

Everything repeats after `period` cycles. A line is a circle that is as long as the line: then no lifetime
reaches round to its beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class AllocationProblem:
    """sizes: int64[buffers], bytes. births, lengths: int64[buffers], cycles: buffer b is alive in
    [births[b], births[b] + lengths[b]) modulo `period`; lengths are from 1 to `period`. always:
    bool[buffers]: alive in every cycle, whatever its length, so that it shares bytes with nothing. No
    address may be off a multiple of `alignment`, no buffer may end behind `capacity` bytes."""

    sizes: np.ndarray
    births: np.ndarray
    lengths: np.ndarray
    always: np.ndarray
    period: int
    capacity: int
    alignment: int = 1

    @cached_property
    def padded(self) -> np.ndarray:
        """int64[buffers]: bytes that each buffer takes, whole aligned units."""
        return np.asarray(-(-self.sizes // self.alignment) * self.alignment)

    def meets(self, index: int, others: np.ndarray) -> np.ndarray:
        """bool[others]: which of `others` (positions) are alive together with buffer `index`."""
        ahead = (self.births[others] - self.births[index]) % self.period
        behind = (self.births[index] - self.births[others]) % self.period
        together = (ahead < self.lengths[index]) | (behind < self.lengths[others])
        return np.asarray(self.always[index] | self.always[others] | together)

    @cached_property
    def segments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lifetimes cut where the circle is: buffer, first cycle and cycle behind the last of every piece
        in [0, period), int64[pieces] each. A lifetime that reaches round is two pieces."""
        low = np.where(self.always, 0, self.births % self.period)
        high = low + np.where(self.always, self.period, self.lengths)
        buffers = np.arange(len(low))
        round_ = high > self.period
        owner = np.concatenate([buffers, buffers[round_]])
        begins = np.concatenate([low, np.zeros(int(round_.sum()), dtype=np.int64)])
        ends = np.concatenate([np.minimum(high, self.period), high[round_] - self.period])
        return owner, begins, ends

    @cached_property
    def profile(self) -> tuple[np.ndarray, np.ndarray]:
        """Cycles in which something begins or ends, ascending, and the bytes alive from each on."""
        owner, begins, ends = self.segments
        cycles = np.unique(np.concatenate([np.zeros(1, dtype=np.int64), begins, ends]))
        change = np.zeros(len(cycles), dtype=np.int64)
        np.add.at(change, np.searchsorted(cycles, begins), self.padded[owner])
        np.subtract.at(change, np.searchsorted(cycles, ends), self.padded[owner])
        return cycles, np.cumsum(change)

    @property
    def peak(self) -> int:
        """Bytes alive at once in the fullest cycle: a lower bound, as no addresses take less."""
        return int(self.profile[1].max())

    @property
    def peak_cycle(self) -> int:
        """The first cycle of the circle in which so much is alive."""
        cycles, alive = self.profile
        return int(cycles[alive.argmax()])

    def alive_at(self, cycle: int) -> np.ndarray:
        """Positions of the buffers that are alive in a cycle of the circle, ascending."""
        alive = ((cycle - self.births) % self.period < self.lengths) | self.always
        return np.flatnonzero(alive)

    def top(self, addresses: np.ndarray) -> int:
        """The byte behind the last one that any buffer takes."""
        return int((addresses + self.padded).max(initial=0))


def on_a_line(rows: Sequence[tuple[int, int, int]], capacity: int, alignment: int = 1) -> AllocationProblem:
    """The problem of buffers (first cycle, cycle behind the last, bytes) that are alive once."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    births, lengths = table[:, 0], table[:, 1] - table[:, 0]
    span = int(table[:, 1].max(initial=0)) - int(table[:, 0].min(initial=0))
    always = np.zeros(len(table), dtype=bool)
    return AllocationProblem(table[:, 2], births, lengths, always, max(1, span), capacity, alignment)
