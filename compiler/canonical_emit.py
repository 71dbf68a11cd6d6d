"""The ways to add an operator to the graph: pointwise, reduction, plain (one factor a dimension, as
indexing operators need it) and copy."""

from collections.abc import Sequence
from dataclasses import replace

from chiplan.ir import (
    DType,
    Factor,
    Instruction,
    LoopNest,
    Operand,
    Reshape,
    Result,
    Unit,
)

from .canonical_builder import Body, GraphBuilder, Value
from .canonical_loops import Access, Space, fit_space, layout_of
from .canonical_views import Labels, factor_view, factorable_steps, read_through
from .imported import ImportedNode
from .nests_indexing import gather_loops

Item = tuple[Value, Labels]
"""A value, and for each of its dimensions the factor that runs along it."""


def copied(builder: GraphBuilder, node: ImportedNode, value: Value) -> Value:
    """The value with the longest factorable start of its view copied into a tensor of its own."""
    count = factorable_steps(value.view, value.stored)
    rest = value.view[count:]
    start = replace(value, view=()).seen(*value.view[:count])
    factored = factor_view(start.view, start.stored)
    if factored is None:
        raise ValueError(f"{start.view} should be factorable")
    parts = [part for parts in factored.dimensions for part in parts]
    factors = [Factor(f"d{i}", part.extent) for i, part in enumerate(parts) if part.extent > 1]
    numbers = iter(range(len(factors)))
    axes = tuple(next(numbers) if part.extent > 1 else None for part in parts)
    read = tuple(None if part.broadcast else axis for part, axis in zip(parts, axes, strict=True))
    shape = tuple(part.extent for part in parts)
    tensor = builder.computed(f"{value.tensor}/copy", shape, value.dtype)
    builder.add(
        node,
        Unit.SWITCH,
        factors,
        [Operand(value.tensor, factored.view, read)],
        [Result(tensor, axes, (0,) * len(shape), 0)],
        [Instruction("Copy", (0,), value.dtype)],
    )
    return Value(tensor, shape, (), shape, value.dtype).seen(Reshape(start.shape), *rest)


def as_simple(builder: GraphBuilder, node: ImportedNode, value: Value) -> Value:
    """The value, copied if a dimension is a product of a broadcast and something else."""
    while (factored := factor_view(value.view, value.stored)) is None or not factored.is_simple:
        value = copied(builder, node, value)
    return value


def as_plain(builder: GraphBuilder, node: ImportedNode, value: Value) -> Value:
    """The value, copied if it has a broadcast dimension."""
    while (factored := factor_view(value.view, value.stored)) is None or not factored.is_plain:
        value = copied(builder, node, value)
    return value


def fit(
    builder: GraphBuilder,
    node: ImportedNode,
    factors: Sequence[Factor],
    items: Sequence[Item],
    *,
    drop: bool = True,
) -> tuple[Space, list[Item]]:
    """The space of `items`; those that have none in common with the others are copied."""
    fitted = list(items)
    space = fit_space(tuple(factors), _accesses(fitted), drop)
    if space is None:
        fitted = [(as_simple(builder, node, value), labels) for value, labels in items]
        space = fit_space(tuple(factors), _accesses(fitted), drop)
    if space is None:
        raise ValueError(f"{node.name}: simple operands should share a space")
    return space, fitted


def _accesses(items: Sequence[Item]) -> tuple[Access, ...]:
    return tuple(Access(value.view, value.stored, labels) for value, labels in items)


def operands_of(space: Space, items: Sequence[Item]) -> list[Operand]:
    return [
        Operand(value.tensor, read.view, read.axes)
        for (value, _), read in zip(items, space.reads, strict=True)
    ]


def _shared(items: Sequence[Item], body: Body) -> tuple[list[Item], list[Instruction]]:
    """Each operand once, with the body's inputs renamed."""
    distinct = list(dict.fromkeys(items))
    if len(distinct) == len(items):
        return distinct, body.instructions
    moved = len(items) - len(distinct)
    name = [distinct.index(item) for item in items]
    renamed = [
        replace(
            instruction, inputs=tuple(name[i] if i < len(items) else i - moved for i in instruction.inputs)
        )
        for instruction in body.instructions
    ]
    return distinct, renamed


