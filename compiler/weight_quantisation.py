"""Store matrix weights as int8: dequantised at the load (w8a16), or met by quantised rows (int8)."""

from dataclasses import replace

import numpy as np

from chiplan.ir import (
    DType,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Origin,
    Reducer,
    Result,
    Role,
    Tensor,
    Unit,
    apply_view,
    matrix_factors,
    view_shape,
)

from .conversion import quantisation_scales, quantise
from .graph_edit import sorted_graph

_LARGEST_CODE = 127.0


def _is_weight_product(graph: Graph, operator: Operator) -> bool:
    if operator.unit is not Unit.MATRIX or matrix_factors(operator).batch or len(operator.operands) > 2:
        return False
    weight = graph.tensors[operator.operands[1].tensor]
    return weight.role is Role.WEIGHT and weight.dtype.is_float


def quantise_weights(graph: Graph, *, activations: bool) -> Graph:
    """Products with a weight as int8: of the rows, quantised in the run, with `activations`, else of the
    weight dequantised at its load."""
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
    values, steps = None, None
    if weight.value is not None:
        seen = apply_view(operand.view, weight.value)
        values, steps = quantise(seen, channels), quantisation_scales(seen, channels).reshape(scale_shape)
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
        self.step = self._constant("int8_step", 1.0 / _LARGEST_CODE)

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
            None if row is None or axis is None else local[axis]
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
