"""When every element of a tensor is in the SRAM of each chip of a stage.

Ready times follow from the tiles that write and the transfers that arrive. What the chips of a group
write, they write in the same cycles; what differs is which piece is a chip's own, and what arrives.
So arrivals are held a chip and *cell*, a run of elements between two bounds of transfers or pieces,
and the array with the tensor's shape is made once for all chips.
"""

from collections import defaultdict
from functools import cached_property

import numpy as np

from chiplan.ir import Own, Role, View, mesh_ways

from .groups import Place
from .limits import check_entries
from .ready_times import cell_edges, cell_minima, latest_view, range_maxima, spread_cells
from .timeline import OperatorRun, Timeline
from .writes import Writer, Writes


class Readiness:
    """Ready times of every tensor on every stage, made on demand.

    `never` stands for an element that neither a tile writes nor a transfer brings.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        last = max(
            int(timeline.tiles.ready.max(initial=0)),
            int(timeline.arrival.max(initial=0)),
        )
        kind = np.int32 if last < np.iinfo(np.int32).max else np.int64
        self.dtype = np.dtype(kind)
        self.never = int(np.iinfo(kind).max)
        self.ready = timeline.tiles.ready.astype(self.dtype)

    @cached_property
    def writers(self) -> dict[Place, list[Writer]]:
        writers = defaultdict(list)
        for run in self.timeline.runs:
            for result in self.timeline.operator(run).results:
                writers[run.stage, result.tensor].append((run, result))
        return writers

    @cached_property
    def readers(self) -> dict[Place, list[tuple[OperatorRun, int]]]:
        """Runs and operand positions that read a tensor on a stage."""
        readers = defaultdict(list)
        for run in self.timeline.runs:
            for position, operand in enumerate(self.timeline.operator(run).operands):
                readers[run.stage, operand.tensor].append((run, position))
        return readers

    def at(self, place: Place) -> "ReadyTimes":
        return ReadyTimes(self, place)


class ReadyTimes:
    """Ready times of one tensor on the chips of one stage."""

    def __init__(self, readiness: Readiness, place: Place) -> None:
        self._readiness = readiness
        stage, name = place
        groups = readiness.timeline.groups
        self._tensor = readiness.timeline.graph.tensors[name]
        self.places = groups.places[stage]
        self._writes = Writes(
            readiness.timeline, readiness.ready, self._tensor, readiness.writers.get(place, []), self.places
        )
        none = np.zeros(0, dtype=np.int64)
        self._rows, self._sends = groups.arrivals.get(place, none), groups.sends.get(place, none)
        # An input comes from the host, but where it comes over links.
        role = self._tensor.role
        self._given = role is Role.WEIGHT or (role is Role.INPUT and not len(self._rows))

    def seen(self, view: View, lenient: bool = False) -> np.ndarray:
        """Cycle in which what a view shows is there on all chips, at the latest.

        lenient: on the chips that get it at all, without those of `lacking`.
        """
        mine = Own(0, self._own, self._tensor.shape[0] if self._tensor.shape else 0)
        if self._own and not self._irregular and view[:1] == (mine,):
            # Each chip sees what it wrote, all in the same cycles.
            return latest_view(view[1:], self._written[:1])
        return latest_view(view, self.latest_of_some if lenient else self.latest)

    @cached_property
    def latest(self) -> np.ndarray:
        """Cycle in which every element is there on all chips, with the tensor's shape."""
        if self._given:
            return np.broadcast_to(np.zeros((), self._readiness.dtype), self._tensor.shape)
        if self._irregular:
            return np.asarray(np.maximum.reduce([self.on(rank) for rank in range(len(self.places))]))
        if not self._own and not len(self._rows):
            return self._written
        return self._joined(self._arrived)

    @cached_property
    def latest_of_some(self) -> np.ndarray:
        """`latest` without the chips on which an element never arrives."""
        if not self.lacking:
            return self.latest
        never = self._readiness.never
        return self._joined(np.where(self._arrived == never, self._long_ago, self._arrived))

    @cached_property
    def lacking(self) -> list[int]:
        """Ranks of the chips to which a part of what they do not write never comes: padding behind a
        short piece, or a piece of which they have no use."""
        if self._given or self._irregular:
            return []
        misses = (self._arrived == self._readiness.never) & ~self._writes_cell
        return [int(rank) for rank in np.flatnonzero(misses.any(axis=1))]

    def _joined(self, arrived: np.ndarray) -> np.ndarray:
        """Latest of all chips, from the arrivals of every cell and from what is written."""
        shape = self._tensor.shape
        at_writer = np.where(self._writes_cell, self._arrived, self._long_ago).max(axis=0)
        elsewhere = np.where(self._writes_cell, self._long_ago, arrived).max(axis=0)
        if not self._writes_cell.any():
            return spread_cells(elsewhere, self._edges).reshape(shape)
        cycles: np.ndarray = self._written
        if at_writer.min() < self._readiness.never:
            cycles = np.minimum(cycles, spread_cells(at_writer, self._edges).reshape(shape))
        if not self._writes_cell.all():
            cycles = np.maximum(cycles, spread_cells(elsewhere, self._edges).reshape(shape))
        return cycles

    def on(self, rank: int) -> np.ndarray:
        """Cycle in which every element is there on one chip, with the tensor's shape."""
        if self._given:
            return self.latest
        written = self._writes.on(self.places[rank])
        if not len(self._rows):
            return written
        brought = spread_cells(self._arrived[rank], self._edges).reshape(self._tensor.shape)
        return np.asarray(np.minimum(written, brought))

    def sendable(self) -> np.ndarray:
        """Cycle in which what each transfer of `Groups.sends` carries is there on the chip that it
        leaves from."""
        transfers, rows = self._readiness.timeline.plan.transfers, self._sends
        if self._given:
            return np.zeros(len(rows), dtype=self._readiness.dtype)
        cells = self._arrived.shape[1]
        if self._irregular:
            there = np.stack([self._latest_in_cells(self.on(rank)) for rank in range(len(self.places))])
        else:
            written = self._latest_in_cells(self._written)
            there = np.minimum(np.where(self._writes_cell, written, self._readiness.never), self._arrived)
        base = self._readiness.timeline.groups.ends.source_rank[rows] * cells
        low, high = (np.searchsorted(self._edges, c[rows]) for c in (transfers.first, transfers.last))
        return range_maxima(np.asarray(there).ravel(), base + low, base + high)

    @property
    def _own(self) -> tuple[int, ...]:
        """Mesh axes along which each chip writes its own piece; empty where all write the same."""
        return self._writes.own

    @property
    def _irregular(self) -> bool:
        """Whether chips write what no pattern here describes, so that each is looked at alone."""
        return self._writes.irregular

    @cached_property
    def _edges(self) -> np.ndarray:
        """Bounds of the cells: everything that arrives, leaves or is a chip's own consists of whole ones."""
        transfers = self._readiness.timeline.plan.transfers
        bounds = [transfers.first[self._sends], transfers.last[self._sends], *self._ranges]
        if self._own:
            bounds.append(np.arange(0, self._tensor.elements, self._piece_elements))
        return cell_edges(self._tensor.elements, *bounds)

    @cached_property
    def _ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """First element of every arrival, and the one behind its last."""
        transfers, rows = self._readiness.timeline.plan.transfers, self._rows
        first = transfers.at[rows].astype(np.int64)
        return first, first + transfers.last[rows] - transfers.first[rows]

    @property
    def _long_ago(self) -> int:
        """Earlier than everything: what nobody waits for."""
        return -self._readiness.never

    @property
    def _piece_elements(self) -> int:
        return self._tensor.elements // mesh_ways(self.places[0].mesh, self._own)

    @cached_property
    def _arrived(self) -> np.ndarray:
        """Arrival cycle of every cell on every chip, [chips, cells]."""
        check_entries("cells of all chips of a group", len(self.places) * (len(self._edges) - 1))
        empty = np.full(
            (len(self.places), len(self._edges) - 1), self._readiness.never, self._readiness.dtype
        )
        timeline = self._readiness.timeline
        chip = timeline.groups.ends.destination_rank[self._rows]
        return cell_minima(self._edges, chip, *self._ranges, timeline.arrival[self._rows], empty)

    @cached_property
    def _writes_cell(self) -> np.ndarray:
        """Whether a chip writes a cell itself, if anybody does, [chips, cells]."""
        if not self._own:
            written = bool(self._writes.writers) or self._tensor.role is Role.STATE
            return np.full(self._arrived.shape, written)
        own = np.array([place.piece(self._own) for place in self.places])
        return np.asarray(own[:, None] == self._edges[:-1] // self._piece_elements)

    def _latest_in_cells(self, cycles: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum.reduceat(cycles.ravel(), self._edges[:-1]))

    @cached_property
    def _written(self) -> np.ndarray:
        """Cycle in which every element is written, on whichever chips write it."""
        return self._writes.anywhere()
