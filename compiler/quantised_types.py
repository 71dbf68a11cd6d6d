"""Which values around quantisation keep their type when a precision is chosen.

A model that is quantised already keeps its own scales: in fp16 a scale of 6e-6 has seven bits left, and
a sum of products of bytes has no fp16 at all. So scales, what they are computed from, and sums on their
way to be scaled keep the model's type; what comes out of it has the type that was asked for.
"""

from chiplan.ir import DType, Graph, Operator, Role, Unit

from .graph_edit import kept_tensors, writers_of

_CODES = frozenset({DType.INT8, DType.UINT8, DType.INT16})


def own_scales(graph: Graph) -> set[str]:
    """Floating-point tensors that keep their type."""
    sums = _sums(graph)
    kept = _scaled_sums(graph, sums)
    scales: set[str] = set()
    for operator in graph.operators:
        if _is_quantisation(operator, graph, sums | kept):
            scales |= _scales(operator)
    kept |= _ancestors(graph, scales)
    return {name for name in kept - kept_tensors(graph) if graph.tensors[name].dtype.is_float}


def _sums(graph: Graph) -> set[str]:
    """Integers that a product of codes gave, corrected or not."""
    sums: set[str] = set()
    for operator in graph.operators:
        results = [result.tensor for result in operator.results]
        product = operator.unit is Unit.MATRIX and not graph.tensors[results[0]].dtype.is_float
        corrected = operator.unit is Unit.VECTOR and bool(operator.operands)
        if product or (
            corrected
            and operator.operands[0].tensor in sums
            and all(i.dtype is DType.INT32 for i in operator.body)
        ):
            sums.update(results)
    return sums


def _scaled_sums(graph: Graph, sums: set[str]) -> set[str]:
    """Such sums as floats, before they are scaled."""
    return {
        operator.results[0].tensor
        for operator in graph.operators
        if [i.opcode for i in operator.body] == ["Cast"] and operator.operands[0].tensor in sums
    }


def _is_quantisation(operator: Operator, graph: Graph, sums: set[str]) -> bool:
    """Whether it makes codes, or a value of codes or of sums: operand 0 is what it converts."""
    if operator.unit is not Unit.VECTOR or not operator.operands:
        return False
    source = graph.tensors[operator.operands[0].tensor]
    made = graph.tensors[operator.results[0].tensor].dtype
    if made in _CODES:
        return any(i.dtype.is_float for i in operator.body) or source.dtype.is_float
    from_codes = source.dtype in _CODES or (source.role is Role.WEIGHT and source.dtype is DType.INT32)
    return made.is_float and (from_codes or source.name in sums)


def _scales(operator: Operator) -> set[str]:
    """Operands but the first, and the first too where it is a single number (a zero point)."""
    alone = not any(factor.extent > 1 for factor in operator.factors)
    return {operand.tensor for operand in operator.operands[0 if alone else 1 :]}


def _ancestors(graph: Graph, names: set[str]) -> set[str]:
    """The tensors, and what they are computed from, back to the reductions that gave a range."""
    writers = writers_of(graph.operators)
    found, waiting = set(names), sorted(names)
    while waiting:
        for index in writers.get(waiting.pop(), ()):
            operator = graph.operators[index]
            if any(factor.reducer for factor in operator.factors):
                continue
            new = sorted({operand.tensor for operand in operator.operands} - found)
            found.update(new)
            waiting += new
    return found
