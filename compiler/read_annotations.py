"""Reads the multi-device annotations of an ONNX file, and refuses what they cannot mean."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx

from chiplan.ir import BadInput, Problem

from .file_nodes import FileNode, FileNodes
from .onnx_annotate import CONFIGURATION, STAGES_KEY


@dataclass(frozen=True)
class Shards:
    """A tensor's axis that is cut into `pieces`. stride: how many devices behind the first, in their order,
    the second piece begins; 1 where neighbours have different pieces."""

    tensor: str
    axis: int
    pieces: int
    stride: int


@dataclass(frozen=True)
class NodeAnnotation:
    """stage: None where none is given. stages: all that execute the node. devices: those of its sharding
    specs. shards: what they cut; is_sharded: whether there are specs at all."""

    stage: int | None
    stages: frozenset[int]
    devices: frozenset[int]
    shards: tuple[Shards, ...]
    is_sharded: bool


@dataclass(frozen=True)
class Annotations:
    """Of one configuration. nodes: by position in the file; devices: how many the configuration has."""

    devices: int
    nodes: dict[int, NodeAnnotation]


def has_annotations(model: onnx.ModelProto) -> bool:
    """Whether any node carries one."""
    return any(node.device_configurations for node in model.graph.node)


def read_annotations(model: onnx.ModelProto, nodes: FileNodes) -> Annotations:
    """Those of the configuration that `chiplan export` wrote, else of the only one.

    Raises BadInput: `no_annotations`, `several_configurations`, `bad_annotation` (all of them, by node)."""
    chosen = _configuration(model)
    known = {entry.name for entry in model.configuration}
    found: dict[int, NodeAnnotation] = {}
    problems: list[Problem] = []
    for index, (node, proto) in enumerate(zip(nodes.nodes, model.graph.node, strict=True)):
        for entry in proto.device_configurations:
            wrong = list(_faults(entry, known, chosen, node))
            if entry.configuration_id == chosen.name and not wrong:
                if index in found:
                    wrong.append(f"it has two annotations for the configuration {chosen.name!r}")
                found[index] = _annotation(entry, proto)
            problems += [_problem(node.name, words) for words in wrong]
    problems += [_problem(name, words) for name, words in _contradictions(nodes, found)]
    if problems:
        raise BadInput(problems)
    return Annotations(chosen.num_devices, found)


def _configuration(model: onnx.ModelProto) -> onnx.DeviceConfigurationProto:
    if not has_annotations(model):
        message = (
            "--use-annotations: the file has no multi-device annotations; leave the option out, or write "
            "them with `chiplan export PLAN MODEL --onnx FILE`"
        )
        raise BadInput(Problem("no_annotations", message))
    configurations = list(model.configuration)
    own: list[onnx.DeviceConfigurationProto] = [
        entry for entry in configurations if entry.name == CONFIGURATION
    ] or configurations
    if len(own) != 1:
        names = ", ".join(repr(entry.name) for entry in own) or "none"
        message = (
            f"--use-annotations: expected one configuration, or one of the name {CONFIGURATION!r}, and the "
            f"file has {names}; keep one of them"
        )
        raise BadInput(Problem("several_configurations", message))
    return own[0]


def _problem(node: str, words: str) -> Problem:
    return Problem(
        "bad_annotation", f"node {node}: {words}. Correct it, or leave --use-annotations out", node
    )


def _faults(
    entry: onnx.NodeDeviceConfigurationProto,
    known: set[str],
    chosen: onnx.DeviceConfigurationProto,
    node: FileNode,
) -> Iterator[str]:
    """What is wrong with an annotation, in words."""
    if entry.configuration_id not in known:
        yield f"its annotation is for the configuration {entry.configuration_id!r}, which is not in the model"
    if entry.configuration_id != chosen.name:
        return
    if entry.HasField("pipeline_stage") and entry.pipeline_stage < 0:
        yield f"its pipeline stage is {entry.pipeline_stage}; expected 0 or more"
    for spec in entry.sharding_spec:
        yield from _spec_faults(spec, chosen.num_devices, node)


def _spec_faults(spec: onnx.ShardingSpecProto, devices: int, node: FileNode) -> Iterator[str]:
    name = spec.tensor_name
    if name not in (*node.needs, *node.makes):
        yield f"its annotation is about the tensor {name!r}, which it neither reads nor makes"
    outside = [device for device in sorted(_devices(spec)) if not 0 <= device < devices]
    if outside:
        yield f"tensor {name} lies on device {outside[0]}, and the configuration has 0 to {devices - 1}"
    shards = [(d.axis, s.num_shards) for d in spec.sharded_dim for s in d.simple_sharding]
    few = [(axis, count) for axis, count in shards if count < 1]
    if few:
        yield f"axis {few[0][0]} of {name} is cut into {few[0][1]} shards; expected 1 or more"
    twice = [a for a, times in Counter(d.axis for d in spec.sharded_dim).items() if times > 1]
    if twice:
        yield f"axis {twice[0]} of {name} is cut twice"
    pieces = prod(count for _, count in shards)
    if pieces > 1 and len(spec.device) != pieces and not few:
        yield f"tensor {name} is cut into {pieces} pieces, and {len(spec.device)} places are given for them"


def _devices(spec: onnx.ShardingSpecProto) -> set[int]:
    groups = {entry.key: list(entry.value) for entry in spec.index_to_device_group_map}
    return {device for place in spec.device for device in groups.get(place, [place])}


def _annotation(entry: onnx.NodeDeviceConfigurationProto, node: onnx.NodeProto) -> NodeAnnotation:
    stage = int(entry.pipeline_stage) if entry.HasField("pipeline_stage") else None
    shards = (shard for spec in entry.sharding_spec for shard in _shards(spec))
    devices = (_devices(spec) for spec in entry.sharding_spec)
    return NodeAnnotation(
        stage,
        frozenset(() if stage is None else (stage, *_all_stages(node))),
        frozenset().union(*devices),
        tuple(shards),
        bool(entry.sharding_spec),
    )


def _shards(spec: onnx.ShardingSpecProto) -> Iterator[Shards]:
    """Places are in row-major order of the pieces of all axes that are cut."""
    groups = {entry.key: list(entry.value) for entry in spec.index_to_device_group_map}
    first = [min(groups.get(place, [place])) for place in spec.device]
    rank = {device: number for number, device in enumerate(sorted(_devices(spec)))}
    ways = [prod(part.num_shards for part in dimension.simple_sharding) for dimension in spec.sharded_dim]
    for place, dimension in enumerate(spec.sharded_dim):
        if ways[place] > 1:
            stride = rank[first[prod(ways[place + 1 :])]] - rank[first[0]]
            yield Shards(spec.tensor_name, dimension.axis, ways[place], stride)


def _all_stages(node: onnx.NodeProto) -> Iterator[int]:
    """Further stages that execute the node, where `chiplan export` has noted them."""
    for fact in node.metadata_props:
        if fact.key == STAGES_KEY:
            yield from (int(word) for word in fact.value.split() if word.isdecimal())


def _contradictions(nodes: FileNodes, found: dict[int, NodeAnnotation]) -> Iterator[tuple[str, str]]:
    """Nodes that read what a later stage makes."""
    for index, annotation in found.items():
        for name in nodes.nodes[index].needs:
            maker = found.get(nodes.maker_of.get(name, -1))
            if maker is None or annotation.stage is None or not maker.stages:
                continue
            if min(maker.stages) > annotation.stage:
                by = nodes.nodes[nodes.maker_of[name]].name
                words = f"it is in stage {annotation.stage} and reads {name}, which {by} makes in stage"
                yield nodes.nodes[index].name, f"{words} {min(maker.stages)}"
