"""The chips of a plan: what is in their memories before a run, and what is read out after it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from chiplan.ir import ChipId, InternalFault, Output, Plan, Problem, Role, Tensor, apply_view, assemble

from .memory import ChipMemory, chip_memories
from .pieces import (
    Weights,
    cut_piece,
    is_idle,
    real_extents,
    result_box,
    whole_past,
    whole_weight,
    writes_here,
)

_FOR_EVER = np.iinfo(np.int64).max


class Machine:
    """Poisoned memories with the weights in place; inputs come and outputs go a micro-batch at a time.
    Every chip of a group holds its piece of weights, inputs and states.

    Raises InternalFault (`no_buffer`) where a chip uses a tensor that it has no room for.
    """

    def __init__(self, plan: Plan, weights: Weights) -> None:
        self._plan, self._graph, self._weights = plan, plan.graph, weights
        self._memories = chip_memories(plan)
        self._past_rows: dict[str, tuple[int, int]] = {}
        columns = plan.transfers
        pairs = zip(columns.into.tolist(), columns.destination.tolist(), strict=True)
        self._received = {(plan.tensor_names[tensor], chip) for tensor, chip in pairs}
        self._writers: dict[str, list[tuple[int, int]]] = {}
        for index, stage in enumerate(plan.stages):
            for number in stage.program.operators:
                for result in self._graph.operators[number].results:
                    self._writers.setdefault(result.tensor, []).append((index, number))
        for name, tensor in plan.graph.tensors.items():
            holders = self._holders(name)
            if tensor.role is Role.WEIGHT and holders:
                whole = whole_weight(tensor, weights)
                for memory in holders:
                    memory.array(name, 0)[...] = cut_piece(tensor, whole, memory.place)

    def memory(self, chip: ChipId) -> ChipMemory:
        if chip not in self._memories:
            raise InternalFault(Problem("no_buffer", f"chip {chip} is used but the plan gives it no buffer"))
        return self._memories[chip]

    def take_inputs(self, given: Mapping[str, np.ndarray], micro_batch: int) -> None:
        """Put a micro-batch's inputs, and the resident rows of its states, where the plan has them."""
        for name in self._graph.inputs:
            tensor = self._graph.tensors.get(name)
            if tensor is not None and tensor.role is Role.INPUT:
                self._put(tensor, given[name].reshape(tensor.whole_shape), micro_batch)
        for state in self._graph.states:
            tensor, past = self._graph.tensors[state.tensor], given[state.past]
            self._past_rows[state.tensor] = (state.axis, past.shape[state.axis])
            self._put(tensor, whole_past(tensor, state.axis, past), micro_batch)

    def _put(self, tensor: Tensor, whole: np.ndarray, micro_batch: int) -> None:
        """Give every chip that has the tensor from the start its piece."""
        for memory in self._holders(tensor.name):
            array = memory.array(tensor.name, micro_batch % memory.copies(tensor.name))
            array[...] = cut_piece(tensor, whole, memory.place)

    def give_outputs(self, micro_batch: int) -> dict[str, np.ndarray]:
        """The model's outputs as they are in memory now, presents of states among them."""
        presents = [Output(state.present, state.tensor, ()) for state in self._graph.states]
        outputs = [*presents, *self._graph.outputs]
        return {output.name: self._final(output, micro_batch).copy() for output in outputs}

    def _holders(self, name: str) -> list[ChipMemory]:
        """Memories that have a tensor from the start: those with a buffer that no transfer fills."""
        return [
            memory
            for chip, memory in sorted(self._memories.items())
            if name in memory.buffers and (name, chip) not in self._received
        ]

    def _final(self, output: Output, micro_batch: int) -> np.ndarray:
        """An output after the run, read where the host finds it: on a chip that has all of it, or on the
        chips of a group that hold its pieces, which keep it until the latency; of several, where the
        last of it was written."""
        name, tensor = output.tensor, self._graph.tensors[output.tensor]
        hosts = self._hosts(tensor)
        if not hosts:
            if tensor.role is not Role.WEIGHT:
                message = f"output {output.name} is tensor {name}, which the plan gives no buffer on any chip"
                raise InternalFault(Problem("no_buffer", message))
            return apply_view(output.view, whole_weight(tensor, self._weights))

        def fitness(host: Sequence[ChipId]) -> tuple[bool, bool, int, int]:
            death = min(self._death(chip, name) for chip in host)
            last = max(self._last_writer(chip, name) for chip in host)
            there = self._joined(tensor, host, [self._has(chip, tensor) for chip in host])
            return bool(apply_view(output.view, there).all()), death >= self._plan.latency, last, death

        host = max(hosts, key=fitness)
        memories = [self._memories[chip] for chip in host]
        pieces = [memory.array(name, micro_batch % memory.copies(name)) for memory in memories]
        return apply_view(output.view, self._joined(tensor, host, pieces))

    def _hosts(self, tensor: Tensor) -> list[tuple[ChipId, ...]]:
        """Where all of a tensor may be: each chip that has a buffer for it; the groups of these chips if
        each of them holds a piece."""
        chips = [chip for chip, memory in sorted(self._memories.items()) if tensor.name in memory.buffers]
        if tensor.sharding is None:
            return [(chip,) for chip in chips]
        return [stage.chips for stage in self._plan.stages if stage.chips[0] in chips]

    def _joined(self, tensor: Tensor, host: Sequence[ChipId], pieces: list[np.ndarray]) -> np.ndarray:
        if tensor.sharding is None:
            return pieces[0]
        return assemble(pieces, tensor.sharding, self._memories[host[0]].place.mesh)

    def _has(self, chip: ChipId, tensor: Tensor) -> np.ndarray:
        """Which elements of a tensor are given, written or brought on a chip, whenever."""
        name, place = tensor.name, self._memories[chip].place
        if tensor.role in (Role.INPUT, Role.WEIGHT) and (name, chip) not in self._received:
            return np.ones(tensor.shape, dtype=bool)
        there = np.zeros(tensor.shape, dtype=bool)
        if name in self._past_rows:
            axis, rows = self._past_rows[name]
            whole = np.zeros(tensor.whole_shape, dtype=bool)
            whole[(slice(None),) * axis + (slice(0, rows),)] = True
            there = cut_piece(tensor, whole, place).copy()
        for box in self._boxes(chip, name):
            there[box] = True
        columns, position = self._plan.transfers, self._plan.tensor_names.index(name)
        brought = (columns.into == position) & (columns.destination == chip)
        lengths = (columns.last - columns.first)[brought].tolist()
        for first, length in zip(columns.at[brought].tolist(), lengths, strict=True):
            there.reshape(-1)[first : first + length] = True
        return there

    def _death(self, chip: ChipId, name: str) -> int:
        death = self._memories[chip].buffers[name].death
        return death if death >= 0 else _FOR_EVER

    def _last_writer(self, chip: ChipId, name: str) -> int:
        """Number of the last operator on the chip that writes the tensor; -1 if none does."""
        return max((number for number in self._writes(chip, name)), default=-1)

    def _writes(self, chip: ChipId, name: str) -> Iterator[int]:
        for stage, number in self._writers.get(name, ()):
            if chip in self._plan.stages[stage].chips:
                yield number

    def _boxes(self, chip: ChipId, name: str) -> Iterator[tuple[slice, ...]]:
        """The boxes of the tensor that the chip's operators write."""
        place = self._memories[chip].place
        for number in self._writes(chip, name):
            operator = self._graph.operators[number]
            if is_idle(operator, real_extents(operator, place)):
                continue
            for result in operator.results:
                if result.tensor == name and writes_here(result, place):
                    yield result_box(result, operator, place)
