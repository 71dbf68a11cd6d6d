"""What the simulator says when a plan is wrong: a name, a sentence, and where and when it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MOST_PER_RULE = 20
"""Faults that one rule reports; a plan with more of a kind is no better explained by all of them."""


@dataclass(frozen=True)
class Fault:
    """One violation. A coordinate without meaning for this fault is None.

    `cycle` counts from the start of micro-batch 0. `instance` counts within the unit kind, `tile` is
    the number in the operator's tiling. `expected` and `found` are in the unit that `message` names.
    """

    name: str
    message: str
    chip: int | None = None
    stage: int | None = None
    unit: str | None = None
    instance: int | None = None
    link: int | None = None
    cycle: int | None = None
    operator: str | None = None
    tile: int | None = None
    tensor: str | None = None
    expected: int | None = None
    found: int | None = None


def first_rows(bad: np.ndarray | Sequence[bool]) -> Iterator[int]:
    """Positions of the first True entries of a mask, MOST_PER_RULE at most."""
    for row in np.flatnonzero(bad)[:MOST_PER_RULE]:
        yield int(row)
