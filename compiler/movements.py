"""Many transfers that are scheduled together: what leaves where, and when it is there.

A *leg* carries elements of one tensor from a chip to a chip. It may leave when its elements are made,
or when another leg has brought them (forwarding).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from chiplan.ir import Reshape, Tensor

from .ready_times import ReadyMap, map_step


class Leg(NamedTuple):
    """Elements [first, last) go to element `at` and on of the tensor at the destination.

    ready: cycle in which they are in the source's SRAM, unless leg number `after` brings them there
    (-1: none does).
    """

    source: int
    destination: int
    first: int
    last: int
    at: int
    ready: int
    after: int = -1


@dataclass(frozen=True)
class Movement:
    """Scheduled legs as columns, int64[legs] each but links, int32[legs, hops], -1 beyond the last hop.

    start: first cycle on the first link; every link is busy for `slot` cycles, `stride` cycles after
    the one before it. arrival: the elements are in the destination's SRAM.
    """

    tensor: str
    into: str
    source: np.ndarray
    destination: np.ndarray
    first: np.ndarray
    last: np.ndarray
    at: np.ndarray
    start: np.ndarray
    slot: np.ndarray
    arrival: np.ndarray
    links: np.ndarray
    stride: int

    @property
    def hops(self) -> np.ndarray:
        """Links that each leg crosses."""
        count: np.ndarray = (self.links >= 0).sum(axis=1)
        return count

    def shifted(self, by: int) -> "Movement":
        """The same `by` cycles later."""
        return replace(self, start=self.start + by, arrival=self.arrival + by)

    def renumbered(self, chips: np.ndarray, links: np.ndarray) -> "Movement":
        """The same between other chips over other links: what was number i is now `chips[i]`, `links[i]`."""
        return replace(
            self,
            source=chips[self.source],
            destination=chips[self.destination],
            links=np.where(self.links >= 0, links[self.links], self.links),
        )

    def renamed(self, tensor: str, into: str) -> "Movement":
        """The same of another tensor."""
        return replace(self, tensor=tensor, into=into)

    def departures(self, chips: Sequence[int]) -> tuple[int, int]:
        """First and last cycle in which elements leave any of `chips`; at least one leg leaves there."""
        here = np.isin(self.source, chips)
        return int(self.start[here].min()), int((self.start + self.slot)[here].max())

    @property
    def first_arrival(self) -> int:
        """A cycle before which nothing reaches any destination."""
        return int((self.start + (self.hops - 1) * self.stride).min())

    @property
    def last_arrival(self) -> int:
        return int(self.arrival.max())


@dataclass(frozen=True)
class Moved:
    """A scheduled movement (None: nothing moves), and when its target is there on all receiving chips."""

    movement: Movement | None
    arrivals: ReadyMap


class Row(NamedTuple):
    """A row of a movement's columns."""

    source: int
    destination: int
    first: int
    last: int
    at: int
    start: int
    slot: int
    arrival: int
    links: tuple[int, ...]


def make_movement(tensor: str, into: str, rows: Sequence[Row], stride: int) -> Movement:
    """A movement from its rows."""
    hops = max((len(row.links) for row in rows), default=0)
    links = [row.links + (-1,) * (hops - len(row.links)) for row in rows]
    columns = np.array([row[:8] for row in rows], dtype=np.int64).reshape(-1, 8)
    source, destination, first, last, at, start, slot, arrival = columns.T.copy()
    padded = np.array(links, dtype=np.int32).reshape(len(rows), hops)
    return Movement(tensor, into, source, destination, first, last, at, start, slot, arrival, padded, stride)


def arrival_map(target: Tensor, at: np.ndarray, length: np.ndarray, arrival: np.ndarray) -> ReadyMap:
    """When each element of `target` is there on all chips: elements [at, at + length) arrive at `arrival`
    on one of them, int64 each; what never arrives is there at cycle 0."""
    breaks = np.unique(np.concatenate([[0], at, at + length]))
    breaks = breaks[breaks < target.elements]
    cycles = np.zeros(len(breaks), dtype=np.int64)
    low, high = np.searchsorted(breaks, at), np.searchsorted(breaks, at + length)
    # A range may be cut into several cells by the ends of others.
    count = high - low
    cells = np.repeat(low, count) + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    np.maximum.at(cycles, cells, np.repeat(arrival, count))
    return map_step(ReadyMap((target.elements,), (breaks,), cycles), Reshape(target.shape))
