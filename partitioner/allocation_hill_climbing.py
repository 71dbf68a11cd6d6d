"""Hill climbing over the orders of first fit: the usual allocator of small devices, kept to be compared with.

What sticks out moves to another place in the order; a change is kept where the top is no higher. On the
hard instances it ends in a local optimum; nothing that is planned uses it.
"""

import numpy as np

from .allocation_first_fit import FirstFit, first_fit
from .allocation_problem import AllocationProblem

_TURNS = 300


def climb(problem: AllocationProblem, start: FirstFit, turns: int = _TURNS, seed: int = 1) -> FirstFit:
    """The best of so many orders, from that of the addresses of `start` on."""
    chance = np.random.default_rng(seed)
    order = np.argsort(start.addresses, kind="stable").tolist()
    best = start
    for _ in range(turns):
        if best.top <= problem.capacity:
            break
        ends = best.addresses + problem.padded
        highest = np.flatnonzero(ends == best.top)
        moved = int(chance.choice(highest))
        changed = [index for index in order if index != moved]
        changed.insert(int(chance.integers(order.index(moved) + 1)), moved)
        addresses = first_fit(problem, changed)
        if (top := problem.top(addresses)) <= best.top:
            order, best = changed, FirstFit(addresses, top, "hill climbing")
    return best
