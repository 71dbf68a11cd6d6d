"""Mutations of models, targets and plans: a seed and a random generator in, bytes that nobody meant out."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chiplan.ir.plan_columns import npy_bytes
from chiplan.ir.plan_container import pack

Mutation: TypeAlias = Callable[[bytes, np.random.Generator], bytes]

NUMBERS = (
    0, 1, -1, 2, 3, 7, 64, 127, 255, 65_536, 10**6, 2**31 - 1, 2**31, -(2**31), 2**40, 2**48, 2**62,
    2**63 - 1, -(2**63),
)  # fmt: skip
TEXTS = (
    "", "x", "\x1b[31mred\x1b[0m", "two\nlines: no fault", "\u202ereversed", "\ud800", "nul\0", "x" * 70_000,
    "../../etc/passwd", "/dev/zero", "%s%n", "Loop", "If", "Scan", "Expand", "Range", "Tile", "Pad", "Resize",
    "ConstantOfShape", "Einsum", "MatMul", "NonZero", "com.microsoft", "ai.onnx.ml", "é" * 300,
)  # fmt: skip


def one(items: Any, random: np.random.Generator) -> Any:
    """One of a sequence."""
    return items[int(random.integers(len(items)))]


# Bytes


def flip_bytes(data: bytes, random: np.random.Generator) -> bytes:
    """Some bits or bytes are others."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 9))):
        place = int(random.integers(len(changed)))
        changed[place] = (
            int(random.integers(256)) if random.random() < 0.5 else changed[place] ^ (1 << place % 8)
        )
    return bytes(changed)


def cut(data: bytes, random: np.random.Generator) -> bytes:
    """The end is missing, a part is missing, or a part is there twice."""
    first, last = sorted(random.integers(0, len(data) + 1, 2).tolist())
    return one(
        (data[:first], data[:first] + data[last:], data[:last] + data[first:last] + data[last:]), random
    )


# Models


def change_structure(data: bytes, random: np.random.Generator) -> bytes:
    """A model that parses, with fields that have other values, are gone, or are there twice."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(int(random.integers(1, 4))):
        _change_message(one(_messages(model, random), random), model, random)
    return bytes(model.SerializeToString())


def _messages(model: Message, random: np.random.Generator) -> list[Message]:
    """A way down to some message: each step one of those inside."""
    way = [model]
    while True:
        inner = []
        for field, value in way[-1].ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                inner += list(value) if field.is_repeated else [value]
        if not inner or random.random() < 0.1:
            return way[1:] or way
        way.append(one(inner, random))


def _change_message(message: Message, model: onnx.ModelProto, random: np.random.Generator) -> None:
    fields = [field for field, _ in message.ListFields()]
    if random.random() < 0.2:
        fields = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    field = one(fields, random)
    if random.random() < 0.15:
        message.ClearField(field.name)
    elif field.is_repeated:
        _change_list(getattr(message, field.name), field, model, random)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(message, field.name).SetInParent()
    else:
        _try(lambda: setattr(message, field.name, _value(field, getattr(message, field.name), model, random)))


def _change_list(
    values: Any, field: FieldDescriptor, model: onnx.ModelProto, random: np.random.Generator
) -> None:
    if not len(values) or random.random() < 0.3:
        is_message = field.type == FieldDescriptor.TYPE_MESSAGE
        _try(values.add if is_message else lambda: values.append(_value(field, None, model, random)))
        return
    place = int(random.integers(len(values)))
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        other = one(values, random)
        one((lambda: values.__delitem__(place), lambda: values.add().CopyFrom(other)), random)()
    elif random.random() < 0.3:
        del values[place]
    else:
        _try(lambda: values.__setitem__(place, _value(field, values[place], model, random)))


def _value(field: FieldDescriptor, old: Any, model: onnx.ModelProto, random: np.random.Generator) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            kept = old or b""
            return one(
                (kept[:-1], kept + b"\xff", b"", kept * 3, one(TEXTS, random).encode("utf-8", "replace")),
                random,
            )
        case FieldDescriptor.CPPTYPE_STRING:
            node = one(model.graph.node, random) if len(model.graph.node) else onnx.NodeProto(input=["x"])
            return one((*node.input, *node.output, node.op_type, node.name, one(TEXTS, random)), random)
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return one((0.0, -1.0, 1e30, float("nan"), float("inf")), random)
    return one((*NUMBERS, *range(24)), random)


def _try(change: Callable[[], Any]) -> None:
    """Protobuf itself refuses some values."""
    try:
        change()
    except (TypeError, ValueError, OverflowError):
        return


# Targets

_TOKEN = re.compile(r"[A-Za-z_]+|[0-9_]+|\s+|.")
_JUNK = (
    "[", "]", "[[", "{", "}", "=", ".", ",", '"', "'''", '"""', "\\", "\n", "#", "inf", "nan", "true",
    "-1", "0", "9" * 5000, "1e400", "0x", "1979-05-27", "[1, 2]", '"\x1b[31m"', "\x9b", "\u202e",
    "generator", "edges", "dims", "[65535, 65535]", "65536", "2147483648", "1125899906842624", "chips",
    "[chip]", "torus", "dragonfly", "clique",
)  # fmt: skip


