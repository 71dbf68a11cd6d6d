"""Reads an ONNX graph file: limits, what a broken file says, fingerprint, local functions inlined.

Only the graph file is opened; data in side files is never looked for.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError

from chiplan.ir import BadInput, Problem, is_plan_file

GRAPH_FILE_LIMIT = 2**31
"""Bytes: protobuf itself refuses a message of this size."""
OLDEST_OPSET = 7


@dataclass(frozen=True)
class GraphFile:
    """A parsed model whose local functions are inlined; `opset` is that of the ONNX operators."""

    path: Path
    model: onnx.ModelProto
    opset: int
    fingerprint: str


def load_graph_file(path: Path) -> GraphFile:
    """Parse the file.

    Raises BadInput: file_not_found, not_a_model (a plan), file_too_large, file_broken, unsupported_opset.
    """
    _check_file(path)
    try:
        with path.open("rb") as file:
            fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise _refusal("file_not_found", f"{path}: cannot be read ({error.strerror}).") from error
    except (DecodeError, UnicodeDecodeError) as error:
        raise _broken(path, f"it is no ONNX file, or it is truncated ({error})") from error
    _check_model(path, model)
    return GraphFile(path, _without_functions(path, model), _opset(path, model), fingerprint)


def _refusal(code: str, message: str) -> BadInput:
    return BadInput(Problem(code, message))


def _broken(path: Path, what: str) -> BadInput:
    return _refusal("file_broken", f"{path}: expected an ONNX model, but {what}; export or copy it again.")


def _check_file(path: Path) -> None:
    if not path.exists():
        raise _refusal("file_not_found", f"{path}: no such file; give the path of an .onnx file.")
    if not path.is_file():
        raise _refusal("file_not_found", f"{path}: not a file; give the path of the .onnx file itself.")
    size = path.stat().st_size
    if size >= GRAPH_FILE_LIMIT:
        message = (
            f"{path}: the graph file has {size} bytes, and ONNX allows less than {GRAPH_FILE_LIMIT}; "
            "save the model with external data."
        )
        raise BadInput(Problem("file_too_large", message, needed=size, available=GRAPH_FILE_LIMIT))
    if size == 0:
        raise _broken(path, "the file is empty")
    if is_plan_file(path):
        raise _refusal("not_a_model", f"{path} is a plan, not a model; give the .onnx file.")


def _check_model(path: Path, model: onnx.ModelProto) -> None:
    """Bytes that happen to parse as protobuf are still no model."""
    graph = model.graph
    if not model.opset_import or not graph.output:
        raise _broken(path, "it has no operator set or no output")
    if not graph.node:
        raise _broken(path, "its graph has no node")
    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        message = f"Initializer {name} is sparse; export the model with dense weights."
        raise _refusal("unsupported_type", message)
    if not all(isinstance(text, str) for text in _texts(graph)):
        raise _broken(path, "a name in it is no text")
    _check_names(path, graph)


def _texts(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name in a graph. Protobuf hands on bytes where the file holds no valid text."""
    for entry in (*graph.input, *graph.output, *graph.initializer):
        yield entry.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _texts(attribute.g)


def _check_names(path: Path, graph: onnx.GraphProto) -> None:
    """Every value is defined once, and before it is used (which the walk checks)."""
    seen: set[str] = set()
    initializers = {tensor.name for tensor in graph.initializer}
    defined = [value.name for value in graph.input if value.name not in initializers]
    defined += [tensor.name for tensor in graph.initializer]
    defined += [name for node in graph.node for name in node.output if name]
    for name in defined:
        if name in seen:
            raise _broken(path, f"its value {name!r} is defined twice")
        seen.add(name)


def _opset(path: Path, model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise _broken(path, "it imports no ONNX operator set")
    if not OLDEST_OPSET <= versions[0] <= newest:
        message = (
            f"{path}: operator set {versions[0]} is not between {OLDEST_OPSET} and {newest}; "
            "export the model with a newer or older operator set."
        )
        raise _refusal("unsupported_opset", message)
    return int(versions[0])


def _without_functions(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, EncodeError, DecodeError) as error:
        raise _broken(path, f"its local functions cannot be inlined ({error})") from error
