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
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Origin,
    Problem,
    Reducer,
    Result,
    Role,
    Tensor,
    Unit,
    matrix_factors,
    view_shape,
)

from .graph_edit import kept_tensors, readers_of, sorted_graph
from .quantised_types import own_scales

PRECISIONS = ("model", "fp16", "int8", "w8a16")
_FP16_LIMIT = float(np.finfo(np.float16).max)
_INT8_LIMIT = 127.0


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
    return graph if precision == "fp16" else _quantise_weights(graph, activations=precision == "int8")


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
    body = tuple(replace(i, dtype=dtype) if i.dtype.is_float else i for i in operator.body)
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
    value = tensor.value
    if value is not None:
        # The mask's lowest float would become -inf; converters clamp it to the largest finite value.
        finite = np.isfinite(value)
        clamped = np.clip(value.astype(np.float64), -_FP16_LIMIT, _FP16_LIMIT)
        value = np.where(finite, clamped, value.astype(np.float64)).astype(dtype.numpy)
    return replace(tensor, dtype=dtype, value=value)


def _is_weight_product(graph: Graph, operator: Operator) -> bool:
    if operator.unit is not Unit.MATRIX or matrix_factors(operator).batch or len(operator.operands) > 2:
        return False
    weight = graph.tensors[operator.operands[1].tensor]
    return weight.role is Role.WEIGHT and weight.dtype.is_float


def _quantise_weights(graph: Graph, *, activations: bool) -> Graph:
    tensors = dict(graph.tensors)
    operators: list[Operator] = []
    for operator in graph.operators:
        if not _is_weight_product(graph, operator):
            operators.append(operator)
        elif activations:
            operators += _int8_product(operator, tensors)
        else:
            operators.append(_dequantised_product(operator, tensors))
    return sorted_graph(graph, operators, tensors)


def _quantised_weight(operator: Operator, tensors: dict[str, Tensor]) -> tuple[Operand, Operand]:
    """Operands of the int8 weight, stored as the product reads it, and of its fp32 scales."""
    operand = operator.operands[1]
    weight = tensors[operand.tensor]
    shape = view_shape(operand.view, weight.shape)
    channels = tuple(d for d, axis in enumerate(operand.axes) if axis in matrix_factors(operator).columns)
    scale_shape = tuple(shape[d] for d in channels)
    codes, scales = f"{operator.name}/weight_int8", f"{operator.name}/weight_scale"
    origin = Origin(weight.origin.initializer if weight.origin else "", operand.view)
    values, steps = quantise_channels(weight.value, operand, channels)
    tensors[codes] = Tensor(
        codes,
        shape,
        DType.INT8,
        Role.WEIGHT,
        values,
        replace(origin, conversion="quantise", axes=channels) if weight.origin else None,
    )
    tensors[scales] = Tensor(
        scales,
        scale_shape,
        DType.FP32,
        Role.WEIGHT,
        steps,
        replace(origin, conversion="scale", axes=channels) if weight.origin else None,
    )
    return Operand(codes, (), operand.axes), Operand(scales, (), tuple(operand.axes[d] for d in channels))


