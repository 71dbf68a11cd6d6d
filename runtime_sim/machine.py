"""The chips of a plan: what is in their memories before a run, and what is read out after it."""

from collections.abc import Iterator, Mapping

import numpy as np

from chiplan.ir import ChipId, InternalFault, Output, Plan, Problem, Role, Tensor, apply_view

from .memory import ChipMemory, chip_memories
from .pieces import Weights, result_box

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

    def give_outputs(self, micro_batch: int) -> dict[str, np.ndarray]:
        """The model's outputs as they are in memory now, presents of states among them."""
        presents = [Output(state.present, state.tensor, ()) for state in self._graph.states]
        outputs = [*presents, *self._graph.outputs]
        return {output.name: self._final(output, micro_batch).copy() for output in outputs}

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

    def _final(self, output: Output, micro_batch: int) -> np.ndarray:
        """An output after the run, read where the host finds it: on a chip that has all of it and
        keeps it until the latency; of several, on the one that wrote the last of it."""
        name, tensor = output.tensor, self._graph.tensors[output.tensor]
        holders = [chip for chip, memory in sorted(self._memories.items()) if name in memory.buffers]
        if not holders:
            if tensor.role is not Role.WEIGHT:
                message = f"output {output.name} is tensor {name}, which the plan gives no buffer on any chip"
                raise InternalFault(Problem("no_buffer", message))
            return apply_view(output.view, self._weight(tensor))
        writers = {chip: number for chip, number, _ in self._writes(name)}

        def fitness(chip: ChipId) -> tuple[bool, bool, int, int]:
            death = self._death(chip, name)
            return self._has_all(chip, output), death >= self._plan.latency, writers.get(chip, -1), death

        memory = self._memories[max(holders, key=fitness)]
        return apply_view(output.view, memory.array(name, micro_batch % memory.copies(name)))

    def _has_all(self, chip: ChipId, output: Output) -> bool:
        """Whether every element of an output is given, written or brought on a chip, whenever."""
        name, tensor = output.tensor, self._graph.tensors[output.tensor]
        if tensor.role in (Role.INPUT, Role.WEIGHT) and (name, chip) not in self._received:
            return True
        there = np.zeros(tensor.shape, dtype=bool)
        if tensor.resident_rows is not None:
            axis, rows = tensor.resident_rows
            there[(slice(None),) * axis + (slice(0, rows),)] = True
        for writer, _, box in self._writes(name):
            if writer == chip:
                there[box] = True
        columns, position = self._plan.transfers, self._plan.tensor_names.index(name)
        brought = (columns.tensor == position) & (columns.destination == chip)
        for first, last in zip(columns.first[brought].tolist(), columns.last[brought].tolist(), strict=True):
            there.reshape(-1)[first:last] = True
        return bool(apply_view(output.view, there).all())

    def _death(self, chip: ChipId, name: str) -> int:
        death = self._memories[chip].buffers[name].death
        return death if death >= 0 else _FOR_EVER

    def _writes(self, name: str) -> Iterator[tuple[ChipId, int, tuple[slice, ...]]]:
        """Chip, operator and box of everything that writes the tensor, in the order of each chip."""
        for stage in self._plan.stages:
            for number in stage.program.operators:
                operator = self._graph.operators[number]
                boxes = [result_box(result, operator) for result in operator.results if result.tensor == name]
                yield from ((chip, number, box) for chip in stage.chips for box in boxes)
