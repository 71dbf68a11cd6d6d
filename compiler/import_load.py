"""Reads an ONNX graph file: limits, what a broken file says, fingerprint, local functions inlined.

Only the graph file is opened; data in side files is never looked for.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from chiplan.ir import (
    BadInput,
    NotRegular,
    Problem,
    TooLarge,
    is_name,
    is_plan_file,
    read_regular,
)

from .import_limits import (
    GRAPH_FILE_LIMIT,
    LimitExceeded,
    all_tensors,
    check_messages,
    check_model,
    inner_graphs,
    wrong_attribute,
    wrong_tensor,
)

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
    data = _file_bytes(path)
    model = parse_model(path, data)
    opset = _opset(path, model)
    inlined = _without_functions(path, model)
    _check_model(path, inlined)
    return GraphFile(path, inlined, opset, hashlib.sha256(data).hexdigest())


def read_model(path: Path) -> onnx.ModelProto:
    """The model as it stands in its file. Raises BadInput as `load_graph_file` does."""
    return parse_model(path, _file_bytes(path))


def parse_model(path: Path, data: bytes) -> onnx.ModelProto:
    """The model of a file's bytes, within the limits. Raises BadInput: file_broken, file_too_large."""
    try:
        check_messages(data)
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
        check_model(model)
    except LimitExceeded as error:
        raise _refusal(
            "file_too_large", f"{path}: expected an ONNX model that can be planned, but {error}."
        ) from None
    except (DecodeError, UnicodeDecodeError) as error:
        raise _broken(path, f"it is no ONNX file, or it is truncated ({error})") from error
    for tensor in all_tensors(model):
        problem = wrong_tensor(tensor)
        if problem is not None:
            raise _broken(path, f"its tensor {tensor.name!r} {problem}")
    return model


def _refusal(code: str, message: str) -> BadInput:
    return BadInput(Problem(code, message))


def _broken(path: Path, what: str) -> BadInput:
    return _refusal("file_broken", f"{path}: expected an ONNX model, but {what}; export or copy it again.")


def _file_bytes(path: Path) -> bytes:
    try:
        data = read_regular(path, GRAPH_FILE_LIMIT - 1)
    except FileNotFoundError:
        message = f"{path}: no such file; give the path of an .onnx file."
        raise _refusal("file_not_found", message) from None
    except NotRegular as error:
        message = f"{path}: {error.strerror}; give the path of the .onnx file itself."
        raise _refusal("file_not_found", message) from None
    except TooLarge as error:
        message = (
            f"{path}: the graph file has {error.size} bytes, and ONNX allows less than {GRAPH_FILE_LIMIT}; "
            "save the model with external data."
        )
        raise BadInput(
            Problem("file_too_large", message, needed=error.size, available=GRAPH_FILE_LIMIT)
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _refusal("file_not_found", f"{path}: cannot be read ({reason}).") from error
    if not data:
        raise _broken(path, "the file is empty")
    if is_plan_file(path):
        raise _refusal("not_a_model", f"{path} is a plan, not a model; give the .onnx file.")
    return data


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
    for text in chain((model.producer_name, model.producer_version), _texts(path, graph)):
        if not is_name(text):
            raise _broken(
                path, f"its name {str(text)[:60]!r} has characters that cannot be shown, or too many"
            )
    _check_names(path, graph)


def _texts(path: Path, graph: onnx.GraphProto) -> Iterator[str]:
    """Every name in a graph. Protobuf hands on bytes where the file holds no valid text.

    Raises BadInput for an attribute that cannot be used."""
    for entry in (*graph.input, *graph.output):
        yield entry.name
        yield from (size.dim_param for size in entry.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            problem = wrong_attribute(attribute)
            if problem is not None:
                raise _broken(
                    path, f"attribute {attribute.name!r:.80} of its node {node.name!r:.80} {problem}"
                )
            yield attribute.name
            for inner in inner_graphs(attribute):
                yield from _texts(path, inner)


def _check_names(path: Path, graph: onnx.GraphProto) -> None:
    """Every value is defined once, and before it is used (which the walk checks); outputs differ."""
    outputs = [value.name for value in graph.output]
    if len(set(outputs)) < len(outputs):
        raise _broken(path, f"two of its {len(outputs)} outputs have one name")
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
    if any(not 0 <= entry.version < 2**31 or not is_name(entry.domain) for entry in model.opset_import):
        raise _broken(path, "it imports an operator set that cannot be")
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
    except Exception as error:
        # The inliner is C++: what it raises depends on how it was built.
        raise _broken(path, f"its local functions cannot be inlined ({error})") from error
