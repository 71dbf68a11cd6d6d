"""MatMul, Gemm, Einsum and Conv as contractions, with vector operators for scales and biases."""

from collections.abc import Sequence
from dataclasses import replace

from chiplan.ir import (
    Factor,
    Reducer,
    Reshape,
)

from .canonical_builder import Body, GraphBuilder, Value
from .canonical_contraction import contraction
from .canonical_emit import Item, from_nest, pointwise, result_labels
from .canonical_moves import padded
from .canonical_pointwise import over_dimensions
from .canonical_views import Labels
from .imported import ImportedNode
from .nests_loops import has_input, real, refused
from .nests_matrix import convolution_of


def matmul(builder: GraphBuilder, node: ImportedNode) -> None:
    output = builder.imported(node.outputs[0])
    nest = builder.nest(node)
    left, right = from_nest(nest, [builder.value(name) for name in node.inputs])
    made = contraction(
        builder, node, output.name, nest.factors, (left, right), result_labels(nest), output.dtype
    )
    builder.values[output.name] = made


def gemm(builder: GraphBuilder, node: ImportedNode) -> None:
    """The product, then alpha and beta * C as one vector operator, if they do anything."""
    output = builder.imported(node.outputs[0])
    alpha, beta = real(node, "alpha", 1.0), real(node, "beta", 1.0)
    product = replace(node, inputs=node.inputs[:2])
    nest = builder.nest(product)
    values = [builder.value(name) for name in node.inputs if name]
    has_bias = len(values) == 3 and beta != 0
    alone = alpha == 1 and not has_bias
    name = output.name if alone else f"{output.name}/product"
    left, right = from_nest(nest, values[:2])
    made = contraction(builder, node, name, nest.factors, (left, right), result_labels(nest), output.dtype)
    if not alone:
        made = _affine(builder, node, made, values[2] if has_bias else None, alpha, beta)
    builder.values[output.name] = made


def _affine(
    builder: GraphBuilder, node: ImportedNode, product: Value, bias: Value | None, alpha: float, beta: float
) -> Value:
    """alpha * product + beta * bias."""
    values = [product] + ([bias] if bias else [])
    scales = [factor for factor in (alpha, beta if bias else 1.0) if factor != 1]
    values += [builder.scalar(factor, product.dtype) for factor in scales]
    body = Body(len(values))
    scale = 2 if bias else 1
    left, right = 0, 1
    if alpha != 1:
        left = body.add("Mul", product.dtype, 0, scale)
        scale += 1
    if bias and beta != 1:
        right = body.add("Mul", product.dtype, 1, scale)
    if bias:
        body.add("Add", product.dtype, left, right)
    return over_dimensions(builder, node, node.outputs[0], values, body, product.shape)


def einsum(builder: GraphBuilder, node: ImportedNode) -> None:
    """Operands are contracted from left to right; a label is summed when no later operand has it."""
    output = builder.imported(node.outputs[0])
    nest = builder.nest(node)
    items = from_nest(nest, [builder.value(name) for name in node.inputs])
    for _, labels in items:
        held = [label for label in labels if label is not None]
        if len(set(held)) < len(held):
            message = "a label that occurs twice in one operand (a diagonal) is not supported."
            raise refused(node, "unsupported_equation", f"{message} Take the diagonal with Gather before it.")
    labels = result_labels(nest)
    item = items[0]
    if len(items) == 1:
        builder.values[output.name] = _single_term(builder, node, nest.factors, item, labels)
        return
    for position, other in enumerate(items[1:], start=1):
        later = {label for _, names in items[position + 1 :] for label in names} | set(labels)
        both = dict.fromkeys(label for label in (*item[1], *other[1]) if label is not None)
        kept = labels if position == len(items) - 1 else tuple(label for label in both if label in later)
        factors = [
            replace(factor, reducer=None if index in kept or index not in both else Reducer.SUM)
            for index, factor in enumerate(nest.factors)
        ]
        name = output.name if position == len(items) - 1 else f"{output.name}/{position}"
        item = contraction(builder, node, name, factors, (item, other), kept, output.dtype), kept
    builder.values[output.name] = item[0]


def _single_term(
    builder: GraphBuilder, node: ImportedNode, factors: Sequence[Factor], item: Item, labels: Labels
) -> Value:
    """One operand: a sum over the labels that the result lacks, or a transpose."""
    body = Body(1)
    opcode = "ReduceSum" if any(factor.reducer for factor in factors) else "Copy"
    body.add(opcode, item[0].dtype, 0)
    return pointwise(builder, node, node.outputs[0], factors, [item], body, labels)


def convolution(builder: GraphBuilder, node: ImportedNode) -> None:
    """A contraction over windows of the (padded) data, then the bias."""
    output = builder.imported(node.outputs[0])
    form = convolution_of(node, builder.model.tensors)
    data, weight = builder.value(node.inputs[0]), builder.value(node.inputs[1])
    if any(map(any, form.pads)):
        widths = ((0, 0), (0, 0), *form.pads)
        data = padded(builder, node, f"{output.name}/padded", data, widths, builder.scalar(0, data.dtype))
    bare = replace(node, inputs=node.inputs[:2], attributes={**node.attributes, "auto_pad": "VALID"})
    nest = builder.nest(bare)
    biased = has_input(node, 2)
    name = f"{output.name}/product" if biased else output.name
    left, right = from_nest(nest, [data, weight])
    # A channel is (group, channel of the group): two dimensions until the result is reshaped.
    labels: list[int | None] = []
    for axis in nest.results[0]:
        labels += [factor for factor, _ in axis.terms] or [None]
    made = contraction(builder, node, name, nest.factors, (left, right), tuple(labels), output.dtype)
    made = made.seen(Reshape(output.shape))
    if biased:
        bias = builder.value(node.inputs[2]).seen(Reshape((output.shape[1], *(1,) * len(form.kernel))))
        body = Body(2)
        body.add("Add", output.dtype, 0, 1)
        made = over_dimensions(builder, node, output.name, [made, bias], body, output.shape)
    builder.values[output.name] = made
