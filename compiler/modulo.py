"""A modulo reservation table: which cycles of a repeating interval a resource is still free in.

Every micro-batch uses a unit or link in the same cycles modulo the interval, so one circle of
`interval` cycles says everything (Rau, "Iterative modulo scheduling", MICRO 1994). Work is placed as
early as its data allows, into the gaps that earlier work left.
"""

from bisect import bisect_left, bisect_right

import numpy as np


class NoRoom(Exception):
    """The circle has no gap that is long enough: the interval is too short for this order."""

    def __init__(self, resource: str = "a unit's free gaps are shorter than the next tiles") -> None:
        super().__init__(resource)


class ModuloTable:
    """Busy segments of one resource, half-open, sorted, within [0, interval)."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.busy = 0
        """Reserved cycles in one interval."""
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """Number of busy segments."""
        return len(self._starts)

    def gap_after(self, cycle: int) -> tuple[int, int]:
        """The first free stretch [low, high) with low >= cycle and high > low, in unfolded time.

        Raises NoRoom when nothing is free at all.
        """
        interval = self.interval
        if not self._starts:
            return cycle, cycle + interval
        base, offset = cycle - cycle % interval, cycle % interval
        index = bisect_right(self._starts, offset)
        if index and self._ends[index - 1] > offset:
            offset = self._ends[index - 1]
        for _ in range(len(self._starts) + 1):
            following = self._starts[index] if index < len(self._starts) else interval + self._starts[0]
            if following > offset:
                return base + offset, base + following
            if index == len(self._starts):
                base, index, offset = base + interval, 0, 0
                following = self._starts[0]
            offset = max(offset, self._ends[index])
            index += 1
        raise NoRoom

    def first_fit(self, cycle: int, length: int) -> int | None:
        """First cycle >= `cycle` from which `length` cycles are free; None when no gap is that long."""
        starts, ends, interval = self._starts, self._ends, self.interval
        if length > interval:
            return None
        if not starts:
            return cycle
        offset = cycle % interval
        base = cycle - offset
        index = bisect_right(starts, offset)
        if index and ends[index - 1] > offset:
            offset = ends[index - 1]
        for _ in range(len(starts) + 2):
            if index == len(starts):
                # The gap behind the last segment goes on at the start of the next round.
                if interval + starts[0] - offset >= length:
                    return base + offset
                base, offset, index = base + interval, ends[0], 1
            elif starts[index] - offset >= length:
                return base + offset
            else:
                offset = ends[index]
                index += 1
        return None

    def reserve(self, low: int, high: int) -> None:
        """Mark [low, high) busy; it must be free and no longer than the interval."""
        self.busy += high - low
        start = low % self.interval
        end = start + high - low
        if end <= self.interval:
            self._insert(start, end)
        else:
            self._insert(start, self.interval)
            self._insert(0, end - self.interval)

    def _insert(self, start: int, end: int) -> None:
        index = bisect_left(self._starts, start)
        touches_left = index > 0 and self._ends[index - 1] == start
        touches_right = index < len(self._starts) and self._starts[index] == end
        if touches_left and touches_right:
            self._ends[index - 1] = self._ends[index]
            del self._starts[index], self._ends[index]
        elif touches_left:
            self._ends[index - 1] = end
        elif touches_right:
            self._starts[index] = start
        else:
            self._starts.insert(index, start)
            self._ends.insert(index, end)


def compact(ready: np.ndarray, durations: np.ndarray, grain: int) -> np.ndarray:
    """Ready cycles delayed so that the queue never pauses and starts at a multiple of `grain`.

    An operator that starts early and then waits for its producer leaves gaps in the table that are
    too short for anybody else. Without pauses the last atom ends no later (but for the grain).
    """
    before = np.cumsum(durations) - durations
    first = -(-int((ready - before).max()) // grain) * grain
    delayed: np.ndarray = np.maximum(ready, first + before)
    return delayed


def place_in_order(table: ModuloTable, ready: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Earliest in-order starts of a queue of atoms: start[i] >= max(ready[i], end[i-1]), int64[n].

    A max-plus scan inside each gap of the table; a run that has no pause is one reservation.
    Raises NoRoom when an atom is longer than every gap.
    """
    count = len(ready)
    starts = np.empty(count, dtype=np.int64)
    shortest, longest = int(durations.min()), int(durations.max())
    placed, cursor, travelled = 0, 0, 0
    while placed < count:
        low, high = table.gap_after(max(cursor, int(ready[placed])))
        fits = 0
        if high - low >= shortest:
            window = slice(placed, min(count, placed + (high - low) // shortest + 1))
            before = np.cumsum(durations[window]) - durations[window]
            scan = np.maximum.accumulate(np.maximum(ready[window], low) - before) + before
            fits = int(np.searchsorted(scan + durations[window], high, side="right"))
        if not fits:
            travelled += high - cursor if cursor else 0
            if travelled > 3 * table.interval + longest:
                raise NoRoom
            cursor = high
            continue
        starts[placed : placed + fits] = scan[:fits]
        _reserve_runs(table, scan[:fits], scan[:fits] + durations[placed : placed + fits])
        cursor, travelled, placed = int(scan[fits - 1] + durations[placed + fits - 1]), 0, placed + fits
    return starts


def _reserve_runs(table: ModuloTable, starts: np.ndarray, ends: np.ndarray) -> None:
    pauses = np.flatnonzero(starts[1:] > ends[:-1])
    firsts = np.concatenate([[0], pauses + 1])
    lasts = np.concatenate([pauses, [len(starts) - 1]])
    for low, high in zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=True):
        table.reserve(low, high)
