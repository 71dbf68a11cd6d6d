"""What a model file holds, for `chiplan inspect`: known before any planning, bindings incomplete or not."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from onnx import TensorProto

from chiplan.ir import BadInput, Problem

from .import_outline import Outline, read_outline
from .import_roles import ModelInput, Roles
from .import_symbols import Expression
from .import_values import numpy_type
from .imported import StatePair
from .importer import import_model

_NO_PARAMETERS = frozenset((TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING, TensorProto.UNDEFINED))
"""Types of shapes, axes, stored positions and masks."""


@dataclass(frozen=True)
class InputSummary:
    """A model input: `dimensions` as the file says them, `roles` where one was found, else ""."""

    name: str
    dtype: str
    dimensions: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class ParameterSummary:
    """Parameters of one element type."""

    dtype: str
    count: int
    nbytes: int


@dataclass(frozen=True)
class ModelSummary:
    """`operators` are counted as the file has them, most frequent first; `positions` is the size of
    the position table, None without one; `problems` are what an import with defaults refuses."""

    name: str
    producer: str
    opset: int
    ir_version: int
    inputs: tuple[InputSummary, ...]
    outputs: tuple[str, ...]
    operators: tuple[tuple[str, int], ...]
    parameters: tuple[ParameterSummary, ...]
    states: tuple[StatePair, ...]
    positions: int | None
    assumptions: tuple[str, ...]
    problems: tuple[Problem, ...]
    fingerprint: str

    @property
    def parameter_count(self) -> int:
        return sum(entry.count for entry in self.parameters)

    @property
    def parameter_bytes(self) -> int:
        return sum(entry.nbytes for entry in self.parameters)


def inspect_model(path: Path) -> ModelSummary:
    """Raises BadInput only where the file itself cannot be read as a model."""
    outline = read_outline(path)
    assumptions, problems, states = _try_import(path, outline)
    file = outline.file
    return ModelSummary(
        name=path.stem,
        producer=f"{file.model.producer_name} {file.model.producer_version}".strip(),
        opset=file.opset,
        ir_version=int(file.model.ir_version),
        inputs=tuple(_input(entry, outline.roles) for entry in outline.inputs),
        outputs=outline.outputs,
        operators=_operators(outline),
        parameters=_parameters(file.model.graph.initializer),
        states=states,
        positions=outline.table.rows if outline.table else None,
        assumptions=assumptions,
        problems=problems,
        fingerprint=file.fingerprint,
    )


def _try_import(
    path: Path, outline: Outline
) -> tuple[tuple[str, ...], tuple[Problem, ...], tuple[StatePair, ...]]:
    try:
        model = import_model(path)
    except BadInput as refusal:
        return (), refusal.problems, outline.states
    return model.assumptions, (), model.states


def _input(entry: ModelInput, roles: Roles) -> InputSummary:
    axes = range(len(entry.dimensions))
    return InputSummary(
        name=entry.name,
        dtype=_type_name(entry.element_type),
        dimensions=tuple(_text(size) for size in entry.dimensions),
        roles=tuple(roles.get((entry.name, axis), "") for axis in axes),
    )


def _text(size: Expression) -> str:
    terms = [symbol if count == 1 else f"{count}*{symbol}" for symbol, count in size.terms]
    return " + ".join(terms + [str(size.constant)] * bool(size.constant or not terms))


def _operators(outline: Outline) -> tuple[tuple[str, int], ...]:
    counts = Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in outline.nodes)
    return tuple(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _parameters(initializers: Iterable[TensorProto]) -> tuple[ParameterSummary, ...]:
    counts: Counter[int] = Counter()
    for tensor in initializers:
        if tensor.data_type not in _NO_PARAMETERS:
            counts[tensor.data_type] += prod(tensor.dims)
    return tuple(
        ParameterSummary(_type_name(kind), count, count * _itemsize(kind))
        for kind, count in sorted(counts.items())
    )


def _itemsize(element_type: int) -> int:
    """Bytes of an element, none where the type is unknown."""
    try:
        return numpy_type(element_type).itemsize
    except KeyError:
        return 0


def _type_name(element_type: int) -> str:
    try:
        return str(numpy_type(element_type))
    except KeyError:
        return "unknown"
