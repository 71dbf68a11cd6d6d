"""The device graph: from a graph and the decisions of its stages to what one chip of each stage executes.

whole graph                          device graph of 4 chips, columns then rows split
h = x [8, 64] @ w1 [64, 256]         h [8, 64]     = x [8, 64] @ w1 [64, 64: own columns]
y = h @ w2 [256, 64]                 y/partial     = h [8, 64] @ w2 [64: own rows, 64]
                                     y             = sum of what the chips exchange of y/partial
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from chiplan.ir import DType, Exchange, ExchangeKind, Graph, Operator, Output, Role, Tensor, simplify_view

from .atoms import Decision, GraphAtoms
from .device_collectives import Choose, CollectiveRequest
from .device_forms import Cuts, Form, cuts_of, opened, plain_form, sharding_of
from .device_operators import (
    LocalFactors,
    effective,
    groups_at,
    local_body,
    local_factors,
    local_operand,
    local_result,
    tensor_groups,
)
from .device_storage import (
    Layout,
    Stored,
    Uses,
    Written,
    agreed,
    resident_cuts,
    store_state,
    store_value,
    wire_type,
)
from .graph_edit import kept_tensors, writers_of
from .placements import Placements, placements

__all__ = ["Choose", "CollectiveRequest", "DeviceGraph", "GroupStage", "build_device_graph"]


@dataclass(frozen=True)
class GroupStage:
    """What a group of chips executes.

    operators: indices into the whole graph, ascending; cheap ones may be in several stages.
    mesh: extents of the group's mesh. decisions: for each operator, what it splits along each mesh axis.
    """

    operators: tuple[int, ...]
    mesh: tuple[int, ...]
    decisions: Mapping[int, Decision]


@dataclass(frozen=True)
class DeviceGraph:
    """What one chip of each stage executes.

    graph: extents are those of a chip's pieces; operators stand stage by stage, in order.
    stages: operators of every stage, indices into `graph`, ascending.
    source: for each operator the whole graph's operator; None for the arithmetic of a collective.
    """

    graph: Graph
    stages: tuple[tuple[int, ...], ...]
    source: tuple[int | None, ...]


def build_device_graph(
    graph: Graph,
    atoms: GraphAtoms,
    stages: Sequence[GroupStage],
    choose: Choose,
    wire: DType | None,
) -> DeviceGraph:
    """The device graph of `stages`, which together execute every operator of `graph`.

    choose: the algorithm of every collective. wire: the type of floating-point partial sums that chips
    send each other; None for the type of the result.
    Raises ValueError where decisions contradict each other: operators that write one tensor in different
    placements, or need different pieces of one state.
    """
    return _Builder(graph, atoms, stages, choose, wire).build()


@dataclass
class _Work:
    """One stage: what its operators need and give, and where its tensors are."""

    number: int
    stage: GroupStage
    needs: dict[int, tuple[Cuts, ...]] = field(default_factory=dict)
    gives: dict[int, tuple[Placements, ...]] = field(default_factory=dict)
    local: dict[int, LocalFactors] = field(default_factory=dict)
    reads: dict[str, list[Cuts]] = field(default_factory=dict)
    writes: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By tensor, the (operator, result) that write it."""
    stored: dict[str, Stored] = field(default_factory=dict)
    written: dict[str, Written] = field(default_factory=dict)


