"""When what is resident, or written by tiles, is in the SRAM of a chip of a group."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from chiplan.ir import MeshPlace, Result, Role, Tensor

from .ready_times import result_grid, spread
from .timeline import OperatorRun, Timeline

Writer = tuple[OperatorRun, Result]


class Writes:
    """What the chips at `places` write of one tensor, all in the same cycles.

    `ready`: when the result of every row of the tile table is in SRAM; its largest number is never.
    """

    def __init__(
        self,
        timeline: Timeline,
        ready: np.ndarray,
        tensor: Tensor,
        writers: Sequence[Writer],
        places: Sequence[MeshPlace],
    ) -> None:
        self._timeline, self._ready, self._tensor, self._places = timeline, ready, tensor, places
        self.writers = writers
        self._never = int(np.iinfo(ready.dtype).max)

    @cached_property
    def own(self) -> tuple[int, ...]:
        """Mesh axes along which each chip writes its own piece; empty where all write the same."""
        return self.writers[0][1].own if self.writers else ()

    @cached_property
    def irregular(self) -> bool:
        """Whether chips write in no pattern that `anywhere` describes."""
        owns = {result.own for _, result in self.writers}
        writing = {result.only for _, result in self.writers}
        # A state's rows are resident where they are not appended: to wait for them is safe.
        alike = len(writing) <= 1 if self._tensor.role is Role.STATE else writing <= {()}
        return len(owns) > 1 or not alike

    def anywhere(self) -> np.ndarray:
        """Cycle in which every element is there on the chips that write it, with the tensor's shape."""
        tensor = self._tensor
        if tensor.role is Role.STATE:
            # The first chip that appends holds the most rows that are not padding.
            return self.on(next((p for p in self._places if not self._leaves_out(p)), self._places[0]))
        if not self.writers:
            return np.broadcast_to(np.array(self._never, self._ready.dtype), tensor.shape)
        if len(self.writers) == 1:
            box = self._box(*self.writers[0])
            if box.shape[1:] == tensor.shape[1:] if self.own else box.shape == tensor.shape:
                return np.broadcast_to(box, tensor.shape)
        return self._filled(None)

    def on(self, place: MeshPlace) -> np.ndarray:
        """Cycle in which every element is there on the chip at `place`, with the tensor's shape."""
        if self._tensor.role is Role.STATE and self.writers and self._leaves_out(place):
            return np.broadcast_to(np.zeros((), self._ready.dtype), self._tensor.shape)
        if self._tensor.role is Role.STATE or self.own or self.irregular:
            return self._filled(place)
        return self.anywhere()

    def _leaves_out(self, place: MeshPlace) -> bool:
        """Whether the chip at `place` writes nothing, and of a state has all rows that it ever has."""
        return all(not _writes(result, place) for _, result in self.writers)

    def _filled(self, place: MeshPlace | None) -> np.ndarray:
        cycles = np.full(self._tensor.shape, self._never, dtype=self._ready.dtype)
        if self._tensor.role is Role.STATE and place is not None:
            self._fill_residents(cycles, place)
        for run, result in self.writers:
            self._fill(cycles, run, result, place)
        return cycles

    def _fill_residents(self, cycles: np.ndarray, place: MeshPlace) -> None:
        """Rows of a state before the run, and the zeros behind a short piece."""
        if self._tensor.resident_rows is not None:
            axis, rows = self._tensor.resident_rows
            cycles[(slice(None),) * axis + (slice(0, rows),)] = 0
        sharding = self._tensor.sharding
        if sharding is None:
            return
        atoms = cycles.reshape(sharding.piece_shape(place.mesh))
        for cut in sharding.cuts:
            part = atoms.shape[cut.dimension]
            real = sharding.atoms[cut.dimension] - place.piece(cut.axes) * part
            if real < part:
                atoms[(slice(None),) * cut.dimension + (slice(max(0, real), None),)] = 0

    def _fill(self, cycles: np.ndarray, run: OperatorRun, result: Result, place: MeshPlace | None) -> None:
        box = self._box(run, result)
        region = [slice(low, low + size) for low, size in zip(result.offsets, box.shape, strict=True)]
        if result.own:
            piece = None if place is None else place.piece(result.own)
            region[0] = slice(None) if piece is None else slice(piece, piece + 1)
        if place is None or _writes(result, place):
            cycles[tuple(region)] = box
        elif self._tensor.role is Role.STATE:
            cycles[tuple(region)] = np.minimum(cycles[tuple(region)], 0)

    def _box(self, run: OperatorRun, result: Result) -> np.ndarray:
        """Cycle in which every element of a result is there."""
        operator = self._timeline.operator(run)
        blocks = result_grid(self._ready[run.first : run.last], operator, run.tiling, result)
        return spread(blocks, operator, run.tiling, result)


def _writes(result: Result, place: MeshPlace) -> bool:
    return all(place.coordinates[axis] == coordinate for axis, coordinate in result.only)
