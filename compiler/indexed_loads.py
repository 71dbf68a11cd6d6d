"""A gather of a resident weight that a product loads is an indexed weight load, not a copy.

    rows[i, n, k] = table[index[i], n, k]        memory unit, as large as all selected blocks together
    y[i, n]       = sum over k of x[i, k] * rows[i, n, k]

becomes one operator of the matrix unit that loads its blocks from the table, as the index says. The
product may see the rows through reshapes and transposes, and may have merged an axis of the index
with its columns (two experts a token: n = 2 x 352). Its axes are then taken apart, and who reads the
result sees it as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod

from chiplan.ir import (
    Factor,
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
    matrix_factors,
    simplify_view,
)

from .axis_atoms import SeenAxes, seen_axes
from .graph_edit import kept_tensors, readers_of, sorted_graph, writers_of


def index_weight_loads(graph: Graph) -> Graph:
    """Every gather of a weight whose only reader is a product that loads it, as part of the product."""
    writers, readers = writers_of(graph.operators), readers_of(graph.operators)
    kept = kept_tensors(graph)
    operators = list(graph.operators)
    taken_apart: dict[str, Tensor] = {}
    for gather in graph.operators:
        name = gather.results[0].tensor
        if name in kept or len(writers[name]) != 1 or len(readers.get(name, ())) != 1:
            continue
        (reader,) = readers[name]
        product = operators[reader]
        alone = all(len(writers[result.tensor]) == 1 for result in product.results)
        if not alone or not _gathers_weight(gather, graph) or not _loads(product, name):
            continue
        merged = _merge(gather, product, graph.tensors)
        if merged is not None:
            operators[reader], result = merged
            if result.shape != graph.tensors[result.name].shape:
                taken_apart[result.name] = result
    changed = any(new is not old for new, old in zip(operators, graph.operators, strict=True))
    return _seen_whole(graph, operators, taken_apart) if changed else graph


def _seen_whole(graph: Graph, operators: list[Operator], taken_apart: Mapping[str, Tensor]) -> Graph:
    """The graph with these operators, where all who read a tensor that was taken apart see it whole."""

    def view(name: str, old: View) -> View:
        if name not in taken_apart:
            return old
        return simplify_view((Reshape(graph.tensors[name].shape), *old), taken_apart[name].shape)

    operators = [
        replace(operator, operands=tuple(replace(o, view=view(o.tensor, o.view)) for o in operator.operands))
        for operator in operators
    ]
    outputs = tuple(replace(output, view=view(output.tensor, output.view)) for output in graph.outputs)
    return sorted_graph(replace(graph, outputs=outputs), operators, {**graph.tensors, **taken_apart})


def _gathers_weight(operator: Operator, graph: Graph) -> bool:
    """Whether an operator does nothing but gather along one axis of a weight."""
    if operator.unit is not Unit.MEMORY or [i.opcode for i in operator.body] != ["Gather"]:
        return False
    table, result = operator.operands[0], operator.results[0]
    stored = graph.tensors[table.tensor]
    return (
        operator.body[0].inputs == (0, 1)
        and stored.role is Role.WEIGHT
        and stored.dtype is graph.tensors[result.tensor].dtype
        and sum(f is not None and operator.factors[f].gathered for f in table.axes) == 1
        and not any(result.offsets)
    )


def _loads(operator: Operator, name: str) -> bool:
    """Whether `name` is the stationary operand, and no other, of a plain product."""
    return (
        operator.unit is Unit.MATRIX
        and [i.opcode for i in operator.body] == ["MatMul"]
        and [operand.tensor == name for operand in operator.operands] == [False, True]
        and len(operator.results) == 1
    )


@dataclass(frozen=True)
class _Nest:
    """The factors of a product with indexed loads.

    runs: of every factor, the atoms of the loaded weight that it is the product of, major first.
    parts: by factor of the product as it was, the factors that it has become.
    extents: of the atoms; the last one is the table's gathered axis.
    """

    factors: tuple[Factor, ...]
    runs: tuple[tuple[int, ...], ...]
    parts: Mapping[int, tuple[int, ...]]
    extents: tuple[int, ...]

    def split(self, axes: tuple[int | None, ...]) -> tuple[Reshape, tuple[int | None, ...]]:
        """The reshape that takes the product's axes apart, and the factor along each new axis."""
        pieces = [piece for axis in axes for piece in ((None,) if axis is None else self.parts[axis])]
        return Reshape(tuple(1 if f is None else self.factors[f].extent for f in pieces)), tuple(pieces)

    def streamed(self, operand: Operand, tensors: Mapping[str, Tensor]) -> Operand:
        """The product's own operand."""
        reshape, axes = self.split(operand.axes)
        view = simplify_view((*operand.view, reshape), tensors[operand.tensor].shape)
        return replace(operand, view=view, axes=axes)

    def selected(self, operand: Operand, atoms: list[int], tensors: Mapping[str, Tensor]) -> Operand:
        """An operand of the gather whose axes are `atoms`: one axis a factor."""
        place = {atom: position for position, atom in enumerate(atoms)}
        held = [f for f, run in enumerate(self.runs) if run and run[0] in place]
        held.sort(key=lambda f: place[self.runs[f][0]])
        steps = (
            Reshape(tuple(self.extents[atom] for atom in atoms)),
            Transpose(tuple(place[atom] for f in held for atom in self.runs[f])),
            Reshape(tuple(self.factors[f].extent for f in held)),
        )
        view = simplify_view((*operand.view, *steps), tensors[operand.tensor].shape)
        return replace(operand, view=view, axes=tuple(held))


