"""Paths of stages from the first position to the last: the lightest, the fastest within a number of chips.

The fastest path within a number of chips is a shortest path with one resource. A price of a chip in
cycles makes it an ordinary shortest path; the best price bounds the latency from below, and stages that
no path close to that bound takes are left out. Over those that remain, a table over positions and chips
is exact (Handler and Zang, "A dual algorithm for the constrained shortest path problem", 1980).
"""

from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from .group_arcs import Arcs
from .group_problem import GroupArc

_FAR = 1 << 60


@dataclass(frozen=True)
class Price:
    """Weight of an arc: cycles x its latency + chips x its chips."""

    cycles: int
    chips: int

    def of(self, latency: int, chips: int) -> int:
        return self.cycles * latency + self.chips * chips

    def weights(self, arcs: Arcs) -> np.ndarray:
        weights: np.ndarray = self.cycles * arcs.latency + self.chips * arcs.chips
        return weights


@dataclass(frozen=True)
class Path:
    """Stages in order; what they take together; a price at which no path is much lighter."""

    arcs: tuple[GroupArc, ...]
    latency: int
    chips: int
    interval: int
    price: Price


def fewest_chips(arcs: Arcs) -> Path | None:
    """The path of fewest chips, among them the fastest."""
    return _lightest(arcs, Price(1, 1 + int(arcs.latency.max(initial=0)) * arcs.positions))


