"""Runs a device graph operator by operator on every chip of every group, without tiles or times.

What the chips send each other is done by its meaning: an exchange as soon as its source is written, a
tensor that another group reads when that group first reads it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from chiplan.ir import (
    Exchange,
    ExchangeKind,
    Graph,
    MeshPlace,
    Operator,
    Output,
    Role,
    Tensor,
    apply_view,
    assemble,
    mesh_peers,
    mesh_places,
)

from .interpreter import Interpreter
from .pieces import Weights, is_idle, poisoned, real_extents, result_box, writes_here

_SAME = 1e-3
"""Copies on several chips agree to this part of their largest value; pieces and partial sums do not."""


class Group(NamedTuple):
    """What one stage executes: indices of the graph's operators, and the mesh of its chips."""

    operators: tuple[int, ...]
    mesh: tuple[int, ...]


class _Chip:
    """One chip: the values of its tensors, and of tensors that several chips write, which elements it
    has."""

    def __init__(self, interpreter: Interpreter, pieced: frozenset[str]) -> None:
        self.interpreter, self._pieced = interpreter, pieced
        self.values = interpreter.values
        self._has: dict[str, np.ndarray] = {}

    @property
    def place(self) -> MeshPlace:
        return self.interpreter.place

    def has(self, name: str) -> np.ndarray:
        """Which elements of a tensor are on the chip; all of one that it alone computes or holds."""
        shape = self.interpreter.graph.tensors[name].shape
        if name not in self._pieced:
            return np.full(shape, name in self.values)
        if name not in self._has:
            self._has[name] = np.zeros(shape, bool)
        return self._has[name]

    def run(self, operator: Operator) -> None:
        self.interpreter.run(operator)
        idle = is_idle(operator, real_extents(operator, self.place))
        for result in operator.results:
            if result.tensor in self._pieced and writes_here(result, self.place) and not idle:
                self.has(result.tensor)[result_box(result, operator, self.place)] = True

    def receive(self, name: str, values: np.ndarray, there: np.ndarray) -> None:
        """Store the elements that are `there` and that the chip does not have itself."""
        tensor = self.interpreter.graph.tensors[name]
        old = self.values.get(name, poisoned(tensor.shape, tensor.dtype))
        self.values[name] = np.where(there & ~self.has(name), values, old)
        if name in self._pieced:
            self._has[name] = self.has(name) | there