class _Builder:
    """Decides how every stage stores its tensors, then writes down its operators."""

    def __init__(
        self,
        graph: Graph,
        atoms: GraphAtoms,
        stages: Sequence[GroupStage],
        choose: Choose,
        wire: DType | None,
    ) -> None:
        self.graph, self.atoms, self.choose, self.wire = graph, atoms, choose, wire
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.source: list[int | None] = []
        self.exchanges: list[Exchange] = []
        self.works = [self._work(number, stage) for number, stage in enumerate(stages)]
        self.outputs = {output.tensor for output in graph.outputs}
        self.homes = self._homes()
        self.first = {i: w.number for w in reversed(self.works) for i in w.stage.operators}
        self.crossing = {
            name
            for work in self.works
            for name in work.reads
            if self.homes.get(name, work.number) != work.number and name not in work.writes
        }

    def build(self) -> DeviceGraph:
        self._store_inputs()
        numbers = []
        for work in self.works:
            self._store_residents(work)
            self._store_values(work)
            first = len(self.operators)
            self._emit_stage(work)
            numbers.append(tuple(range(first, len(self.operators))))
        graph = replace(
            self.graph,
            tensors=self._ordered_tensors(),
            operators=tuple(self.operators),
            outputs=tuple(map(self._output, self.graph.outputs)),
            exchanges=tuple(self.exchanges),
        )
        return DeviceGraph(graph, tuple(numbers), tuple(self.source))

    # What operators need and give.

    def _work(self, number: int, stage: GroupStage) -> _Work:
        work = _Work(number, stage)
        for index in stage.operators:
            operator = self.graph.operators[index]
            decision = effective(stage.decisions[index], stage.mesh)
            needs, gives = placements(self.graph, self.atoms, index, decision)
            work.needs[index] = tuple(map(cuts_of, needs))
            work.gives[index] = gives
            work.local[index] = local_factors(operator, self.atoms.operators[index], decision, stage.mesh)
            for operand, cuts in zip(operator.operands, work.needs[index], strict=True):
                work.reads.setdefault(operand.tensor, []).append(cuts)
            for position, result in enumerate(operator.results):
                work.writes.setdefault(result.tensor, []).append((index, position))
        return work

    def _homes(self) -> dict[str, int]:
        """The first stage that computes each value. Raises ValueError where a stage has but some of the
        operators that write a tensor, or reads what comes later."""
        homes: dict[str, int] = {}
        counts = {name: len(set(found)) for name, found in writers_of(self.graph.operators).items()}
        for work in self.works:
            for name, writers in work.writes.items():
                homes.setdefault(name, work.number)
                if len({index for index, _ in writers}) != counts[name]:
                    raise ValueError(f"stage {work.number} has some of the operators that write {name}")
        for work in self.works:
            for name in work.reads:
                is_value = self.graph.tensors[name].role is Role.VALUE
                if is_value and homes.get(name, work.number + 1) > work.number:
                    raise ValueError(f"stage {work.number} reads {name}, which no stage before it computes")
        return homes

    # How tensors are stored.

    def _store_inputs(self) -> None:
        """An input is cut only where all stages that read it agree: it has one tensor in the model."""
        for name, tensor in self.graph.tensors.items():
            if tensor.role is not Role.INPUT:
                continue
            readers = [work for work in self.works if name in work.reads]
            needs = [cuts for work in readers for cuts in work.reads[name]]
            meshes = {work.stage.mesh for work in readers}
            cuts = resident_cuts(needs) if len(meshes) == 1 and name not in self.outputs else ()
            for work in readers:
                form = plain_form(self.atoms.tensors[name], work.stage.mesh, cuts)
                work.stored[name] = Stored(name, form)
                self._declare_resident(tensor, name, form)

    def _store_residents(self, work: _Work) -> None:
        """Weights, with other names where another stage has other pieces of them; and states."""
        for name in dict.fromkeys((*work.reads, *work.writes)):
            tensor = self.graph.tensors[name]
            if tensor.role is Role.WEIGHT:
                cuts = () if name in self.outputs else resident_cuts(work.reads[name])
                form = plain_form(self.atoms.tensors[name], work.stage.mesh, cuts)
                sharding = sharding_of(form)
                known = self.tensors.get(name)
                shares = known is None or (known.shape == form.shape and known.sharding == sharding)
                own = name if shares else f"{name}@{work.number}"
                work.stored[name] = Stored(own, form)
                self._declare_resident(tensor, own, form)
            elif tensor.role is Role.STATE:
                self._store_state(work, tensor)

    def _store_state(self, work: _Work, tensor: Tensor) -> None:
        name = tensor.name
        if name in self.tensors:
            raise ValueError(f"state {name} is used in stage {work.number} and in one before it")
        gives = [work.gives[index][position] for index, position in work.writes.get(name, ())]
        atoms = self.atoms.tensors[name]
        form = store_state(tensor, atoms, work.stage.mesh, work.reads.get(name, []), gives)
        work.stored[name] = Stored(name, form)
        work.written[name] = Written(name, form, groups_at(atoms, set()), tensor.dtype)
        self._declare_resident(tensor, name, form)

    def _declare_resident(self, tensor: Tensor, name: str, form: Form) -> None:
        rows = tensor.resident_rows
        if rows is not None and form.shape[rows[0]] != tensor.shape[rows[0]]:
            # Those of the chip that appends the next row.
            axis, count = rows
            part = form.shape[axis]
            rows = (axis, count - min(count, tensor.shape[axis] - 1) // part * part)
        self.tensors[name] = (
            replace(tensor, name=name, shape=form.shape, resident_rows=rows, sharding=sharding_of(form))
            if form.cuts
            else tensor
        )

    def _store_values(self, work: _Work) -> None:
        for name, writers in work.writes.items():
            tensor = self.graph.tensors[name]
            if tensor.role is not Role.STATE:
                self._store_value(work, tensor, writers)
        for name in work.reads:
            if name not in work.stored:
                work.stored[name] = self.works[self.homes[name]].stored[name]

    def _store_value(self, work: _Work, tensor: Tensor, writers: list[tuple[int, int]]) -> None:
        is_home = self.homes[tensor.name] == work.number
        name = tensor.name if is_home else f"{tensor.name}@{work.number}"
        uses = Uses(
            tuple(dict.fromkeys(work.reads.get(tensor.name, ()))),
            is_home and tensor.name in self.crossing,
            is_home and tensor.name in self.outputs,
        )
        stored, written = store_value(
            tensor, name, self._layout(work, tensor, writers), uses, self._wire(tensor, writers), self.choose
        )
        work.stored[tensor.name], work.written[tensor.name] = stored, written
        is_cut_output = uses.is_output and stored.form.cuts and not stored.form.lead
        sharding = sharding_of(stored.form) if is_cut_output else None
        if name != tensor.name or stored.form.shape != tensor.shape or sharding:
            tensor = replace(tensor, name=name, shape=stored.form.shape, sharding=sharding)
        self.tensors[name] = tensor
        if written.reduction is not None:
            self.tensors.update((made.name, made) for made in written.reduction.tensors)

    def _layout(self, work: _Work, tensor: Tensor, writers: list[tuple[int, int]]) -> Layout:
        fronts = set()
        for index, position in writers:
            operator = self.graph.operators[index]
            entry = self.atoms.operators[index].results[position]
            fronts |= tensor_groups(operator, operator.results[position], entry, work.local[index])
        atoms = self.atoms.tensors[tensor.name]
        given = agreed(tensor.name, [work.gives[index][position] for index, position in writers])
        nodes = self.graph.operators[writers[0][0]].nodes
        return Layout(atoms, work.stage.mesh, given, groups_at(atoms, fronts), nodes)

    def _wire(self, tensor: Tensor, writers: list[tuple[int, int]]) -> DType:
        chosen = set()
        for index, position in writers:
            operator = self.graph.operators[index]
            chosen.add(wire_type(operator, operator.results[position], tensor.dtype, self.wire))
        return chosen.pop() if len(chosen) == 1 else tensor.dtype

    # What the chips execute.

    def _emit_stage(self, work: _Work) -> None:
        waiting = {name: len(writers) for name, writers in work.writes.items()}
        for index in work.stage.operators:
            operator = self.graph.operators[index]
            self.operators.append(self._local(work, index, operator))
            self.source.append(index)
            for result in operator.results:
                waiting[result.tensor] -= 1
                if not waiting[result.tensor]:
                    self._finish(work, result.tensor)

    def _finish(self, work: _Work, name: str) -> None:
        """Everything that follows when a tensor is written: reduction, gathering."""
        stored, reduction = work.stored.get(name), work.written[name].reduction
        if reduction is not None:
            self.operators += reduction.operators
            self.source += [None] * len(reduction.operators)
            self.exchanges += reduction.exchanges
        if stored is not None and stored.is_gathered:
            lead = stored.form.lead
            self.exchanges.append(Exchange(stored.name, stored.name, ExchangeKind.GATHER, lead))

    def _local(self, work: _Work, index: int, operator: Operator) -> Operator:
        entry, local = self.atoms.operators[index], work.local[index]
        operands = tuple(
            local_operand(operand, atoms, need, work.stored[operand.tensor], local)
            for operand, atoms, need in zip(operator.operands, entry.operands, work.needs[index], strict=True)
        )
        results = tuple(
            local_result(operator, result, atoms, work.written[result.tensor], local)
            for result, atoms in zip(operator.results, entry.results, strict=True)
        )
        changed = {
            result.value: work.written[result.tensor].dtype
            for result in operator.results
            if work.written[result.tensor].dtype is not self.graph.tensors[result.tensor].dtype
        }
        is_first = self.first[index] == work.number
        if is_first and operands == operator.operands and results == operator.results and not local.cuts:
            return operator
        return replace(
            operator,
            name=operator.name if is_first else f"{operator.name}@{work.number}",
            factors=local.factors,
            operands=operands,
            results=results,
            body=local_body(operator, local, changed),
            splits=local.splits,
        )

    def _output(self, output: Output) -> Output:
        home = self.homes.get(output.tensor)
        stored = None if home is None else self.works[home].stored[output.tensor]
        if stored is None or stored.form.is_whole or (stored.form.cuts and not stored.form.lead):
            return output
        view = simplify_view((*opened(stored.form, ()), *output.view), stored.form.shape)
        return replace(output, view=view)

    def _ordered_tensors(self) -> dict[str, Tensor]:
        """Tensors of the model first, in its order; also inputs and outputs that no operator touches."""
        kept = kept_tensors(self.graph) | set(self.graph.inputs)
        named = {
            name: self.tensors.get(name, tensor)
            for name, tensor in self.graph.tensors.items()
            if name in self.tensors or name in kept
        }
        return named | self.tensors
