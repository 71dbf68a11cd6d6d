"""Nests of contractions: MatMul, Gemm, Einsum, MatMulInteger, Conv."""

from collections import Counter
from itertools import chain
from typing import NamedTuple

import numpy as np

from chiplan.ir import Axis, AxisMap, LoopNest, Reducer, Shape

from .imported import ImportedNode
from .nests_loops import Loops, Tensors, broadcast_map, has_input, integer, integers, refused, shape_of, text


def _product(loops: Loops, a: Shape, b: Shape) -> tuple[AxisMap, AxisMap, AxisMap]:
    """Maps of A[..., m, k], B[..., k, n] and C[..., m, n] with numpy's rules for rank 1."""
    batch = loops.parallel(np.broadcast_shapes(a[:-2], b[:-2]), "b")
    rows = (loops.add("m", a[-2]),) if len(a) > 1 else ()
    columns = (loops.add("n", b[-1]),) if len(b) > 1 else ()
    depth = (loops.add("k", a[-1], Reducer.SUM),)
    left = (*broadcast_map(batch, a[:-2]), *rows, *depth)
    right = (*broadcast_map(batch, b[:-2]), *depth, *columns)
    return left, right, (*batch, *rows, *columns)


def matmul(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """C[b, m, n] = sum over k of A[b, m, k] * B[b, k, n]."""
    loops = Loops()
    left, right, result = _product(loops, shape_of(node, tensors, 0), shape_of(node, tensors, 1))
    return loops.nest([left, right], [result])


def integer_matmul(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """C = (A - a_zero) (B - b_zero); a zero point is one value, one a row of A or one a column of B."""
    loops = Loops()
    left, right, result = _product(loops, shape_of(node, tensors, 0), shape_of(node, tensors, 1))
    operands = [left, right]
    if has_input(node, 2):
        operands.append(_zero_point(shape_of(node, tensors, 2), (*left[:-1], Axis()), left[-2:-1]))
    if has_input(node, 3):
        operands.append(_zero_point(shape_of(node, tensors, 3), (*right[:-2], Axis(), right[-1]), right[-1:]))
    return loops.nest(operands, [result])


def _zero_point(shape: Shape, aligned: AxisMap, alone: AxisMap) -> AxisMap:
    """`alone` is the map of a vector of zero points, `aligned` that of one as wide as its matrix."""
    if len(shape) == 1 and shape[0] > 1:
        return alone
    return broadcast_map(aligned, shape) if len(shape) > 1 else (Axis(),) * len(shape)


def gemm(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """Y[m, n] = alpha * sum over k of A'[m, k] * B'[k, n] + beta * C[m, n].

    With C the reduced factor is whole: partial results would each add C. The compiler takes C out
    first, which frees it.
    """
    loops = Loops()
    a, b = shape_of(node, tensors, 0), shape_of(node, tensors, 1)
    swapped_a, swapped_b = integer(node, "transA", 0) != 0, integer(node, "transB", 0) != 0
    rows = loops.add("m", a[1] if swapped_a else a[0])
    columns = loops.add("n", b[0] if swapped_b else b[1])
    depth = loops.add("k", a[0] if swapped_a else a[1], Reducer.SUM, whole=has_input(node, 2))
    operands: list[AxisMap] = [
        (depth, rows) if swapped_a else (rows, depth),
        (columns, depth) if swapped_b else (depth, columns),
    ]
    if has_input(node, 2):
        operands.append(broadcast_map((rows, columns), shape_of(node, tensors, 2)))
    return loops.nest(operands, [(rows, columns)])


def einsum_labels(node: ImportedNode, tensors: Tensors) -> tuple[list[list[str]], list[str]]:
    """One label a dimension of every operand, and of the result; an ellipsis gives labels "...i"."""
    equation = text(node, "equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    operands = []
    for position, term in enumerate(left.split(",")):
        rank = len(shape_of(node, tensors, position))
        operands.append(_labels(term, rank))
    covered = max((sum(label.startswith("...") for label in labels) for labels in operands), default=0)
    ellipsis = [f"...{covered - i}" for i in range(covered)]
    if arrow:
        return operands, _labels(right, len(right.replace("...", "")) + (covered if "..." in right else 0))
    counts = Counter(label for label in chain(*operands) if not label.startswith("..."))
    return operands, ellipsis + sorted(label for label, count in counts.items() if count == 1)


def _labels(term: str, rank: int) -> list[str]:
    """Labels of one term; the dimensions of an ellipsis are numbered from its end (they broadcast)."""
    if "..." not in term:
        return list(term)
    before, after = term.split("...")
    covered = rank - len(before) - len(after)
    return [*before, *(f"...{covered - i}" for i in range(covered)), *after]


def einsum(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """One factor a label; labels that the result lacks are summed."""
    loops = Loops()
    operands, result = einsum_labels(node, tensors)
    extents: dict[str, int] = {}
    for position, labels in enumerate(operands):
        for label, extent in zip(labels, shape_of(node, tensors, position), strict=True):
            extents[label] = max(extent, extents.get(label, 1))
    axes = {
        label: loops.add(label.replace("...", "e"), extent, None if label in result else Reducer.SUM)
        for label, extent in extents.items()
    }
    maps = [
        tuple(
            Axis() if extent == 1 else axes[label]
            for label, extent in zip(labels, shape_of(node, tensors, position), strict=True)
        )
        for position, labels in enumerate(operands)
    ]
    return loops.nest(maps, [tuple(axes[label] for label in result)])


class Convolution(NamedTuple):
    """Static geometry of a Conv node; one entry a spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...]
    groups: int


def convolution_of(node: ImportedNode, tensors: Tensors) -> Convolution:
    """Attributes with their defaults, `auto_pad` resolved to widths."""
    data, kernel = shape_of(node, tensors, 0)[2:], shape_of(node, tensors, 1)[2:]
    ones = (1,) * len(kernel)
    strides, dilations = integers(node, "strides") or ones, integers(node, "dilations") or ones
    outputs = tensors[node.outputs[0]].shape[2:]
    mode = text(node, "auto_pad", "NOTSET")
    given = integers(node, "pads") or (0,) * (2 * len(kernel))
    pads = tuple(zip(given[: len(kernel)], given[len(kernel) :], strict=True))
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((output - 1) * stride + (size - 1) * dilation + 1 - extent, 0)
            for output, stride, size, dilation, extent in zip(
                outputs, strides, kernel, dilations, data, strict=True
            )
        ]
        lower = [(width + (mode == "SAME_LOWER")) // 2 for width in total]
        pads = tuple((low, width - low) for low, width in zip(lower, total, strict=True))
    elif mode == "VALID":
        pads = ((0, 0),) * len(kernel)
    elif mode != "NOTSET":
        raise refused(node, "bad_attribute", f"auto_pad should be NOTSET, VALID or SAME_*, is {mode!r}.")
    return Convolution(kernel, strides, dilations, pads, outputs, integer(node, "group", 1))


def convolution(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """Y[n, (g, o), y] = sum over c, k of X[n, (g, c), stride*y + dilation*k - pad] * W[(g, o), c, k].

    An index outside X reads zero. With a bias the reduced factors are whole, as in Gemm.
    """
    loops = Loops()
    form = convolution_of(node, tensors)
    data, weight = shape_of(node, tensors, 0), shape_of(node, tensors, 1)
    biased = has_input(node, 2)
    batch, group = loops.add("batch", data[0]), loops.add("group", form.groups)
    wide, deep = weight[0] // form.groups, weight[1]
    out, inside = loops.add("out", wide), loops.add("in", deep, Reducer.SUM, whole=biased)
    channels = loops.product((group, out), (form.groups, wide))
    rows = loops.parallel(form.outputs, "y")
    taps = tuple(
        loops.add(f"k{axis}", extent, Reducer.SUM, whole=biased) for axis, extent in enumerate(form.kernel)
    )
    windows = [
        Axis(
            tuple((factor, form.strides[i]) for factor, _ in rows[i].terms)
            + tuple((factor, form.dilations[i]) for factor, _ in taps[i].terms),
            -form.pads[i][0],
        )
        for i in range(len(form.kernel))
    ]
    operands: list[AxisMap] = [
        (batch, loops.product((group, inside), (form.groups, deep)), *windows),
        (channels, inside, *taps),
    ]
    if biased:
        operands.append((channels,))
    return loops.nest(operands, [(batch, channels, *rows)])
