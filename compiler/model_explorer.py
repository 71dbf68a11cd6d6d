"""A plan for Model Explorer: its graph, with a layer for each stage and ONNX node, and cycles as node data.

The documents are a graph collection and the data of its nodes as JSON.
"""

import json
from collections.abc import Iterator, Mapping

import numpy as np

from chiplan.ir import Operator, Plan

from .graph_edit import writers_of
from .quantities import grouped, ranges

GRAPH = "plan"
"""Id of the graph, by which node data finds it."""


def explorer_graph(plan: Plan) -> str:
    """The graph collection: a node for each operator that a stage executes, and for each model input."""
    nodes = [*_inputs(plan), *_operators(plan)]
    label = f"{plan.graph.name} on {plan.target.name}, simulated"
    return _text({"label": label, "graphs": [{"id": GRAPH, "nodes": nodes}]})


def explorer_cycles(plan: Plan) -> str:
    """Node data: the cycles that every operator holds a unit's instances, on one chip of its stage."""
    results = {
        _node_id(number, index): {"value": cycles}
        for number in range(len(plan.stages))
        for index, cycles in _busy(plan, number).items()
    }
    gradient = [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#d95f02"}]
    data = {"name": "cycles of a chip (simulated)", "results": results, "gradient": gradient}
    return _text({GRAPH: data})


def _text(document: Mapping[str, object]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"


def _node_id(stage: int, operator: int) -> str:
    return f"stage{stage}/operator{operator}"


def _input_id(number: int) -> str:
    return f"input{number}"


def _inputs(plan: Plan) -> Iterator[dict[str, object]]:
    for number, name in enumerate(plan.graph.inputs):
        yield {"id": _input_id(number), "label": name, "namespace": "inputs"}


def _operators(plan: Plan) -> Iterator[dict[str, object]]:
    sources = _Sources(plan)
    for number, stage in enumerate(plan.stages):
        busy = _busy(plan, number)
        layer = f"stage {number} on chips {ranges([int(chip) for chip in stage.chips])}"
        for index in stage.program.operators:
            operator = plan.graph.operators[index]
            yield {
                "id": _node_id(number, index),
                "label": operator.body[-1].opcode,
                "namespace": "/".join((layer, *_layers(operator))),
                "attrs": _attributes(operator, busy[index]),
                "incomingEdges": list(sources.edges(number, operator)),
                "outputsMetadata": [
                    {"id": str(place), "attrs": _tensor(plan, result.tensor)}
                    for place, result in enumerate(operator.results)
                ],
            }


def _layers(operator: Operator) -> list[str]:
    """Layers inside a stage: the parts of the ONNX node's name, as exporters nest modules."""
    name = operator.nodes[0] if operator.nodes else operator.name
    return [part for part in name.split("/") if part.strip()]


def _attributes(operator: Operator, cycles: int) -> list[dict[str, str]]:
    factors = operator.factors
    values = {
        "operator": operator.name,
        "ONNX nodes": ", ".join(operator.nodes),
        "unit": operator.unit.value,
        "cycles": grouped(cycles),
        "factors": ", ".join(f"{factor.name} {factor.extent}" for factor in factors),
        "split over chips": ", ".join(f"{factors[s.factor].name} of {s.extent}" for s in operator.splits),
    }
    return [{"key": key, "value": value} for key, value in values.items() if value]


def _tensor(plan: Plan, name: str) -> list[dict[str, str]]:
    tensor = plan.graph.tensors[name]
    shape = f"{tensor.dtype.value}[{','.join(map(str, tensor.shape))}]"
    return [{"key": "tensor_name", "value": name}, {"key": "tensor_shape", "value": shape}]


def _busy(plan: Plan, number: int) -> dict[int, int]:
    """Cycles of every operator of a stage, by its position in the graph."""
    program = plan.stages[number].program
    tiles = program.tiles
    cycles = np.bincount(tiles.operator, tiles.end - tiles.start, minlength=len(program.operators))
    return dict(zip(program.operators, cycles.astype(np.int64).tolist(), strict=True))


class _Sources:
    """Where what an operator reads was made."""

    def __init__(self, plan: Plan) -> None:
        graph = plan.graph
        self._writers = writers_of(graph.operators)
        self._inputs = {name: number for number, name in enumerate(graph.inputs)}
        self._stages: dict[int, list[int]] = {}
        for number, stage in enumerate(plan.stages):
            for index in stage.program.operators:
                self._stages.setdefault(index, []).append(number)
        self._exchanged: dict[str, list[str]] = {}
        for exchange in graph.exchanges:
            self._exchanged.setdefault(exchange.target, []).append(exchange.source)
        self._outputs = {
            (index, result.tensor): place
            for index, operator in enumerate(graph.operators)
            for place, result in reversed(list(enumerate(operator.results)))
        }

    def edges(self, stage: int, operator: Operator) -> Iterator[dict[str, str]]:
        """One for each operator of this stage, else of another, that made an operand."""
        for place, operand in enumerate(operator.operands):
            name = operand.tensor
            if name in self._inputs:
                yield _edge(_input_id(self._inputs[name]), 0, place)
            for source in dict.fromkeys((name, *self._exchanged.get(name, ()))):
                for number, index in self._makers(stage, source):
                    yield _edge(_node_id(number, index), self._outputs[index, source], place)

    def _makers(self, stage: int, tensor: str) -> list[tuple[int, int]]:
        made = [(n, index) for index in self._writers.get(tensor, ()) for n in self._stages.get(index, ())]
        return [maker for maker in made if maker[0] == stage] or made


def _edge(source: str, output: int, place: int) -> dict[str, str]:
    return {"sourceNodeId": source, "sourceNodeOutputId": str(output), "targetNodeInputId": str(place)}
