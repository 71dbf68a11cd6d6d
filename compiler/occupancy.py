"""How long resources are held: cycles of half-open intervals up to, within, and modulo given cycles."""

import numpy as np


def busy_until(start: np.ndarray, end: np.ndarray, cycles: np.ndarray) -> np.ndarray:
    """Of all intervals [start, end) together, the cycles before each of `cycles`; the shape of `cycles`."""
    return np.asarray(_before(start, cycles) - _before(end, cycles))


def _before(points: np.ndarray, cycles: np.ndarray) -> np.ndarray:
    """Sum over all points of how far each of `cycles` is behind them."""
    ordered = np.sort(points.astype(np.int64))
    total = np.append(0, np.cumsum(ordered))
    count = np.searchsorted(ordered, cycles)
    return np.asarray(count * cycles - total[count])


def busy_in_bins(start: np.ndarray, end: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Cycles of all intervals within each bin; `edges` int64[bins + 1], ascending."""
    return np.diff(busy_until(start, end, edges))


def folded_in_bins(start: np.ndarray, end: np.ndarray, edges: np.ndarray, interval: int) -> np.ndarray:
    """`busy_in_bins` in steady state: what all micro-batches in flight hold; edges within [0, interval]."""
    flights = np.arange(int(end.max(initial=0)) // interval + 1, dtype=np.int64)
    return np.asarray(
        np.diff(busy_until(start, end, edges + interval * flights[:, None]), axis=1).sum(axis=0)
    )


def busy_with_others(
    start: np.ndarray, end: np.ndarray, first: np.ndarray, last: np.ndarray, interval: int
) -> np.ndarray:
    """Cycles of [first, last) in which a resource is held by other micro-batches than number 0, whose
    intervals are [start, end); an entry for each of `first`."""
    most = (int(end.max(initial=0)) + int(np.abs(last).max(initial=0))) // interval + 1
    shifts = interval * np.array([n for n in range(-most, most + 1) if n], dtype=np.int64)[:, None]
    held = busy_until(start, end, last + shifts) - busy_until(start, end, first + shifts)
    return np.asarray(held.sum(axis=0))
