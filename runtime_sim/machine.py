"""The chips of a plan: what is in their memories before a run, and what is read out after it."""

from collections.abc import Mapping

import numpy as np

from chiplan.ir import ChipId, InternalFault, Plan, Problem, Role, Tensor, apply_view

from .interpreter import Weights
from .memory import ChipMemory, chip_memories

_FOR_EVER = np.iinfo(np.int64).max


class Machine:
    """Poisoned memories with the weights in place; inputs come and outputs go a micro-batch at a time.

    Raises InternalFault (`no_buffer`) where a chip uses a tensor that it has no room for.
    """

    def __init__(self, plan: Plan, weights: Weights) -> None:
        self._plan, self._graph, self._weights = plan, plan.graph, weights
        self._memories = chip_memories(plan)
        columns = plan.transfers
        pairs = zip(columns.tensor.tolist(), columns.destination.tolist(), strict=True)
        self._received = {(plan.tensor_names[tensor], chip) for tensor, chip in pairs}
        for name, tensor in plan.graph.tensors.items():
            if tensor.role is Role.WEIGHT and self._holders(name):
                values = self._weight(tensor)
                for memory in self._holders(name):
                    memory.array(name, 0)[...] = values

    def memory(self, chip: ChipId) -> ChipMemory:
        if chip not in self._memories:
            raise InternalFault(Problem("no_buffer", f"chip {chip} is used but the plan gives it no buffer"))
        return self._memories[chip]

    def take_inputs(self, given: Mapping[str, np.ndarray], micro_batch: int) -> None:
        """Put a micro-batch's inputs, and the resident rows of its states, where the plan has them."""
        for name in self._graph.inputs:
            tensor = self._graph.tensors.get(name)
            if tensor is not None and tensor.role is Role.INPUT:
                for memory in self._holders(name):
                    array = memory.array(name, micro_batch % memory.copies(name))
                    array[...] = given[name].reshape(tensor.shape)
        for state in self._graph.states:
            past = given[state.past]
            for memory in self._holders(state.tensor):
                array = memory.array(state.tensor, micro_batch % memory.copies(state.tensor))
                array[(slice(None),) * state.axis + (slice(0, past.shape[state.axis]),)] = past

    def give_outputs(self, given: Mapping[str, np.ndarray], micro_batch: int) -> dict[str, np.ndarray]:
        """The model's outputs as they are in memory now, presents of states among them."""
        found = {state.present: self._final(state.tensor, given, micro_batch) for state in self._graph.states}
        for output in self._graph.outputs:
            found[output.name] = apply_view(output.view, self._final(output.tensor, given, micro_batch))
        return {name: array.copy() for name, array in found.items()}

    def _weight(self, tensor: Tensor) -> np.ndarray:
        found = self._weights(tensor) if tensor.value is None else tensor.value
        return np.asarray(found, tensor.dtype.numpy).reshape(tensor.shape)

    def _holders(self, name: str) -> list[ChipMemory]:
        """Memories that have a tensor from the start: those with a buffer that no transfer fills."""
        return [
            memory
            for chip, memory in sorted(self._memories.items())
            if name in memory.buffers and (name, chip) not in self._received
        ]

    def _final(self, name: str, given: Mapping[str, np.ndarray], micro_batch: int) -> np.ndarray:
        """A tensor after the run, on the chip that wrote the last of it."""
        tensor = self._graph.tensors[name]
        holders = [chip for chip, memory in sorted(self._memories.items()) if name in memory.buffers]
        if not holders:
            values = given[name] if tensor.role is Role.INPUT else self._weight(tensor)
            return np.asarray(values, tensor.dtype.numpy).reshape(tensor.shape)
        writers = self._last_writers(name)
        chip = max(holders, key=lambda holder: (writers.get(holder, -1), self._death(holder, name)))
        memory = self._memories[chip]
        return memory.array(name, micro_batch % memory.copies(name))

    def _death(self, chip: ChipId, name: str) -> int:
        death = self._memories[chip].buffers[name].death
        return death if death >= 0 else _FOR_EVER

    def _last_writers(self, name: str) -> dict[ChipId, int]:
        """By chip, the last operator on it that writes the tensor."""
        found: dict[ChipId, int] = {}
        for stage in self._plan.stages:
            for number in stage.program.operators:
                if any(result.tensor == name for result in self._graph.operators[number].results):
                    found.update(dict.fromkeys(stage.chips, number))
        return found
