"""Sums over a weight of integers: constants, which no run has to add up again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from chiplan.ir import (
    DType,
    Graph,
    Operand,
    Operator,
    Origin,
    Role,
    Tensor,
    Unit,
    apply_view,
    view_shape,
)

from .graph_edit import kept_tensors, sorted_graph, writers_of


def weight_sum(name: str, weight: Tensor, operand: Operand, kept: Sequence[int]) -> Tensor:
    """The int32 sums of a weight, seen as `operand` sees it, over its dimensions that are not `kept`.

    Of a folded constant they are computed; of an initializer on disk the origin says what to sum.
    """
    shape = view_shape(operand.view, weight.shape)
    made = Tensor(name, tuple(shape[d] for d in kept), DType.INT32, Role.WEIGHT)
    if weight.value is not None:
        others = tuple(d for d in range(len(shape)) if d not in kept)
        sums = apply_view(operand.view, weight.value).sum(axis=others, dtype=np.int32)
        return replace(made, value=np.asarray(sums))
    if not is_summable(weight):
        raise ValueError(f"{weight.name} is no weight as the model file has it")
    view = operand.view
    return replace(made, origin=Origin(_origin(weight).initializer, view, "sum", tuple(kept)))


def is_summable(weight: Tensor) -> bool:
    """Whether the sums of a tensor can be constants."""
    if weight.role is not Role.WEIGHT or weight.dtype.is_float:
        return False
    return weight.value is not None or (not _origin(weight).view and _origin(weight).conversion == "cast")


def _origin(weight: Tensor) -> Origin:
    return weight.origin or Origin("", conversion="")


def fold_weight_sums(graph: Graph) -> Graph:
    """Sums of a weight that the graph computes, as constants: MatMulInteger corrects with them."""
    writers, kept = writers_of(graph.operators), kept_tensors(graph)
    tensors, operators = dict(graph.tensors), []
    for operator in graph.operators:
        name = operator.results[0].tensor
        if len(writers[name]) > 1 or name in kept or (found := _constant_sum(operator, graph)) is None:
            operators.append(operator)
        else:
            tensors[name] = found
    return sorted_graph(graph, operators, tensors) if len(operators) < len(graph.operators) else graph


def _constant_sum(operator: Operator, graph: Graph) -> Tensor | None:
    if operator.unit is not Unit.VECTOR or [i.opcode for i in operator.body] != ["ReduceSum"]:
        return None
    (operand,), (result,) = operator.operands, operator.results
    weight, sums = graph.tensors[operand.tensor], graph.tensors[result.tensor]
    kept = [d for d, axis in enumerate(operand.axes) if axis is not None and axis in result.axes]
    in_order = [operand.axes[d] for d in kept] == [axis for axis in result.axes if axis is not None]
    covered = len([axis for axis in operand.axes if axis is not None]) == len(operator.factors)
    if not (is_summable(weight) and in_order and covered) or sums.dtype is not DType.INT32:
        return None
    made = weight_sum(sums.name, weight, operand, kept)
    if made.elements != sums.elements:
        return None
    value = None if made.value is None else made.value.reshape(sums.shape)
    return replace(made, shape=sums.shape, value=value)