def change_text(data: bytes, random: np.random.Generator) -> bytes:
    """Characters and lines are others, gone, or there twice."""
    text = list(data.decode())
    for _ in range(int(random.integers(1, 6))):
        place = int(random.integers(len(text)))
        match int(random.integers(4)):
            case 0:
                text[place] = chr(int(random.integers(1, 0x300)))
            case 1:
                del text[place : place + int(random.integers(1, 60))]
            case 2:
                text[place:place] = text[place : place + int(random.integers(1, 200))]
            case _:
                text.insert(place, one(_JUNK, random))
        text = text or ["="]
    return "".join(text).encode("utf-8", "surrogatepass")


def swap_tokens(data: bytes, random: np.random.Generator) -> bytes:
    """Words, numbers and signs change places or are others."""
    tokens = _TOKEN.findall(data.decode())
    for _ in range(int(random.integers(1, 5))):
        here, there = (int(random.integers(len(tokens))) for _ in range(2))
        if random.random() < 0.5:
            tokens[here], tokens[there] = tokens[there], tokens[here]
        else:
            tokens[here] = one(_JUNK, random) if random.random() < 0.7 else str(one(NUMBERS, random))
    return "".join(tokens).encode("utf-8", "surrogatepass")


# Plans


def _members(data: bytes) -> dict[str, bytes]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    return {name: archive.read(name) for name in archive.namelist()}


def change_document(data: bytes, random: np.random.Generator) -> bytes:
    """Values of plan.json are others; the container is right."""
    members = _members(data)
    document = json.loads(members["plan.json"])
    for _ in range(int(random.integers(1, 4))):
        _change_json(document.get("plan", document) if random.random() < 0.95 else document, random)
    members["plan.json"] = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return pack(members)


def _change_json(value: Any, random: np.random.Generator) -> None:
    """Down to somewhere inside, then a change there."""
    while isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = one(keys, random)
        if not isinstance(value[key], dict | list) or not value[key] or random.random() < 0.08:
            break
        value = value[key]
    else:
        return
    match int(random.integers(8)):
        case 0:
            del value[key]
        case 1 if isinstance(value, list):
            value.insert(key, value[key])
        case 2 if isinstance(value, list):
            other = one(range(len(value)), random)
            value[key], value[other] = value[other], value[key]
        case 3:
            value[key] = one((None, True, "x", [], {}, 1.5, [1], one(TEXTS, random)), random)
        case _:
            old = value[key]
            value[key] = _other_value(old, random)


def _other_value(old: Any, random: np.random.Generator) -> Any:
    if isinstance(old, bool) or old is None:
        return not old
    if isinstance(old, int):
        return one((old + 1, old - 1, old * 2, old * 1000, -old, *NUMBERS), random)
    if isinstance(old, str):
        return one((*TEXTS, old + "x", old[1:], "fp64", "bool", "int8", "matrix", "memory", "vector"), random)
    return one((0, "", [], {}, None), random)


def change_columns(data: bytes, random: np.random.Generator) -> bytes:
    """Entries of columns are others, or all columns of a group have more or fewer rows."""
    members = _members(data)
    names = [name for name in members if name.endswith(".npy")]
    for _ in range(int(random.integers(1, 4))):
        name = one(names, random)
        if random.random() < 0.25:
            group = [other for other in names if other.split("/")[0] == name.split("/")[0]]
            rows = one(("fewer", "twice", "reversed", "many"), random)
            members |= {other: npy_bytes(_other_rows(_column(members[other]), rows)) for other in group}
        else:
            members[name] = npy_bytes(_other_entries(_column(members[name]), random))
    return pack(members)


def _column(member: bytes) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(member), allow_pickle=False))


def _other_rows(column: np.ndarray, rows: str) -> np.ndarray:
    if column.ndim != 1:
        return column
    changes = {"fewer": column[:-1], "twice": np.concatenate([column, column]), "reversed": column[::-1]}
    return changes[rows] if rows in changes else np.tile(column, 500)


def _other_entries(column: np.ndarray, random: np.random.Generator) -> np.ndarray:
    changed = column.copy().reshape(-1)
    if not changed.size or changed.dtype.kind not in "iu":
        return column
    limits = np.iinfo(changed.dtype)
    for _ in range(int(random.integers(1, 4))):
        place = int(random.integers(changed.size))
        old = int(changed[place])
        new = one((old + 1, old - 1, old * 2, old + 1000, *NUMBERS, int(one(changed, random))), random)
        changed[place] = min(max(new, int(limits.min)), int(limits.max))
    return changed.reshape(column.shape)
