"""A plan in terms of the ONNX file that it was made from: annotated, or as one file a stage."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from onnx import helper

from chiplan.ir import BadInput, Graph, Plan, Problem

from .axis_factors import NodeAxes, node_axes
from .cli_output import replacing, replacing_folder
from .compile import prepare
from .data_files import bring_data, data_files
from .file_nodes import FileNodes, file_nodes
from .import_load import load_graph_file
from .import_shapes import TensorType
from .importer import value_types
from .node_places import NodePlaces, place_nodes
from .numeric_check import import_for_plan
from .onnx_annotate import annotate
from .onnx_split import StageModel, split_model
from .options import Options

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Written:
    """What came of an export. cut, moved: nodes that are not where the plan has all of their operators.
    specs: sharding specs. files: of a split, in order. absent: data files that the model names and that are
    not there."""

    nodes: int
    cut: tuple[str, ...]
    moved: tuple[str, ...]
    absent: tuple[str, ...]
    specs: int = 0
    files: tuple[str, ...] = ()


class PlannedFile:
    """A model file and the plan that was made of it.

    Raises Incomparable (`other_model`) when the plan was made of another file."""

    def __init__(self, plan: Plan, path: Path) -> None:
        self.plan, self.path = plan, path
        self.imported = import_for_plan(plan, path)
        self.model = load_graph_file(path).model
        self.nodes: FileNodes = file_nodes(self.model.graph)

    @cached_property
    def whole(self) -> Graph:
        """The graph that was planned, before it was divided over stages and chips."""
        return prepare(self.imported, self.plan.target, Options(precision=self.plan.precision)).graph

    @cached_property
    def types(self) -> dict[str, TensorType]:
        return value_types(self.path, self.imported.bindings)

    @cached_property
    def places(self) -> NodePlaces:
        return place_nodes(self.plan, self.whole, self.nodes)

    @cached_property
    def axes(self) -> dict[int, NodeAxes]:
        return node_axes(self.whole, self.nodes, self.types)

    def write_annotated(self, output: Path) -> Written:
        """The model with the plan as multi-device annotations. Its data files are brought along."""
        annotate(self.model, self.plan, self.whole, self.places, self.axes)
        absent = bring_data(data_files(self.model, self.path.parent), self.path.parent, output.parent)
        with replacing(output) as beside:
            beside.write_bytes(serialised(self.model))
        entries = [entry for node in self.model.graph.node for entry in node.device_configurations]
        specs = sum(len(entry.sharding_spec) for entry in entries)
        return Written(len(self.nodes.nodes), self.places.cut, self.places.moved, absent, specs)

    def write_split(self, folder: Path) -> Written:
        """One file a stage, and the manifest that says how they are run."""
        parts = list(split_model(self.model, self.nodes, self.places, self.types, len(self.plan.stages)))
        files = [f"stage{part.stage:04d}.onnx" for part in parts]
        with replacing_folder(folder) as beside:
            for part, file in zip(parts, files, strict=True):
                (beside / file).write_bytes(serialised(part.model))
            absent = bring_data(data_files(self.model, self.path.parent), self.path.parent, beside)
            manifest = json.dumps(self._manifest(parts, files), indent=1, sort_keys=True)
            (beside / MANIFEST).write_text(manifest + "\n", encoding="utf-8", newline="\n")
        places = self.places
        return Written(len(self.nodes.nodes), places.cut, places.moved, absent, files=tuple(files))

    def _manifest(self, parts: list[StageModel], files: list[str]) -> dict[str, object]:
        made = {name: part.stage for part in parts for name in part.outputs}
        return {
            "format": "chiplan-split",
            "version": 1,
            "model": self.plan.graph.name,
            "model_fingerprint": self.plan.model_fingerprint,
            "target": self.plan.target.name,
            "stages": [self._entry(part, file) for part, file in zip(parts, files, strict=True)],
            "outputs": [{"name": name, "stage": made[name]} for name in self.nodes.outputs],
            "cut_nodes": list(self.places.cut),
            "moved_nodes": list(self.places.moved),
        }

    def _entry(self, part: StageModel, name: str) -> dict[str, object]:
        inputs = [
            self._value(value) | {"from": "model" if source < 0 else source}
            for value, source in zip(part.inputs, part.sources, strict=True)
        ]
        return {
            "stage": part.stage,
            "file": name,
            "chips": [int(chip) for chip in self.plan.stages[part.stage].chips],
            "nodes": part.nodes,
            "inputs": inputs,
            "outputs": [self._value(value) for value in part.outputs],
        }

    def _value(self, name: str) -> dict[str, object]:
        """A value as planned: its extents may be others in a run."""
        kind = self.types[name]
        return {
            "name": name,
            "type": str(helper.tensor_dtype_to_np_dtype(kind.element_type)),
            "shape": list(kind.extents),
        }


def serialised(model: onnx.ModelProto) -> bytes:
    """Equal models are equal bytes. Raises BadInput (`file_too_large`) beyond what protobuf can hold."""
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except ValueError as error:
        message = f"the model with its annotations is too large for one file ({error}); use external data"
        raise BadInput(Problem("file_too_large", message)) from error
