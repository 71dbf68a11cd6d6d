"""Fix the types that a plan stores and computes in.

model   as the file has them.
fp16    every float is fp16; accumulators are fp32.
w8a16   matrix weights are stored int8 with a scale an output channel, dequantised at the weight
        load and computed as fp16.
int8    matrix weights as above, and the activations that meet them are quantised symmetrically a
        row, with the scale computed on the vector unit; the product is int32. Products of two
        activations (attention), everything else and the KV cache stay fp16.

Tables that an index selects blocks from (the experts of a mixture) stay fp16 under w8a16 and int8.
"""

from dataclasses import replace

import numpy as np

from chiplan.ir import (
    BadInput,
    Chip,
    DType,
    Graph,
    Instruction,
    Operator,
    Problem,
    Tensor,
    Unit,
)

from .conversion import convert
from .graph_edit import kept_tensors, readers_of, sorted_graph
from .quantised_types import own_scales
from .weight_quantisation import quantise_weights

PRECISIONS = ("model", "fp16", "int8", "w8a16")
_FP16_LIMIT = float(np.finfo(np.float16).max)


def default_precision(graph: Graph, chip: Chip) -> str:
    """The model's own types if the matrix unit has them all, else fp16."""
    streamed = {graph.tensors[o.operands[0].tensor].dtype for o in graph.operators if o.unit is Unit.MATRIX}
    return "model" if streamed <= set(chip.matrix.rules) else "fp16"


def apply_precision(graph: Graph, precision: str) -> Graph:
    """The graph with stored and computed types fixed; raises BadInput for an unknown precision."""
    if precision not in PRECISIONS:
        message = f"--precision {precision}: expected one of {', '.join(PRECISIONS)}"
        raise BadInput(Problem("unknown_precision", message))
    if precision == "model":
        return graph
    graph = _retype(graph, DType.FP16)
    return graph if precision == "fp16" else quantise_weights(graph, activations=precision == "int8")


def _retype(graph: Graph, dtype: DType) -> Graph:
    angles, scales = _angles(graph), own_scales(graph)
    kept = angles | scales
    tensors = {
        name: tensor if name in kept else _retype_tensor(tensor, dtype)
        for name, tensor in graph.tensors.items()
    }
    tensors |= {name: _within_fp16(tensors[name]) for name in sorted(scales - angles)}
    return sorted_graph(graph, [_retype_operator(op, dtype, kept) for op in graph.operators], tensors)


def _angles(graph: Graph) -> set[str]:
    """Tensors that only lead to a sine or cosine.

    They keep their type: next to position 2,048 fp16 knows whole radians alone. The tables that come
    out, between -1 and 1, are of the precision asked for.
    """
    readers, kept = readers_of(graph.operators), kept_tensors(graph)
    angles: set[str] = set()
    for operator in reversed(graph.operators):
        turns = {i.opcode for i in operator.body} & {"Cos", "Sin"}
        results = {result.tensor for result in operator.results}
        if operator.unit is Unit.VECTOR and (turns or results <= angles):
            for operand in operator.operands:
                ahead = [graph.operators[r] for r in readers[operand.tensor]]
                if operand.tensor not in kept and all(_leads_to_angles(reader, angles) for reader in ahead):
                    angles.add(operand.tensor)
    return angles


def _leads_to_angles(operator: Operator, angles: set[str]) -> bool:
    turns = {i.opcode for i in operator.body} & {"Cos", "Sin"}
    return operator.unit is Unit.VECTOR and (bool(turns) or {r.tensor for r in operator.results} <= angles)


def _retype_operator(operator: Operator, dtype: DType, kept: set[str]) -> Operator:
    if {result.tensor for result in operator.results} <= kept:
        return operator
    body = tuple(
        Instruction(i.opcode, i.inputs, dtype, i.attributes) if i.dtype.is_float else i for i in operator.body
    )
    if kept.isdisjoint(operand.tensor for operand in operator.operands):
        return replace(operator, body=body)
    # A sine of an angle, a value of codes: computed in the angle's or scale's type, then rounded.
    wide = operator.body
    if not wide[-1].dtype.is_float:
        return operator
    last = Instruction("Cast", (len(operator.operands) + len(wide) - 1,), dtype)
    results = tuple(replace(result, value=len(wide)) for result in operator.results)
    return replace(operator, body=(*wide, last), results=results)


def _within_fp16(scale: Tensor) -> Tensor:
    """A scale in its own type, but no larger than any value that it can have to scale. A mask of -3.4e38
    is quantised in steps of 1.3e36; the fp16 mask of -65504 would be nothing to such a step."""
    if scale.value is None:
        return scale
    return replace(scale, value=np.clip(scale.value, -_FP16_LIMIT, _FP16_LIMIT).astype(scale.dtype.numpy))


def _retype_tensor(tensor: Tensor, dtype: DType) -> Tensor:
    if not tensor.dtype.is_float:
        return tensor
    return replace(tensor, dtype=dtype, value=None if tensor.value is None else convert(tensor.value, dtype))