def pointwise(
    builder: GraphBuilder,
    node: ImportedNode,
    name: str,
    factors: Sequence[Factor],
    items: Sequence[Item],
    body: Body,
    labels: Labels,
) -> Value:
    """A vector operator whose last instruction gives every element of tensor `name`.

    Factors that no operand runs along are not computed: the result is seen through a broadcast. A
    reduction as last instruction reduces over the factors that have a reducer.
    """
    items, instructions = _shared(items, body)
    space, items = fit(builder, node, factors, items)
    if instructions[-1].opcode.startswith("Reduce"):
        reduced = tuple(i for i, factor in enumerate(space.factors) if i in _reduced(space, factors))
        instructions = [*instructions[:-1], replace(instructions[-1], attributes=(("factors", reduced),))]
    layout = layout_of(space, labels)
    dtype = instructions[-1].dtype
    tensor = builder.computed(name, layout.shape, dtype)
    builder.add(
        node,
        Unit.VECTOR,
        space.factors,
        operands_of(space, items),
        [Result(tensor, layout.axes, (0,) * len(layout.axes), len(instructions) - 1)],
        instructions,
    )
    return Value(tensor, layout.shape, (), layout.shape, dtype).seen(*layout.view)


def _reduced(space: Space, factors: Sequence[Factor]) -> set[int]:
    """Factors of the space that are parts of a factor that a reduction runs over: it has a reducer,
    or is whole (a product)."""
    return {
        number
        for factor, parts in zip(factors, space.parts, strict=True)
        for _, number in parts
        if number is not None and (factor.reducer is not None or factor.whole)
    }


def from_nest(node_nest: LoopNest, values: Sequence[Value]) -> list[Item]:
    """The operands of a nest, each seen through the view that its index map asks for."""
    items = []
    for axes, value in zip(node_nest.operands, values, strict=True):
        steps, labels = read_through(axes, node_nest.factors, value.shape)
        items.append((value.seen(*steps) if steps else value, labels))
    return items


def result_labels(nest: LoopNest, result: int = 0) -> Labels:
    """The factor along each dimension of a result whose dimensions are single factors."""
    return tuple(axis.terms[0][0] if axis.terms else None for axis in nest.results[result])


def plain_operator(
    builder: GraphBuilder,
    node: ImportedNode,
    unit: Unit,
    nest: LoopNest,
    values: Sequence[Value],
    results: Sequence[tuple[str, Instruction]],
) -> list[Value]:
    """An operator whose operands have one factor a dimension; one instruction a result."""
    plain = [as_plain(builder, node, value) for value in values]
    space, items = fit(builder, node, nest.factors, from_nest(nest, plain), drop=False)
    written, made = [], []
    for index, (name, instruction) in enumerate(results):
        layout = layout_of(space, result_labels(nest, min(index, len(nest.results) - 1)))
        tensor = builder.computed(name, layout.shape, instruction.dtype)
        written.append(Result(tensor, layout.axes, (0,) * len(layout.axes), index))
        made.append(Value(tensor, layout.shape, (), layout.shape, instruction.dtype))
    body = [instruction for _, instruction in results]
    builder.add(node, unit, space.factors, operands_of(space, items), written, body)
    return made


def copy_into(
    builder: GraphBuilder,
    node: ImportedNode,
    value: Value,
    tensor: str,
    offsets: Sequence[int],
    *,
    order: Sequence[int] | None = None,
    unit: Unit = Unit.SWITCH,
) -> None:
    """Copies a value into the box of `tensor` at `offsets`; tensor dimension d is dimension order[d]
    of the value."""
    value = as_simple(builder, node, value)
    labels: list[int | None] = []
    factors: list[Factor] = []
    for axis, extent in enumerate(value.shape):
        labels.append(len(factors) if extent > 1 else None)
        if extent > 1:
            factors.append(Factor(f"d{axis}", extent))
    space, items = fit(builder, node, factors, [(value, tuple(labels))], drop=False)
    axes = tuple(labels[axis] for axis in (order or range(len(labels))))
    body = [Instruction("Copy", (0,), value.dtype)]
    builder.add(
        node, unit, space.factors, operands_of(space, items), [Result(tensor, axes, tuple(offsets), 0)], body
    )


def cast_to(body: Body, item: int, current: DType, wanted: DType) -> int:
    """The item in type `wanted`, with a Cast if it has another one."""
    return item if current is wanted else body.add("Cast", wanted, item)


def gathered(
    builder: GraphBuilder, node: ImportedNode, name: str, value: Value, indices: Value, axis: int
) -> Value:
    """Tensor `name` = value[before, indices, after], on the memory unit."""
    nest = gather_loops(value.shape, indices.shape, axis)
    instruction = Instruction("Gather", (0, 1), value.dtype, (("axis", axis),))
    return plain_operator(builder, node, Unit.MEMORY, nest, [value, indices], [(name, instruction)])[0]
