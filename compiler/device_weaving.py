"""Loops that take a little of every chip's piece in turn.

Chips exchange the pieces of a dimension all at once. An operator that runs along all of it from front to
back makes, or waits for, one chip's piece after the other. A woven loop goes through the pieces together:

    rows [384], 4 pieces     straight: rows 0..31 | 32..63 | ...      woven: rows 0..7 of every piece | ...

Factor x of extent before x pieces x within becomes three loops, `within` the outermost of the operator and
`pieces` inside of what it encloses; tensors keep their elements where they are, in finer dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from chiplan.ir import (
    Attribute,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Output,
    Own,
    Reshape,
    Result,
    Role,
    Shape,
    Tensor,
    View,
    simplify_view,
    view_shape,
)


@dataclass(frozen=True)
class Weave:
    """Factor `factor` of an operator runs through `pieces` pieces in turn, inside of `before` runs."""

    factor: int
    before: int
    pieces: int

    def extents(self, extent: int) -> Shape:
        """Extents of the factor's digits, major first; without `before` where that is one run."""
        digits = (self.before, self.pieces, extent // (self.before * self.pieces))
        return digits[self.before == 1 :]


_Digits = dict[int, Shape]
"""By dimension of a tensor, the extents that it is taken apart into."""


def weave_graph(graph: Graph, weaves: Mapping[int, Weave]) -> Graph:
    """Weave loops of some operators (by position in the graph): those of which all that write the same
    tensors can do so. Nothing else changes but the dimensions of tensors."""
    weaves = _settled(graph.operators, graph.tensors, weaves)
    digits: dict[str, _Digits] = {}
    for index, weave in weaves.items():
        for result in graph.operators[index].results:
            digits[result.tensor] = _written(graph.operators[index], result, weave)
    shapes = {name: _taken_apart(graph.tensors[name].shape, found) for name, found in digits.items()}
    return replace(
        graph,
        tensors=graph.tensors | {n: replace(graph.tensors[n], shape=shape) for n, shape in shapes.items()},
        operators=tuple(
            _woven(operator, weaves.get(index), graph.tensors, shapes)
            for index, operator in enumerate(graph.operators)
        ),
        outputs=tuple(_output(output, graph.tensors, shapes) for output in graph.outputs),
    )


def _output(output: Output, tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> Output:
    tensor = tensors[output.tensor]
    if output.tensor not in shapes or tensor.sharding is not None:
        return output
    return replace(output, view=_from_finer(output.view, shapes[output.tensor], tensor.shape))


def _settled(
    operators: Sequence[Operator], tensors: Mapping[str, Tensor], weaves: Mapping[int, Weave]
) -> dict[int, Weave]:
    """Those weaves of which all results can be written, by all that write them."""
    kept = dict(weaves)
    writers: dict[str, list[tuple[int, Result]]] = {}
    for index, operator in enumerate(operators):
        for result in operator.results:
            writers.setdefault(result.tensor, []).append((index, result))
    waiting = list(kept)
    while waiting:
        index = waiting.pop()
        if index not in kept:
            continue
        for name in {result.tensor for result in operators[index].results}:
            if not _agree(operators, tensors[name], writers[name], kept):
                undone = [writer for writer, _ in writers[name] if kept.pop(writer, None)]
                waiting += [w for u in undone for r in operators[u].results for w, _ in writers[r.tensor]]
    return kept


def _agree(
    operators: Sequence[Operator],
    tensor: Tensor,
    writers: Sequence[tuple[int, Result]],
    weaves: Mapping[int, Weave],
) -> bool:
    """Whether all that write a tensor take it apart in the same way."""
    wanted = set()
    for index, result in writers:
        weave = weaves.get(index)
        if weave is None or result.axes.count(weave.factor) != 1:
            return False
        dimension = result.axes.index(weave.factor)
        extent = operators[index].factors[weave.factor].extent
        if result.offsets[dimension] or extent != tensor.shape[dimension]:
            return False
        wanted.add((dimension, weave.extents(extent)))
    return tensor.role is Role.VALUE and len(wanted) == 1


def _written(operator: Operator, result: Result, weave: Weave) -> _Digits:
    return {result.axes.index(weave.factor): weave.extents(operator.factors[weave.factor].extent)}


def _taken_apart(shape: Shape, digits: _Digits) -> Shape:
    return tuple(part for d, extent in enumerate(shape) for part in digits.get(d, (extent,)))


def _woven(
    operator: Operator,
    weave: Weave | None,
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, Shape],
) -> Operator:
    """An operator over the tensors as they are taken apart."""
    operands = tuple(
        replace(o, view=_from_finer(o.view, shapes[o.tensor], tensors[o.tensor].shape))
        if o.tensor in shapes
        else o
        for o in operator.operands
    )
    if weave is None:
        return replace(operator, operands=operands) if operands != operator.operands else operator
    numbers = _numbers(operator, weave)
    seen = [shapes.get(o.tensor, tensors[o.tensor].shape) for o in operands]
    return replace(
        operator,
        factors=_factors(operator, weave),
        operands=tuple(
            _read(o, view_shape(o.view, shape), shape, weave, numbers)
            for o, shape in zip(operands, seen, strict=True)
        ),
        results=tuple(_write(result, numbers) for result in operator.results),
        body=tuple(_renumbered(instruction, numbers) for instruction in operator.body),
        splits=tuple(replace(split, factor=numbers[split.factor][0]) for split in operator.splits),
    )


def _from_finer(view: View, finer: Shape, shape: Shape) -> View:
    """A view of a tensor of `shape` that is stored in finer dimensions. A chip's own entry of the leading
    dimension is looked up first, as before: whoever reads that alone waits for no other chip."""
    own: View = ()
    match view:
        case (Own(axis=0), *_) if finer[0] == shape[0]:
            own = view[:1]
    return simplify_view((*own, Reshape(view_shape(own, shape)), *view[len(own) :]), finer)


def _numbers(operator: Operator, weave: Weave) -> list[tuple[int, ...]]:
    """The loops that each factor has come to, major first."""
    apart = len(weave.extents(operator.factors[weave.factor].extent)) - 1
    numbers: list[tuple[int, ...]] = []
    following = 1
    for factor in range(len(operator.factors)):
        count = apart if factor == weave.factor else 1
        mine = tuple(range(following, following + count))
        numbers.append((*mine, 0) if factor == weave.factor else mine)
        following += count
    return numbers


def _factors(operator: Operator, weave: Weave) -> tuple[Factor, ...]:
    factor = operator.factors[weave.factor]
    *outer, within = weave.extents(factor.extent)
    names = ("run", "piece")[-len(outer) :]
    apart = (
        replace(factor, name=f"{factor.name}/{name}", extent=extent)
        for name, extent in zip(names, outer, strict=True)
    )
    first = replace(factor, name=f"{factor.name}/within", extent=within)
    return (first, *operator.factors[: weave.factor], *apart, *operator.factors[weave.factor + 1 :])


def _read(
    operand: Operand, seen: Shape, shape: Shape, weave: Weave, numbers: Sequence[tuple[int, ...]]
) -> Operand:
    """An operand of a woven loop: it sees its tensor, of `shape`, as `seen`."""
    if weave.factor in operand.axes:
        apart = (
            part
            for extent, axis in zip(seen, operand.axes, strict=True)
            for part in (weave.extents(extent) if axis == weave.factor else (extent,))
        )
        operand = replace(operand, view=simplify_view((*operand.view, Reshape(tuple(apart))), shape))
    return replace(operand, axes=_renamed(operand.axes, numbers))


def _renamed(axes: Sequence[int | None], numbers: Sequence[tuple[int, ...]]) -> tuple[int | None, ...]:
    return tuple(number for axis in axes for number in ((None,) if axis is None else numbers[axis]))


def _write(result: Result, numbers: Sequence[tuple[int, ...]]) -> Result:
    offsets = (
        offset
        for axis, offset in zip(result.axes, result.offsets, strict=True)
        for offset in ((offset,) if axis is None or len(numbers[axis]) == 1 else (0,) * len(numbers[axis]))
    )
    return replace(result, axes=_renamed(result.axes, numbers), offsets=tuple(offsets))


def _renumbered(instruction: Instruction, numbers: Sequence[tuple[int, ...]]) -> Instruction:
    attributes = tuple((name, _renamed_value(name, value, numbers)) for name, value in instruction.attributes)
    return replace(instruction, attributes=attributes)


def _renamed_value(name: str, value: Attribute, numbers: Sequence[tuple[int, ...]]) -> Attribute:
    if name != "factors":
        return value
    chosen = value if isinstance(value, tuple) else (value,)
    return tuple(number for factor in chosen for number in numbers[int(factor)])
