"""Weights in files beside a model: their references stay right when the model is written elsewhere."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import onnx

from chiplan.ir import BadInput, Problem

from .side_files import external_place


def data_files(model: onnx.ModelProto, folder: Path) -> tuple[str, ...]:
    """Locations of the files that its initializers refer to, relative to the model's `folder`; sorted.

    Raises BadInput (`external_data_path`) for one outside that folder."""
    found = set()
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            found.add(external_place(folder, tensor).location)
    return tuple(sorted(found))


def _tensors(graph: onnx.GraphProto) -> Iterable[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)


def bring_data(locations: Iterable[str], source: Path, target: Path) -> tuple[str, ...]:
    """Puts the files of folder `source` into folder `target` under the same names: as another name of the
    same bytes where the file system can, else as a copy. Returns those that are absent.

    Raises BadInput (`output_not_writable`) rather than write over another file.
    """
    absent = []
    for location in locations:
        here, there = source / location, target / location
        if not here.is_file():
            absent.append(location)
        elif not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(here, there)
        elif not there.samefile(here):
            message = f"cannot write {there}: the model's data would take its place; choose another folder"
            raise BadInput(Problem("output_not_writable", message))
    return tuple(absent)


def _link_or_copy(here: Path, there: Path) -> None:
    try:
        os.link(here.resolve(), there)
    except OSError:
        shutil.copyfile(here, there)
