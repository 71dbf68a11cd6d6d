"""A model as one ONNX file a stage: run in order, with values passed by name, they equal the whole."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import helper

from .file_nodes import FileNodes
from .import_shapes import TensorType
from .node_places import NodePlaces


@dataclass(frozen=True)
class StageModel:
    """inputs, outputs: names, in order. sources: of every input the stage that makes it, -1 for the model's
    own inputs. nodes: how many."""

    stage: int
    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sources: tuple[int, ...]
    nodes: int


def split_model(
    model: onnx.ModelProto,
    nodes: FileNodes,
    places: NodePlaces,
    types: Mapping[str, TensorType],
    stages: int,
) -> Iterator[StageModel]:
    """One model for every stage that executes a node, in order. types: of the values of the file by name."""
    split = _Split(model, nodes, places, types, stages)
    for stage in range(stages):
        if split.held[stage] or split.outputs[stage]:
            yield split.stage_model(stage)


class _Split:
    """Who makes and who needs every value."""

    def __init__(
        self,
        model: onnx.ModelProto,
        nodes: FileNodes,
        places: NodePlaces,
        types: Mapping[str, TensorType],
        stages: int,
    ) -> None:
        self.model, self.nodes, self.places, self.types = model, nodes, places, types
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.declared: dict[str, onnx.ValueInfoProto] = {
            value.name: value for value in (*model.graph.input, *model.graph.output)
        }
        self.held = [self._held(stage) for stage in range(stages)]
        self.inputs: list[dict[str, int]] = [self._inputs(stage) for stage in range(stages)]
        self.outputs = self._outputs(stages)

    def _held(self, stage: int) -> list[int]:
        return [index for index, where in enumerate(self.places.stages) if stage in where]

    def _inputs(self, stage: int) -> dict[str, int]:
        """Values that the stage does not make itself, with the stage that does; -1: the model's inputs."""
        own = {value for index in self.held[stage] for value in self.nodes.nodes[index].makes}
        needed = (value for index in self.held[stage] for value in self.nodes.nodes[index].needs)
        foreign = (v for v in dict.fromkeys(needed) if v not in own and v not in self.initializers)
        return {value: self._source(value, stage) for value in foreign}

    def _source(self, value: str, stage: int) -> int:
        """The last stage before `stage` that makes the value."""
        maker = self.nodes.maker_of.get(value)
        return -1 if maker is None else max(s for s in self.places.stages[maker] if s < stage)

    def _outputs(self, stages: int) -> list[list[str]]:
        """What every stage hands on: to later stages, then as outputs of the model."""
        found: list[dict[str, None]] = [{} for _ in range(stages)]
        for needed in self.inputs:
            for value, source in needed.items():
                if source >= 0:
                    found[source][value] = None
        for name in self.nodes.outputs:
            maker = self.nodes.maker_of.get(name)
            found[0 if maker is None else self.places.stages[maker][0]][name] = None
        return [list(names) for names in found]

    def stage_model(self, stage: int) -> StageModel:
        held, outputs = self.held[stage], self.outputs[stage]
        sources = dict(self.inputs[stage])
        made = {value for index in held for value in self.nodes.nodes[index].makes}
        # An output that is an input is handed on by the first stage.
        sources |= {v: -1 for v in outputs if v not in made and v not in self.initializers}
        graph = helper.make_graph(
            [self.model.graph.node[index] for index in held],
            f"{self.model.graph.name or 'graph'}, stage {stage}",
            [self._declared(value) for value in sources],
            [self._declared(value) for value in outputs],
            [self.initializers[name] for name in self._weights(held, outputs)],
        )
        return StageModel(
            stage, self._around(graph), tuple(sources), tuple(outputs), tuple(sources.values()), len(held)
        )

    def _weights(self, held: Collection[int], outputs: Collection[str]) -> Iterator[str]:
        used = {value for index in held for value in self.nodes.nodes[index].needs} | set(outputs)
        return (name for name in self.initializers if name in used)

    def _declared(self, name: str) -> onnx.ValueInfoProto:
        """As the model declares it; a value inside by its type and rank, since extents may be symbolic."""
        if name in self.declared:
            return self.declared[name]
        kind = self.types[name]
        declared: onnx.ValueInfoProto = helper.make_tensor_value_info(
            name, kind.element_type, [None] * len(kind.extents)
        )
        return declared

    def _around(self, graph: onnx.GraphProto) -> onnx.ModelProto:
        """A model that means the graph as the whole one does; its local functions are inlined already."""
        made = onnx.ModelProto(ir_version=self.model.ir_version, graph=graph)
        made.producer_name = self.model.producer_name
        made.opset_import.extend(self.model.opset_import)
        return made
