"""`compile --use-annotations`: the annotations of an ONNX file become stages, groups and pins."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from chiplan.ir import BadInput, Graph, Problem

from .axis_factors import NodeAxes, node_axes
from .file_nodes import FileNodes, file_nodes
from .graph_edit import writers_of
from .import_load import load_graph_file
from .importer import value_types
from .options import Options
from .partitioning import shared_items
from .pins import pin_names
from .read_annotations import Annotations, NodeAnnotation, Shards, read_annotations


def follow_annotations(
    graph: Graph, options: Options, path: Path, bindings: Mapping[str, int]
) -> tuple[Graph, Options]:
    """The operators in the order of their stages, and options that ask for these stages, the sizes of their
    groups, and what nodes split. Pins of `options` stand before those of the file.

    Raises BadInput as `read_annotations` does; `bad_annotation` for an axis that no factor runs along.
    """
    model = load_graph_file(path).model
    nodes = file_nodes(model.graph)
    annotations = read_annotations(model, nodes)
    stages = _operator_stages(graph, nodes, annotations)
    order = sorted(range(len(stages)), key=lambda index: stages[index])
    numbers = {stage: number for number, stage in enumerate(sorted(set(stages)))}
    sizes = _sizes(annotations, sorted(numbers))
    pins: dict[str, str] = {}
    if max(sizes) > 1:
        axes = node_axes(graph, nodes, value_types(path, bindings))
        pins = _pins(graph, nodes, annotations, axes)
    followed = replace(
        options,
        groups=sizes,
        pins=(*_not_pinned(graph, pins, dict(options.pins)), *options.pins),
        stages=tuple(numbers[stages[index]] for index in order),
    )
    return replace(graph, operators=tuple(graph.operators[index] for index in order)), followed


def _not_pinned(graph: Graph, pins: Mapping[str, str], asked: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The file's pins of operators that the user's, by whatever name, say nothing of."""
    decided = {o.name for o in graph.operators if not asked.keys().isdisjoint(pin_names(o))}
    return ((name, pin) for name, pin in pins.items() if name not in decided)


def _operator_stages(graph: Graph, nodes: FileNodes, annotations: Annotations) -> list[int]:
    """Every operator's stage: that of its nodes, the earliest of several, but no earlier than what it reads;
    operators that must share a chip are together in the latest of theirs."""
    asked = [_asked_stage(operator.nodes, nodes, annotations) for operator in graph.operators]
    writers = writers_of(graph.operators)
    stages = [0] * len(asked)
    for item in shared_items(graph, frozenset()):
        before = (w for i in item for o in graph.operators[i].operands for w in writers.get(o.tensor, ()))
        first = max((stages[writer] for writer in before if writer not in item), default=0)
        stage = max(first, *(asked[index] or 0 for index in item))
        for index in item:
            stages[index] = stage
    return stages


def _asked_stage(names: Sequence[str], nodes: FileNodes, annotations: Annotations) -> int | None:
    found = (annotations.nodes.get(owner) for name in names if (owner := nodes.owner(name)) is not None)
    stages = [a.stage for a in found if a is not None and a.stage is not None]
    return min(stages, default=None)


def _sizes(annotations: Annotations, stages: Sequence[int]) -> tuple[int, ...]:
    """Chips of every stage: those of its nodes' specs; where there are none, an equal part of all."""
    devices: dict[int, set[int]] = {stage: set() for stage in stages}
    for annotation in annotations.nodes.values():
        devices.setdefault(annotation.stage or 0, set()).update(annotation.devices)
    part = max(1, annotations.devices // len(stages))
    return tuple(len(devices[stage]) or part for stage in stages)


def _pins(
    graph: Graph, nodes: FileNodes, annotations: Annotations, axes: Mapping[int, NodeAxes]
) -> dict[str, str]:
    """What the nodes with sharding specs split; nodes that no operator came from follow their neighbours."""
    pins: dict[str, str] = {}
    problems: list[Problem] = []
    for position, annotation in annotations.nodes.items():
        if not annotation.is_sharded or position not in axes or len(annotation.devices) < 2:
            continue
        name = nodes.nodes[position].name
        try:
            factors = dict(_split_factors(graph, axes[position], annotation))
        except _NoFactor as error:
            words = f"node {name}: {error}; correct the annotation, or leave --use-annotations out"
            problems.append(Problem("bad_annotation", words, node=name))
            continue
        # An annotation says how the node's tensors are cut: a matter of its main operator alone.
        pins[graph.operators[axes[position].operator].name] = _pin(factors, len(annotation.devices))
    if problems:
        raise BadInput(problems)
    return pins


def _pin(factors: Mapping[str, Shards], devices: int) -> str:
    """A factor for each axis of a mesh: on one axis, what is named first and not "none" counts alike."""
    if not factors:
        return "none"
    name, shards = next(iter(factors.items()))
    if shards.pieces >= devices:
        return f"{name},{name}"
    outer = next((n for n, s in factors.items() if s.stride > 1), "none")
    inner = next((n for n, s in factors.items() if s.stride <= 1), "none")
    return f"{outer},{inner}"


class _NoFactor(Exception):
    """An annotation cuts what no factor of the node's operator runs along."""


def _split_factors(graph: Graph, axes: NodeAxes, annotation: NodeAnnotation) -> Iterator[tuple[str, Shards]]:
    """Factors that are cut, and how; a tensor whose axes are unknown says nothing."""
    operator = graph.operators[axes.operator]
    for shards in annotation.shards:
        tensor, known = shards.tensor, axes.values.get(shards.tensor)
        if known is None:
            continue
        if not -len(known) <= shards.axis < len(known):
            raise _NoFactor(f"its tensor {tensor} has no axis {shards.axis}")
        factor = known[shards.axis]
        if factor is None:
            raise _NoFactor(f"axis {shards.axis} of its tensor {tensor} has extent 1 and cannot be cut")
        yield operator.factors[factor].name, shards
