"""Scalar operations, one numpy expression each, named by their ONNX operators.

Every function takes arrays that broadcast against each other, already of the instruction's type
where ONNX asks for one type, and returns an array that the caller rounds to the instruction's
type. Half precision goes through numpy operation by operation, so each value is rounded once an
instruction; a primitive that needs several steps (Sigmoid, Erf) takes them in single precision.
"""

import math
from collections.abc import Callable

import numpy as np

from chiplan.ir import Instruction

Pointwise = Callable[..., np.ndarray]

_NODE_SPACING = 1 / 256
_LAST_NODE = 6.0
_NODES = np.arange(0.0, _LAST_NODE + _NODE_SPACING, _NODE_SPACING)
_ERF_AT_NODE = np.array([math.erf(node) for node in _NODES.tolist()])
_SLOPE_AT_NODE = 2 / math.sqrt(math.pi) * np.exp(-(_NODES**2))


def error_function(x: np.ndarray) -> np.ndarray:
    """erf in double precision: a third-order Taylor step from the nearest of 1,537 exact nodes.

    The step is at most 1/512, so the remainder is below 1e-11; beyond 6, erf is 1 in any type.
    """
    magnitude = np.minimum(np.abs(x.astype(np.float64)), _LAST_NODE)
    node = np.rint(np.nan_to_num(magnitude) / _NODE_SPACING).astype(np.intp)
    at, step = _NODES[node], magnitude - _NODES[node]
    curve = step * (1 - at * step + (2 * at * at - 1) / 3 * step * step)
    return np.asarray(np.copysign(_ERF_AT_NODE[node] + _SLOPE_AT_NODE[node] * curve, x.astype(np.float64)))


def _wide(x: np.ndarray) -> np.ndarray:
    """At least single precision."""
    return x if x.dtype == np.float64 else x.astype(np.float32)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(_wide(x)))
    return np.asarray(np.where(x >= 0, np.float32(1), small).astype(small.dtype) / (1 + small))


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers divide towards zero, as ONNX and C do; numpy's floor division does not."""
    if not np.issubdtype(a.dtype, np.integer):
        return np.asarray(a / b)
    quotient = np.abs(a) // np.abs(b)
    return np.asarray(quotient * (np.sign(a) * np.sign(b)).astype(quotient.dtype))


def _where(condition: np.ndarray, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    return np.where(condition, yes, no)


def _identity(x: np.ndarray) -> np.ndarray:
    return x


_ONE_FOR_ONE: dict[str, Pointwise] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Cast": _identity,
    "Ceil": np.ceil,
    "Copy": _identity,
    "Cos": np.cos,
    "Div": _divide,
    "Equal": np.equal,
    "Erf": error_function,
    "Exp": np.exp,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "IsNaN": np.isnan,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Log": np.log,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Pow": np.power,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "Round": np.rint,
    "Sigmoid": _sigmoid,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tanh": np.tanh,
    "Where": _where,
    "Xor": np.logical_xor,
}


def _chain(function: Pointwise) -> Pointwise:
    """A variadic operation as a chain of the binary one."""

    def run(first: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        for array in rest:
            first = function(first, array)
        return first

    return run


def _flag(instruction: Instruction, name: str, default: int) -> bool:
    value = instruction.attribute(name)
    return bool(default if value is None else value)


def _modulo(instruction: Instruction) -> Pointwise:
    return np.fmod if _flag(instruction, "fmod", 0) else np.mod


def _is_infinite(instruction: Instruction) -> Pointwise:
    positive = _flag(instruction, "detect_positive", 1)
    negative = _flag(instruction, "detect_negative", 1)
    return lambda x: np.asarray((np.isposinf(x) & positive) | (np.isneginf(x) & negative))


def _clip(instruction: Instruction) -> Pointwise:
    """Bounds are operands (minimum, then maximum) or attributes `min` and `max`."""
    lower, upper = instruction.attribute("min"), instruction.attribute("max")

    def run(x: np.ndarray, *bounds: np.ndarray) -> np.ndarray:
        low = bounds[0] if bounds else lower
        high = bounds[1] if len(bounds) > 1 else upper
        if low is not None:
            x = np.maximum(x, np.asarray(low, dtype=x.dtype))
        return x if high is None else np.minimum(x, np.asarray(high, dtype=x.dtype))

    return run


_BY_ATTRIBUTES: dict[str, Callable[[Instruction], Pointwise]] = {
    "Clip": _clip,
    "IsInf": _is_infinite,
    "Max": lambda _: _chain(np.maximum),
    "Min": lambda _: _chain(np.minimum),
    "Mod": _modulo,
}

_OF_ONE_TYPE = frozenset({
    "Abs", "Add", "Ceil", "Clip", "Cos", "Div", "Erf", "Exp", "Floor", "Log", "Max", "Min", "Mod", "Mul",
    "Neg", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Sub", "Tanh",
})  # fmt: skip
"""Operations that compute in the instruction's type: their inputs are converted to it first."""

POINTWISE = frozenset(_ONE_FOR_ONE) | frozenset(_BY_ATTRIBUTES)
"""Opcodes that map one element of each input to one element."""


def pointwise_step(instruction: Instruction) -> Pointwise:
    """The instruction as a function of its inputs' arrays. Raises KeyError for an unknown opcode."""
    opcode, kind = instruction.opcode, instruction.dtype.numpy
    by_attributes = _BY_ATTRIBUTES.get(opcode)
    function = by_attributes(instruction) if by_attributes else _ONE_FOR_ONE[opcode]
    if opcode not in _OF_ONE_TYPE:
        return lambda *arrays: np.asarray(function(*arrays)).astype(kind, copy=False)

    def run(*arrays: np.ndarray) -> np.ndarray:
        same = [array if array.dtype == kind else array.astype(kind) for array in arrays]
        return np.asarray(function(*same)).astype(kind, copy=False)

    return run
