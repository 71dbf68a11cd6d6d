"""Nests of operators with data-dependent indices, and of sorts.

A data-dependent index reads the whole indexed axis. For a gather that axis is a factor reduced by
SUM and marked `gathered`: a shard whose rows are not asked for gives zero. For a scatter it is whole.
"""

from chiplan.ir import Axis, AxisMap, LoopNest, Reducer, Shape

from .imported import ImportedNode
from .nests_loops import Loops, Tensors, constant_input, integer, positive_axis, shape_of


def gather(node: ImportedNode, tensors: Tensors) -> LoopNest:
    data = shape_of(node, tensors, 0)
    return gather_loops(data, shape_of(node, tensors, 1), positive_axis(integer(node, "axis", 0), len(data)))


def gather_loops(data: Shape, indices: Shape, axis: int) -> LoopNest:
    """out[before, index dims, after] = data[before, indices[index dims], after]."""
    loops = Loops()
    before = loops.parallel(data[:axis], "d")
    chosen = loops.add("row", data[axis], Reducer.SUM, gathered=True)
    index = loops.parallel(indices, "i")
    after = loops.parallel(data[axis + 1 :], "e")
    return loops.nest([(*before, chosen, *after), index], [(*before, *index, *after)])


def gather_elements(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """out[i, j] = data[i, indices[i, j]] (axis 1); other axes follow the indices."""
    loops = Loops()
    data, indices = shape_of(node, tensors, 0), shape_of(node, tensors, 1)
    axis = positive_axis(integer(node, "axis", 0), len(data))
    index = loops.parallel(indices, "i")
    chosen = loops.add("row", data[axis], Reducer.SUM, gathered=True)
    return loops.nest([(*index[:axis], chosen, *index[axis + 1 :]), index], [index])


def gather_tuples(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """GatherND: out[batch, q, rest] = data[batch, indices[batch, q, :], rest]."""
    loops = Loops()
    data, indices = shape_of(node, tensors, 0), shape_of(node, tensors, 1)
    batch_rank, depth = integer(node, "batch_dims", 0), indices[-1]
    batch = loops.parallel(data[:batch_rank], "b")
    index = loops.parallel(indices[batch_rank:-1], "i")
    chosen = tuple(
        loops.add(f"row{i}", extent, Reducer.SUM, gathered=True)
        for i, extent in enumerate(data[batch_rank : batch_rank + depth])
    )
    rest = loops.parallel(data[batch_rank + depth :], "e")
    entry = loops.add("entry", depth, whole=True)
    return loops.nest([(*batch, *chosen, *rest), (*batch, *index, entry)], [(*batch, *index, *rest)])


def scatter_tuples(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """ScatterND: data with rows data[indices[q, :], rest] replaced by updates[q, rest].

    Several updates may name one row, in order: the updates' axes are whole like the rows.
    """
    loops = Loops()
    data, indices = shape_of(node, tensors, 0), shape_of(node, tensors, 1)
    depth = indices[-1]
    rows = tuple(loops.add(f"row{i}", extent, whole=True) for i, extent in enumerate(data[:depth]))
    index = tuple(loops.add(f"i{i}", extent, whole=True) for i, extent in enumerate(indices[:-1]))
    entry = loops.add("entry", depth, whole=True)
    rest = loops.parallel(data[depth:], "e")
    return loops.nest([(*rows, *rest), (*index, entry), (*index, *rest)], [(*rows, *rest)])


def scatter_elements(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """data with data[indices[i, j], j] replaced by updates[i, j] (axis 0).

    Another axis is parallel where the updates cover all of it, else whole.
    """
    loops = Loops()
    data, indices = shape_of(node, tensors, 0), shape_of(node, tensors, 1)
    chosen = positive_axis(integer(node, "axis", 0), len(data))
    rows: list[Axis] = []
    updates: list[Axis] = []
    for axis, (extent, covered) in enumerate(zip(data, indices, strict=True)):
        if axis != chosen and extent == covered:
            rows.append(loops.add(f"d{axis}", extent))
            updates.append(rows[-1])
        else:
            rows.append(loops.add(f"row{axis}", extent, whole=True))
            updates.append(loops.add(f"i{axis}", covered, whole=True))
    written: AxisMap = tuple(rows)
    read: AxisMap = tuple(updates)
    return loops.nest([written, read, read], [written])


def top(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """TopK: the sorted axis is whole on both sides; values and indices have one map."""
    loops = Loops()
    shape = shape_of(node, tensors, 0)
    chosen = positive_axis(integer(node, "axis", -1), len(shape))
    kept = tensors[next(name for name in node.outputs if name)].shape[chosen]
    operand = [loops.add(f"d{a}", extent, whole=a == chosen) for a, extent in enumerate(shape)]
    result = tuple(
        loops.add("top", kept, whole=True) if a == chosen else axis for a, axis in enumerate(operand)
    )
    return loops.nest([tuple(operand)], [result] * sum(name != "" for name in node.outputs))


def one_hot(node: ImportedNode, tensors: Tensors) -> LoopNest:
    """out[i, depth] = values[1] where depth is indices[i], else values[0]."""
    loops = Loops()
    indices = shape_of(node, tensors, 0)
    axis = positive_axis(integer(node, "axis", -1), len(indices) + 1)
    index = loops.parallel(indices, "i")
    depth = loops.add("depth", int(constant_input(node, tensors, 1).reshape(())), whole=True)
    pair = loops.add("pair", 2, whole=True)
    return loops.nest([index, (pair,)], [(*index[:axis], depth, *index[axis:])])
