"""The device graph: from a graph and the decisions of its stages to what one chip of each stage executes.

whole graph                          device graph of 4 chips, columns then rows split
h = x [8, 64] @ w1 [64, 256]         h [8, 64]     = x [8, 64] @ w1 [64, 64: own columns]
y = h @ w2 [256, 64]                 y/partial     = h [8, 64] @ w2 [64: own rows, 64]
                                     y             = sum of what the chips exchange of y/partial
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chiplan.ir import DType, Exchange, ExchangeKind, Graph, Operator, Output, Role, Tensor, simplify_view

from .atoms import GraphAtoms
from .device_collectives import Choose, CollectiveRequest
from .device_forms import opened, sharding_of
from .device_operators import (
    groups_at,
    local_body,
    local_operand,
    local_result,
)
from .device_residents import Residents
from .device_stages import DeviceStage, GroupStage, find_crossing, find_homes, stage_fronts, survey_stage
from .device_storage import Layout, Uses, agreed, store_value, wire_type
from .device_streams import find_weaves
from .device_weaving import Weave, weave_graph
from .graph_edit import kept_tensors

__all__ = ["Choose", "CollectiveRequest", "DeviceGraph", "GroupStage", "build_device_graph"]


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
        self.stages = [survey_stage(graph, atoms, number, stage) for number, stage in enumerate(stages)]
        self.outputs = {output.tensor for output in graph.outputs}
        self.homes = find_homes(graph, self.stages)
        self.crossing = find_crossing(self.stages, self.homes)
        self.first = {i: stage.number for stage in reversed(self.stages) for i in stage.stage.operators}
        self.mark = _mark(graph)
        self.residents = Residents(graph, atoms, self.outputs, self._copied)
        self.tensors = self.residents.tensors
        self.operators: list[Operator] = []
        self.source: list[int | None] = []
        self.exchanges: list[Exchange] = []
        self.weaves: dict[int, Weave] = {}

    def build(self) -> DeviceGraph:
        self.residents.store_inputs(self.stages)
        numbers = []
        for stage in self.stages:
            self.residents.store_others(stage)
            self._store_values(stage)
            first = len(self.operators)
            self._emit_stage(stage)
            numbers.append(tuple(range(first, len(self.operators))))
        graph = replace(
            self.graph,
            tensors=self._ordered_tensors(),
            operators=tuple(self.operators),
            outputs=tuple(map(self._output, self.graph.outputs)),
            exchanges=tuple(self.exchanges),
        )
        graph = weave_graph(graph, self.weaves)
        return DeviceGraph(graph, tuple(numbers), tuple(self.source))

    def _copied(self, name: str, stage: int) -> str:
        return f"{name}{self.mark}{stage}"

    def _store_values(self, stage: DeviceStage) -> None:
        for name, writers in stage.writes.items():
            tensor = self.graph.tensors[name]
            if tensor.role is not Role.STATE:
                self._store_value(stage, tensor, writers)
        for name in stage.reads:
            if name not in stage.stored:
                stage.stored[name] = self.stages[self.homes[name]].stored[name]

    def _store_value(self, stage: DeviceStage, tensor: Tensor, writers: list[tuple[int, int]]) -> None:
        whole_name, is_home = tensor.name, self.homes[tensor.name] == stage.number
        name = whole_name if is_home else self._copied(whole_name, stage.number)
        needs = tuple(dict.fromkeys(stage.reads.get(whole_name, ())))
        crosses, is_output = (is_home and whole_name in names for names in (self.crossing, self.outputs))
        uses = Uses(needs, crosses, is_output)
        stored, written = store_value(tensor, name, self._layout(stage, tensor, writers), uses, self.choose)
        stage.stored[whole_name], stage.written[whole_name] = stored, written
        sharding = sharding_of(stored.form) if is_output and not stored.form.lead else None
        if name != whole_name or stored.form.shape != tensor.shape or sharding:
            tensor = replace(tensor, name=name, shape=stored.form.shape, sharding=sharding)
        self.tensors[name] = tensor
        if written.reduction is not None:
            self.tensors.update((made.name, made) for made in written.reduction.tensors)

    def _layout(self, stage: DeviceStage, tensor: Tensor, writers: list[tuple[int, int]]) -> Layout:
        fronts = stage_fronts(self.graph, self.atoms, stage, tensor.name)
        atoms = self.atoms.tensors[tensor.name]
        given = agreed(tensor.name, stage.given(tensor.name))
        nodes = self.graph.operators[writers[0][0]].nodes
        groups, wire = groups_at(atoms, fronts), self._wire(tensor, writers)
        return Layout(atoms, stage.mesh, given, groups, wire, self.mark, nodes)

    def _wire(self, tensor: Tensor, writers: list[tuple[int, int]]) -> DType:
        chosen = set()
        for index, position in writers:
            operator = self.graph.operators[index]
            chosen.add(wire_type(operator, operator.results[position], tensor.dtype, self.wire))
        return chosen.pop() if len(chosen) == 1 else tensor.dtype

    def _emit_stage(self, stage: DeviceStage) -> None:
        waiting = {name: len(writers) for name, writers in stage.writes.items()}
        weaves = find_weaves(self.graph, self.atoms, stage)
        for index in stage.stage.operators:
            operator = self.graph.operators[index]
            if index in weaves:
                self.weaves[len(self.operators)] = weaves[index]
            self.operators.append(self._local(stage, index, operator))
            self.source.append(index)
            for result in operator.results:
                waiting[result.tensor] -= 1
                if not waiting[result.tensor]:
                    self._finish(stage, result.tensor)

    def _finish(self, stage: DeviceStage, name: str) -> None:
        """Everything that follows when a tensor is written: reduction, gathering."""
        stored, reduction = stage.stored.get(name), stage.written[name].reduction
        if reduction is not None:
            self.operators += reduction.operators
            self.source += [None] * len(reduction.operators)
            self.exchanges += reduction.exchanges
        if stored is not None and stored.is_gathered:
            lead = stored.form.lead
            self.exchanges.append(Exchange(stored.name, stored.name, ExchangeKind.GATHER, lead))

    def _local(self, stage: DeviceStage, index: int, operator: Operator) -> Operator:
        entry, local = self.atoms.operators[index], stage.local[index]
        operands = tuple(
            local_operand(operand, atoms, need, stage.stored[operand.tensor], local)
            for operand, atoms, need in zip(
                operator.operands, entry.operands, stage.needs[index], strict=True
            )
        )
        results = tuple(
            local_result(operator, result, atoms, stage.written[result.tensor], local)
            for result, atoms in zip(operator.results, entry.results, strict=True)
        )
        changed = {
            result.value: stage.written[result.tensor].dtype
            for result in operator.results
            if stage.written[result.tensor].dtype is not self.graph.tensors[result.tensor].dtype
        }
        is_first = self.first[index] == stage.number
        if is_first and operands == operator.operands and results == operator.results and not local.cuts:
            return operator
        return replace(
            operator,
            name=operator.name if is_first else self._copied(operator.name, stage.number),
            factors=local.factors,
            operands=operands,
            results=results,
            body=local_body(operator, local, changed),
            splits=local.splits,
        )

    def _output(self, output: Output) -> Output:
        home = self.homes.get(output.tensor)
        stored = None if home is None else self.stages[home].stored[output.tensor]
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


def _mark(graph: Graph) -> str:
    """What stands between a name of the model and what a device graph adds to it: in no other name."""
    mark = "@"
    while any(mark in name for name in graph.tensors):
        mark += "@"
    return mark
