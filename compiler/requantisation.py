"""Quantisation that changes nothing, and dequantisation before a value is made smaller.

Exporters put QuantizeLinear and DequantizeLinear around every operator, also around those that only
move data. What is quantised again with the scale that it had is seen through the views between, and
rows of a quantised table are dequantised after they are gathered.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from chiplan.ir import DType, Factor, Graph, Operand, Operator, Result, Role, Tensor, Unit, simplify_view

from .graph_edit import kept_tensors, sorted_graph, writers_of
from .quantised_values import (
    Quantised,
    Seen,
    Tensors,
    behind,
    constant_of,
    dequantised,
    quantised,
    seen_shape,
    uniform_zero,
)

_EXACT_TYPES = frozenset({DType.FP16, DType.FP32, DType.FP64})
"""Types in which (n * s) / s, for |n| <= 255, is less than half a step away from n."""


def dequantisations(graph: Graph) -> dict[str, Quantised]:
    """Tensors that one DequantizeLinear writes, and what it reads."""
    writers = writers_of(graph.operators)
    found = {}
    for operator in graph.operators:
        match = dequantised(operator, graph.tensors)
        if match is not None and len(writers[operator.results[0].tensor]) == 1:
            found[operator.results[0].tensor] = match
    return found


def gather_codes(graph: Graph) -> Graph:
    """A table with one scale is gathered as codes; the rows are dequantised, not the table."""
    known, tensors = dequantisations(graph), dict(graph.tensors)
    if not known:
        return graph
    makers = {operator.results[0].tensor: operator for operator in graph.operators}
    operators: list[Operator] = []
    for operator in graph.operators:
        match = known.get(operator.operands[0].tensor) if operator.operands else None
        if match is None or not _is_table_lookup(operator, match, tensors):
            operators.append(operator)
        else:
            table = makers[operator.operands[0].tensor]
            operators += _lookup_of_codes(operator, table, match, tensors)
    return sorted_graph(graph, operators, tensors)


def _is_table_lookup(operator: Operator, match: Quantised, tensors: Tensors) -> bool:
    if operator.unit is not Unit.MEMORY or [i.opcode for i in operator.body] != ["Gather"]:
        return False
    parts = [match.scale] + ([match.zero] if match.zero else [])
    return tensors[match.data.tensor].role is Role.WEIGHT and all(
        tensors[part.tensor].elements == 1 for part in parts
    )


def _lookup_of_codes(
    operator: Operator, table: Operator, match: Quantised, tensors: dict[str, Tensor]
) -> list[Operator]:
    """The gather of codes, and the table's own dequantisation on what was gathered."""
    source, (result,), (gather,) = operator.operands[0], operator.results, operator.body
    kind = tensors[match.data.tensor].dtype
    shape = tuple(1 if axis is None else operator.factors[axis].extent for axis in result.axes)
    codes = new_tensor(f"{operator.name}/codes", shape, kind, tensors)
    read = behind(match.data, source.view, tensors)
    lookup = replace(
        operator,
        operands=(Operand(read.tensor, read.view, source.axes), *operator.operands[1:]),
        results=(Result(codes, result.axes, (0,) * len(shape), 0),),
        body=(replace(gather, dtype=kind),),
    )
    used = [axis for axis in result.axes if axis is not None]
    axes = tuple(None if axis is None else used.index(axis) for axis in result.axes)
    others = [replace(o, axes=(None,) * len(o.axes)) for o in table.operands[1:]]
    made = Operator(
        f"{operator.name}/dequantise",
        Unit.VECTOR,
        tuple(Factor(operator.factors[axis].name, operator.factors[axis].extent) for axis in used),
        (Operand(codes, (), axes), *others),
        (replace(result, axes=axes, value=len(table.body) - 1),),
        table.body,
        (*operator.nodes, *table.nodes),
    )
    return [lookup, made]


def new_tensor(name: str, shape: tuple[int, ...], dtype: DType, tensors: dict[str, Tensor]) -> str:
    """Adds a computed tensor; the result is its name."""
    while name in tensors:
        name += "'"
    tensors[name] = Tensor(name, shape, dtype, Role.VALUE)
    return name


def drop_requantisations(graph: Graph) -> Graph:
    """What is dequantised, moved and quantised again with the same scale is the same codes."""
    kept, writers = kept_tensors(graph), writers_of(graph.operators)
    aliases: dict[str, Seen] = {}
    known: dict[str, Quantised] = {}
    operators: list[Operator] = []
    for operator in graph.operators:
        operator = _reading(operator, aliases, graph.tensors)
        operators.append(operator)
        if not operator.results or len(writers[operator.results[0].tensor]) != 1:
            continue
        name = operator.results[0].tensor
        if (match := dequantised(operator, graph.tensors)) is not None:
            known[name] = match
        elif name not in kept and (codes := _same_codes(operator, known, graph.tensors)) is not None:
            aliases[name] = codes
    return sorted_graph(graph, operators) if aliases else graph


def _reading(operator: Operator, aliases: Mapping[str, Seen], tensors: Tensors) -> Operator:
    """The operator, which reads codes where they were first written."""
    operands = tuple(_first_written(operand, aliases, tensors) for operand in operator.operands)
    return operator if operands == operator.operands else replace(operator, operands=operands)


def _first_written(operand: Operand, aliases: Mapping[str, Seen], tensors: Tensors) -> Operand:
    if operand.tensor not in aliases:
        return operand
    name, view = aliases[operand.tensor]
    return replace(operand, tensor=name, view=simplify_view((*view, *operand.view), tensors[name].shape))


def _same_codes(operator: Operator, known: Mapping[str, Quantised], tensors: Tensors) -> Seen | None:
    """The codes that `operator` finds again, in its result's dimensions."""
    match = quantised(operator, tensors)
    source = known.get(match.data.tensor) if match else None
    if match is None or source is None or tensors[match.data.tensor].dtype not in _EXACT_TYPES:
        return None
    codes = behind(source.data, match.data.view, tensors)
    same_type = tensors[codes.tensor].dtype is tensors[operator.results[0].tensor].dtype
    same_step = _same_scale(match.scale, source.scale, tensors) and _same_zero(match, source, tensors)
    whole = seen_shape(codes, tensors) == tensors[operator.results[0].tensor].shape
    return codes if same_type and same_step and whole else None


def _same_scale(first: Seen, second: Seen, tensors: Tensors) -> bool:
    """Both are the same known number, and none so small that products with it lose digits."""
    one, other = constant_of(first, tensors), constant_of(second, tensors)
    if one is None or other is None or one.size != 1 or other.size != 1:
        return False
    smallest = np.finfo(tensors[first.tensor].dtype.numpy).tiny
    return bool(one.flat[0] == other.flat[0] and one.flat[0] >= smallest)


def _same_zero(match: Quantised, source: Quantised, tensors: Tensors) -> bool:
    zeros = [uniform_zero(side.zero, tensors) for side in (match, source)]
    return zeros[0] is not None and zeros[0] == zeros[1]
