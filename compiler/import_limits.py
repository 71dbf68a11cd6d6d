"""How large a model may be, found out before anything of that size is made. docs/untrusted-input.md lists it.

A file of a few bytes may stand for billions: messages of two bytes that take two hundred in memory, and
functions that call functions that call functions.
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from chiplan.ir import is_name

GRAPH_FILE_LIMIT = 2**31
"""Bytes: protobuf itself refuses a message of this size."""
SMALL_FILE = 2**24
"""Bytes: whatever a file up to this size holds, parsed it fits in two gigabytes."""
MOST_MESSAGES = 2_000_000
"""Protobuf messages (nodes, attributes, tensors, dimensions, ...) of a larger file."""
MOST_NODES = 250_000
"""Nodes, those of branches and of inlined functions too."""
MOST_DEPTH = 16
"""Graphs inside of graphs."""
MOST_CALLS = 64
"""Functions that call each other."""
MOST_ENTRIES = 1_000_000
"""Entries of a list in an attribute."""
MOST_AXES = 64
"""Dimensions of a stored tensor: numpy holds no more."""
_MOST_LEVELS = 100
"""Messages inside of each other: the parser takes no more."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


_Name: TypeAlias = tuple[str, str, str]
"""Domain, name and overload of a function."""


class LimitExceeded(ValueError):
    """A model is larger than is read; the text says in what."""


def check_messages(data: bytes) -> None:
    """Raises LimitExceeded where parsing `data` would make more than MOST_MESSAGES messages.

    Bytes that are no protobuf are left to the parser."""
    if len(data) <= SMALL_FILE:
        return
    # From the outermost message to the one that is looked at.
    inside = [_messages(data, 0, len(data), ModelProto.DESCRIPTOR)]
    found = 1
    while inside:
        message = next(inside[-1], None)
        if message is None:
            inside.pop()
            continue
        found += 1
        if found > MOST_MESSAGES or len(inside) > _MOST_LEVELS:
            raise LimitExceeded(
                f"it has more than {MOST_MESSAGES:,} parts, or {_MOST_LEVELS} inside of each other"
            )
        inside.append(_messages(data, *message))


def _messages(data: bytes, begin: int, end: int, kind: Descriptor) -> Iterator[tuple[int, int, Descriptor]]:
    """Where the messages directly inside of a message lie, and their types."""
    fields = kind.fields_by_number
    try:
        while begin < end:
            key, begin = _varint(data, begin)
            wire = key & 7
            if wire == _VARINT:
                _, begin = _varint(data, begin)
            elif wire == _BYTES:
                size, begin = _varint(data, begin)
                field = fields.get(key >> 3)
                if field is not None and field.type == FieldDescriptor.TYPE_MESSAGE:
                    yield begin, min(begin + size, end), field.message_type
                begin += size
            elif wire in (_FIXED32, _FIXED64):
                begin += 4 if wire == _FIXED32 else 8
            else:
                return
    except IndexError:
        return


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            return value, place
        shift += 7


def check_model(model: ModelProto) -> None:
    """Raises LimitExceeded for a model with too many nodes, also once its functions are inlined, with
    functions that call themselves, or with graphs nested too deep."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    sizes: dict[_Name, int] = {}

    def size_of(name: _Name, callers: tuple[_Name, ...]) -> int:
        if name in callers:
            raise LimitExceeded(f"its function {name[1]!r} calls itself")
        if len(callers) >= MOST_CALLS:
            raise LimitExceeded(f"more than {MOST_CALLS} of its functions call each other")
        if name not in sizes:
            sizes[name] = total(_all_nodes(functions[name].node), (*callers, name))
        return sizes[name]

    def total(nodes: Iterable[NodeProto], callers: tuple[_Name, ...]) -> int:
        count = 0
        for node in nodes:
            called = (node.domain, node.op_type, node.overload)
            count += size_of(called, callers) if called in functions else 1
            if count > MOST_NODES:
                raise LimitExceeded(
                    f"its graph has more than {MOST_NODES:,} nodes, inlined functions included"
                )
        return count

    total(_all_nodes(model.graph.node), ())
    for name in functions:
        size_of(name, ())


def _all_nodes(nodes: Iterable[NodeProto], depth: int = 0) -> Iterator[NodeProto]:
    """Nodes, and those of the graphs inside of them."""
    if depth > MOST_DEPTH:
        raise LimitExceeded(f"its graphs are nested deeper than {MOST_DEPTH} levels")
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in inner_graphs(attribute):
                yield from _all_nodes(graph.node, depth + 1)


def inner_graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    """The graphs of an attribute, whatever it says that it is."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every stored tensor: initializers and attributes, of inner graphs and of functions too."""
    nodes = [*_all_nodes(model.graph.node), *(n for f in model.functions for n in _all_nodes(f.node))]
    attributes = [a for node in nodes for a in node.attribute] + _own_attributes(model.functions)
    graphs = [model.graph, *(graph for a in attributes for graph in inner_graphs(a))]
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)


def _own_attributes(functions: Iterable[FunctionProto]) -> list[AttributeProto]:
    """Defaults of the functions' own attributes."""
    return [attribute for function in functions for attribute in function.attribute_proto]


def wrong_tensor(tensor: TensorProto) -> str | None:
    """What of a stored tensor's shape nothing could be made of; None if nothing is."""
    if len(tensor.dims) > MOST_AXES:
        return f"has {len(tensor.dims):,} dimensions, more than {MOST_AXES}"
    if any(not 0 <= extent < 2**31 for extent in tensor.dims):
        return f"has the shape {list(tensor.dims)}, and no extent may be below 0 or beyond 2^31 - 1"
    return None


def wrong_attribute(attribute: AttributeProto) -> str | None:
    """What of an attribute cannot be used; None if all can. A text is UTF-8 and can be shown."""
    lists = (attribute.ints, attribute.floats, attribute.strings, attribute.tensors, attribute.graphs)
    if max(map(len, lists)) > MOST_ENTRIES:
        return f"is a list of more than {MOST_ENTRIES:,} entries"
    try:
        texts = [text.decode() for text in (attribute.s, *attribute.strings)]
    except UnicodeDecodeError:
        return "is no text in UTF-8"
    return None if all(map(is_name, texts)) else "is a text with characters that cannot be shown, or too long"
