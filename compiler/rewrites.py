"""Small graph rewrites before fusion: each removes work and changes no result beyond rounding."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from chiplan.ir import (
    DType,
    Graph,
    Instruction,
    Operand,
    Operator,
    Reshape,
    Result,
    Role,
    Shape,
    Tensor,
    Transpose,
    Unit,
    View,
    simplify_view,
    step_shape,
    view_shape,
)

from .graph_edit import kept_tensors, readers_of, sorted_graph, writers_of

_LEAST_SCALE = 2.0**-10


def _renamed(
    operator: Operator, aliases: Mapping[str, tuple[str, View]], tensors: Mapping[str, Tensor]
) -> Operator:
    """The operator reading each aliased tensor as (another tensor, a view in front)."""
    if not any(operand.tensor in aliases for operand in operator.operands):
        return operator
    operands = []
    for operand in operator.operands:
        while operand.tensor in aliases:
            name, view = aliases[operand.tensor]
            operand = replace(
                operand, tensor=name, view=simplify_view((*view, *operand.view), tensors[name].shape)
            )
        operands.append(operand)
    return replace(operator, operands=tuple(operands))


def merge_duplicates(graph: Graph) -> Graph:
    """Common subexpressions: an operator that computes what an earlier one has computed goes."""
    kept, writers = kept_tensors(graph), writers_of(graph.operators)
    aliases: dict[str, tuple[str, View]] = {}
    seen: dict[tuple[str, ...], list[Operator]] = {}
    operators: list[Operator] = []
    for operator in graph.operators:
        operator = _renamed(operator, aliases, graph.tensors)
        names = [result.tensor for result in operator.results]
        if all(len(writers[n]) == 1 and graph.tensors[n].role is Role.VALUE and n not in kept for n in names):
            earlier = seen.setdefault(tuple(operand.tensor for operand in operator.operands), [])
            twin = next((other for other in earlier if _computes_the_same(operator, other, graph)), None)
            if twin is not None:
                pairs = zip(names, twin.results, strict=True)
                aliases.update({name: (result.tensor, ()) for name, result in pairs})
                continue
            earlier.append(operator)
        operators.append(operator)
    return sorted_graph(graph, operators) if aliases else graph


def _computes_the_same(one: Operator, other: Operator, graph: Graph) -> bool:
    """Whether two operators differ in the names of their results alone."""
    read = (one.unit, one.factors, one.operands, one.body)
    if read != (other.unit, other.factors, other.operands, other.body):
        return False
    return [_made(result, graph) for result in one.results] == [_made(r, graph) for r in other.results]


def _made(result: Result, graph: Graph) -> tuple[Result, Shape, DType]:
    """A result without its name."""
    tensor = graph.tensors[result.tensor]
    return replace(result, tensor=""), tensor.shape, tensor.dtype


def drop_casts(graph: Graph) -> Graph:
    """A cast to the type that the value already has is a view."""
    kept, writers = kept_tensors(graph), writers_of(graph.operators)
    aliases: dict[str, tuple[str, View]] = {}
    operators: list[Operator] = []
    for operator in graph.operators:
        alias = _cast_alias(operator, graph)
        name = operator.results[0].tensor
        if alias is not None and name not in kept and len(writers[name]) == 1:
            aliases[name] = alias
        else:
            operators.append(operator)
    if not aliases:
        return graph
    return sorted_graph(graph, [_renamed(operator, aliases, graph.tensors) for operator in operators])


def _cast_alias(operator: Operator, graph: Graph) -> tuple[str, View] | None:
    if operator.unit is not Unit.VECTOR or [i.opcode for i in operator.body] != ["Cast"]:
        return None
    (operand,), (result,) = operator.operands, operator.results
    source, target = graph.tensors[operand.tensor], graph.tensors[result.tensor]
    same = source.dtype is target.dtype and operand.axes == result.axes
    return (
        (operand.tensor, operand.view)
        if same and view_shape(operand.view, source.shape) == target.shape
        else None
    )


def move_scales(graph: Graph) -> Graph:
    """A product with a scalar moves through views and a matrix product to the smaller operand.

    Exporters scale queries and keys alike; with a cache the keys are the whole context.
    """
    writers, readers, kept = writers_of(graph.operators), readers_of(graph.operators), kept_tensors(graph)
    operators = list(graph.operators)
    tensors = dict(graph.tensors)
    for index, operator in enumerate(graph.operators):
        if operator.unit is not Unit.MATRIX or len(operator.operands) != 2:
            continue
        operator = operators[index]
        for position in (0, 1):
            big, small = operator.operands[position], operator.operands[1 - position]
            source = writers.get(big.tensor, [])
            if len(source) != 1 or len(readers[big.tensor]) != 1 or big.tensor in kept:
                continue
            scale = _scalar_product(graph.operators[source[0]], graph)
            if scale is None or tensors[small.tensor].role is Role.WEIGHT:
                continue
            saved = _iterations(graph.operators[source[0]]) - _elements(small, operator)
            # Between equals the stationary operand's scale goes: the streamed one has a scale already.
            if saved < 0 or (saved == 0 and position == 0):
                continue
            moved = _scaled_operand(operator, small, scale[1], tensors)
            operands = [moved[1], moved[1]]
            operands[position] = _behind(big, scale[0], tensors)
            operator = replace(operator, operands=tuple(operands))
            operators[index] = operator
            operators.append(moved[0])
    return sorted_graph(graph, operators, tensors)


def _iterations(operator: Operator) -> int:
    return prod(factor.extent for factor in operator.factors)


def _elements(operand: Operand, operator: Operator) -> int:
    """Distinct elements that an operator reads through an operand."""
    return prod(operator.factors[axis].extent for axis in operand.axes if axis is not None)


def _behind(operand: Operand, source: Operand, tensors: Mapping[str, Tensor]) -> Operand:
    view = simplify_view((*source.view, *operand.view), tensors[source.tensor].shape)
    return replace(operand, tensor=source.tensor, view=view)


def _scalar_product(operator: Operator, graph: Graph) -> tuple[Operand, Operand] | None:
    """(value, scalar constant) of an operator that does nothing but multiply the two, if the scalar
    can move without a risk: one that makes values larger, or vanish, could leave fp16's range."""
    if operator.unit is not Unit.VECTOR or [i.opcode for i in operator.body] != ["Mul"]:
        return None
    if len(operator.operands) != 2 or operator.body[0].inputs not in ((0, 1), (1, 0)):
        return None
    for value, scalar in (operator.operands, operator.operands[::-1]):
        constant = graph.tensors[scalar.tensor]
        shape = view_shape(value.view, graph.tensors[value.tensor].shape)
        whole = (
            value.axes == operator.results[0].axes
            and shape == graph.tensors[operator.results[0].tensor].shape
        )
        if whole and constant.value is not None and constant.elements == 1 and _is_mild(constant.value):
            return value, scalar
    return None


