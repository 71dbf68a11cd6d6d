"""The common refinement of dimensions: factors of which two shapes are both products, major first.

[6, 4] and [2, 12]: cumulative products 6, 24 and 2, 24, together 2, 6, 24
so the factors are 2, 3, 4:  6 = 2 x 3,  4 = 4,  2 = 2,  12 = 3 x 4
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from operator import mul
from typing import NamedTuple

from chiplan.ir import Shape


class Group(NamedTuple):
    """Dimensions [old_first, old_last) become dimensions [new_first, new_last), as a whole."""

    old_first: int
    old_last: int
    new_first: int
    new_last: int


def refine(chains: Sequence[Sequence[int]]) -> tuple[int, ...] | None:
    """Extents of the common refinement of factor chains of one product; None if there is none.

    Extents of 1 do not appear in it.
    """
    bounds = sorted({bound for chain in chains for bound in accumulate(chain, mul)} - {1})
    extents = []
    below = 1
    for bound in bounds:
        if bound % below:
            return None
        extents.append(bound // below)
        below = bound
    return tuple(extents)


def split_chain(chain: Sequence[int], refined: Sequence[int]) -> list[tuple[int, ...]]:
    """For every extent in `chain` the refined extents that it is the product of."""
    pieces: list[tuple[int, ...]] = []
    position = 0
    for extent in chain:
        start, product = position, 1
        while product < extent:
            product *= refined[position]
            position += 1
        pieces.append(tuple(refined[start:position]))
    return pieces


@lru_cache(maxsize=4096)
def matching_groups(old: Shape, new: Shape) -> tuple[Group, ...]:
    """The finest cut of two shapes of one size into runs of dimensions with equal products."""
    groups = []
    i = j = 0
    while i < len(old) or j < len(new):
        first_i, first_j = i, j
        left = right = 1
        if i < len(old):
            left, i = old[i], i + 1
        if j < len(new):
            right, j = new[j], j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        groups.append(Group(first_i, i, first_j, j))
    return tuple(groups)
