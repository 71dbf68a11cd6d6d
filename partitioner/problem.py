"""The stage partition as plain data: items of work, the tensors between them, what must be resident.

An item is one operator, or several that must share a chip (they write one tensor, or use one state).
Items stand in topological order.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Carried:
    """A tensor that crosses chips where its consumers sit on later stages than its producer."""

    producer: int
    consumers: tuple[int, ...]
    cycles: int
    """Link cycles of the whole tensor on one link."""


@dataclass(frozen=True)
class Resident:
    """Bytes that every stage with one of `items`, or with one of the operators `recomputed` (indices into
    `PartitionProblem.recomputed`), must hold: a weight, or a state for all users."""

    nbytes: int
    items: tuple[int, ...]
    recomputed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Recomputed:
    """A cheap operator that every stage with one of `items` executes for itself, or that executes
    for another such operator there (`cones`, indices into `PartitionProblem.recomputed`)."""

    work: tuple[int, ...]
    items: tuple[int, ...]
    cones: tuple[int, ...]


@dataclass(frozen=True)
class PartitionProblem:
    """work: int64[items, unit kinds], cycles of one instance. activations: int64[items], bytes of the
    operands and results that an operator of the item needs at once. capacity: bytes a chip.
    link_ways: how many direct links' worth of bandwidth one stage can rely on, an estimate."""

    work: np.ndarray
    activations: np.ndarray
    carried: tuple[Carried, ...]
    resident: tuple[Resident, ...]
    recomputed: tuple[Recomputed, ...]
    stages: int
    capacity: int
    link_ways: int
    objective: str

    @property
    def items(self) -> int:
        return len(self.work)
