"""Cuts and group shapes as plain data: what a stage over a range of items costs on each shape of group.

Items stand in execution order; position p lies before item p, so n items have positions 0 to n. A stage
is an arc from one position to a later one, run by a group of one of the shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chiplan.ir import Certificate


@dataclass(frozen=True)
class GroupProblem:
    """What every stage would cost. Arrays over positions are prefix sums: a range costs the difference.

    sizes: chips of every shape; two shapes may have equal sizes (8 chips as a row, or as 2 x 4).
    latency: int64[shapes, positions], estimated cycles.
    work: int64[shapes, resources, positions], cycles that each resource (units, links) of a chip is busy;
        the busiest resource of a stage is its interval.
    resident: int64[shapes, positions], bytes a chip of weights.
    activations: int64[shapes, items], bytes a chip that an item needs besides; the most of a range counts.
    crossing: int64[shapes, positions], cycles of latency to bring in what a stage that begins there needs;
        at position 0 what the first stage pays.
    capacity: bytes a chip. chips: how many there are. objective: throughput, latency or chips.
    states: int64[shapes, positions], bytes a chip of resident state of one of `users`.
    crossing_work: int64[shapes, resources, positions], cycles of each resource that the crossing takes.
    allowed: bool[positions], where a cut may be; 0 and n always may.
    An item that a shape cannot run is given more resident bytes than the capacity.
    """

    sizes: tuple[int, ...]
    latency: np.ndarray
    work: np.ndarray
    resident: np.ndarray
    activations: np.ndarray
    crossing: np.ndarray
    capacity: int
    chips: int
    objective: str = "throughput"
    max_latency: int | None = None
    max_interval: int | None = None
    users: int = 1
    states: np.ndarray | None = None
    crossing_work: np.ndarray | None = None
    allowed: np.ndarray | None = None

    def on_shapes(self, chosen: Sequence[int]) -> "GroupProblem":
        """The same with some of the shapes alone."""
        kept = list(chosen)
        return replace(
            self,
            sizes=tuple(self.sizes[shape] for shape in kept),
            latency=self.latency[kept],
            work=self.work[kept],
            resident=self.resident[kept],
            activations=self.activations[kept],
            crossing=self.crossing[kept],
            states=None if self.states is None else self.states[kept],
            crossing_work=None if self.crossing_work is None else self.crossing_work[kept],
        )

    @property
    def items(self) -> int:
        return int(self.latency.shape[1]) - 1


@dataclass(frozen=True)
class GroupArc:
    """A stage: items [first, last) on a group of shape `size_index`."""

    first: int
    last: int
    size_index: int


@dataclass(frozen=True)
class GroupPlan:
    """Stages in order, and what they come to by the problem's figures; `certificate` is about the
    objective that was asked for."""

    arcs: tuple[GroupArc, ...]
    latency: int
    interval: int
    chips: int
    certificate: Certificate
