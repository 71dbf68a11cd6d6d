"""Rules of the verifier: operators as loop nests over the dimensions of what they read and write."""

from collections.abc import Callable, Iterator

from .graph import Graph, Operator, Result, Unit
from .verify_broken import Broken, place_of
from .verify_tensors import MOST_AXES, MOST_ELEMENTS, distinct, seen

Said = Iterator[tuple[str, str]]
"""(expected, found) of one operator."""


def _each(graph: Graph, said: Callable[[Operator], Said]) -> Iterator[Broken]:
    for operator in graph.operators:
        for expected, found in said(operator):
            yield Broken(place_of("operator", operator.name), expected, found)


def operators_do_something(graph: Graph) -> Iterator[Broken]:
    """An operator has instructions, and a result."""

    def said(operator: Operator) -> Said:
        if not operator.body or not operator.results:
            found = f"{len(operator.body)} instructions and {len(operator.results)} results"
            yield "an instruction and a result", found

    return _each(graph, said)


def factor_extents(graph: Graph) -> Iterator[Broken]:
    """Every loop has iterations, and there are no more loops than numpy has dimensions for."""

    def said(operator: Operator) -> Said:
        extents = tuple(factor.extent for factor in operator.factors)
        if len(extents) > MOST_AXES or any(not 1 <= extent <= MOST_ELEMENTS for extent in extents):
            yield f"at most {MOST_AXES} factors, each of at least one iteration", f"{extents}"

    return _each(graph, said)


def products(graph: Graph) -> Iterator[Broken]:
    """A matrix operator is a product of two operands, the second perhaps gathered from one table."""

    def said(operator: Operator) -> Said:
        count, body = len(operator.operands), operator.body
        if operator.unit is not Unit.MATRIX or not body:
            return
        if count < 2:
            yield "two operands of a product", f"{count}"
            return
        if body[0].opcode != "Gather":
            return
        held = set(operator.operands[1].axes)
        gathered = [n for n, factor in enumerate(operator.factors) if factor.gathered]
        if len(gathered) != 1 or gathered[0] not in held:
            yield "exactly one gathered factor, of the table", f"the factors {gathered}"
        pairs = [instruction.inputs for instruction in body[:-1]]
        if any(len(pair) != 2 or not 2 <= pair[1] < count or pair[1] != pairs[0][1] for pair in pairs):
            yield "gathers by one index operand", f"the inputs {pairs}"

    return _each(graph, said)


def split_factors(graph: Graph) -> Iterator[Broken]:
    """A split is of one factor each, over mesh axes, of at least the iterations that a chip has."""

    def said(operator: Operator) -> Said:
        factors = [split.factor for split in operator.splits]
        known = all(0 <= factor < len(operator.factors) for factor in factors)
        if not known or len(set(factors)) < len(factors):
            yield f"splits of distinct factors below {len(operator.factors)}", f"{factors}"
            return
        for split in operator.splits:
            part = operator.factors[split.factor].extent
            if not part <= split.extent <= MOST_ELEMENTS:
                yield f"a factor of at least the {part} iterations of a chip", f"{split.extent}"
            if not split.axes or not distinct(split.axes):
                yield "a split over distinct mesh axes", f"{split.axes}"

    return _each(graph, said)


def instruction_inputs(graph: Graph) -> Iterator[Broken]:
    """An instruction takes operands and values of instructions before it."""

    def said(operator: Operator) -> Said:
        for position, instruction in enumerate(operator.body):
            known = len(operator.operands) + position
            if any(not 0 <= value < known for value in instruction.inputs):
                yield f"inputs below {known} of instruction {position}", f"{instruction.inputs}"

    return _each(graph, said)


def operand_axes(graph: Graph) -> Iterator[Broken]:
    """Every dimension of an operand is as long as the factor that runs along it."""

    def said(operator: Operator) -> Said:
        for operand in operator.operands:
            if operand.tensor not in graph.tensors:
                continue
            shape, misfit = seen(operand, graph)
            if misfit is None and not _axes_fit(operand.axes, shape, operator):
                expected = f"a factor of each extent of {operand.tensor!a} seen as {shape}"
                yield expected, _axes_words(operand.axes, operator)

    return _each(graph, said)


def _axes_fit(axes: tuple[int | None, ...], shape: tuple[int, ...], operator: Operator) -> bool:
    return (
        len(axes) == len(shape)
        and _are_factors(axes, operator)
        and all(extent == _extent(axis, operator) for axis, extent in zip(axes, shape, strict=True))
    )


def _are_factors(axes: tuple[int | None, ...], operator: Operator) -> bool:
    used = [axis for axis in axes if axis is not None]
    return len(set(used)) == len(used) and all(0 <= axis < len(operator.factors) for axis in used)


def _extent(axis: int | None, operator: Operator) -> int:
    return 1 if axis is None else operator.factors[axis].extent


def _axes_words(axes: tuple[int | None, ...], operator: Operator) -> str:
    if not _are_factors(axes, operator):
        return f"the factors {axes} of {len(operator.factors)}"
    names = (
        1 if axis is None else f"{operator.factors[axis].name!a}={_extent(axis, operator)}" for axis in axes
    )
    return f"[{', '.join(map(str, names))}]"


def result_axes(graph: Graph) -> Iterator[Broken]:
    """A result has a factor or nothing along every dimension of its tensor, and stores a value."""

    def said(operator: Operator) -> Said:
        for result in operator.results:
            tensor = graph.tensors.get(result.tensor)
            if tensor is not None and not _result_fits(result, len(tensor.shape), operator):
                expected = f"distinct factors and offsets along {result.tensor!a} of shape {tensor.shape}"
                yield expected, f"the factors {result.axes} at {result.offsets}, instruction {result.value}"

    return _each(graph, said)


def _result_fits(result: Result, rank: int, operator: Operator) -> bool:
    return (
        len(result.axes) == len(result.offsets) == rank
        and _are_factors(result.axes, operator)
        and 0 <= result.value < len(operator.body)
    )


def results_inside(graph: Graph) -> Iterator[Broken]:
    """What is written lies inside the tensor."""

    def said(operator: Operator) -> Said:
        for result in operator.results:
            tensor = graph.tensors.get(result.tensor)
            if tensor is None or not _result_fits(result, len(tensor.shape), operator):
                continue
            box = written_box(result, operator)
            if any(low < 0 or high > extent for (low, high), extent in zip(box, tensor.shape, strict=True)):
                yield f"a box inside {result.tensor!a} of shape {tensor.shape}", f"{box}"

    return _each(graph, said)


def written_box(result: Result, operator: Operator) -> tuple[tuple[int, int], ...]:
    """[low, high) along every dimension of the tensor that a result writes."""
    extents = (_extent(axis, operator) for axis in result.axes)
    return tuple((low, low + extent) for low, extent in zip(result.offsets, extents, strict=True))


def own_pieces(graph: Graph) -> Iterator[Broken]:
    """A chip's own piece is an index of dimension 0; chips that write alone are coordinates of a mesh."""

    def said(operator: Operator) -> Said:
        for result in operator.results:
            leading = result.axes[:1] == (None,) and result.offsets[:1] == (0,)
            if result.own and not (distinct(result.own) and leading):
                found = f"the axes {result.own}, dimension 0 along {result.axes[:1]} at {result.offsets[:1]}"
                yield f"dimension 0 of {result.tensor!a} alone for distinct mesh axes", found
            if any(axis < 0 or coordinate < 0 for axis, coordinate in result.only):
                yield f"mesh coordinates of the chips that write {result.tensor!a}", f"{result.only}"

    return _each(graph, said)
