"""Inputs that a model can make sense of, from the names that exporters give them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from chiplan.ir import DType, Graph, Role, Shape

from .imported import ImportedModel

_LOWEST_TOKEN = 2
"""Token 0 and 1 are padding in many vocabularies, and a mask would be computed from them."""
_TABLE_WHEN_UNKNOWN = 32
_CACHE_SCALE = 0.5
_CARRIERS = ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Transpose")


class InputSpec(NamedTuple):
    """One input. `table` is the extent of the axis that it gathers from, None if it gathers nothing."""

    name: str
    shape: Shape
    dtype: DType
    table: int | None
    is_state: bool


def _tables_of_model(model: ImportedModel) -> dict[str, int]:
    """By input, the extent of the table that it is an index into, through nodes that only carry it."""
    source = {name: name for name in model.inputs}
    tables: dict[str, int] = {}
    for node in model.nodes:
        if node.op_type in _CARRIERS and node.inputs and node.inputs[0] in source:
            source[node.outputs[0]] = source[node.inputs[0]]
        if node.op_type == "Gather" and node.inputs[1] in source:
            axis = node.attributes.get("axis", 0)
            extent = model.tensors[node.inputs[0]].shape[axis if isinstance(axis, int) else 0]
            name = source[node.inputs[1]]
            tables[name] = min(extent, tables.get(name, extent))
    return tables


def _tables_of_graph(graph: Graph) -> dict[str, int]:
    tables: dict[str, int] = {}
    for operator in graph.operators:
        gathered = [factor.extent for factor in operator.factors if factor.gathered]
        if operator.body[0].opcode == "Gather" and gathered:
            name = operator.operands[operator.body[0].inputs[1]].tensor
            tables[name] = min(gathered[0], tables.get(name, gathered[0]))
    return tables


def _specs_of_model(model: ImportedModel) -> Iterator[InputSpec]:
    tables, pasts = _tables_of_model(model), {pair.past for pair in model.states}
    for name in model.inputs:
        tensor = model.tensors[name]
        yield InputSpec(name, tensor.shape, tensor.dtype, tables.get(name), name in pasts)


def _specs_of_graph(graph: Graph) -> Iterator[InputSpec]:
    tables = _tables_of_graph(graph)
    for name in graph.inputs:
        tensor = graph.tensors.get(name)
        if tensor is not None and tensor.role is Role.INPUT:
            yield InputSpec(name, tensor.shape, tensor.dtype, tables.get(name), False)
    for state in graph.states:
        tensor = graph.tensors[state.tensor]
        rows = tensor.resident_rows[1] if tensor.resident_rows else 0
        shape = (*tensor.shape[: state.axis], rows, *tensor.shape[state.axis + 1 :])
        yield InputSpec(state.past, shape, tensor.dtype, None, True)


def _cached_tokens(specs: list[InputSpec], graph: Graph | ImportedModel) -> int:
    """Tokens before this run: rows of the first cache."""
    axes = {state.past: state.axis for state in graph.states}
    return next((spec.shape[axes[spec.name]] for spec in specs if spec.name in axes), 0)


def _values(spec: InputSpec, past: int, random: np.random.Generator) -> np.ndarray:
    """A role by name first, then by what the input indexes, then by its type."""
    name, shape, kind = spec.name.lower(), spec.shape, spec.dtype.numpy
    if spec.is_state:
        return (random.standard_normal(shape) * _CACHE_SCALE).astype(kind)
    if "mask" in name:
        # A floating-point mask is added to the scores, any other says which tokens count.
        return np.zeros(shape, kind) if spec.dtype.is_float else np.ones(shape, kind)
    if spec.dtype.is_float:
        return random.standard_normal(shape).astype(kind)
    if "position" in name:
        return np.broadcast_to(past + np.arange(shape[-1] if shape else 1), shape).astype(kind)
    if "token_type" in name or "segment" in name or spec.dtype is DType.BOOL:
        return np.zeros(shape, kind)
    table = spec.table or _TABLE_WHEN_UNKNOWN
    return random.integers(min(_LOWEST_TOKEN, table - 1), table, shape).astype(kind)


def random_inputs(model: ImportedModel | Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Values for every input of the model, caches included, in its shapes and types.

    Tokens are drawn from the table that they index (never 0 or 1, which pad), masks let everything
    through, positions continue behind the cache, caches and images are normal.
    """
    specs = list(_specs_of_graph(model) if isinstance(model, Graph) else _specs_of_model(model))
    past, random = _cached_tokens(specs, model), np.random.default_rng(seed)
    return {spec.name: _values(spec, past, random) for spec in specs}
