"""Nests of operators that move elements and compute nothing: views, Concat, Pad."""

from typing import NamedTuple

from chiplan.ir import Axis, AxisMap, LoopNest, Shape

from .imported import ImportedNode
from .nests_loops import (
    Loops,
    Tensors,
    broadcast_map,
    constant_input,
    has_input,
    integer,
    integers,
    parameter,
    positive_axis,
    shape_of,
)
from .nests_refinement import matching_groups, refine, split_chain


def reshape(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """A dimension is the product of its factors, major first; both shapes share the factors.

    Where cumulative products do not divide (6 x 4 to 4 x 6) the dimensions involved are whole.
    """
    loops = Loops()
    old, new = shape_of(node, tensors, 0), tensors[node.outputs[0]].shape
    operand: list[Axis] = []
    result: list[Axis] = []
    for group in matching_groups(old, new):
        before, after = old[group.old_first : group.old_last], new[group.new_first : group.new_last]
        refined = refine([before, after])
        if refined is None:
            operand += [
                loops.add(f"i{len(operand) + i}", extent, whole=True) for i, extent in enumerate(before)
            ]
            result += [loops.add(f"o{len(result) + i}", extent, whole=True) for i, extent in enumerate(after)]
            continue
        parts = [loops.add(f"d{len(loops.factors)}", extent) for extent in refined]
        operand += _products(loops, parts, before, refined)
        result += _products(loops, parts, after, refined)
    return loops.nest([tuple(operand)], [tuple(result)])


def _products(loops: Loops, parts: list[Axis], chain: Shape, refined: tuple[int, ...]) -> AxisMap:
    """The dimensions `chain` as products of consecutive `parts`, which have extents `refined`."""
    axes = []
    position = 0
    for extents in split_chain(chain, refined):
        axes.append(loops.product(parts[position : position + len(extents)], extents))
        position += len(extents)
    return tuple(axes)


def identity(node: ImportedNode, tensors: Tensors) -> LoopNest:
    loops = Loops()
    axes = loops.parallel(shape_of(node, tensors, 0))
    return loops.nest([axes], [axes])


def permutation_of(node: ImportedNode, tensors: Tensors) -> tuple[int, ...]:
    """Transpose: result axis i is input axis permutation[i]."""
    return integers(node, "perm") or tuple(reversed(range(len(shape_of(node, tensors, 0)))))


def transpose(node: ImportedNode, tensors: Tensors) -> LoopNest:
    loops = Loops()
    axes = loops.parallel(shape_of(node, tensors, 0))
    return loops.nest([axes], [tuple(axes[axis] for axis in permutation_of(node, tensors))])


def expand(node: ImportedNode, tensors: Tensors) -> LoopNest:
    loops = Loops()
    axes = loops.parallel(tensors[node.outputs[0]].shape)
    return loops.nest([broadcast_map(axes, shape_of(node, tensors, 0))], [axes])


def tile(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """A result dimension is (repeat, d): the repeat is a broadcast of the operand."""
    loops = Loops()
    shape = shape_of(node, tensors, 0)
    operand, result = [], []
    for axis, (extent, repeats) in enumerate(
        zip(shape, constant_input(node, tensors, 1).tolist(), strict=True)
    ):
        repeat, inside = loops.add(f"repeat{axis}", repeats), loops.add(f"d{axis}", extent)
        operand.append(inside)
        result.append(loops.product((repeat, inside), (repeats, extent)))
    return loops.nest([tuple(operand)], [tuple(result)])


class Bounds(NamedTuple):
    """`range(start, ..., step)` of `extent` indices along one axis."""

    start: int
    step: int
    extent: int


def slice_bounds(node: ImportedNode, tensors: Tensors) -> tuple[Bounds, ...]:
    """A Slice node's bounds on every axis, resolved against the shape."""
    shape = shape_of(node, tensors, 0)
    starts = parameter(node, tensors, "starts", 1) or ()
    stops = parameter(node, tensors, "ends", 2) or ()
    axes = parameter(node, tensors, "axes", 3) or tuple(range(len(starts)))
    steps = (parameter(node, tensors, "steps", 4) if has_input(node, 4) else None) or (1,) * len(starts)
    bounds = [Bounds(0, 1, extent) for extent in shape]
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        chosen = range(shape[axis])[slice(start, stop, step)]
        bounds[axis] = Bounds(chosen.start, chosen.step, len(chosen))
    return tuple(bounds)


def slicing(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """index = start + step * factor."""
    loops = Loops()
    operand, result = [], []
    for axis, bound in enumerate(slice_bounds(node, tensors)):
        along = loops.add(f"d{axis}", bound.extent)
        result.append(along)
        operand.append(Axis(tuple((factor, bound.step) for factor, _ in along.terms), bound.start))
    return loops.nest([tuple(operand)], [tuple(result)])


def split(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """Equal pieces: the axis is (piece, rest), piece whole, rest parallel. Unequal ones: whole."""
    loops = Loops()
    shape = shape_of(node, tensors, 0)
    chosen = positive_axis(integer(node, "axis", 0), len(shape))
    pieces = [tensors[name].shape[chosen] for name in node.outputs]
    others = [loops.add(f"d{a}", extent) if a != chosen else Axis() for a, extent in enumerate(shape)]
    along, parts = _pieces(loops, pieces)
    results = [_with_axis(others, chosen, part) for part in parts]
    return loops.nest([_with_axis(others, chosen, along)], results)


def concat(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """The inverse of split."""
    loops = Loops()
    shape = tensors[node.outputs[0]].shape
    chosen = positive_axis(integer(node, "axis", 0), len(shape))
    pieces = [tensors[name].shape[chosen] for name in node.inputs]
    others = [loops.add(f"d{a}", extent) if a != chosen else Axis() for a, extent in enumerate(shape)]
    along, parts = _pieces(loops, pieces)
    operands = [_with_axis(others, chosen, part) for part in parts]
    return loops.nest(operands, [_with_axis(others, chosen, along)])


def _pieces(loops: Loops, pieces: list[int]) -> tuple[Axis, list[Axis]]:
    """The map of an axis made of `pieces`, and of the axis in each piece."""
    if len(set(pieces)) > 1:
        along = loops.add("along", sum(pieces), whole=True)
        return along, [loops.add(f"piece{i}", extent, whole=True) for i, extent in enumerate(pieces)]
    piece, rest = loops.add("piece", len(pieces), whole=True), loops.add("rest", pieces[0])
    return loops.product((piece, rest), (len(pieces), pieces[0])), [rest] * len(pieces)


def _with_axis(axes: list[Axis], position: int, axis: Axis) -> AxisMap:
    return (*axes[:position], axis, *axes[position + 1 :])


def pad_widths(node: ImportedNode, tensors: Tensors) -> tuple[tuple[int, int], ...]:
    """Rows that a Pad node adds before and after every axis."""
    rank = len(shape_of(node, tensors, 0))
    widths = parameter(node, tensors, "pads", 1) or ()
    axes = parameter(node, tensors, "axes", 3) if has_input(node, 3) else tuple(range(rank))
    result = [(0, 0)] * rank
    for position, axis in enumerate(axes or ()):
        result[positive_axis(axis, rank)] = (widths[position], widths[position + len(widths) // 2])
    return tuple(result)


def pad(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """A padded axis is whole: a shard of the border has no operand."""
    loops = Loops()
    operand, result = [], []
    for axis, (extent, width) in enumerate(
        zip(shape_of(node, tensors, 0), pad_widths(node, tensors), strict=True)
    ):
        if any(width):
            operand.append(loops.add(f"i{axis}", extent, whole=True))
            result.append(loops.add(f"o{axis}", extent + sum(width), whole=True))
        else:
            operand.append(loops.add(f"d{axis}", extent))
            result.append(operand[-1])
    return loops.nest([tuple(operand)], [tuple(result)])
