"""Decompositions that ONNX has no usable function body for, one ONNX function text each.

LayerNormalization has a body in ONNX, but one that flattens every dimension and takes the variance
as E[x^2] - E[x]^2: the flattening hides batch and sequence from the planner, and the difference
loses its digits in 16-bit types.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeAlias

import onnx
from onnx import parser

from .import_nodes import MICROSOFT, Node
from .import_shapes import InputTypes

Rule: TypeAlias = Callable[[Node, InputTypes], str]
"""Text of the function that node stands for, given the types of its inputs."""


def composite(node: Node, types: InputTypes) -> onnx.FunctionProto | None:
    """The decomposition of a node that has one here."""
    rule = _RULES.get((node.domain, node.op_type))
    if rule is None or len(types) < _LEAST_INPUTS.get(node.op_type, 1) or types[0] is None:
        return None
    return _parse(rule(node, types))


@cache
def _parse(text: str) -> onnx.FunctionProto:
    return parser.parse_function(text)


def _function(inputs: str, outputs: str, body: str) -> str:
    return f'<domain: "chiplan", opset_import: ["": 18]> composite ({inputs}) => ({outputs}) {{ {body} }}'


def _rank(types: InputTypes) -> int:
    first = types[0]
    return 0 if first is None else len(first.extents)


def _element_type(types: InputTypes) -> int:
    first = types[0]
    return 1 if first is None else first.element_type


def _present(types: InputTypes, index: int) -> bool:
    return index < len(types) and types[index] is not None


def _normalised_axes(node: Node, types: InputTypes) -> str:
    rank = _rank(types)
    axes = list(range(node.integer("axis", -1) % max(rank, 1), rank))
    return f"axes = Constant <value = int64[{len(axes)}] {{{', '.join(map(str, axes))}}}> ()"


def _layer_normalization(node: Node, types: InputTypes) -> str:
    bias = _present(types, 2)
    last = "scaled = Mul (cast_back, scale) y = " + ("Add (scaled, bias)" if bias else "Identity (scaled)")
    body = f"""
        {_normalised_axes(node, types)}
        wide = Cast <to = {node.integer("stash_type", 1)}> (x)
        mean = ReduceMean (wide, axes)
        deviation = Sub (wide, mean)
        square = Mul (deviation, deviation)
        variance = ReduceMean (square, axes)
        {_root("variance", node, 1e-5)}
        inverse = Reciprocal (root)
        normalised = Mul (deviation, inverse)
        cast_back = Cast <to = {_element_type(types)}> (normalised)
        {last}"""
    return _function("x, scale, bias" if bias else "x, scale", "y, mean, inverse", body)


def _root(value: str, node: Node, epsilon: float) -> str:
    number = node.real("epsilon", epsilon)
    kind = node.integer("stash_type", 1)
    return f"""small = Constant <value = float {{{number!r}}}> ()
        epsilon = Cast <to = {kind}> (small)
        raised = Add ({value}, epsilon)
        root = Sqrt (raised)"""


def _simplified_layer_normalization(node: Node, types: InputTypes) -> str:
    body = f"""
        {_normalised_axes(node, types)}
        wide = Cast <to = {node.integer("stash_type", 1)}> (x)
        square = Mul (wide, wide)
        mean = ReduceMean (square, axes)
        {_root("mean", node, 1e-5)}
        inverse = Reciprocal (root)
        normalised = Mul (wide, inverse)
        cast_back = Cast <to = {_element_type(types)}> (normalised)
        y = Mul (cast_back, scale)"""
    return _function("x, scale", "y, inverse", body)


def _skip(inner: str) -> Rule:
    """SkipLayerNormalization: normalise input + skip (+ bias); the sum is the fourth output."""

    def rule(node: Node, types: InputTypes) -> str:
        beta = inner == "LayerNormalization" and _present(types, 3)
        parameters = ["x", "skip", "gamma"] + (["beta"] if inner == "LayerNormalization" else []) + ["bias"]
        bias = _present(types, parameters.index("bias"))
        total = "plain = Add (x, skip) total = " + ("Add (plain, bias)" if bias else "Identity (plain)")
        epsilon = node.real("epsilon", 1e-12 if inner == "LayerNormalization" else 1e-6)
        domain = "" if inner == "LayerNormalization" else f"{MICROSOFT}."
        arguments = "total, gamma, beta" if beta else "total, gamma"
        body = f"{total} y = {domain}{inner} <axis = -1, epsilon = {epsilon!r}> ({arguments})"
        return _function(", ".join(parameters), "y, mean, inverse, total", body)

    return rule


def _fast_gelu(_node: Node, types: InputTypes) -> str:
    bias = _present(types, 1)
    total = "Add (x, bias)" if bias else "Identity (x)"
    return _function("x, bias", "y", f'total = {total} y = Gelu <approximate = "tanh"> (total)')


def _bias_gelu(_node: Node, _types: InputTypes) -> str:
    return _function("x, bias", "y", "total = Add (x, bias) y = Gelu (total)")


def _gelu(_node: Node, _types: InputTypes) -> str:
    return _function("x", "y", "y = Gelu (x)")


def _quick_gelu(node: Node, types: InputTypes) -> str:
    alpha = node.real("alpha", 1.702)
    body = f"""
        number = Constant <value = float {{{alpha!r}}}> ()
        alpha = Cast <to = {_element_type(types)}> (number)
        scaled = Mul (x, alpha)
        gate = Sigmoid (scaled)
        y = Mul (x, gate)"""
    return _function("x", "y", body)


def _fused_matmul(node: Node, types: InputTypes) -> str:
    left, right = (_swapped(types[i], node.integer(f"trans{'AB'[i]}", 0)) for i in (0, 1))
    body = f"""
        left = {left} (a)
        right = {right} (b)
        product = MatMul (left, right)
        number = Constant <value = float {{{node.real("alpha", 1.0)!r}}}> ()
        alpha = Cast <to = {_element_type(types)}> (number)
        y = Mul (product, alpha)"""
    return _function("a, b", "y", body)


def _swapped(kind: object, swap: int) -> str:
    rank = len(getattr(kind, "extents", ()))
    if not swap or rank < 2:
        return "Identity"
    perm = [*range(rank - 2), rank - 1, rank - 2]
    return f"Transpose <perm = [{', '.join(map(str, perm))}]>"


def _batch_normalization(node: Node, types: InputTypes) -> str:
    rank = _rank(types)
    axes = [axis for axis in range(rank) if axis != 1]
    names = ("scale", "bias", "mean", "variance")
    parameters = " ".join(f"{name}_wide = Unsqueeze ({name}, axes)" for name in names)
    body = f"""
        axes = Constant <value = int64[{len(axes)}] {{{", ".join(map(str, axes))}}}> ()
        {parameters}
        small = Constant <value = float {{{node.real("epsilon", 1e-5)!r}}}> ()
        epsilon = Cast <to = {_element_type(types)}> (small)
        raised = Add (variance_wide, epsilon)
        root = Sqrt (raised)
        deviation = Sub (x, mean_wide)
        normalised = Div (deviation, root)
        scaled = Mul (normalised, scale_wide)
        y = Add (scaled, bias_wide)"""
    return _function("x, scale, bias, mean, variance", "y", body)


def _global_average_pool(_node: Node, types: InputTypes) -> str:
    axes = list(range(2, _rank(types)))
    body = f"""
        axes = Constant <value = int64[{len(axes)}] {{{", ".join(map(str, axes))}}}> ()
        y = ReduceMean (x, axes)"""
    return _function("x", "y", body)


def _variadic(operator: str) -> Rule:
    """Sum, Min and Max of any number of inputs as a chain of operators with two."""

    def rule(node: Node, _types: InputTypes) -> str:
        names = [f"x{index}" for index in range(len(node.inputs))]
        return _function(", ".join(names), "y", _chain(operator, names, "y"))

    return rule


def _mean(node: Node, types: InputTypes) -> str:
    names = [f"x{index}" for index in range(len(node.inputs))]
    body = f"""
        {_chain("Add", names, "total")}
        number = Constant <value = float {{{float(len(names))!r}}}> ()
        count = Cast <to = {_element_type(types)}> (number)
        y = Div (total, count)"""
    return _function(", ".join(names), "y", body)


def _chain(operator: str, names: Sequence[str], result: str) -> str:
    if len(names) == 1:
        return f"{result} = Identity ({names[0]})"
    sums = [names[0], *(f"part{index}" for index in range(1, len(names) - 1)), result]
    return " ".join(f"{sums[i]} = {operator} ({sums[i - 1]}, {names[i]})" for i in range(1, len(names)))


_RULES: dict[tuple[str, str], Rule] = {
    ("", "LayerNormalization"): _layer_normalization,
    ("", "BatchNormalization"): _batch_normalization,
    ("", "GlobalAveragePool"): _global_average_pool,
    ("", "Sum"): _variadic("Add"),
    ("", "Mean"): _mean,
    ("", "Max"): _variadic("Max"),
    ("", "Min"): _variadic("Min"),
    ("", "SimplifiedLayerNormalization"): _simplified_layer_normalization,
    (MICROSOFT, "SimplifiedLayerNormalization"): _simplified_layer_normalization,
    (MICROSOFT, "SkipLayerNormalization"): _skip("LayerNormalization"),
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): _skip("SimplifiedLayerNormalization"),
    (MICROSOFT, "Gelu"): _gelu,
    (MICROSOFT, "FastGelu"): _fast_gelu,
    (MICROSOFT, "BiasGelu"): _bias_gelu,
    (MICROSOFT, "QuickGelu"): _quick_gelu,
    (MICROSOFT, "FusedMatMul"): _fused_matmul,
}
_LEAST_INPUTS = {
    "BiasGelu": 2,
    "FusedMatMul": 2,
    "SimplifiedLayerNormalization": 2,
    "SkipLayerNormalization": 3,
    "SkipSimplifiedLayerNormalization": 3,
}
"""Of the operators without a schema, which nobody has checked; 1 where none is given."""
