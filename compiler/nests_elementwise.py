"""Nests of operators that compute each result element from the elements at its own position, and of
reductions along axes."""

from math import prod

from chiplan.ir import Axis, LoopNest, Reducer

from .imported import ImportedNode
from .nests_loops import (
    Loops,
    Tensors,
    broadcast_map,
    constant_input,
    integer,
    parameter,
    positive_axis,
    shape_of,
)

REDUCERS = {
    "ReduceSum": Reducer.SUM,
    "ReduceMax": Reducer.MAX,
    "ReduceMin": Reducer.MIN,
    "ReduceProd": None,
}
"""None: partial results do not combine by a reducer that chips have, so the axis stays whole."""


def elementwise(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """out[d0, d1, ...] = f(a[d0, d1, ...], b[d0, d1, ...], ...), operands broadcast."""
    loops = Loops()
    result = loops.parallel(tensors[node.outputs[0]].shape)
    operands = [broadcast_map(result, tensors[name].shape) for name in node.inputs if name]
    return loops.nest(operands, [result])


def reduced_axes(node: ImportedNode, tensors: Tensors) -> tuple[int, ...]:
    """The axes that a Reduce* node reduces, counted from the front."""
    rank = len(shape_of(node, tensors, 0))
    axes = parameter(node, tensors, "axes", 1)
    if axes:
        return tuple(sorted(positive_axis(axis, rank) for axis in axes))
    return () if integer(node, "noop_with_empty_axes", 0) else tuple(range(rank))


def reduction(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """out[parallel] = reduce over the reduced factors of a[parallel, reduced]."""
    loops = Loops()
    axes = reduced_axes(node, tensors)
    reducer = REDUCERS[node.op_type]
    operand = []
    for axis, extent in enumerate(shape_of(node, tensors, 0)):
        if axis in axes:
            operand.append(loops.add(f"r{axis}", extent, reducer, whole=reducer is None))
        else:
            operand.append(loops.add(f"d{axis}", extent))
    return loops.nest([tuple(operand)], [_kept(operand, axes, integer(node, "keepdims", 1))])


def extremum_index(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """ArgMax, ArgMin: the axis is whole, since an index is no partial result."""
    loops = Loops()
    shape = shape_of(node, tensors, 0)
    chosen = positive_axis(integer(node, "axis", 0), len(shape))
    operand = [loops.add(f"d{axis}", extent, whole=axis == chosen) for axis, extent in enumerate(shape)]
    return loops.nest([tuple(operand)], [_kept(operand, (chosen,), integer(node, "keepdims", 1))])


def _kept(operand: list[Axis], axes: tuple[int, ...], keep: int) -> tuple[Axis, ...]:
    """The result's map: reduced dimensions have extent 1, or are gone."""
    return tuple(
        Axis() if axis in axes else entry for axis, entry in enumerate(operand) if keep or axis not in axes
    )


def scan(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """CumSum: every element reads all before it, so the axis is whole."""
    loops = Loops()
    shape = shape_of(node, tensors, 0)
    chosen = positive_axis(int(constant_input(node, tensors, 1).reshape(())), len(shape))
    axes = tuple(loops.add(f"d{a}", extent, whole=a == chosen) for a, extent in enumerate(shape))
    return loops.nest([axes], [axes])


def triangle(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """Trilu: what survives depends on the position in the last two axes, so they are whole."""
    loops = Loops()
    shape = shape_of(node, tensors, 0)
    axes = tuple(
        loops.add(f"d{axis}", extent, whole=axis >= len(shape) - 2) for axis, extent in enumerate(shape)
    )
    return loops.nest([axes], [axes])


def quantisation(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """x with one scale and zero point, one an index of `axis`, or one a block along `axis`."""
    loops = Loops()
    shape, scale = shape_of(node, tensors, 0), shape_of(node, tensors, 1)
    others = [tensors[name].shape for name in node.inputs[1:] if name]
    if len(scale) < 2:
        data = loops.parallel(shape)
        axis = positive_axis(integer(node, "axis", 1), len(shape))
        along = [(data[axis],) if prod(other) > 1 else (Axis(),) * len(other) for other in others]
        return loops.nest([data, *along], [data])
    axis = positive_axis(integer(node, "axis", 1), len(shape))
    before, after = loops.parallel(shape[:axis]), shape[axis + 1 :]
    block = integer(node, "block_size", 0) or -(-shape[axis] // scale[axis])
    ragged = shape[axis] % block != 0
    blocks = loops.add("blocks", scale[axis], whole=ragged)
    if ragged:
        inside = loops.add("along", shape[axis], whole=True)
    else:
        inside = loops.product((blocks, loops.add("inside", block)), (scale[axis], block))
    rest = loops.parallel(after, "e")
    data = (*before, inside, *rest)
    return loops.nest([data, *[(*before, blocks, *rest)] * len(others)], [data])
