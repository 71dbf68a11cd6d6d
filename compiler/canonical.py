"""From ONNX nodes to the graph that is planned: views are absorbed into operands, everything else
becomes an operator whose operands have one factor a dimension."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from chiplan.ir import (
    BadInput,
    ChiplanError,
    Graph,
    Output,
    Problem,
    Role,
    Tensor,
)

from .canonical_builder import GraphBuilder
from .canonical_indexing import extremum_index, gather, gather_tuples, indexing, one_hot, scan, top
from .canonical_integer import integer_matmul
from .canonical_matrix import convolution, einsum, gemm, matmul
from .canonical_moves import (
    concat,
    declare_states,
    expanded,
    pad,
    reshaped,
    sliced,
    split,
    tiled,
    transposed,
)
from .canonical_pointwise import dequantise, elementwise, mean, quantise, reduction, triangle
from .graph_edit import sorted_graph
from .imported import ImportedModel, ImportedNode
from .nests import ELEMENTWISE, nest_rule


@dataclass(frozen=True)
class Lowering:
    """`lower` binds the outputs of a node with one of `op_types` to values of the graph."""

    op_types: tuple[str, ...]
    lower: Callable[[GraphBuilder, ImportedNode], None]


LOWERINGS: tuple[Lowering, ...] = (
    Lowering(ELEMENTWISE, elementwise),
    Lowering(("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"), reduction),
    Lowering(("ReduceMean",), mean),
    Lowering(("QuantizeLinear",), quantise),
    Lowering(("DequantizeLinear",), dequantise),
    Lowering(("Trilu",), triangle),
    Lowering(("MatMul",), matmul),
    Lowering(("MatMulInteger",), integer_matmul),
    Lowering(("Gemm",), gemm),
    Lowering(("Einsum",), einsum),
    Lowering(("Conv",), convolution),
    Lowering(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"), reshaped),
    Lowering(("Transpose",), transposed),
    Lowering(("Expand",), expanded),
    Lowering(("Tile",), tiled),
    Lowering(("Slice",), sliced),
    Lowering(("Split",), split),
    Lowering(("Concat",), concat),
    Lowering(("Pad",), pad),
    Lowering(("Gather",), gather),
    Lowering(("GatherND",), gather_tuples),
    Lowering(("GatherElements", "ScatterElements", "ScatterND"), indexing),
    Lowering(("CumSum",), scan),
    Lowering(("ArgMax", "ArgMin"), extremum_index),
    Lowering(("TopK",), top),
    Lowering(("OneHot",), one_hot),
)

_LOWERING_OF = {op_type: lowering for lowering in LOWERINGS for op_type in lowering.op_types}


def build_graph(model: ImportedModel) -> Graph:
    """The model as operators over viewed tensors, in the file's order, without dead ones.

    Raises BadInput with every node that cannot be expressed.
    """
    builder = GraphBuilder(model)
    declare_inputs(builder)
    declare_states(builder)
    problems: list[Problem] = []
    for node in model.nodes:
        try:
            _lower(builder, node)
        except ChiplanError as refusal:
            problems += refusal.problems
            _bind_opaque(builder, node)
    problems += _unkept_states(builder)
    if problems:
        raise BadInput(problems)
    return _finish(builder)


def declare_inputs(builder: GraphBuilder) -> None:
    """The model's inputs as tensors; the past of a state is no input."""
    states = {pair.past for pair in builder.model.states}
    for name in builder.model.inputs:
        if name not in states:
            tensor = builder.imported(name)
            builder.values[name] = builder.store(Tensor(name, tensor.shape, tensor.dtype, Role.INPUT))


def _lower(builder: GraphBuilder, node: ImportedNode) -> None:
    if all(prod(builder.imported(name).shape) == 0 for name in node.outputs if name):
        _bind_opaque(builder, node)
    elif node.domain in ("", "ai.onnx") and node.op_type in _LOWERING_OF:
        _LOWERING_OF[node.op_type].lower(builder, node)
    else:
        nest_rule(node)


def _bind_opaque(builder: GraphBuilder, node: ImportedNode) -> None:
    """Outputs of a node that no operator computes: empty, or refused (to find further problems)."""
    for name in node.outputs:
        if name:
            tensor = builder.imported(name)
            builder.values[name] = builder.store(Tensor(name, tensor.shape, tensor.dtype, Role.VALUE))


def _unkept_states(builder: GraphBuilder) -> list[Problem]:
    """Presents that are something else than the past with rows appended."""
    return [
        Problem(
            "state_not_appended",
            f"output {state.present} should be input {state.past} with new rows appended along axis "
            f"{state.axis} (a Concat of both), but the graph computes it otherwise. Export the cache with "
            "a plain concatenation.",
            dimension=f"{state.present} axis {state.axis}",
        )
        for state in builder.states
        if state.present in builder.values and builder.value(state.present).tensor != state.tensor
    ]


def _finish(builder: GraphBuilder) -> Graph:
    model = builder.model
    presents = {state.present for state in builder.states}
    values = [(name, builder.value(name)) for name in model.outputs if name not in presents]
    graph = Graph(
        model.name,
        builder.tensors,
        (),
        tuple(
            name
            for name in model.inputs
            if name in builder.tensors and builder.tensors[name].role is Role.INPUT
        ),
        tuple(Output(name, value.tensor, value.view) for name, value in values),
        tuple(builder.states),
    )
    return sorted_graph(graph, builder.operators)