class GroupInterpreter:
    """Values of all tensors on all chips, for one set of inputs: `values(group, rank)[tensor]`.

    groups: the stages, in any order; an operator may be in several (recomputed).
    inputs, pasts of states among them, and weights are whole.
    Raises ValueError for a tensor that is read and not written, or a state without values.
    """

    def __init__(
        self, graph: Graph, groups: Sequence[Group], inputs: Mapping[str, np.ndarray], weights: Weights
    ) -> None:
        self.graph, self.groups = graph, groups
        read_once = _read_once(weights)
        pieced = _pieced_tensors(graph)
        self._chips = [
            [
                _Chip(Interpreter(graph, inputs, read_once, inputs, place), pieced)
                for place in mesh_places(group.mesh)
            ]
            for group in groups
        ]
        self._executing: dict[int, list[int]] = {}
        self._writers: dict[str, list[int]] = {}
        for index, group in enumerate(groups):
            for number in group.operators:
                self._executing.setdefault(number, []).append(index)
            written = (result.tensor for i in group.operators for result in graph.operators[i].results)
            for name in dict.fromkeys(written):
                self._writers.setdefault(name, []).append(index)
        self._exchanges: dict[str, list[Exchange]] = {}
        for exchange in graph.exchanges:
            self._exchanges.setdefault(exchange.source, []).append(exchange)
        self._moved = {e.target: e for e in graph.exchanges if e.target != e.source}

    def values(self, group: int, rank: int) -> dict[str, np.ndarray]:
        """What a chip has stored, in the tensors' own (local) shapes."""
        return self._chips[group][rank].values

    def run_all(self) -> None:
        """Execute every operator, in the graph's order."""
        for number in range(len(self.graph.operators)):
            self.run(number)

    def run(self, number: int) -> None:
        """Execute one operator on all chips of all groups that have it."""
        operator = self.graph.operators[number]
        for index in self._executing.get(number, ()):
            for operand in operator.operands:
                self._bring(index, operand.tensor)
            for chip in self._chips[index]:
                chip.run(operator)
            for result in operator.results:
                self._exchange_from(index, result.tensor)

    def outputs(self) -> dict[str, np.ndarray]:
        """The model's outputs by name, whole; the presents of states are among them."""
        presents = [Output(state.present, state.tensor, ()) for state in self.graph.states]
        outputs = [*presents, *self.graph.outputs]
        return {output.name: apply_view(output.view, self._whole(output.tensor)) for output in outputs}

    def _whole(self, name: str) -> np.ndarray:
        tensor, groups = self.graph.tensors[name], self._holders(name)
        if tensor.sharding is None:
            return self._collect(tensor, groups)[0]
        mesh, chips = self.groups[groups[-1]].mesh, self._chips[groups[-1]]
        return assemble([chip.interpreter.value(name) for chip in chips], tensor.sharding, mesh)

    def _holders(self, name: str) -> list[int]:
        """Groups that write a tensor; of one that nobody writes, the first that reads it."""
        if name in self._writers:
            return self._writers[name]
        readers = [
            index
            for index, group in enumerate(self.groups)
            if any(o.tensor == name for i in group.operators for o in self.graph.operators[i].operands)
        ]
        return readers[:1] or [0]

    def _collect(self, tensor: Tensor, groups: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Every element from the first chip of these groups that has it, and which elements these are.

        Raises ValueError where chips hold different values of one element: then it is a piece or a
        partial sum, and nobody but they can read it."""
        values, there = poisoned(tensor.shape, tensor.dtype), np.zeros(tensor.shape, bool)
        for chip in (chip for index in groups for chip in self._chips[index]):
            if tensor.role is not Role.VALUE:
                chip.interpreter.value(tensor.name)
            if tensor.name not in chip.values:
                continue
            has, found = chip.has(tensor.name), chip.values[tensor.name]
            if not _agree(values[has & there], found[has & there]):
                raise ValueError(f"tensor {tensor.name} is read whole, but its chips hold different values")
            values = np.where(has & ~there, found, values)
            there |= has
        return values, there

    def _bring(self, index: int, name: str) -> None:
        """See that the chips of a group have what they read: from an exchange, or from other groups."""
        chips = self._chips[index]
        writers = self._writers.get(name, [])
        if name in self._moved and name not in chips[0].values:
            self._bring(index, self._moved[name].source)
            self._exchange(index, self._moved[name])
        others = [other for other in writers if other != index]
        is_own = self.graph.tensors[name].role is not Role.VALUE and index in writers
        if not others or is_own or all(chip.has(name).all() for chip in chips):
            return
        values, there = self._collect(self.graph.tensors[name], others)
        for chip in chips:
            chip.receive(name, values, there)

    def _exchange_from(self, index: int, source: str) -> None:
        """Carry out the exchanges of a tensor that was just written, and those of what they bring."""
        for exchange in self._exchanges.get(source, ()):
            self._exchange(index, exchange)
            if exchange.target != source:
                self._exchange_from(index, exchange.target)

    def _exchange(self, index: int, exchange: Exchange) -> None:
        target = self.graph.tensors[exchange.target]
        for peers in mesh_peers(self.groups[index].mesh, exchange.axes):
            chips = [self._chips[index][rank] for rank in peers]
            arrays = [chip.interpreter.value(exchange.source) for chip in chips]
            match exchange.kind:
                case ExchangeKind.GATHER:
                    self._gather(exchange.source, chips, arrays)
                case ExchangeKind.SCATTER:
                    for chip, received in zip(chips, _scattered(arrays, target), strict=True):
                        chip.values[target.name] = received
                case ExchangeKind.SHIFT:
                    for position, array in enumerate(arrays):
                        moved = array.reshape(target.shape).copy()
                        chips[(position + exchange.by) % len(chips)].values[target.name] = moved

    def _gather(self, name: str, chips: list[_Chip], arrays: list[np.ndarray]) -> None:
        pieces = np.stack([array[c] for c, array in enumerate(arrays)])
        there = np.stack([chip.has(name)[c] for c, chip in enumerate(chips)])
        for chip in chips:
            chip.receive(name, pieces, there)


def _read_once(weights: Weights) -> Weights:
    """The chips of a group ask for the same weights."""
    known: dict[str, np.ndarray] = {}

    def read(tensor: Tensor) -> np.ndarray:
        if tensor.name not in known:
            known[tensor.name] = weights(tensor)
        return known[tensor.name]

    return read


def _pieced_tensors(graph: Graph) -> frozenset[str]:
    """Values that are written piece by piece: by several operators, or each piece by another chip."""
    results = [result for operator in graph.operators for result in operator.results]
    counts = Counter(result.tensor for result in results)
    several = {name for name, count in counts.items() if count > 1}
    several |= {result.tensor for result in results if result.own or result.only}
    return frozenset(name for name in several if graph.tensors[name].role is Role.VALUE)


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two copies of the same values are equal, but for the order of sums."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    return np.allclose(a, b, rtol=_SAME, atol=_SAME * float(scale), equal_nan=True)


def _scattered(arrays: list[np.ndarray], target: Tensor) -> list[np.ndarray]:
    """What every chip receives of the others' arrays: row (c - d - 1) mod n from chip c."""
    count, part = len(arrays), target.elements // (len(arrays) - 1)
    received = []
    for d in range(count):
        rows = poisoned((count - 1, part), target.dtype)
        for c in (c for c in range(count) if c != d):
            sent = arrays[c].reshape(-1)[d * part : (d + 1) * part]
            rows[(c - d - 1) % count, : sent.size] = sent
        received.append(rows.reshape(target.shape))
    return received


def run_device_graph(
    graph: Graph,
    stages: Sequence[tuple[Sequence[int], tuple[int, ...]]],
    inputs: Mapping[str, np.ndarray],
    weights: Weights,
) -> dict[str, np.ndarray]:
    """The model's outputs, whole, by name (presents of states included).

    stages: for every group the operators that it executes (indices into the graph's) and its mesh.
    inputs: the model's inputs and the pasts of its states by name, whole. weights: the values of a
    whole weight, for a tensor of its whole shape.
    """
    interpreter = GroupInterpreter(
        graph, [Group(tuple(operators), mesh) for operators, mesh in stages], inputs, weights
    )
    interpreter.run_all()
    return interpreter.outputs()
