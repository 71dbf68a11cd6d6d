"""What the importer hands on: an ONNX model with every shape static, every constant folded and every
composite operator decomposed, still as ONNX nodes. `compiler.canonical` makes an `ir.Graph` of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from chiplan.ir import DType, Shape

AttributeValue: TypeAlias = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True)
class ImportedNode:
    """One primitive ONNX node. An absent optional input is the empty string.

    `name` is the name of the node in the model file that it came from (nodes that come from one
    function body share it, with a suffix /1, /2, ...); `source` is the bare ONNX node name.
    """

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue]
    source: str


@dataclass(frozen=True)
class ImportedTensor:
    """`constant` holds the values of a folded or small constant (at most 64 KiB; a folded table or
    grid of indices: 4 MiB); `initializer` is the name in the model file of a larger one (or of the
    output of a large Constant node), whose values stay on disk. Both None: computed."""

    name: str
    shape: Shape
    dtype: DType
    constant: np.ndarray | None = None
    initializer: str | None = None


@dataclass(frozen=True)
class StatePair:
    """A KV-cache input and the output that extends it along `axis`."""

    past: str
    present: str
    axis: int


@dataclass(frozen=True)
class ImportedModel:
    """The model, static. `bindings` maps every symbolic dimension to its value; `assumptions` says
    in words what was bound by role and not by the user; `context` is None without a state."""

    name: str
    path: Path
    opset: int
    nodes: tuple[ImportedNode, ...]
    tensors: Mapping[str, ImportedTensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[StatePair, ...]
    bindings: Mapping[str, int]
    batch: int
    sequence: int
    context: int | None
    assumptions: tuple[str, ...]
    fingerprint: str
    is_annotated: bool = False
    """Whether the file carries multi-device annotations, which are not followed unless that is asked for."""
