"""Who passes on to whom what all chips of a set shall have: from the owner alone, or along a tree.

Between chips without a direct link a piece that goes to every one of them separately crosses the same
links again and again. Along a tree it crosses each link once: a chip sends on what has arrived.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .links import PartRouter, Router


class Handover(NamedTuple):
    """`sender` sends to `receiver` (positions in a list of chips)."""

    sender: int
    receiver: int


def spread_from(
    root: int, chips: Sequence[int], router: Router | PartRouter, forward: bool
) -> list[Handover]:
    """Handovers that bring what chip `root` (a position) has to all others of `chips`; a sender has it
    before it sends. Receivers are rotated, so that several roots start with different ones."""
    count = len(chips)
    others = [(root + step) % count for step in range(1, count)]
    if not forward:
        return [Handover(root, receiver) for receiver in others]
    others.sort(key=lambda receiver: router.distance(chips[root], chips[receiver]))
    reached, handovers = [root], []
    for receiver in others:
        nearest = min(reached, key=lambda sender: router.distance(chips[sender], chips[receiver]))
        handovers.append(Handover(nearest, receiver))
        reached.append(receiver)
    return handovers


def all_to_all(chips: Sequence[int], router: Router | PartRouter) -> list[list[Handover]]:
    """Handovers from every one of `chips` to all others, one list a root: forwarded where that loads
    links less."""
    ways = [
        [spread_from(root, chips, router, forward) for root in range(len(chips))] for forward in (False, True)
    ]
    return min(ways, key=lambda spread: sum(link_load(handovers, chips, router) for handovers in spread))


def link_load(handovers: Sequence[Handover], chips: Sequence[int], router: Router | PartRouter) -> int:
    """Links that the handovers cross together."""
    return sum(router.distance(chips[h.sender], chips[h.receiver]) for h in handovers)
