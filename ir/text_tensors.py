"""Declarations of tensors in the text form: one line each, with what is known of its values.

    tensor = role "%name" dtype ints [ "rows" count "of" axis ]
             [ "shards" ints [ "atoms" ints ] "cut" [ dimension mesh { "," dimension mesh } ] ]
             [ "from" text view [ "as" text ints ] ] [ "=" ( value | "elsewhere" ) ]
    constant = "constant" "%name" text           values that are not few: little-endian bytes in base64

A value that the run computes needs no line where its first writer says all: it is then as large as the
writer's factors make it, and of the type of what is stored.
"""

import base64
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .graph import Operator, Origin, Role, Tensor
from .mesh import Cut, Sharding
from .text_lexer import Line, integers_text, mesh_axes_text
from .text_names import quoted, tensor_ref
from .text_values import read_value, value_text
from .text_views import read_view, view_text
from .types import DType

FEW_VALUES = 8
"""Values of a constant that are written one by one; more are bytes in base64."""
ELSEWHERE = "elsewhere"
_DTYPES = {dtype.value: dtype for dtype in DType}


def tensor_text(tensor: Tensor) -> str:
    """The line that declares `tensor`; values that are not few stand elsewhere (`constant_text`)."""
    parts = [tensor.role.value, tensor_ref(tensor.name), tensor.dtype.value, integers_text(tensor.shape)]
    if tensor.resident_rows is not None:
        axis, count = tensor.resident_rows
        parts.append(f"rows {count} of {axis}")
    if tensor.sharding is not None:
        parts.append(_sharding_text(tensor.sharding))
    if tensor.origin is not None:
        parts.append(_origin_text(tensor.origin))
    if tensor.value is not None:
        few = _few_values(tensor)
        parts.append(f"= {ELSEWHERE if few is None else few}")
    return " ".join(parts)


def constant_text(tensor: Tensor) -> str | None:
    """The line with the values that `tensor_text` leaves out; None where it does not."""
    if tensor.value is None or _few_values(tensor) is not None:
        return None
    little = _stored(tensor).astype(_little(tensor))
    return f"constant {tensor_ref(tensor.name)} {quoted(base64.b64encode(little.tobytes()).decode('ascii'))}"


def _sharding_text(sharding: Sharding) -> str:
    cuts = ", ".join(f"{cut.dimension}{mesh_axes_text(cut.axes)}" for cut in sharding.cuts)
    atoms = "" if sharding.atoms == sharding.shape else f" atoms {integers_text(sharding.atoms)}"
    return f"shards {integers_text(sharding.shape)}{atoms} cut {cuts}".rstrip()


def _origin_text(origin: Origin) -> str:
    text = f"from {quoted(origin.initializer)}{view_text(origin.view)}"
    if (origin.conversion, origin.axes) == ("cast", ()):
        return text
    return f"{text} as {quoted(origin.conversion)} {integers_text(origin.axes)}"


def _few_values(tensor: Tensor) -> str | None:
    """The values one by one, if they are few and numbers say all: a NaN is one of many."""
    stored = _stored(tensor)
    if stored.size > FEW_VALUES:
        return None
    numbers = [_number(value) for value in stored.reshape(-1).tolist()]
    if any(number != number for number in numbers):
        return None
    return value_text(numbers if stored.shape else numbers[0])


def _number(value: bool | float) -> int | float:
    """A boolean as 0 or 1."""
    return int(value) if isinstance(value, bool) else value


def _stored(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.value, dtype=tensor.dtype.numpy).reshape(tensor.whole_shape)


def _little(tensor: Tensor) -> np.dtype:
    return tensor.dtype.numpy.newbyteorder("<")


def _as_stored(numbers: list[int | float], tensor: Tensor) -> np.ndarray:
    """Raises ValueError, TypeError or OverflowError for what is no value of the tensor."""
    return np.array(numbers).astype(tensor.dtype.numpy).reshape(tensor.whole_shape)


def read_tensor(line: Line) -> tuple[Tensor, bool]:
    """The tensor that a line declares, the cursor at its role; whether its values stand elsewhere."""
    role, name = Role(line.word("the role of a tensor")), line.tensor()
    dtype = read_dtype(line)
    tensor = Tensor(name, line.integers(), dtype, role)
    if line.accept("rows"):
        count = line.integer()
        line.expect("of")
        tensor = replace(tensor, resident_rows=(line.integer(), count))
    if line.accept("shards"):
        tensor = replace(tensor, sharding=_read_sharding(line))
    if line.accept("from"):
        tensor = replace(tensor, origin=_read_origin(line))
    valued = line.accept("=")
    elsewhere = valued and line.accept(ELSEWHERE)
    if valued and not elsewhere:
        tensor = replace(tensor, value=_read_values(line, tensor))
    line.end()
    return tensor, elsewhere


def read_dtype(line: Line) -> DType:
    if line.peek().text not in _DTYPES:
        raise line.refusal(f"one of {', '.join(_DTYPES)}")
    return _DTYPES[line.word("a type")]


def _read_sharding(line: Line) -> Sharding:
    shape = line.integers()
    atoms = line.integers() if line.accept("atoms") else shape
    line.expect("cut")
    cuts = line.items(lambda: Cut(line.integer(), line.mesh_axes())) if line.peek().kind == "whole" else ()
    return Sharding(shape, atoms, cuts)


def _read_origin(line: Line) -> Origin:
    initializer, view = line.string(), read_view(line)
    if not line.accept("as"):
        return Origin(initializer, view)
    return Origin(initializer, view, line.string(), line.integers())


def _read_values(line: Line, tensor: Tensor) -> np.ndarray:
    value = read_value(line)
    try:
        return _as_stored(value if isinstance(value, list) else [value], tensor)
    except (ValueError, TypeError, OverflowError):
        raise line.refusal(f"values for {tensor.dtype.value} {list(tensor.whole_shape)}") from None


def read_constant(line: Line, tensors: Mapping[str, Tensor]) -> Tensor:
    """The tensor of a `constant` line with its values, the cursor behind the first word."""
    name = line.tensor()
    if name not in tensors:
        raise line.refusal("a tensor that is declared above", name)
    tensor = tensors[name]
    try:
        data = np.frombuffer(base64.b64decode(line.string(), validate=True), dtype=_little(tensor))
        value = data.astype(tensor.dtype.numpy).reshape(tensor.whole_shape)
    except ValueError:
        raise line.refusal(
            f"the bytes of {tensor.dtype.value} {list(tensor.whole_shape)} in base64"
        ) from None
    line.end()
    return replace(tensor, value=value)


def made_by(name: str, writer: Operator) -> Tensor | None:
    """The value `name` as its first writer stores it; None where the writer is not whole."""
    result = next(result for result in writer.results if result.tensor == name)
    known = all(axis is None or 0 <= axis < len(writer.factors) for axis in result.axes)
    if not known or not 0 <= result.value < len(writer.body):
        return None
    shape = tuple(1 if axis is None else writer.factors[axis].extent for axis in result.axes)
    return Tensor(name, shape, writer.body[result.value].dtype, Role.VALUE)