def _is_mild(scalar: np.ndarray) -> bool:
    return scalar.dtype.kind == "f" and bool(_LEAST_SCALE <= abs(float(scalar.ravel()[0])) <= 1)


def _scaled_operand(
    product: Operator, operand: Operand, scalar: Operand, tensors: dict[str, Tensor]
) -> tuple[Operator, Operand]:
    """A vector operator that scales what a product reads, and the product's new operand."""
    source = tensors[operand.tensor]
    shape = view_shape(operand.view, source.shape)
    name = f"{product.name}/scaled"
    while name in tensors:
        name += "'"
    tensors[name] = Tensor(name, shape, source.dtype, Role.VALUE)
    used = [axis for axis in operand.axes if axis is not None]
    axes = tuple(None if axis is None else used.index(axis) for axis in operand.axes)
    factors = tuple(replace(product.factors[axis], reducer=None) for axis in used)
    body = (Instruction("Mul", (0, 1), source.dtype),)
    scalar = replace(scalar, axes=(None,) * len(view_shape(scalar.view, tensors[scalar.tensor].shape)))
    operands = (replace(operand, axes=axes), scalar)
    result = Result(name, axes, (0,) * len(shape), 0)
    scale = Operator(name, Unit.VECTOR, factors, operands, (result,), body, product.nodes)
    return scale, Operand(name, (), operand.axes)


def write_in_place(graph: Graph) -> Graph:
    """What only a copy reads is written where the copy would put it.

    Concatenations, and rows appended to a state, then cost nothing beyond the operator that makes
    them.
    """
    writers, readers, kept = writers_of(graph.operators), readers_of(graph.operators), kept_tensors(graph)
    operators: list[Operator | None] = list(graph.operators)
    for index, copy in enumerate(graph.operators):
        if [i.opcode for i in copy.body] != ["Copy"]:
            continue
        (source,) = copy.operands
        made = writers.get(source.tensor, [])
        if len(made) != 1 or readers[source.tensor] != [index] or source.tensor in kept:
            continue
        maker = operators[made[0]]
        if maker is None or not (axes := _permuted_axes(copy, maker, graph)):
            continue
        target = copy.results[0]
        results = tuple(
            Result(target.tensor, axes, target.offsets, r.value) if r.tensor == source.tensor else r
            for r in maker.results
        )
        operators[made[0]] = replace(maker, results=results, nodes=(*maker.nodes, *copy.nodes))
        operators[index] = None
    return sorted_graph(graph, [operator for operator in operators if operator is not None])


def _permuted_axes(copy: Operator, maker: Operator, graph: Graph) -> tuple[int | None, ...] | None:
    """The maker's factor along each dimension of the copy's box, when the copy reads all of the
    maker's result through a permutation of its axes; None otherwise."""
    (source,), (target,) = copy.operands, copy.results
    (result,) = [r for r in maker.results if r.tensor == source.tensor]
    if any(result.offsets) or maker.unit is Unit.MEMORY:
        return None
    shape, axes = graph.tensors[source.tensor].shape, result.axes
    for step in source.view:
        if isinstance(step, Transpose):
            axes = tuple(axes[d] for d in step.permutation)
        elif isinstance(step, Reshape) and [n for n in step.shape if n > 1] == [n for n in shape if n > 1]:
            running = iter([axis for axis, n in zip(axes, shape, strict=True) if n > 1])
            axes = tuple(next(running) if n > 1 else None for n in step.shape)
        else:
            return None
        shape = step_shape(step, shape)
    by_factor = {factor: axes[d] for d, factor in enumerate(source.axes) if factor is not None}
    repeated = any(factor is not None and factor not in by_factor for factor in target.axes)
    if repeated or len(set(by_factor.values())) != len(by_factor):
        return None
    return tuple(None if factor is None else by_factor[factor] for factor in target.axes)


REWRITES = (merge_duplicates, drop_casts, move_scales, write_in_place, merge_duplicates)
"""In the order in which one makes room for the next."""
