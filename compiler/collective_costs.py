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

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Protocol

from chiplan.ir import DType, Target, mesh_peers, mesh_ways

from .group_links import GroupLinks, Routes, representative_group

__all__ = ["CollectiveCost", "CollectiveCosts", "CollectiveWanted", "representative_group", "unbuildable"]

Axes = tuple[int, ...]


class CollectiveWanted(Protocol):
    """A collective along `axes` of `mesh`; kind: "all_gather", "reduce_scatter" or "all_reduce". elements, of
    `dtype`: of what every chip has before a reduction, and of the whole after a gather. without: algorithms
    that cannot be built for it (see `unbuildable`)."""

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
    @property
    def without(self) -> frozenset[str]: ...


def unbuildable(elements: int, *, is_even: bool, has_short: bool) -> frozenset[str]:
    """The algorithms that cannot be built for a sum of so many elements. is_even: whether the pieces of all
    chips are equal, as what goes round must be. has_short: whether chips have short pieces along other
    mesh axes, of which nobody computes what is beyond their ends."""
    if elements == 1 or has_short:
        return frozenset({"two-shot", "ring", "hierarchical"})
    return frozenset() if is_even else frozenset({"ring"})


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
        self._steps = _Steps(target, self.chips)
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
        self,
        kind: str,
        elements: int,
        dtype: DType,
        mesh: tuple[int, ...],
        axes: Axes,
        without: Collection[str] = (),
    ) -> tuple[str, CollectiveCost]:
        """The cheapest algorithm, and its cost, of a collective on values of `dtype`."""
        travels = dtype if kind == "all_gather" else self.wired(dtype)
        return _best(self.algorithms(kind, elements, travels, mesh, axes), without)

    def wired(self, dtype: DType) -> DType:
        """The type in which partial results travel."""
        return self.wire if self.wire is not None and self.wire.is_float and dtype.is_float else dtype

    def move(self, elements: int, dtype: DType, source: int, destination: int) -> int:
        """Cycles of a tensor from one chip to another, on an idle system."""
        return self._steps.move(elements, dtype, source, destination).cycles

    def choose(self, request: CollectiveWanted) -> str:
        """The algorithm of least cycles, then of least link cycles, for a request."""
        found = self.algorithms(request.kind, request.elements, request.dtype, request.mesh, request.axes)
        return _best(found, request.without)[0]

    def _algorithms(
        self, kind: str, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes
    ) -> Algorithms:
        """Every algorithm for the request, the simplest first."""
        if mesh_ways(mesh, axes) == 1:
            return {"one-shot": NOTHING}
        step = _AlongAxes(self._steps, elements, dtype, mesh, axes)
        if kind == "all_gather":
            found = {"one-shot": step.exchange(step.part), "ring": step.ring()}
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
                "ring": step.adding_ring() + step.ring(),
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


class _Steps:
    """Single steps of collectives on a concrete group of chips."""

    def __init__(self, target: Target, chips: Sequence[int]) -> None:
        self._target, self._links = target, GroupLinks(target.topology, chips)
        self._all = cache(lambda mesh, axes: self._links.routes(mesh_peers(mesh, axes)))
        self._next = cache(lambda mesh, axes: self._links.ring(mesh_peers(mesh, axes)))

    def exchange(self, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes) -> CollectiveCost:
        """Every chip sends `elements` to every other along `axes`, all at once."""
        return self._sent(self._all(mesh, axes), elements, dtype)

    def shift(self, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes) -> CollectiveCost:
        """Every chip sends `elements` to the next one along `axes`."""
        return self._sent(self._next(mesh, axes), elements, dtype)

    def move(self, elements: int, dtype: DType, source: int, destination: int) -> CollectiveCost:
        """One chip sends to one other."""
        return self._sent(self._links.pair(source, destination), elements, dtype)

    def addition(self, elements: int, dtype: DType, operands: int) -> CollectiveCost:
        """One pass of the vector unit over `operands` of `elements` each."""
        unit = self._target.chip.vector
        rate = unit.cycles.get(dtype, max(unit.cycles.values()))
        busy = ceil(elements / unit.lanes) * ceil((operands - 1) / unit.chained) * rate
        return CollectiveCost(busy + int(unit.depth), 0, busy)

    def _sent(self, routes: Routes, elements: int, dtype: DType) -> CollectiveCost:
        flits = ceil(elements * dtype.itemsize / self._target.link.flit_bytes)
        phase = routes.phase(flits, self._target.link)
        return CollectiveCost(phase.cycles, phase.busy, 0)


class _AlongAxes:
    """What the algorithms over one set of axes are made of; `part`: elements of a chip's piece."""

    def __init__(self, steps: _Steps, elements: int, dtype: DType, mesh: tuple[int, ...], axes: Axes) -> None:
        self._steps, self._dtype, self._mesh, self._axes = steps, dtype, mesh, axes
        self.ways = mesh_ways(mesh, axes)
        self.part = ceil(elements / self.ways)

    def exchange(self, elements: int) -> CollectiveCost:
        return self._steps.exchange(elements, self._dtype, self._mesh, self._axes)

    def addition(self, elements: int) -> CollectiveCost:
        """Of what all chips have sent."""
        return self._steps.addition(elements, self._dtype, self.ways)

    def ring(self) -> CollectiveCost:
        return self._shift() * (self.ways - 1)

    def adding_ring(self) -> CollectiveCost:
        return (self._shift() + self._steps.addition(self.part, self._dtype, 2)) * (self.ways - 1)

    def _shift(self) -> CollectiveCost:
        return self._steps.shift(self.part, self._dtype, self._mesh, self._axes)


def _best(found: Algorithms, without: Collection[str]) -> tuple[str, CollectiveCost]:
    """Of least cycles, then of least link cycles."""
    kept = ((name, cost) for name, cost in found.items() if name not in without)
    return min(kept, key=lambda entry: (entry[1].cycles, entry[1].link))