def _merge(
    gather: Operator, product: Operator, tensors: Mapping[str, Tensor]
) -> tuple[Operator, Tensor] | None:
    """One operator for both, and the tensor that it writes, perhaps with an axis taken apart; None where
    the index would not select whole blocks."""
    rows, (result,), (multiply,) = gather.results[0], product.results, product.body
    common = seen_axes(product.operands[1].view, tensors[rows.tensor].shape)
    if common is None:
        return None
    atoms = {f: common.stored[d] for d, f in enumerate(rows.axes) if f is not None}
    (gathered,) = (f for f, factor in enumerate(gather.factors) if factor.gathered)
    atoms[gathered] = (len(common.extents),)
    table, index = ([a for f in o.axes if f is not None for a in atoms[f]] for o in gather.operands)
    nest = _nest(product, common, set(index), gather.factors[gathered])
    shape, axes = nest.split(result.axes)
    stored = tensors[result.tensor]
    if len(axes) > len(result.axes):
        whole = _box(product, result) == stored.shape
        if stored.role is not Role.VALUE or not whole:
            return None
        stored = replace(stored, shape=shape.shape)
        result = replace(result, offsets=(0,) * len(axes))
    merged = replace(
        product,
        factors=nest.factors,
        operands=(
            nest.streamed(product.operands[0], tensors),
            nest.selected(gather.operands[0], table, tensors),
            nest.selected(gather.operands[1], index, tensors),
        ),
        results=(replace(result, axes=axes, value=1),),
        body=(Instruction("Gather", (1, 2), gather.body[0].dtype), replace(multiply, inputs=(0, 3))),
        nodes=(*gather.nodes, *product.nodes),
    )
    return (merged, stored) if _is_blockwise(merged) else None


def _nest(product: Operator, common: SeenAxes, index: set[int], gathered: Factor) -> _Nest:
    """A factor that mixes the index's axes with those of a block becomes one factor for each run."""
    atoms_of = {f: common.seen[d] for d, f in enumerate(product.operands[1].axes) if f is not None}
    extents = (*common.extents, gathered.extent)
    factors: list[Factor] = []
    runs: list[tuple[int, ...]] = []
    parts: dict[int, tuple[int, ...]] = {}
    for f, factor in enumerate(product.factors):
        mixed = groupby(atoms_of.get(f, ()), key=index.__contains__)
        pieces = [tuple(run) for _, run in mixed] or [()]
        parts[f] = tuple(range(len(runs), len(runs) + len(pieces)))
        runs += pieces
        if len(pieces) == 1:
            factors.append(factor)
            continue
        factors += [
            replace(factor, name=f"{factor.name}.{i}", extent=prod(extents[atom] for atom in piece))
            for i, piece in enumerate(pieces)
        ]
    return _Nest((*factors, gathered), (*runs, (len(common.extents),)), parts, extents)


def _box(operator: Operator, result: Result) -> Shape:
    return tuple(1 if axis is None else operator.factors[axis].extent for axis in result.axes)


def _is_blockwise(operator: Operator) -> bool:
    """Whether every index selects whole blocks: nothing is summed over the index, and a block has
    columns of its own (where it would be a single column, it is better to copy the rows)."""
    roles = matrix_factors(operator)
    index = set(operator.operands[2].axes)
    return len(roles.columns) == 1 and len(roles.reduced) == 1 and not index & set(roles.reduced)
