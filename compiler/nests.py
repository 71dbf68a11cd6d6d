"""The loop nest of every primitive ONNX operator. To add one, see `docs/adding-an-operator.md`."""

from collections.abc import Callable
from dataclasses import dataclass

from chiplan.ir import LoopNest

from .imported import ImportedNode
from .nests_elementwise import elementwise, extremum_index, quantisation, reduction, scan, triangle
from .nests_indexing import (
    gather,
    gather_elements,
    gather_tuples,
    one_hot,
    scatter_elements,
    scatter_tuples,
    top,
)
from .nests_loops import Tensors, refused
from .nests_matrix import convolution, einsum, gemm, integer_matmul, matmul
from .nests_views import concat, expand, identity, pad, reshape, slicing, split, tile, transpose


@dataclass(frozen=True)
class NestRule:
    """`build` makes the nest of the operators `op_types`. Its operands are the inputs at positions
    `data` that are present (None: all); the other inputs are static parameters (shapes, axes)."""

    op_types: tuple[str, ...]
    build: Callable[[ImportedNode, Tensors], LoopNest]
    data: tuple[int, ...] | None = None


ELEMENTWISE = (
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Equal", "Erf", "Exp", "Floor",
    "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "Max", "Min",
    "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign",
    "Sin", "Sqrt", "Sub", "Tanh", "Where", "Xor",
)  # fmt: skip

NEST_RULES: tuple[NestRule, ...] = (
    NestRule(ELEMENTWISE, elementwise),
    NestRule(("QuantizeLinear", "DequantizeLinear"), quantisation),
    NestRule(("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"), reduction, data=(0,)),
    NestRule(("ArgMax", "ArgMin"), extremum_index),
    NestRule(("CumSum",), scan, data=(0,)),
    NestRule(("Trilu",), triangle, data=(0,)),
    NestRule(("MatMul",), matmul),
    NestRule(("MatMulInteger",), integer_matmul),
    NestRule(("Gemm",), gemm),
    NestRule(("Einsum",), einsum),
    NestRule(("Conv",), convolution),
    NestRule(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape, data=(0,)),
    NestRule(("Identity",), identity),
    NestRule(("Transpose",), transpose),
    NestRule(("Expand",), expand, data=(0,)),
    NestRule(("Tile",), tile, data=(0,)),
    NestRule(("Slice",), slicing, data=(0,)),
    NestRule(("Split",), split, data=(0,)),
    NestRule(("Concat",), concat),
    NestRule(("Pad",), pad, data=(0,)),
    NestRule(("Gather",), gather),
    NestRule(("GatherElements",), gather_elements),
    NestRule(("GatherND",), gather_tuples),
    NestRule(("ScatterElements",), scatter_elements),
    NestRule(("ScatterND",), scatter_tuples),
    NestRule(("TopK",), top, data=(0,)),
    NestRule(("OneHot",), one_hot, data=(0, 2)),
)

_RULE_OF = {op_type: rule for rule in NEST_RULES for op_type in rule.op_types}


def nest_rule(node: ImportedNode) -> NestRule:
    """The rule of the node's operator; BadInput (`unknown_operator`) when there is none."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _RULE_OF:
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        raise refused(
            node,
            "unknown_operator",
            f"operator {name} has no loop nest. Export with operators of the ONNX standard, or add a "
            "rule as docs/adding-an-operator.md shows.",
        )
    return _RULE_OF[node.op_type]


def data_inputs(node: ImportedNode) -> tuple[str, ...]:
    """Names of the inputs that are operands of the node's nest, in order."""
    rule = nest_rule(node)
    positions = range(len(node.inputs)) if rule.data is None else rule.data
    return tuple(node.inputs[p] for p in positions if p < len(node.inputs) and node.inputs[p])


def loop_nest(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """The node's factors, and the index map of every data input and of every output.

    Raises BadInput: `unknown_operator`, `parameter_not_constant` or `bad_attribute`.
    """
    return nest_rule(node).build(node, tensors)
