"""What collectives take on a concrete group of chips: estimates, by which an algorithm is chosen.

One-shot: every chip sends all it has to every other, and sums what arrives in one pass of the vector unit.
    Fewest hops.
Two-shot (all-reduce only): chip d receives and sums the d-th part of the elements, and sends the sum to all.
    Fewest bytes where all chips are neighbours.
Ring: parts go round from neighbour to neighbour. Fewest bytes where chips are not.
Hierarchical (all-reduce): two-shot along the last mesh axis, in between the sums of the parts along the
    others. (all-gather): along one axis after the other, as a forwarded exchange does.

A step takes its flits on the busiest link, plus the latency of its hops; additions follow arrivals. Overlap
with compute and with other collectives is not counted here: the scheduler finds it tile by tile.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Protocol

from chiplan.ir import DType, Target, mesh_peers, mesh_ways

from .group_links import GroupLinks, Phase, representative_group

__all__ = ["CollectiveCost", "CollectiveCosts", "CollectiveWanted", "representative_group"]

Axes = tuple[int, ...]


class CollectiveWanted(Protocol):
    """A collective along `axes` of `mesh`; kind: "all_gather", "reduce_scatter" or "all_reduce". elements, of
    `dtype`: of what every chip has before a reduction, and of the whole after a gather."""

    @property
    def kind(self) -> str: ...
    @property
    def axes(self) -> Axes: ...
    @property
    def mesh(self) -> tuple[int, ...]: ...
    @property
    def elements(self) -> int: ...
    @property
    def dtype(self) -> DType: ...


@dataclass(frozen=True)
class CollectiveCost:
    """cycles: from the first byte ready to the result in SRAM. link: busy cycles of the busiest link.
    vector: cycles of the vector unit."""

    cycles: int
    link: int
    vector: int

    def __add__(self, other: "CollectiveCost") -> "CollectiveCost":
        return CollectiveCost(self.cycles + other.cycles, self.link + other.link, self.vector + other.vector)

    def __mul__(self, times: int) -> "CollectiveCost":
        return CollectiveCost(self.cycles * times, self.link * times, self.vector * times)


NOTHING = CollectiveCost(0, 0, 0)
Algorithms = dict[str, CollectiveCost]


class CollectiveCosts:
    """Costs for a group: `chips` in the row-major order of the meshes that are asked about. `wire` is the
    type in which floating-point partial results travel, their own if None."""

    def __init__(self, target: Target, chips: Sequence[int], wire: DType | None = None) -> None:
        self.target, self.chips, self.wire = target, tuple(chips), wire
        self.links = GroupLinks(target.topology, chips)
        self._all = cache(lambda mesh, axes: self.links.routes(mesh_peers(mesh, axes)))
        self._next = cache(lambda mesh, axes: self.links.ring(mesh_peers(mesh, axes)))
        self.algorithms: Callable[[str, int, DType, tuple[int, ...], Axes], Algorithms]
        self.algorithms = cache(self._algorithms)

    def all_gather(self, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes) -> CollectiveCost:
        """Every chip has a piece of `elements` / ways, and comes to have all `elements`."""
        return self.of("all_gather", elements, dtype, mesh, axes)[1]

    def reduce_scatter(
        self, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes
    ) -> CollectiveCost:
        """Every chip has a partial sum of all `elements`, and comes to have a piece of the sum."""
        return self.of("reduce_scatter", elements, dtype, mesh, axes)[1]

    def all_reduce(self, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes) -> CollectiveCost:
        """Every chip has a partial sum of all `elements`, and comes to have the sum."""
        return self.of("all_reduce", elements, dtype, mesh, axes)[1]

    def of(
        self, kind: str, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes
    ) -> tuple[str, CollectiveCost]:
        """The cheapest algorithm, and its cost, of a collective on values of `dtype`."""
        travels = dtype if kind == "all_gather" else self.wired(dtype)
        return _best(self.algorithms(kind, elements, travels, mesh, axes))

    def wired(self, dtype: DType) -> DType:
        """The type in which partial results travel."""
        return self.wire if self.wire is not None and self.wire.is_float and dtype.is_float else dtype

    def move(self, elements: int, dtype: DType, source: int, destination: int) -> int:
        """Cycles of a tensor from one chip to another, on an idle system."""
        return self._phase(self.links.pair(source, destination).phase, elements, dtype).cycles

    def choose(self, request: CollectiveWanted) -> str:
        """The algorithm of least cycles, then of least link cycles, for a request."""
        found = self.algorithms(request.kind, request.elements, request.dtype, request.mesh, request.axes)
        return _best(found)[0]

    def _algorithms(
        self, kind: str, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes
    ) -> Algorithms:
        """Every algorithm for the request, the simplest first."""
        if mesh_ways(mesh, axes) == 1:
            return {"one-shot": NOTHING}
        step = _Step(self, elements, dtype, mesh, axes)
        if kind == "all_gather":
            found = {"one-shot": step.exchange(step.part), "ring": step.ring(1)}
        elif kind == "reduce_scatter":
            found = {
                "one-shot": step.exchange(step.part) + step.addition(step.part),
                "ring": step.adding_ring(),
            }
        elif kind == "all_reduce":
            part = step.exchange(step.part)
            found = {
                "one-shot": step.exchange(elements) + step.addition(elements),
                "two-shot": part + step.addition(step.part) + part,
                "ring": step.adding_ring() + step.ring(1),
            }
        else:
            raise ValueError(f"collective {kind}: expected all_gather, reduce_scatter or all_reduce")
        inner = [axis for axis in axes if mesh[axis] > 1]
        if len(inner) > 1 and kind == "all_gather":
            found["hierarchical"] = self._gather_in_turn(elements, dtype, mesh, axes)
        elif len(inner) > 1 and kind == "all_reduce":
            found["hierarchical"] = self._reduce_in_between(elements, dtype, mesh, axes)
        return found

    def _gather_in_turn(
        self, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes
    ) -> CollectiveCost:
        """Innermost axis first: what the next axis exchanges has grown by then."""
        total, gathered = NOTHING, ceil(elements / mesh_ways(mesh, axes))
        for axis in reversed(axes):
            gathered *= mesh[axis]
            total += self.all_gather(gathered, dtype, mesh, (axis,))
        return total

    def _reduce_in_between(
        self, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes
    ) -> CollectiveCost:
        outer, inner = axes[:-1], axes[-1:]
        part = ceil(elements / mesh_ways(mesh, inner))
        between = self.algorithms("all_reduce", part, dtype, mesh, outer)["one-shot"]
        ways = (
            between + self.all_gather(elements, dtype, mesh, inner),
            self.reduce_scatter(part, dtype, mesh, outer) + self.all_gather(elements, dtype, mesh, axes),
        )
        first = self.algorithms("reduce_scatter", elements, dtype, mesh, inner)["one-shot"]
        return first + min(ways, key=lambda cost: (cost.cycles, cost.link))

    def _phase(self, phase: "Callable[..., Phase]", elements: int, dtype: DType) -> CollectiveCost:
        flits = ceil(elements * dtype.itemsize / self.target.link.flit_bytes)
        step = phase(flits, self.target.link)
        return CollectiveCost(step.cycles, step.busy, 0)


class _Step:
    """The steps of which the algorithms over one set of axes are made."""

    def __init__(
        self, costs: CollectiveCosts, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes
    ) -> None:
        self.costs, self.dtype, self.mesh, self.axes = costs, dtype, mesh, axes
        self.ways = mesh_ways(mesh, axes)
        self.part = ceil(elements / self.ways)

    def exchange(self, elements: int) -> CollectiveCost:
        """Every chip sends `elements` to every other, all at once."""
        return self.costs._phase(self.costs._all(self.mesh, self.axes).phase, elements, self.dtype)

    def shift(self) -> CollectiveCost:
        return self.costs._phase(self.costs._next(self.mesh, self.axes).phase, self.part, self.dtype)

    def ring(self, rounds: int) -> CollectiveCost:
        return self.shift() * ((self.ways - 1) * rounds)

    def adding_ring(self) -> CollectiveCost:
        return (self.shift() + self.addition(self.part, operands=2)) * (self.ways - 1)

    def addition(self, elements: int, operands: int | None = None) -> CollectiveCost:
        """One pass of the vector unit over `operands` (default: from all chips) of `elements` each."""
        unit = self.costs.target.chip.vector
        rate = unit.cycles.get(self.dtype, max(unit.cycles.values()))
        passes = ceil(((operands or self.ways) - 1) / unit.chained)
        busy = ceil(elements / unit.lanes) * passes * rate
        return CollectiveCost(busy + int(unit.depth), 0, busy)


def _best(found: Algorithms) -> tuple[str, CollectiveCost]:
    """Of least cycles, then of least link cycles."""
    return min(found.items(), key=lambda entry: (entry[1].cycles, entry[1].link))
