"""Time folded onto a circle: what repeats every `period` cycles, seen in one period.

Micro-batches repeat the same work, so two pieces of work of any two micro-batches collide exactly
when they collide on the circle whose circumference is the period of the repetition.
"""

from typing import NamedTuple

import numpy as np


class Neighbours(NamedTuple):
    """Every piece of work and the one that follows it on the same resource, around the circle.

    first, second: positions in the arrays given. gap: cycles from the start of `first` to the next
    start of `second`, in 0..period; a piece alone on its resource follows itself after a period.
    """

    first: np.ndarray
    second: np.ndarray
    gap: np.ndarray


def circular_neighbours(resource: np.ndarray, start: np.ndarray, period: int) -> Neighbours:
    """Sorts by (resource, start modulo period) and pairs each piece with the next of its resource."""
    position = start % period
    first = np.lexsort((start, position, resource))
    ordered = resource[first]
    opens = np.ones(len(first), dtype=bool)
    opens[1:] = ordered[1:] != ordered[:-1]
    heads = np.flatnonzero(opens)
    following = np.arange(1, len(first) + 1)
    following[np.append(heads[1:], len(first))[: len(heads)] - 1] = heads
    second = first[following]
    wraps = following <= np.arange(len(first))
    return Neighbours(first, second, position[second] - position[first] + wraps * period)


def arcs_meet(
    start: np.ndarray, length: np.ndarray, other: np.ndarray, other_length: np.ndarray, period: np.ndarray
) -> np.ndarray:
    """Whether [start, start + length) and [other, other + other_length) share a cycle, each repeated
    every `period` cycles. Elementwise; empty arcs meet nothing."""
    meet = ((other - start) % period < length) | ((start - other) % period < other_length)
    return np.asarray(meet & (length > 0) & (other_length > 0))
