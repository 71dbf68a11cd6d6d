"""First fit: buffers in a given order, each at the lowest address that the ones before it leave."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .allocation_problem import AllocationProblem


@dataclass(frozen=True)
class FirstFit:
    """Addresses in bytes, int64[buffers], the byte behind the last, and the order that gave them."""

    addresses: np.ndarray
    top: int
    order: str


def first_fit(problem: AllocationProblem, order: Sequence[int]) -> np.ndarray:
    """Addresses of all buffers, int64[buffers]."""
    sizes = problem.padded
    addresses = np.full(len(order), -1, dtype=np.int64)
    placed = np.array(order, dtype=np.int64)
    # Those that share with nothing lie one behind the other.
    solid = int(np.append(problem.always[placed], False).argmin())
    ends = sizes[placed[:solid]].cumsum()
    addresses[placed[:solid]] = ends - sizes[placed[:solid]]
    floor = int(ends[-1]) if solid else 0
    for position, index in enumerate(order[solid:], solid):
        others = placed[solid:position]
        others = others[problem.meets(index, others)]
        addresses[index] = _first_gap(floor, addresses[others], sizes[others], int(sizes[index]))
    return addresses


def by_size(problem: AllocationProblem) -> FirstFit:
    """The best of first fit in several orders: largest first by bytes, by bytes x cycles, by the bytes alive
    beside a buffer, and by birth."""
    lengths = np.where(problem.always, problem.period, problem.lengths)
    beside = np.array([problem.padded[_met(problem, i)].sum() for i in range(len(lengths))], dtype=np.int64)
    keys = {
        "size": -problem.padded,
        "area": -problem.padded.astype(np.float64) * lengths,
        "contention": -beside,
        "lifetime": -lengths,
        "birth": problem.births,
    }
    found = []
    for name, key in keys.items():
        order = np.lexsort((np.arange(len(key)), -problem.padded, key, ~problem.always)).tolist()
        addresses = first_fit(problem, order)
        found.append(FirstFit(addresses, problem.top(addresses), name))
    return min(found, key=lambda fit: fit.top)


def _met(problem: AllocationProblem, index: int) -> np.ndarray:
    return problem.meets(index, np.arange(len(problem.sizes)))


def _first_gap(floor: int, starts: np.ndarray, sizes: np.ndarray, size: int) -> int:
    """Lowest address from `floor` on where `size` bytes overlap none of the blocks."""
    if not len(starts):
        return floor
    order = np.argsort(starts, kind="stable")
    free_from = np.concatenate([[floor], np.maximum.accumulate((starts + sizes)[order])])
    fits = starts[order] - free_from[:-1] >= size
    return int(free_from[np.argmax(fits)] if fits.any() else free_from[-1])
