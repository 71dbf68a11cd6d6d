"""Outputs that are nothing but rounding: sums whose terms cancel.

mean(x - mean(x)) is zero but for roundings. Such an output has no scale of its own that an error
could be a fraction of: two right computations differ by more than its largest value. What can be
said is that no sum is better than a few roundings of its terms. So an operator that sums is run
again on the magnitudes of what it reads; where the result is less than `_ROUNDINGS` roundings of
that, it is noise, and so are sums of it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from chiplan.ir import Operand, Operator, apply_view
from chiplan.runtime_sim import Interpreter, result_box, run_body

from .numeric_error import magnitude

ROUNDINGS = {"fp32": 2.0**-23, "fp16": 2.0**-10, "w8a16": 2.0**-10, "int8": 1 / 127}
"""Distance of a value from the next one, as a fraction of it (int8: of its row's largest)."""

_ROUNDINGS = 4.0
_LINEAR = frozenset({"Add", "Cast", "Copy", "Div", "Identity", "MatMul", "Mul", "Neg", "ReduceSum", "Sub"})
"""Opcodes whose value, computed on magnitudes with plus for minus, is the magnitude of the terms."""


def least_scales(interpreter: Interpreter, rounding: float, tolerance: float) -> dict[str, float]:
    """By name, the outputs of an interpreted graph that are noise, and the scale to measure them by:
    an error of `tolerance` of it is `_ROUNDINGS` roundings of the terms. Other outputs are left out."""
    graph, values = interpreter.graph, interpreter.values
    terms: dict[str, np.ndarray] = {}
    for operator in graph.operators:
        if {instruction.opcode for instruction in operator.body} <= _LINEAR:
            _note_noise(operator, interpreter, terms, _ROUNDINGS * rounding)
    scales: dict[str, float] = {}
    for output in graph.outputs:
        if output.tensor in terms:
            level = _ROUNDINGS * rounding * magnitude(apply_view(output.view, terms[output.tensor]))
            if magnitude(apply_view(output.view, values[output.tensor])) < level:
                scales[output.name] = level / tolerance
    return scales


def _note_noise(
    operator: Operator, interpreter: Interpreter, terms: dict[str, np.ndarray], share: float
) -> None:
    """Keep the magnitudes of an operator's terms in `terms` where its results are less than `share` of
    them. Tensors in `terms` that are no noise elsewhere hold their own magnitudes there."""
    if all(_is_exact(operand, interpreter, terms) for operand in operator.operands):
        return
    magnitudes = [_magnitudes(operand, interpreter, terms) for operand in operator.operands]
    body = tuple(replace(i, opcode="Add") if i.opcode == "Sub" else i for i in operator.body)
    extents = tuple(factor.extent for factor in operator.factors)
    with np.errstate(all="ignore"):
        blocks = run_body(replace(operator, body=body), magnitudes, extents, interpreter.graph.tensors)
    for result, block in zip(operator.results, blocks, strict=True):
        box, values = result_box(result, operator), interpreter.values[result.tensor]
        if magnitude(values[box]) < share * magnitude(block):
            terms.setdefault(result.tensor, np.abs(values))[box] = block


def _is_exact(operand: Operand, interpreter: Interpreter, terms: Mapping[str, np.ndarray]) -> bool:
    """Whether sums of the operand are not rounded: 1 - mask is zero, and no noise."""
    values = interpreter.value(operand.tensor)
    return operand.tensor not in terms and np.array_equal(np.rint(values), values)


def _magnitudes(operand: Operand, interpreter: Interpreter, terms: Mapping[str, np.ndarray]) -> np.ndarray:
    known = terms.get(operand.tensor)
    return apply_view(operand.view, np.abs(interpreter.value(operand.tensor)) if known is None else known)
