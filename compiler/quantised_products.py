"""Products of quantised values, as models that are quantised already have them, on int8 codes.

    sa (A - za) @ sb (B - zb) = sa sb (A @ B - za columns(B) - zb rows(A - za))

columns(B) sums a column of B over the reduced factor, rows(A) a row of A. The product of the codes is
exact in int32; one vector pass corrects it and scales it back. Sums of weights are constants.
A DequantizeLinear that only such products read is gone afterwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np

from chiplan.ir import (
    DType,
    Expand,
    Factor,
    Graph,
    Operand,
    Operator,
    Result,
    Role,
    Tensor,
    Unit,
    matrix_factors,
    simplify_view,
    view_shape,
)

from .canonical_builder import Body
from .canonical_views import Labels, factor_view
from .graph_edit import sorted_graph
from .quantised_values import Quantised, Seen, behind, is_byte, uniform_zero
from .requantisation import dequantisations, drop_requantisations, gather_codes, new_tensor
from .weight_sums import fold_weight_sums, is_summable, weight_sum

_Term: TypeAlias = tuple[Operand, ...]
"""One operand, or two whose product it is."""

_UNSIGNED_MIDDLE = 128
_LARGEST_PRODUCT = 128 * 128
_LARGEST_INT32 = 2**31 - 1


def fold_quantised_products(graph: Graph) -> Graph:
    """The graph with products of dequantised values as products of their int8 codes.

    Products stay as they are where a scale varies along the reduced factor, where a zero point of what
    is streamed is not one known number, and for types other than int8 and uint8.
    """
    graph = drop_requantisations(gather_codes(graph))
    return fold_weight_sums(_Fold(graph).run())


class _Side(NamedTuple):
    """One operand of a product: `codes` (int8), its scale, and its zero point.

    The zero point is `zero`, or, with several or one that is not known, read from `zeros`."""

    codes: Operand
    scale: Operand
    zero: int
    zeros: Operand | None


class _Fold:
    """The pass over one graph; `tensors` and `operators` grow."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.tensors = graph, dict(graph.tensors)
        self.known = dequantisations(graph)
        self.operators: list[Operator] = []
        self._signed: dict[str, str | None] = {}

    def run(self) -> Graph:
        if not self.known:
            return self.graph
        for operator in self.graph.operators:
            sides = self._sides(operator)
            if sides is None:
                self.operators.append(operator)
            else:
                self._replace(operator, *sides)
        return sorted_graph(self.graph, self.operators, self.tensors)

    def _sides(self, operator: Operator) -> tuple[_Side, _Side] | None:
        """Both operands as codes; None for what is no product of quantised values."""
        if operator.unit is not Unit.MATRIX or len(operator.operands) != 2 or len(operator.body) != 1:
            return None
        matches = [self.known.get(operand.tensor) for operand in operator.operands]
        depth = prod(operator.factors[f].extent for f in matrix_factors(operator).reduced)
        if matches[0] is None or matches[1] is None or depth * _LARGEST_PRODUCT > _LARGEST_INT32:
            return None
        streamed = self._side(operator, operator.operands[0], matches[0])
        stationary = self._side(operator, operator.operands[1], matches[1])
        if streamed is None or stationary is None or streamed.zeros is not None:
            return None
        return streamed, stationary

    def _side(self, operator: Operator, operand: Operand, match: Quantised) -> _Side | None:
        reduced = matrix_factors(operator).reduced
        scale = self._varying(operand, match.scale, match)
        if scale is None or not is_byte(match.data, self.tensors) or set(reduced) & set(scale.axes):
            return None
        zero, zeros = uniform_zero(match.zero, self.tensors), None
        is_unsigned = self.tensors[match.data.tensor].dtype is DType.UINT8
        if zero is None and match.zero is not None:
            zeros = self._varying(operand, match.zero, match)
            if zeros is None or is_unsigned or set(reduced) & set(zeros.axes):
                return None
        codes = self._as_int8(match.data.tensor) if is_unsigned else match.data.tensor
        if codes is None:
            return None
        seen = behind(Seen(codes, match.data.view), operand.view, self.tensors)
        shift = _UNSIGNED_MIDDLE if is_unsigned else 0
        return _Side(Operand(*seen, operand.axes), scale, (zero or 0) - shift, zeros)

    def _varying(self, operand: Operand, part: Seen, match: Quantised) -> Operand | None:
        """A scale or zero point as the product's operand would see it, along the product's factors;
        None where a factor is only partly one of those that it varies along."""
        shape = view_shape(match.data.view, self.tensors[match.data.tensor].shape)
        stored = self.tensors[part.tensor].shape
        view = simplify_view((*part.view, Expand(shape), *operand.view), stored)
        factored = factor_view(view, stored)
        if factored is None:
            return None
        axes: list[int | None] = []
        for parts, axis in zip(factored.dimensions, operand.axes, strict=True):
            varies = [p.extent > 1 and not p.broadcast for p in parts]
            if any(varies) and len(parts) > 1:
                return None
            axes += [axis if v else None for v in varies]
        return Operand(part.tensor, factored.view, tuple(axes))

    def _as_int8(self, name: str) -> str | None:
        """uint8 codes, 128 lower; None for a weight on disk, which would be shifted in every run."""
        if name not in self._signed:
            self._signed[name] = self._shifted(self.tensors[name])
        return self._signed[name]

    def _shifted(self, tensor: Tensor) -> str | None:
        if tensor.role is Role.WEIGHT:
            if tensor.value is None:
                return None
            values = (tensor.value.astype(np.int32) - _UNSIGNED_MIDDLE).astype(np.int8)
            return self._constant(f"{tensor.name}/int8", values)
        name = new_tensor(f"{tensor.name}/int8", tensor.shape, DType.INT8, self.tensors)
        middle = self._number(_UNSIGNED_MIDDLE)
        long = [d for d, extent in enumerate(tensor.shape) if extent > 1]
        axes = tuple(long.index(d) if d in long else None for d in range(len(tensor.shape)))
        factors = tuple(Factor(f"d{d}", tensor.shape[d]) for d in long)
        body = Body(2)
        body.add("Cast", DType.INT8, body.add("Sub", DType.INT32, 0, 1))
        result = Result(name, axes, (0,) * len(axes), 1)
        self._vector(name, factors, [Operand(tensor.name, (), axes), middle], result, body)
        return name

    def _constant(self, name: str, values: np.ndarray) -> str:
        dtype = {"int8": DType.INT8, "int32": DType.INT32, "float32": DType.FP32}[values.dtype.name]
        new = new_tensor(name, values.shape, dtype, self.tensors)
        self.tensors[new] = replace(self.tensors[new], role=Role.WEIGHT, value=values)
        return new

    def _number(self, number: int) -> Operand:
        name = f"constant/int32/{number}"
        if name not in self.tensors:
            self._constant(name, np.array(number, np.int32))
        return Operand(name, (), ())

    def _vector(
        self,
        name: str,
        factors: tuple[Factor, ...],
        operands: Sequence[Operand],
        result: Result,
        body: Body,
        nodes: tuple[str, ...] = (),
    ) -> None:
        instructions = tuple(body.instructions)
        self.operators.append(
            Operator(name, Unit.VECTOR, factors, tuple(operands), (result,), instructions, nodes)
        )

    def _replace(self, operator: Operator, streamed: _Side, stationary: _Side) -> None:
        """The product of the codes, and the operator that gives what the product gave."""
        (result,), (product,) = operator.results, operator.body
        shape = tuple(1 if axis is None else operator.factors[axis].extent for axis in result.axes)
        sums = new_tensor(f"{operator.name}/int32", shape, DType.INT32, self.tensors)
        self.operators.append(
            replace(
                operator,
                name=f"{operator.name}/int8",
                operands=(streamed.codes, stationary.codes),
                results=(Result(sums, result.axes, (0,) * len(shape), 0),),
                body=(replace(product, dtype=DType.INT32),),
            )
        )
        corrections = self._corrections(operator, streamed, stationary)
        scales = self._scales(operator.name, streamed.scale, stationary.scale)
        self._rescale(operator, Operand(sums, (), result.axes), corrections, scales)

    def _rescale(
        self, operator: Operator, sums: Operand, corrections: list[_Term], scales: list[Operand]
    ) -> None:
        """What the product gave: scales * (sums - corrections)."""
        (result,) = operator.results
        kind = self.tensors[result.tensor].dtype
        wide = kind if kind is DType.FP64 else DType.FP32
        operands = [sums, *(operand for term in corrections for operand in term), *scales]
        body, last, position = Body(len(operands)), 0, 1
        for term in corrections:
            lost = position
            if len(term) == 2:
                lost = body.add("Mul", DType.INT32, position, position + 1)
            last = body.add("Sub", DType.INT32, last, lost)
            position += len(term)
        last = body.add("Cast", wide, last)
        for number in range(position, len(operands)):
            last = body.add("Mul", wide, last, number)
        if kind is not wide:
            body.add("Cast", kind, last)
        used = [axis for axis in result.axes if axis is not None]
        local = {axis: used.index(axis) for axis in used}
        operands = [replace(operand, axes=_renamed(operand.axes, local)) for operand in operands]
        result = replace(result, axes=_renamed(result.axes, local), value=len(body.instructions) - 1)
        factors = tuple(operator.factors[axis] for axis in used)
        self._vector(f"{operator.name}/rescale", factors, operands, result, body, operator.nodes)

    def _corrections(self, operator: Operator, streamed: _Side, stationary: _Side) -> list[_Term]:
        """What the zero points added to the sums."""
        terms: list[_Term] = []
        if streamed.zero:
            terms.append(self._sum_of(operator, stationary.codes, 0, streamed.zero, "columns"))
        if stationary.zeros is not None:
            rows = self._sum_of(operator, streamed.codes, streamed.zero, 1, "rows")
            terms.append((*rows, stationary.zeros))
        elif stationary.zero:
            terms.append(self._sum_of(operator, streamed.codes, streamed.zero, stationary.zero, "rows"))
        return terms

    def _sum_of(self, operator: Operator, codes: Operand, zero: int, factor: int, name: str) -> _Term:
        """factor * (codes - zero), summed over the product's reduced factors: one operand, or two whose
        product it is."""
        held = [d for d, a in enumerate(codes.axes) if a is not None and operator.factors[a].reducer is None]
        kept = tuple(codes.axes[d] for d in held)
        name = f"{operator.name}/{name}"
        if zero or not is_summable(self.tensors[codes.tensor]):
            return (Operand(self._summed(operator, codes, zero, factor, name), (), kept),)
        made = weight_sum(name, self.tensors[codes.tensor], codes, held)
        if made.value is not None:
            return (Operand(self._constant(name, made.value * np.int32(factor)), (), kept),)
        stored = new_tensor(name, made.shape, made.dtype, self.tensors)
        self.tensors[stored] = replace(made, name=stored)
        return Operand(stored, (), kept), self._number(factor)

    def _summed(self, operator: Operator, codes: Operand, zero: int, factor: int, name: str) -> str:
        """The tensor of such sums, computed in the run."""
        used = [axis for axis in codes.axes if axis is not None]
        factors = tuple(operator.factors[axis] for axis in used)
        kept = [f for f, entry in enumerate(factors) if entry.reducer is None]
        numbers = [(opcode, n) for opcode, n, idle in (("Sub", zero, 0), ("Mul", factor, 1)) if n != idle]
        body, last = Body(1 + len(numbers)), 0
        for position, (opcode, _) in enumerate(numbers, start=1):
            last = body.add(opcode, DType.INT32, last, position)
        reduced = tuple(f for f in range(len(factors)) if f not in kept)
        body.add("ReduceSum", DType.INT32, last, attributes=(("factors", reduced),))
        made = new_tensor(name, tuple(factors[f].extent for f in kept), DType.INT32, self.tensors)
        local = {axis: used.index(axis) for axis in used}
        operands = [replace(codes, axes=_renamed(codes.axes, local)), *(self._number(n) for _, n in numbers)]
        result = Result(made, tuple(kept), (0,) * len(kept), len(body.instructions) - 1)
        self._vector(name, factors, operands, result, body, operator.nodes)
        return made

    def _scales(self, name: str, first: Operand, second: Operand) -> list[Operand]:
        """One constant where both scales are known and one of them is a single number, else both."""
        for number, other in ((first, second), (second, first)):
            one, values = self.tensors[number.tensor].value, self.tensors[other.tensor].value
            if one is not None and values is not None and one.size == 1:
                both = values.astype(np.float32) * np.float32(one.reshape(()))
                return [replace(other, tensor=self._constant(f"{name}/scale", both))]
        return [first, second]


def _renamed(axes: Labels, names: Mapping[int, int]) -> Labels:
    """The axes of another operator's factors; one that it does not have has extent 1."""
    return tuple(None if axis is None else names.get(axis) for axis in axes)
