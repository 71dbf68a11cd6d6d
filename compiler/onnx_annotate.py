"""Writes a plan into its ONNX model as multi-device annotations: who executes a node, what its tensors are
cut over. docs/onnx-export.md says what can be expressed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import onnx

from chiplan.ir import Graph, Operator, Plan, Split, Stage, mesh_places

from .atoms import find_atoms
from .axis_factors import Axes, NodeAxes
from .node_places import NodePlaces, planned_name

CONFIGURATION = "chiplan"
STAGES_KEY = "chiplan.stages"
"""Metadata of a node that several stages execute: all of them, where the annotation has room for one."""
_IR_VERSION = 11


@dataclass(frozen=True)
class AxisCut:
    """Axis `axis` of a tensor, of which `parts` [(extent, pieces)] are the extents outermost first, over the
    mesh `axes` of its group."""

    axis: int
    parts: tuple[tuple[int, int], ...]
    axes: tuple[int, ...]


def annotate(
    model: onnx.ModelProto,
    plan: Plan,
    whole: Graph,
    places: NodePlaces,
    axes: Mapping[int, NodeAxes],
) -> None:
    """Changes `model`; annotations of an earlier plan are replaced, those of others are kept."""
    model.ir_version = max(model.ir_version, _IR_VERSION)
    _remove_own(model)
    chips = plan.target.topology.chips
    names = [f"{plan.target.name}/{chip}" for chip in range(chips)]
    model.configuration.add(name=CONFIGURATION, num_devices=chips, device=names)
    splits = _Splits(plan, whole)
    for index, stages in enumerate(places.stages):
        if stages:
            known = axes.get(index)
            specs = splits.specs(known, stages[0]) if known else ()
            _annotate_node(model.graph.node[index], stages, specs)


def _annotate_node(
    node: onnx.NodeProto, stages: Sequence[int], specs: Sequence[onnx.ShardingSpecProto]
) -> None:
    node.device_configurations.add(
        configuration_id=CONFIGURATION, pipeline_stage=stages[0], sharding_spec=specs
    )
    if len(stages) > 1:
        node.metadata_props.add(key=STAGES_KEY, value=" ".join(map(str, stages)))


def _remove_own(model: onnx.ModelProto) -> None:
    kept = [entry for entry in model.configuration if entry.name != CONFIGURATION]
    del model.configuration[:]
    model.configuration.extend(kept)
    for node in model.graph.node:
        others = [entry for entry in node.device_configurations if entry.configuration_id != CONFIGURATION]
        facts = [entry for entry in node.metadata_props if entry.key != STAGES_KEY]
        del node.device_configurations[:], node.metadata_props[:]
        node.device_configurations.extend(others)
        node.metadata_props.extend(facts)


class _Splits:
    """What the chips of every stage split of an operator, as sharding specs."""

    def __init__(self, plan: Plan, whole: Graph) -> None:
        self._plan, self._whole = plan, whole
        self._atoms = find_atoms(whole)
        known = frozenset(operator.name for operator in whole.operators)
        self._executed = [
            {
                planned_name(plan.graph.operators[index].name, number, known): plan.graph.operators[index]
                for index in stage.program.operators
            }
            for number, stage in enumerate(plan.stages)
        ]

    def specs(self, axes: NodeAxes, stage: int) -> Sequence[onnx.ShardingSpecProto]:
        """One for each tensor of the node whose axes are known; none where the stage does not execute the
        node's main operator, or splits it in a way that a spec cannot say."""
        executed = self._executed[stage].get(self._whole.operators[axes.operator].name)
        if executed is None:
            return ()
        held = self._plan.stages[stage]
        splits = _by_factor(executed)
        if splits is None:
            return ()
        found = []
        for name, factors in axes.values.items():
            cuts = list(self._cuts(axes.operator, executed, factors, splits, held.mesh))
            found.append(sharding_spec(name, cuts, held))
        return found

    def _cuts(
        self,
        index: int,
        executed: Operator,
        factors: Axes,
        splits: Mapping[str, Split],
        mesh: Sequence[int],
    ) -> Iterator[AxisCut]:
        """What of a tensor is cut, given the factors along its axes."""
        operator = self._whole.operators[index]
        for axis, factor in enumerate(factors):
            split = None if factor is None else splits.get(operator.factors[factor].name)
            if factor is None or split is None:
                continue
            part = executed.factors[split.factor].extent
            ways = prod(mesh[a] for a in split.axes)
            extents = self._atoms.operators[index].factors[factor]
            yield AxisCut(axis, _parts(extents, part, ways), split.axes)


def _by_factor(executed: Operator) -> dict[str, Split] | None:
    """Splits by the planned factor's name; None where one factor is split in several ways."""
    found: dict[str, Split] = {}
    for split in executed.splits:
        name = executed.factors[split.factor].name.partition("/")[0]
        if name in found:
            return None
        found[name] = split
    return found


def _parts(extents: Sequence[int], part: int, ways: int) -> tuple[tuple[int, int], ...]:
    """(extent, pieces) of the parts of a factor: its outermost part that leaves a chip `part` iterations."""
    whole = prod(extents)
    cut = next((a for a, extent in enumerate(extents) if whole // extent * ceil(extent / ways) == part), 0)
    return tuple((extent, ways if a == cut else 1) for a, extent in enumerate(extents))


def sharding_spec(name: str, cuts: Sequence[AxisCut], stage: Stage) -> onnx.ShardingSpecProto:
    """Device entries are in row-major order of the pieces; chips with equal pieces are one entry."""
    spec = onnx.ShardingSpecProto(tensor_name=name)
    for cut in cuts:
        dimension = spec.sharded_dim.add(axis=cut.axis)
        for extent, pieces in cut.parts:
            dimension.simple_sharding.add(dim_value=extent, num_shards=pieces)
    ways = [prod(pieces for _, pieces in cut.parts) for cut in cuts]
    holders: dict[tuple[int, ...], list[int]] = {}
    for chip, place in zip(stage.chips, mesh_places(stage.mesh), strict=True):
        holders.setdefault(tuple(place.piece(cut.axes) for cut in cuts), []).append(int(chip))
    for number, piece in enumerate(product(*map(range, ways)), 1):
        chips = holders[piece]
        spec.device.append(chips[0] if len(chips) == 1 else -number)
        if len(chips) > 1:
            spec.index_to_device_group_map.add(key=-number, value=chips)
    return spec
