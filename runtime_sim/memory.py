"""SRAM as bytes: every chip's buffers at the addresses that the plan gives them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chiplan.ir import ChipId, InternalFault, MeshPlace, Plan, Problem, Tensor, mesh_places

from .pieces import ALONE, POISON


class Buffer(NamedTuple):
    """One row of the plan's buffer columns."""

    address: int
    stride: int
    copies: int
    death: int


class ChipMemory:
    """The bytes of one chip, up to the highest address that a buffer uses. `place` is the chip's on the
    mesh of its group."""

    def __init__(
        self, buffers: dict[str, Buffer], tensors: dict[str, Tensor], place: MeshPlace = ALONE
    ) -> None:
        self.buffers, self.place = buffers, place
        self._tensors = tensors
        ends = [
            buffer.address + (buffer.copies - 1) * buffer.stride + tensors[name].nbytes
            for name, buffer in buffers.items()
        ]
        self._bytes = np.full(max(ends, default=0), POISON, dtype=np.uint8)

    def copies(self, name: str) -> int:
        """Copies of the tensor's buffer, which micro-batches use in rotation."""
        return self._buffer(name).copies

    def array(self, name: str, copy: int) -> np.ndarray:
        """One copy of a tensor as a writable view of the bytes."""
        tensor, buffer = self._tensors[name], self._buffer(name)
        first = buffer.address + copy * buffer.stride
        return self._bytes[first : first + tensor.nbytes].view(tensor.dtype.numpy).reshape(tensor.shape)

    def _buffer(self, name: str) -> Buffer:
        if name not in self.buffers:
            message = f"a chip uses tensor {name} but the plan gives it no buffer there"
            raise InternalFault(Problem("no_buffer", message))
        return self.buffers[name]


def chip_memories(plan: Plan) -> dict[ChipId, ChipMemory]:
    """A memory for every chip that has buffers, poisoned throughout. The buffers of a stage's first chip
    are those of every chip of its group."""
    tensors, buffers = plan.graph.tensors, _chip_buffers(plan)
    memories = {chip: ChipMemory(found, tensors) for chip, found in buffers.items()}
    for stage in plan.stages:
        found = buffers.get(stage.chips[0])
        if found is not None:
            places = zip(stage.chips, mesh_places(stage.mesh), strict=True)
            memories |= {chip: ChipMemory(found, tensors, place) for chip, place in places}
    return memories


def _chip_buffers(plan: Plan) -> dict[ChipId, dict[str, Buffer]]:
    """The plan's buffers by chip and tensor."""
    columns, alignment = plan.buffers, int(plan.target.chip.alignment)
    found: dict[ChipId, dict[str, Buffer]] = {}
    rows: Sequence[Sequence[int]] = np.stack(
        [columns.tensor, columns.chip, columns.address, columns.nbytes, columns.copies, columns.death], axis=1
    ).tolist()
    for tensor, chip, address, nbytes, copies, death in rows:
        stride = -(-nbytes // alignment) * alignment
        buffer = Buffer(address, stride, copies, death)
        found.setdefault(ChipId(chip), {})[plan.tensor_names[tensor]] = buffer
    return found