def quantise_channels(
    value: np.ndarray | None, operand: Operand, channels: tuple[int, ...]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """int8 codes and fp32 scales of a folded constant, symmetric an index of `channels`."""
    from chiplan.ir import apply_view

    if value is None:
        return None, None
    seen = apply_view(operand.view, value).astype(np.float32)
    others = tuple(d for d in range(seen.ndim) if d not in channels)
    scale = np.maximum(np.abs(seen).max(axis=others, keepdims=True), np.float32(1e-12)) / np.float32(
        _INT8_LIMIT
    )
    codes = np.clip(np.rint(seen / scale), -_INT8_LIMIT, _INT8_LIMIT).astype(np.int8)
    return codes, scale.reshape([seen.shape[d] for d in channels]).astype(np.float32)


def _dequantised_product(operator: Operator, tensors: dict[str, Tensor]) -> Operator:
    weight, scale = _quantised_weight(operator, tensors)
    (product,) = operator.body
    return replace(
        operator,
        operands=(operator.operands[0], weight, scale),
        body=(replace(product, inputs=(0, 1, 2)),),
    )


def _int8_product(operator: Operator, tensors: dict[str, Tensor]) -> list[Operator]:
    """amax -> scale -> codes -> int8 product -> scaled back, four operators around the product."""
    weight, weight_scale = _quantised_weight(operator, tensors)
    build = _RowQuantiser(operator, tensors)
    return [*build.quantise(), build.product(weight), build.rescale(weight_scale)]


class _RowQuantiser:
    """Builds the vector operators that quantise the rows that a product streams."""

    def __init__(self, operator: Operator, tensors: dict[str, Tensor]) -> None:
        self.operator, self.tensors = operator, tensors
        self.source = operator.operands[0]
        shape = view_shape(self.source.view, tensors[self.source.tensor].shape)
        used = [axis for axis in self.source.axes if axis is not None]
        local = {axis: position for position, axis in enumerate(used)}
        self.factors = tuple(operator.factors[axis] for axis in used)
        self.axes = tuple(None if axis is None else local[axis] for axis in self.source.axes)
        self.rows = tuple(
            None if axis is None or operator.factors[axis].reducer else local[axis]
            for axis in self.source.axes
        )
        self.reduced = tuple(f for f, factor in enumerate(self.factors) if factor.reducer)
        self.shape = shape
        row_shape = tuple(1 if row is None else n for n, row in zip(shape, self.rows, strict=True))
        self.scale = self._tensor("row_scale", row_shape, DType.FP32)
        self.codes = self._tensor("row_int8", shape, DType.INT8)
        self.sums = self._tensor("int32", tensors[operator.results[0].tensor].shape, DType.INT32)
        self.least = self._constant("least_scale", 1e-12)
        self.step = self._constant("int8_step", 1.0 / _INT8_LIMIT)

    def _tensor(self, suffix: str, shape: tuple[int, ...], dtype: DType) -> str:
        name = f"{self.operator.name}/{suffix}"
        self.tensors[name] = Tensor(name, shape, dtype, Role.VALUE)
        return name

    def _constant(self, suffix: str, value: float) -> Operand:
        name = f"constant/{suffix}"
        self.tensors[name] = Tensor(name, (), DType.FP32, Role.WEIGHT, np.array(value, dtype=np.float32))
        return Operand(name, (), ())

    def _vector(
        self,
        suffix: str,
        operands: tuple[Operand, ...],
        result: Result,
        body: tuple[Instruction, ...],
        factors: tuple[Factor, ...],
    ) -> Operator:
        name = f"{self.operator.name}/{suffix}"
        return Operator(name, Unit.VECTOR, factors, operands, (result,), body, self.operator.nodes)

    def quantise(self) -> list[Operator]:
        plain = tuple(replace(factor, reducer=None) for factor in self.factors)
        reduced = tuple(
            replace(factor, reducer=Reducer.MAX if factor.reducer else None) for factor in self.factors
        )
        source = Operand(self.source.tensor, self.source.view, self.axes)
        offsets = (0,) * len(self.shape)
        wide, least, step = DType.FP32, 1, 2
        row = self._tensor("row_max", self.tensors[self.scale].shape, wide)
        largest = (
            Instruction("Cast", (0,), wide),
            Instruction("Abs", (1,), wide),
            Instruction("ReduceMax", (2,), wide, (("factors", self.reduced),)),
        )
        scale = (Instruction("Max", (0, least), wide), Instruction("Mul", (3, step), wide))
        codes = (
            Instruction("Cast", (0,), wide),
            Instruction("Div", (2, 1), wide),
            Instruction("Round", (3,), wide),
            Instruction("Cast", (4,), DType.INT8),
        )
        kept = [f for f in range(len(self.factors)) if f not in self.reduced]
        dense = {old: new for new, old in enumerate(kept)}
        rows = tuple(None if r is None else dense[r] for r in self.rows)
        return [
            self._vector("quantise_max", (source,), Result(row, self.rows, offsets, 2), largest, reduced),
            self._vector(
                "quantise_scale",
                (Operand(row, (), rows), self.least, self.step),
                Result(self.scale, rows, offsets, 1),
                scale,
                tuple(plain[f] for f in kept),
            ),
            self._vector(
                "quantise_rows",
                (source, Operand(self.scale, (), self.rows)),
                Result(self.codes, self.axes, offsets, 3),
                codes,
                plain,
            ),
        ]

    def product(self, weight: Operand) -> Operator:
        codes = Operand(self.codes, (), self.source.axes)
        (product,) = self.operator.body
        (result,) = self.operator.results
        return replace(
            self.operator,
            name=f"{self.operator.name}/int8",
            operands=(codes, weight),
            results=(replace(result, tensor=self.sums),),
            body=(replace(product, dtype=DType.INT32),),
        )

    def rescale(self, weight_scale: Operand) -> Operator:
        (result,) = self.operator.results
        used = [axis for axis in result.axes if axis is not None]
        local = {axis: position for position, axis in enumerate(used)}
        axes = tuple(None if axis is None else local[axis] for axis in result.axes)
        rows = tuple(
            None if row is None else local[axis] if axis is not None else None
            for row, axis in zip(self.rows, self.source.axes, strict=True)
        )
        columns = tuple(None if axis is None else local[axis] for axis in weight_scale.axes)
        operands = (
            Operand(self.sums, (), axes),
            Operand(self.scale, (), rows),
            replace(weight_scale, axes=columns),
        )
        wide, final = DType.FP32, self.tensors[result.tensor].dtype
        body = (
            Instruction("Cast", (0,), wide),
            Instruction("Mul", (3, 1), wide),
            Instruction("Mul", (4, 2), wide),
            Instruction("Cast", (5,), final),
        )
        factors = tuple(self.operator.factors[axis] for axis in used)
        return self._vector("rescale", operands, replace(result, axes=axes, value=3), body, factors)
