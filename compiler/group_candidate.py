"""A plan of groups as scheduled: stages placed on chips, lowered to a device graph, and their schedule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chiplan.ir import Certificate, DType, Graph, ShardingChoice, Target
from chiplan.partitioner import GroupArc, GroupPlan, place_groups

from .atoms import Decision, GraphAtoms
from .collective_costs import CollectiveCosts
from .device_graph import CollectiveRequest, DeviceGraph, GroupStage, build_device_graph
from .graph_edit import writers_of
from .group_costs import Mesh, ShapeCosts
from .interval_search import Found, IntervalSearch
from .quantities import counted
from .scheduling import StageWork
from .tile_choice import tile_graph


@dataclass(frozen=True)
class GroupCandidate:
    """A plan of groups as scheduled. plan: what the solver chose, with its estimates. least: no interval of
    these stages is shorter. shapes, groups: of every stage, operators of the graph that was planned.
    certificates: of shardings, cuts and placement."""

    plan: GroupPlan
    device: DeviceGraph
    stages: tuple[StageWork, ...]
    found: Found
    least: int
    shapes: tuple[ShapeCosts, ...]
    groups: tuple[GroupStage, ...]
    certificates: tuple[Certificate, ...]

    def sharding(self) -> tuple[ShardingChoice, ...]:
        """What every operator of a group splits, and the next best, which takes some solving to find."""
        shapes = {arc.size_index: shape for arc, shape in zip(self.plan.arcs, self.shapes, strict=True)}
        stages: dict[int, dict[int, tuple[int, ...]]] = {number: {} for number in sorted(shapes)}
        for stage, (arc, group) in enumerate(zip(self.plan.arcs, self.groups, strict=True)):
            stages[arc.size_index][stage] = tuple(group.operators)
        return tuple(
            choice
            for number, held in stages.items()
            if shapes[number].size > 1
            for choice in shapes[number].choices(held)
        )

    def decisions(self) -> Iterator[tuple[int, Decision]]:
        """What every operator splits in every stage that executes it."""
        for group in self.groups:
            yield from group.decisions.items()


class Realisation:
    """Makes candidates of what the solver chose. planned: the operators that belong to one stage; `cheap`
    ones are repeated in every stage that needs them. carried: int64[planned + 1], bytes over a cut before
    each planned operator. shapes: those that arcs refer to."""

    def __init__(
        self,
        graph: Graph,
        atoms: GraphAtoms,
        target: Target,
        shapes: Sequence[ShapeCosts],
        planned: Sequence[int],
        cheap: Sequence[int],
        carried: np.ndarray,
        users: int,
        wire: DType | None,
        progress: Callable[[str], None],
    ) -> None:
        self.graph, self.atoms, self.target, self.shapes = graph, atoms, target, shapes
        self.planned, self.cheap, self.carried = planned, frozenset(cheap), carried
        self.users, self.wire, self.progress = users, wire, progress

    def candidate(self, plan: GroupPlan, objective: str) -> GroupCandidate:
        """Place, lower and schedule a plan for an objective. Raises OutOfSram."""
        shapes = [self.shapes[arc.size_index] for arc in plan.arcs]
        groups = [
            GroupStage(operators, shape.mesh, self._decisions(operators, shape))
            for operators, shape in zip(self._operators(plan.arcs), shapes, strict=True)
        ]
        entries = enumerate(arc.first for arc in plan.arcs[1:])
        traffic = {(number, number + 1): int(self.carried[first]) for number, first in entries}
        chips, placement = place_groups([shape.mesh for shape in shapes], traffic, self.target.topology)
        self.progress(f"lowering {counted(len(groups), 'stage')}")
        device = build_device_graph(self.graph, self.atoms, groups, self._choose, self.wire)
        tiled = tile_graph(device.graph, self.target.chip)
        stages = tuple(
            StageWork(tuple(map(int, held)), shape.mesh, operators)
            for held, shape, operators in zip(chips, shapes, device.stages, strict=True)
        )
        search = IntervalSearch(device.graph, self.target, tiled, objective, self.users, self.progress)
        found = search.run(stages)
        used = tuple(self.shapes[index] for index in sorted({arc.size_index for arc in plan.arcs}))
        certificates = (plan.certificate, *(c for shape in used for c in shape.certificates), placement)
        return GroupCandidate(
            plan,
            device,
            stages,
            found,
            search.least(stages),
            tuple(shapes),
            tuple(groups),
            certificates,
        )

    def _choose(self, request: CollectiveRequest) -> str:
        return self._costs_of[request.mesh].choose(request)

    @cached_property
    def _costs_of(self) -> dict[Mesh, CollectiveCosts]:
        return {shape.mesh: shape.costs for shape in self.shapes}

    def _operators(self, arcs: Sequence[GroupArc]) -> Iterator[tuple[int, ...]]:
        """Operators of every stage, with the recomputed ones that it needs."""
        writers = writers_of(self.graph.operators)
        for arc in arcs:
            chosen = set(self.planned[arc.first : arc.last])
            stack = list(chosen)
            while stack:
                for operand in self.graph.operators[stack.pop()].operands:
                    for writer in writers.get(operand.tensor, ()):
                        if writer in self.cheap and writer not in chosen:
                            chosen.add(writer)
                            stack.append(writer)
            yield tuple(sorted(chosen))

    def _decisions(self, operators: Sequence[int], shape: ShapeCosts) -> Mapping[int, Decision]:
        none: Decision = (None,) * len(shape.mesh)
        return {index: shape.decisions.get(index, none) for index in operators}
