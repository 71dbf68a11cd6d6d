"""SRAM as bytes: every chip's buffers at the addresses that the plan gives them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chiplan.ir import ChipId, InternalFault, Plan, Problem, Tensor

_POISON = 0xFF
"""As fp32 or fp16 this byte makes NaN, as an integer -1: reading what nobody wrote shows."""


class Buffer(NamedTuple):
    """One row of the plan's buffer columns."""

    address: int
    stride: int
    copies: int
    death: int


class ChipMemory:
    """The bytes of one chip, up to the highest address that a buffer uses."""

    def __init__(self, buffers: dict[str, Buffer], tensors: dict[str, Tensor]) -> None:
        self.buffers = buffers
        self._tensors = tensors
        ends = [
            buffer.address + (buffer.copies - 1) * buffer.stride + tensors[name].nbytes
            for name, buffer in buffers.items()
        ]
        self._bytes = np.full(max(ends, default=0), _POISON, dtype=np.uint8)

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
    """A memory for every chip that has buffers, poisoned throughout."""
    columns, alignment = plan.buffers, int(plan.target.chip.alignment)
    found: dict[ChipId, dict[str, Buffer]] = {}
    rows: Sequence[Sequence[int]] = np.stack(
        [columns.tensor, columns.chip, columns.address, columns.nbytes, columns.copies, columns.death], axis=1
    ).tolist()
    for tensor, chip, address, nbytes, copies, death in rows:
        stride = -(-nbytes // alignment) * alignment
        buffer = Buffer(address, stride, copies, death)
        found.setdefault(ChipId(chip), {})[plan.tensor_names[tensor]] = buffer
    return {chip: ChipMemory(buffers, plan.graph.tensors) for chip, buffers in found.items()}
