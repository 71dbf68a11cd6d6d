"""The variables and links of a block's sharding problem, and what their values stand for.

    operator   one value a choice of factor atoms (one, or none, a mesh axis): cycles of the largest piece,
               bytes of the weights that it alone reads
    value      one value a pair (placement as made, placement as used): cycles of the collective between
    state,     one value a placement: bytes
    weight of several readers
Links: a writer's choice says how its result is made; a reader's choice needs the made or the used form;
what is resident lies as its readers and writers need it, or, a weight, whole on every chip.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from chiplan.ir import Chip, Graph, Role, Tensor
from chiplan.partitioner import Link, ShardingProblem, Variable

from .atoms import GraphAtoms, OperandAtoms
from .collective_costs import CollectiveCosts
from .graph_edit import kept_tensors
from .placements import REPLICATE, Placement, Placements, Shard
from .quantities import counted
from .sharding_choices import Choice
from .sharding_tensors import Codes, Conversions, Held, is_complete, local_elements

_SMALL_WEIGHT = 1 << 16
"""A weight of several readers that is no larger is counted whole on every chip: tables and constants that
all layers share would tie them together for the sake of a few bytes."""

_HIDDEN = 90
"""Per cent of an exchange that overlap with compute hides at the most: the last tiles' results come after
all compute."""

Access = tuple[int, int]
"""(operator, its operand or result)."""


@dataclass(frozen=True)
class ShardingTask:
    """A block to be split over a group: `operators` are indices into the graph.

    costs: for the chips of the group, in the row-major order of `mesh`. users: copies of the states. pins:
    factor by node. ends: pairs (value that enters, value that leaves) of a repeated block: both are placed
    alike. boundary: placements of other values that cross the block's ends; whole on every chip if not
    given. capacity: bytes a chip for weights and states (default: all of its usable SRAM). price: cycles
    that a MiB of them is worth, where chips are scarce. block: its number, for the certificate.
    """

    graph: Graph
    atoms: GraphAtoms
    operators: Sequence[int]
    mesh: tuple[int, ...]
    costs: CollectiveCosts
    chip: Chip
    users: int = 1
    pins: Mapping[str, str] = field(default_factory=dict)
    ends: Sequence[tuple[str, str]] = ()
    boundary: Mapping[str, Placements] = field(default_factory=dict)
    capacity: int | None = None
    price: int = 0
    block: int | None = None

    @property
    def limit(self) -> int:
        """Bytes a chip."""
        return int(self.chip.usable_bytes) if self.capacity is None else self.capacity


class BlockVariables:
    """held, resident: tensors that have a variable: its number, and what its values are. item: the variable
    of every operator, whose values are its choices."""

    def __init__(self, task: ShardingTask, choices: Mapping[int, tuple[Choice, ...]]) -> None:
        graph, mesh = task.graph, task.mesh
        self.task, self.choices = task, choices
        self.graph, self.atoms, self.mesh, self.users = graph, task.atoms, mesh, task.users
        self.conversions, self.codes = Conversions(task.costs, mesh), Codes(len(mesh))
        self.ends, self.boundary = dict(task.ends), task.boundary
        self.whole: Placements = (REPLICATE,) * len(mesh)
        self.variables: list[Variable] = []
        self.links: list[Link] = []
        self.held: dict[str, tuple[int, tuple[Held, ...]]] = {}
        self.resident: dict[str, tuple[int, tuple[Placements, ...]]] = {}
        self.readers, self.writers = _accesses(graph, choices)
        self._outputs, self._read_outside = kept_tensors(graph), _read_outside(graph, choices)
        self.item = {index: self._add_operator(index) for index in choices}
        for name in dict.fromkeys((*self.writers, *self.readers)):
            self._add_tensor(graph.tensors[name])
        for entering, leaving in self.ends.items():
            self._tie(entering, leaving)

    def problem(self) -> ShardingProblem:
        chips = counted(self.mesh[-1], "chip")
        mesh = " x ".join((*map(str, self.mesh[:-1]), chips))
        name = f"{counted(len(self.choices), 'operator')} on {mesh}"
        block = "" if self.task.block is None else f" of block {self.task.block}"
        return ShardingProblem(
            name, tuple(self.variables), tuple(self.links), self.task.limit, self.task.price, block
        )

    def resident_bytes(self, tensor: Tensor, placement: Placements) -> int:
        """Bytes a chip of a weight, or of a state for all users."""
        copies = self.users if tensor.role is Role.STATE else 1
        elements = local_elements(self.atoms.tensors[tensor.name], placement, self.mesh)
        return elements * tensor.dtype.itemsize * copies

    def _add_operator(self, index: int) -> int:
        """Weights that nobody else reads are paid for with the operator's choice."""
        choices = self.choices[index]
        nbytes = np.zeros(len(choices), dtype=np.int64)
        for position, operand in enumerate(self.graph.operators[index].operands):
            tensor = self.graph.tensors[operand.tensor]
            if tensor.role is Role.WEIGHT and len(self.readers[tensor.name]) == 1:
                bytes_of = {
                    need: self.resident_bytes(tensor, need) for need in {c.needs[position] for c in choices}
                }
                nbytes += np.array([bytes_of[c.needs[position]] for c in choices])
        cycles = np.array([choice.cost.latency for choice in choices], dtype=np.int64)
        rank = np.array([choice.splits for choice in choices], dtype=np.int64)
        return self._variable(self.graph.operators[index].name, cycles, nbytes, rank)

    def _variable(self, name: str, cycles: np.ndarray, nbytes: np.ndarray, rank: np.ndarray) -> int:
        self.variables.append(Variable(name, cycles, nbytes, rank))
        return len(self.variables) - 1

    def _add_tensor(self, tensor: Tensor) -> None:
        readers = self.readers.get(tensor.name, [])
        shared = tensor.role is Role.WEIGHT and len(readers) > 1
        if shared and tensor.nbytes <= _SMALL_WEIGHT:
            none = np.zeros(1, dtype=np.int64)
            self._variable(tensor.name, none, none + tensor.nbytes, none)
        elif shared or tensor.role is Role.STATE:
            self._add_resident(tensor)
        elif tensor.role is Role.VALUE:
            made = self._made(tensor.name)
            if made != [self.whole] or tensor.name in self.writers or tensor.name in self.ends:
                self._add_value(tensor, made)

    def _made(self, name: str) -> list[Placements]:
        """How a value may come to be: as all its writers can give it, or as it crosses the block's start."""
        if name in self.ends:
            return self._made(self.ends[name]) if self.ends[name] in self.writers else [self.whole]
        if name not in self.writers:
            return [self.boundary.get(name, self.whole)]
        writers = self.writers[name]
        gifts = [dict.fromkeys(c.gives[result] for c in self.choices[index]) for index, result in writers]
        # Boxes of one tensor are no partial results of it.
        return [
            made
            for made in gifts[0]
            if all(made in others for others in gifts) and (len(writers) == 1 or is_complete(made))
        ]

    def _add_value(self, tensor: Tensor, made: list[Placements]) -> None:
        states = self.conversions.states(self.atoms.tensors[tensor.name], tensor.dtype, made)
        states = tuple(
            self._overlapped(tensor.name, state) for state in states if self._may_leave(tensor.name, state)
        )
        cycles = np.array([state.cycles for state in states], dtype=np.int64)
        rank = np.array([state.conversions for state in states], dtype=np.int64)
        number = self._variable(tensor.name, cycles, np.zeros_like(cycles), rank)
        self.held[tensor.name] = number, states
        first, used = [state.made for state in states], [state.used for state in states]
        for index, operand in self.readers.get(tensor.name, ()):
            needs = [choice.needs[operand] for choice in self.choices[index]]
            fits = self.codes.serving(first, needs) | self.codes.serving(used, needs)
            self.links.append(Link(number, self.item[index], fits))
        for index, result in self.writers.get(tensor.name, ()):
            gives = [choice.gives[result] for choice in self.choices[index]]
            self.links.append(Link(number, self.item[index], self.codes.equal(first, gives)))

    def _overlapped(self, name: str, state: Held) -> Held:
        """A value whose partial results chips send each other while the operator that makes them, if it is
        one, still computes: that much of the exchange takes no time of its own."""
        writers = self.writers.get(name, ())
        if is_complete(state.made) or state.made == state.used or len(writers) != 1:
            return state
        ((index, result),) = writers
        work = min(c.cost.work for c in self.choices[index] if c.gives[result] == state.made)
        kept = all(a == b or b != REPLICATE for a, b in zip(state.made, state.used, strict=True))
        # Sums that come back to all chips come back after all compute.
        sent = state.cost.link if kept else state.cost.link // 2
        return replace(state, hidden=min(work, sent) * _HIDDEN // 100)

    def _may_leave(self, name: str, state: Held) -> bool:
        """Whether a value may stand so at the end of the block. The next block of a chain converts what it
        reads; an output may stay in pieces; others find what the boundary says."""
        if name not in self.writers or name in self.ends.values():
            return True
        if name in self.boundary or name in self._read_outside:
            wanted = [self.boundary.get(name, self.whole)]
            if not is_complete(wanted[0]):
                return state.made == wanted[0]
            return bool(self.codes.serving([state.made, state.used], wanted).any())
        return name not in self._outputs or is_complete(state.made) or is_complete(state.used)

    def _add_resident(self, tensor: Tensor) -> None:
        name = tensor.name
        asked = [c.needs[operand] for i, operand in self.readers.get(name, ()) for c in self.choices[i]]
        asked += [c.gives[result] for i, result in self.writers.get(name, ()) for c in self.choices[i]]
        shards: list[list[Placement]] = [
            [REPLICATE, *dict.fromkeys(p for p in column if isinstance(p, Shard))]
            for column in zip(*asked, strict=True)
        ]
        placements = tuple(product(*shards))
        nbytes = np.array([self.resident_bytes(tensor, p) for p in placements], dtype=np.int64)
        none = np.zeros_like(nbytes)
        number = self._variable(name, none, nbytes, none)
        self.resident[name] = number, placements
        for index, operand in self.readers.get(name, ()):
            needs = [choice.needs[operand] for choice in self.choices[index]]
            agree = self.codes.equal if tensor.role is Role.STATE else self.codes.serving
            self.links.append(Link(number, self.item[index], agree(placements, needs)))
        for index, result in self.writers.get(name, ()):
            fits = self._writing(placements, index, result)
            self.links.append(Link(number, self.item[index], fits))

    def _writing(self, placements: Sequence[Placements], index: int, result: int) -> np.ndarray:
        """bool[placements, choices]: a chip writes the pieces that it holds. Where rows are cut, all compute
        the new rows and their owner writes them."""
        gives = [choice.gives[result] for choice in self.choices[index]]
        have, given = self.codes.table(placements)[:, None, :], self.codes.table(gives)[None, :, :]
        owned = np.array(
            [[self._one_owner(p, axis, index, result) for axis in range(len(p))] for p in placements]
        )
        fits: np.ndarray = ((have == given) | (owned[:, None, :] & (given == 0))).all(axis=-1)
        return fits

    def _one_owner(self, placement: Placements, axis: int, index: int, result: int) -> bool:
        """Whether the box that a result writes lies in one piece of the atom that a mesh axis cuts."""
        cut = placement[axis]
        written = self.graph.operators[index].results[result]
        own: OperandAtoms = self.atoms.operators[index].results[result]
        if not isinstance(cut, Shard) or own.along[cut.atom] is not None or cut.atom[1] != 0:
            return False
        extents = self.atoms.tensors[written.tensor][cut.atom[0]]
        inner = int(np.prod(extents[1:]))
        ways = int(np.prod([n for n, other in zip(self.mesh, placement, strict=True) if other == cut]))
        factor = written.axes[cut.atom[0]]
        first = written.offsets[cut.atom[0]]
        last = first + (1 if factor is None else self.graph.operators[index].factors[factor].extent) - 1
        piece = -(-extents[0] // ways) * inner
        return first // piece == last // piece

    def _tie(self, entering: str, leaving: str) -> None:
        """Both ends of a repeated block are placed alike."""
        if entering not in self.held or leaving not in self.held:
            return
        (first, inside), (second, outside) = self.held[entering], self.held[leaving]
        alike = self.codes.equal([state.made for state in inside], [state.made for state in outside])
        self.links.append(Link(first, second, alike))


def _accesses(
    graph: Graph, operators: Collection[int]
) -> tuple[dict[str, list[Access]], dict[str, list[Access]]]:
    """Who reads and who writes each tensor, among `operators`."""
    readers: dict[str, list[Access]] = {}
    writers: dict[str, list[Access]] = {}
    for index in operators:
        for position, operand in enumerate(graph.operators[index].operands):
            readers.setdefault(operand.tensor, []).append((index, position))
        for position, result in enumerate(graph.operators[index].results):
            writers.setdefault(result.tensor, []).append((index, position))
    return readers, writers


def _read_outside(graph: Graph, operators: Collection[int]) -> set[str]:
    """Tensors that operators besides `operators` read."""
    inside = set(operators)
    others = (operator for index, operator in enumerate(graph.operators) if index not in inside)
    return {operand.tensor for operator in others for operand in operator.operands}
