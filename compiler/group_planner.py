"""Stages on groups of chips: cuts, shapes and shardings together, then the schedule of the best of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np

from chiplan.ir import Certificate, DType, Graph, Target
from chiplan.partitioner import (
    GroupArc,
    GroupPlan,
    GroupProblem,
    group_shapes,
    place_groups,
)

from .atoms import find_atoms
from .blocks import find_blocks
from .device_graph import CollectiveRequest, DeviceGraph, GroupStage, build_device_graph
from .graph_edit import writers_of
from .group_costs import RESOURCES, GroupCosts, Mesh, ShapeCosts, crossing_bytes, crossing_cycles
from .interval_search import Found, IntervalSearch
from .options import Options
from .partitioning import recomputable, shared_items
from .scheduling import StageWork
from .tile_choice import tile_graph

_MOST_POSITIONS = 400
"""Where there are more places to cut, only those are tried where least crosses."""



@dataclass(frozen=True)
class GroupCandidate:
    """A plan of groups as scheduled. `graph` is the device graph; `estimate` what the solver thought of it."""

    device: DeviceGraph
    stages: tuple[StageWork, ...]
    found: Found
    estimate: GroupPlan
    shapes: tuple[ShapeCosts, ...]
    certificates: tuple[Certificate, ...]


class GroupPlanner:
    """Plans a prepared graph on groups of chips. Nothing is computed before it is asked for."""

    def __init__(
        self, graph: Graph, target: Target, options: Options, progress: Callable[[str], None]
    ) -> None:
        self.graph, self.target, self.options, self.progress = graph, target, options, progress
        self.chips = options.chips or target.topology.chips
        self._shapes: dict[Mesh, ShapeCosts] = {}

    @cached_property
    def atoms(self):
        return find_atoms(self.graph)

    @cached_property
    def cheap(self) -> tuple[int, ...]:
        """Operators that every stage which needs them executes."""
        return recomputable(self.graph, tile_graph(self.graph, self.target.chip), self.target)

    @cached_property
    def planned(self) -> tuple[int, ...]:
        cheap = frozenset(self.cheap)
        return tuple(index for index in range(len(self.graph.operators)) if index not in cheap)

    @cached_property
    def _costs(self) -> GroupCosts:
        return GroupCosts(
            self.graph,
            self.atoms,
            find_blocks(self.graph),
            self.planned,
            self.target,
            self.options.users,
            dict(self.options.pins),
        )

    def shape(self, mesh: Mesh) -> ShapeCosts:
        if mesh not in self._shapes:
            self.progress(f"sharding over {' x '.join(map(str, mesh))} chips")
            self._shapes[mesh] = self._costs.shape(mesh)
        return self._shapes[mesh]

    @cached_property
    def meshes(self) -> tuple[Mesh, ...]:
        """Shapes of groups that are worth a try with the chips allowed."""
        return tuple(mesh for _, mesh in group_shapes(self.target, self.chips))

    @cached_property
    def allowed(self) -> np.ndarray:
        """bool[planned + 1]: where the planned operators may be cut: not between writers of one tensor or
        users of one state, and in large graphs where least is carried."""
        carried = crossing_bytes(self.graph, self.planned)[[*self.planned, len(self.graph.operators)]]
        allowed = np.ones(len(self.planned) + 1, dtype=bool)
        position = {index: number for number, index in enumerate(self.planned)}
        for item in shared_items(self.graph, frozenset(self.cheap)):
            low, high = position[min(item)], position[max(item)]
            allowed[low + 1 : high + 1] = False
        inner = allowed.copy()
        inner[[0, -1]] = False
        if inner.sum() > _MOST_POSITIONS:
            least = np.sort(carried[inner])[_MOST_POSITIONS // 2]
            allowed &= carried <= 2 * max(1, least)
        allowed[[0, -1]] = True
        return allowed

    def problem(self, chips: int, spare: int = 0, meshes: Sequence[Mesh] | None = None) -> GroupProblem:
        """The stage problem on at most so many chips, `spare` bytes a chip left free."""
        meshes = [mesh for mesh in meshes or self.meshes if prod(mesh) <= chips]
        shapes = [self.shape(mesh) for mesh in meshes]
        columns = list(self.planned)
        carried = crossing_bytes(self.graph, self.planned)[[*columns, len(self.graph.operators)]]
        crossing = [crossing_cycles(carried, shape.size, self.target) for shape in shapes]
        link_work = np.zeros((len(shapes), RESOURCES, len(carried)), dtype=np.int64)
        link_work[:, -1] = [busy for _, busy in crossing]
        return GroupProblem(
            sizes=tuple(shape.size for shape in shapes),
            latency=_prefix([shape.latency[columns] for shape in shapes]),
            work=_prefix([shape.work[:, columns] for shape in shapes]),
            resident=_prefix([shape.resident[columns] for shape in shapes]),
            activations=np.array([shape.activations[columns] for shape in shapes]),
            crossing=np.array([latency for latency, _ in crossing]),
            capacity=int(self.target.chip.usable_bytes) - spare,
            chips=chips,
            objective=self.options.objective,
            max_latency=self._cycles(self.options.max_latency),
            max_interval=self._cycles(self.options.max_interval),
            users=self.options.users,
            states=_prefix([shape.states[columns] for shape in shapes]),
            crossing_work=link_work,
            allowed=self.allowed,
        )

    def _cycles(self, microseconds: float | None) -> int | None:
        if microseconds is None:
            return None
        return int(microseconds * self.target.chip.clock_hz / 1e6)

    def realise(self, problem: GroupProblem, plan: GroupPlan, meshes: Sequence[Mesh]) -> GroupCandidate:
        """Place, lower and schedule what the solver chose. Raises OutOfSram."""
        shapes = [self.shape(meshes[arc.size_index]) for arc in plan.arcs]
        groups = [
            GroupStage(operators, shape.mesh, self._decisions(operators, shape))
            for operators, shape in zip(self._operators(plan.arcs), shapes, strict=True)
        ]
        traffic = {
            (number, number + 1): int(problem.crossing[after.size_index, after.first])
            for number, (_, after) in enumerate(pairwise(plan.arcs))
        }
        chips, placement = place_groups([shape.mesh for shape in shapes], traffic, self.target.topology)
        wire = DType(self.options.wire) if self.options.wire else None
        self.progress(f"lowering {len(groups)} stages")
        device = build_device_graph(self.graph, self.atoms, groups, self._choose, wire)
        tiled = tile_graph(device.graph, self.target.chip)
        stages = tuple(
            StageWork(tuple(map(int, held)), shape.mesh, operators)
            for held, shape, operators in zip(chips, shapes, device.stages, strict=True)
        )
        search = IntervalSearch(
            device.graph, self.target, tiled, self.options.objective, self.options.users, self.progress
        )
        found = search.run(stages)
        used = tuple({shape.mesh: shape for shape in shapes}.values())
        certificates = (plan.certificate, *(c for shape in used for c in shape.certificates), placement)
        return GroupCandidate(device, stages, found, plan, used, certificates)

    def _choose(self, request: CollectiveRequest) -> str:
        return self._shapes[request.mesh].costs.choose(request)

    def _decisions(self, operators: Sequence[int], shape: ShapeCosts) -> Mapping[int, tuple]:
        none = (None,) * len(shape.mesh)
        return {index: shape.decisions.get(index, none) for index in operators}

    def _operators(self, arcs: Sequence[GroupArc]) -> Iterator[tuple[int, ...]]:
        """Operators of every stage, with the recomputed ones that it needs."""
        writers, cheap = writers_of(self.graph.operators), frozenset(self.cheap)
        for arc in arcs:
            chosen = set(self.planned[arc.first : arc.last])
            stack = list(chosen)
            while stack:
                for operand in self.graph.operators[stack.pop()].operands:
                    for writer in writers.get(operand.tensor, ()):
                        if writer in cheap and writer not in chosen:
                            chosen.add(writer)
                            stack.append(writer)
            yield tuple(sorted(chosen))


def _prefix(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Sums before every position along the last axis, one shape after the other."""
    stacked = np.array(rows, dtype=np.int64)
    padded = np.zeros((*stacked.shape[:-1], stacked.shape[-1] + 1), dtype=np.int64)
    np.cumsum(stacked, axis=-1, out=padded[..., 1:])
    return padded
