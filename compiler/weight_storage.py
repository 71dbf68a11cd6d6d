"""How weights are stored, so that chips can share the work of those who read them.

A table of which only some rows are read (512 positions at sequence 384) is stored as these rows. A small
weight that operators read in unlike ways (one bias of zeros, added to 12 x 64 columns here and to 768
there) is stored once for each way: else its readers would all have to be taken apart alike.
"""

from dataclasses import replace
from math import prod

from chiplan.ir import Graph, Operand, Reshape, Role, Slice, Tensor, apply_view, simplify_view, step_shape

from .atoms import find_atoms
from .graph_edit import kept_tensors

_SMALL = 1 << 17
"""Bytes up to which a weight may be stored several times."""


def arrange_weights(graph: Graph) -> Graph:
    """The graph with its weights stored as their readers need them."""
    return separate_weights(trim_weights(graph))


def trim_weights(graph: Graph) -> Graph:
    """Weights that all readers slice alike, stored as that slice."""
    slices = _common_slices(graph)
    if not slices:
        return graph
    tensors = {
        name: _sliced(tensor, slices[name]) if name in slices else tensor
        for name, tensor in graph.tensors.items()
    }
    operators = []
    for operator in graph.operators:
        operands = [_without_slice(o, tensors) if o.tensor in slices else o for o in operator.operands]
        operators.append(replace(operator, operands=tuple(operands)))
    return replace(graph, tensors=tensors, operators=tuple(operators))


def _common_slices(graph: Graph) -> dict[str, Slice]:
    kept = kept_tensors(graph)
    first: dict[str, Slice | None] = {}
    for operator in graph.operators:
        for operand in operator.operands:
            step = operand.view[0] if operand.view else None
            found = step if isinstance(step, Slice) else None
            first[operand.tensor] = found if first.get(operand.tensor, found) == found else None
    return {
        name: step
        for name, step in first.items()
        if step is not None and name not in kept and _may_trim(graph.tensors[name])
    }


def _may_trim(tensor: Tensor) -> bool:
    """Scales and sums are taken over the whole initializer, so only plain values may be trimmed."""
    plain = tensor.value is not None or (tensor.origin is not None and tensor.origin.conversion == "cast")
    return tensor.role is Role.WEIGHT and plain


def _sliced(tensor: Tensor, step: Slice) -> Tensor:
    value = None if tensor.value is None else apply_view((step,), tensor.value.reshape(tensor.shape))
    origin = tensor.origin
    if origin is not None:
        # The initializer's own shape may be another one.
        origin = replace(origin, view=(*origin.view, Reshape(tensor.shape), step))
    return replace(tensor, shape=step_shape(step, tensor.shape), value=value, origin=origin)


def _without_slice(operand: Operand, tensors: dict[str, Tensor]) -> Operand:
    return replace(operand, view=simplify_view(operand.view[1:], tensors[operand.tensor].shape))


def separate_weights(graph: Graph) -> Graph:
    """Small weights, once for each way in which their readers take them apart."""
    reads = _shared_reads(graph)
    if not reads:
        return graph
    apart = _renamed(graph, {read: f"{name}#{number}" for read, (name, number) in reads.items()})
    atoms = find_atoms(apart).tensors
    copies: dict[str, list[object]] = {}
    names: dict[tuple[int, int], str] = {}
    for read, (name, number) in reads.items():
        ways = copies.setdefault(name, [])
        way = atoms[f"{name}#{number}"]
        if way not in ways:
            ways.append(way)
        names[read] = f"{name}#{ways.index(way)}" if ways.index(way) else name
    return _renamed(graph, names)


def _shared_reads(graph: Graph) -> dict[tuple[int, int], tuple[str, int]]:
    """(operator, operand) that reads a small weight with several readers: its name, and the how-manieth."""
    readers: dict[str, list[tuple[int, int]]] = {}
    for index, operator in enumerate(graph.operators):
        for position, operand in enumerate(operator.operands):
            tensor = graph.tensors[operand.tensor]
            if tensor.role is Role.WEIGHT and prod(tensor.shape) > 1 and tensor.nbytes <= _SMALL:
                readers.setdefault(operand.tensor, []).append((index, position))
    kept = kept_tensors(graph)
    return {
        read: (name, number)
        for name, found in readers.items()
        if len(found) > 1 and name not in kept
        for number, read in enumerate(found)
    }


def _renamed(graph: Graph, names: dict[tuple[int, int], str]) -> Graph:
    """The graph whose operands (operator, position) read copies of these names."""
    tensors, operators = dict(graph.tensors), list(graph.operators)
    for (index, position), name in names.items():
        operands = list(operators[index].operands)
        tensors.setdefault(name, replace(tensors[operands[position].tensor], name=name))
        operands[position] = replace(operands[position], tensor=name)
        operators[index] = replace(operators[index], operands=tuple(operands))
    return replace(graph, tensors=tensors, operators=tuple(operators))