def fastest(arcs: Arcs, chips: int, goal: int | None = None) -> Path | None:
    """The path of least latency within `chips`, among them that of fewest chips; None if there is none.

    With a `goal`, the first path found that is at least as fast, or any other if there is none.
    """
    fast = _lightest(arcs, Price(1 + int(arcs.chips.max(initial=0)) * arcs.positions, 1))
    if fast is None or fast.chips <= chips:
        return fast
    small = fewest_chips(arcs)
    if small is None or small.chips > chips:
        return None
    while goal is None or small.latency > goal:
        price = _price_between(fast, small)
        middle = _lightest(arcs, price)
        assert middle is not None
        least = -(-(price.of(middle.latency, middle.chips) - price.chips * chips) // price.cycles)
        if least >= small.latency or (goal is not None and least > goal):
            break
        if price.of(middle.latency, middle.chips) == price.of(fast.latency, fast.chips):
            return _in_table(arcs, small, price, chips)
        small, fast = (middle, fast) if middle.chips <= chips else (small, middle)
    return small


def lightest_between(arcs: Arcs, fast: Path, small: Path, depth: int) -> list[Path]:
    """Paths of fewer chips than `fast` and less latency than `small` that some price makes the lightest."""
    if depth == 0 or fast.chips <= small.chips:
        return []
    middle = _lightest(arcs, _price_between(fast, small))
    if middle is None or not small.chips < middle.chips < fast.chips:
        return []
    faster = lightest_between(arcs, fast, middle, depth - 1)
    return [*faster, middle, *lightest_between(arcs, middle, small, depth - 1)]


def near(arcs: Arcs, price: Price, latency: int, chips: int) -> Arcs:
    """The arcs of all paths within `latency` and `chips`, and perhaps others."""
    weights = price.weights(arcs)
    total = _forward(arcs, weights)[0][arcs.first] + weights + _backward(arcs, weights)[arcs.last]
    return arcs.where(total <= price.of(latency, chips))


def smallest_interval(arcs: Arcs, chips: int, latency: int | None = None) -> Path | None:
    """A path whose slowest stage is as fast as can be within `chips` and `latency`; its interval is exact,
    its latency and chips are what was found first."""
    best: Path | None = None
    values = np.unique(arcs.interval)
    low, high = 0, len(values) - 1
    while low <= high:
        middle = (low + high) // 2
        path = _any_within(arcs.where(arcs.interval <= values[middle]), chips, latency)
        if path is None:
            low = middle + 1
        else:
            best, high = path, int(np.searchsorted(values, path.interval)) - 1
            arcs = arcs.where(arcs.interval <= path.interval)
    return best


def _any_within(arcs: Arcs, chips: int, latency: int | None) -> Path | None:
    path = fewest_chips(arcs) if latency is None else fastest(arcs, chips, latency)
    if path is None or path.chips > chips or (latency is not None and path.latency > latency):
        return None
    return path


def _price_between(fast: Path, small: Path) -> Price:
    """The price at which both weigh the same."""
    cycles, chips = fast.chips - small.chips, small.latency - fast.latency
    common = gcd(cycles, chips)
    return Price(cycles // common, chips // common)


def _lightest(arcs: Arcs, price: Price) -> Path | None:
    weight, best = _forward(arcs, price.weights(arcs))
    if weight[-1] >= _FAR:
        return None
    rows, position = [], arcs.positions - 1
    while position:
        rows.append(int(best[position]))
        position = int(arcs.first[rows[-1]])
    return _path(arcs, rows[::-1], price)


def _path(arcs: Arcs, rows: list[int], price: Price) -> Path:
    return Path(
        arcs=tuple(map(arcs.arc, rows)),
        latency=int(arcs.latency[rows].sum()),
        chips=int(arcs.chips[rows].sum()),
        interval=int(arcs.interval[rows].max(initial=0)),
        price=price,
    )


def _forward(arcs: Arcs, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least weight from position 0 to every position, and the last arc of such a path."""
    weight = np.full(arcs.positions, _FAR, dtype=np.int64)
    best = np.zeros(arcs.positions, dtype=np.int64)
    weight[0] = 0
    bounds = arcs.into.tolist()
    for position in range(1, arcs.positions):
        begin, end = bounds[position], bounds[position + 1]
        if begin < end:
            totals = weight[arcs.first[begin:end]] + weights[begin:end]
            row = int(totals.argmin())
            weight[position], best[position] = min(int(totals[row]), _FAR), begin + row
    return weight, best


def _backward(arcs: Arcs, weights: np.ndarray) -> np.ndarray:
    """Least weight from every position to the last."""
    weight = np.full(arcs.positions, _FAR, dtype=np.int64)
    weight[-1] = 0
    bounds = arcs.out_of.tolist()
    ends, sorted_weights = arcs.last[arcs.by_first], weights[arcs.by_first]
    for position in range(arcs.positions - 2, -1, -1):
        begin, end = bounds[position], bounds[position + 1]
        if begin < end:
            least = int((weight[ends[begin:end]] + sorted_weights[begin:end]).min())
            weight[position] = min(least, _FAR)
    return weight


def _in_table(arcs: Arcs, known: Path, price: Price, chips: int) -> Path:
    """The fastest within `chips`, when `known` is within and no path is lighter than those on the line of
    `price`: latency[p, c] of all that can still be faster than `known`, c chips at most to position p."""
    close = near(arcs, price, known.latency - 1, chips)
    table = np.full((arcs.positions, chips + 1), _FAR, dtype=np.int64)
    table[0] = 0
    columns = (close.first, close.last, close.chips, close.latency)
    for first, last, size, latency in zip(*(column.tolist() for column in columns), strict=True):
        if size <= chips:
            np.minimum(table[last, size:], table[first, : chips + 1 - size] + latency, out=table[last, size:])
    if table[-1, chips] >= known.latency:
        return replace(known, price=price)
    left = int((table[-1] == table[-1, chips]).argmax())
    return _path(close, _rows_back(close, table, left), price)


def _rows_back(arcs: Arcs, table: np.ndarray, left: int) -> list[int]:
    """The rows of the path that reaches the last position with `left` chips as early as the table says."""
    rows: list[int] = []
    position = arcs.positions - 1
    while position:
        row = np.arange(arcs.into[position], arcs.into[position + 1])
        row = row[arcs.chips[row] <= left]
        reached = table[arcs.first[row], left - arcs.chips[row]] + arcs.latency[row]
        rows.append(int(row[reached.argmin()]))
        position, left = int(arcs.first[rows[-1]]), left - int(arcs.chips[rows[-1]])
    return rows[::-1]
