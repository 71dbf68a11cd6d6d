"""Stages on groups of chips: cuts, shapes and shardings together, then the schedule of the best of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from chiplan.ir import Certificate, DType, Graph, Infeasible, Problem, ShardingChoice, Target
from chiplan.partitioner import (
    GroupArc,
    GroupPlan,
    GroupProblem,
    frontier,
    group_shapes,
    place_groups,
    plan_counts,
    plan_groups,
    plan_sequence,
    smallest_chips,
)

from .addresses import OutOfSram
from .atoms import Decision, GraphAtoms, find_atoms
from .blocks import find_blocks
from .collective_costs import CollectiveCosts
from .device_graph import CollectiveRequest, DeviceGraph, GroupStage, build_device_graph
from .graph_edit import writers_of
from .group_costs import RESOURCES, GroupCosts, Mesh, ShapeCosts, crossing_bytes, crossing_cycles
from .interval_search import Found, IntervalSearch, pace
from .memory_check import Shortage
from .options import Options
from .partitioning import recomputable, shared_items
from .quantities import size
from .scheduling import StageWork
from .tile_choice import tile_graph

_COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_FEWER = 8
"""With so many of the largest smaller counts plans are made too: what helps there is not lost where more
are allowed."""

_EFFORT, _FEWEST_TRIES, _MOST_TRIES = 8_000, 1, 6
"""Operators that are scheduled in all, and the plans that are tried at the least and the most."""

_LIGHT = 1 << 17
"""Bytes that are carried from layer to layer beyond which no group spans several nodes: the few links
between nodes would take longer than what is divided."""

_MOST_OF_A_GROUP = 32
"""Beyond so many chips weight blocks are padded more than they are divided, and exchanges take longer than
what is saved; --groups asks for larger ones."""

OVERLAP = 2.0
"""Estimates of latency count no overlap: a plan may be so many times faster than its own."""

_RETRIES = 4

_MOST_POSITIONS = 80
"""Where there are more places to cut, only those are tried where least crosses."""


@dataclass(frozen=True)
class GroupCandidate:
    """A plan of groups as scheduled. plan: what the solver chose, with its estimates. least: no interval of
    these stages is shorter. shapes, operators: of every stage, operators of the graph that was planned.
    certificates: of shardings, cuts and placement."""

    plan: GroupPlan
    device: DeviceGraph
    stages: tuple[StageWork, ...]
    found: Found
    least: int
    shapes: tuple[ShapeCosts, ...]
    operators: tuple[tuple[int, ...], ...]
    certificates: tuple[Certificate, ...]

    def sharding(self) -> tuple[ShardingChoice, ...]:
        """What every operator of a group splits, and the next best, which takes some solving to find."""
        shapes = {arc.size_index: shape for arc, shape in zip(self.plan.arcs, self.shapes, strict=True)}
        stages: dict[int, dict[int, tuple[int, ...]]] = {number: {} for number in sorted(shapes)}
        for stage, (arc, operators) in enumerate(zip(self.plan.arcs, self.operators, strict=True)):
            stages[arc.size_index][stage] = operators
        return tuple(
            choice
            for number, held in stages.items()
            if shapes[number].size > 1
            for choice in shapes[number].choices(held)
        )


class GroupPlanner:
    """Plans a prepared graph on groups of chips. Nothing is computed before it is asked for."""

    def __init__(
        self, graph: Graph, target: Target, options: Options, progress: Callable[[str], None]
    ) -> None:
        self.graph, self.target, self.options, self.progress = graph, target, options, progress
        self.chips = options.chips or target.topology.chips
        self.wire = DType(options.wire) if options.wire else None
        self._plans: dict[int, list[GroupPlan]] = {}

    @cached_property
    def atoms(self) -> GraphAtoms:
        return find_atoms(self.graph)

    @cached_property
    def cheap(self) -> tuple[int, ...]:
        """Operators that every stage which needs them executes."""
        return recomputable(self.graph, tile_graph(self.graph, self.target.chip), self.target)

    @property
    def _is_small(self) -> bool:
        """Whether every plan is made in the blink of an eye."""
        return len(self.graph.operators) <= _EFFORT // _MOST_TRIES

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
            self.wire,
        )

    @cached_property
    def shapes(self) -> tuple[ShapeCosts, ...]:
        """Every mesh with the shardings that are worth a try on it."""
        return tuple(shape for mesh in self.meshes for shape in self._shapes_of(mesh))

    def _shapes_of(self, mesh: Mesh) -> list[ShapeCosts]:
        self.progress(f"sharding over {' x '.join(map(str, mesh))} chips")
        return self._costs.shapes(mesh)

    @cached_property
    def _shapes_there_are(self) -> tuple[Mesh, ...]:
        return tuple(mesh for _, mesh in group_shapes(self.target, self.chips))

    @cached_property
    def meshes(self) -> tuple[Mesh, ...]:
        """Shapes of groups that are worth a try with the chips allowed, or those asked for."""
        groups = self.options.groups
        if groups is None:
            carried = self._carried[1:-1]
            is_light = not len(carried) or int(carried.min()) <= _LIGHT
            return tuple(
                mesh
                for mesh in self._shapes_there_are
                if prod(mesh) <= _MOST_OF_A_GROUP and (is_light or len(mesh) == 1)
            )
        known = [mesh for mesh in self._shapes_there_are if prod(mesh) in groups]
        sizes = {prod(mesh) for mesh in known}
        return (*known, *((size,) for size in sorted(set(groups) - sizes)))

    @cached_property
    def allowed(self) -> np.ndarray:
        """bool[planned + 1]: where the planned operators may be cut: not between writers of one tensor or
        users of one state, and in large graphs where least is carried; or where the stages asked for end."""
        if self.options.stages is not None:
            stages = np.array(self.options.stages)[list(self.planned)]
            return np.concatenate([[True], stages[1:] != stages[:-1], [True]])
        carried = self._carried
        allowed = np.ones(len(self.planned) + 1, dtype=bool)
        position = {index: number for number, index in enumerate(self.planned)}
        for item in shared_items(self.graph, frozenset(self.cheap)):
            low, high = position[min(item)], position[max(item)]
            allowed[low + 1 : high + 1] = False
        inner = allowed.copy()
        inner[[0, -1]] = False
        if inner.sum() > _MOST_POSITIONS:
            allowed &= carried <= np.sort(carried[inner])[_MOST_POSITIONS // 2]
        allowed[[0, -1]] = True
        return allowed

    @cached_property
    def _carried(self) -> np.ndarray:
        """int64[planned + 1]: bytes that cross a cut before each planned operator, and the end."""
        return crossing_bytes(self.graph, self.planned)[[*self.planned, len(self.graph.operators)]]

    def problem(self, chips: int, spare: int = 0) -> GroupProblem:
        """The stage problem on at most so many chips, `spare` bytes a chip left free."""
        shapes = self.shapes
        columns, carried = list(self.planned), self._carried
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
            max_latency=self._cycles(self.options.max_latency, OVERLAP),
            max_interval=self._cycles(self.options.max_interval),
            users=self.options.users,
            states=_prefix([shape.states[columns] for shape in shapes]),
            crossing_work=link_work,
            allowed=self.allowed,
        )

    def _cycles(self, microseconds: float | None, slack: float = 1.0) -> int | None:
        if microseconds is None:
            return None
        return int(slack * microseconds * self.target.chip.clock_hz / 1e6)

    def candidates(self, worth: Callable[[GroupPlan, int], bool]) -> Iterator[GroupCandidate]:
        """Scheduled plans, the most promising first. `worth` says of a plan and of its estimate of what the
        objective minimises whether it is worth a schedule. Raises Infeasible when none fits into SRAM.
        """
        spare, tries = 0, max(_FEWEST_TRIES, min(_MOST_TRIES, _EFFORT // len(self.graph.operators)))
        last: OutOfSram | None = None
        for _ in range(_RETRIES):
            plans = self.plans(spare)
            if not plans:
                break
            shortage = 0
            for plan in plans[:tries]:
                if not worth(plan, self.estimated_merit(plan)[0]):
                    continue
                try:
                    yield self.realise(plan)
                except OutOfSram as error:
                    shortage, last = max(shortage, error.needed - error.available), error
            if not shortage:
                return
            spare += max(shortage, self.target.chip.usable_bytes // 64)
        raise self._refusal(last)

    def frontier(self, spare: int = 0) -> list[GroupPlan]:
        """By estimate, plans of which none is as good as another in chips, latency and interval alike."""
        return frontier(self.problem(self.chips, spare))

    def plans(self, spare: int = 0) -> list[GroupPlan]:
        """What the solver would do with up to so many chips, `spare` bytes of each left free: the most
        promising first. With more chips all that fewer can do is there as well."""
        if spare not in self._plans:
            self._plans[spare] = self._solved(spare)
        return self._plans[spare]

    def _solved(self, spare: int) -> list[GroupPlan]:
        if self.options.groups is not None:
            plan = self._asked_for(self.options.groups, spare)
            return [] if plan is None else [plan]
        problem = self.problem(self.chips, spare)
        objectives = dict.fromkeys((self.options.objective, "latency" if self.graph.states else "throughput"))
        if self.options.objective == "latency":
            objectives = {"latency": None}
        found: dict[tuple[GroupArc, ...], GroupPlan] = {}
        fewer = [count for count in _COUNTS if count < self.chips][-_FEWER:]
        counts = (*fewer[:: 1 if self._is_small else 3], self.chips)
        for objective in objectives:
            for plan in plan_counts(replace(problem, objective=objective), counts):
                found.setdefault(plan.arcs, plan)
        plans = sorted(found.values(), key=self.estimated_merit)
        widest = None if self._is_small else self._on_widest(problem)
        return plans if widest is None else [*plans[:1], widest, *plans[1:]]

    def _on_widest(self, problem: GroupProblem) -> GroupPlan | None:
        """The plan of least latency with the largest groups over several nodes: what they exchange is
        estimated too high, as it overlaps with much of the rest."""
        largest = max(self.meshes, key=prod)
        if len(largest) == 1 or self.options.objective == "chips":
            return None
        kept = [n for n, shape in enumerate(self.shapes) if shape.mesh == largest or len(shape.mesh) == 1]
        plan = plan_groups(replace(problem.on_shapes(kept), objective="latency"))
        if plan is None:
            return None
        arcs = tuple(replace(arc, size_index=kept[arc.size_index]) for arc in plan.arcs)
        return replace(plan, arcs=arcs)

    def single_chips(self) -> GroupPlan | None:
        """What the solver would do with stages of one chip each."""
        alone = [number for number, shape in enumerate(self.shapes) if shape.size == 1]
        return plan_groups(self.problem(self.chips).on_shapes(alone))

    def estimated_merit(self, plan: GroupPlan) -> tuple[int, ...]:
        steady = pace(plan.interval, plan.latency, self.options.users, bool(self.graph.states))
        match self.options.objective:
            case "latency":
                return plan.latency, steady, plan.chips
            case "chips":
                return plan.chips, steady, plan.latency
        return steady, plan.latency, plan.chips

    def _asked_for(self, groups: Sequence[int], spare: int) -> GroupPlan | None:
        """The best cut for groups of these sizes, in this order."""
        problem = self.problem(self.chips, spare)
        shapes = [[n for n, shape in enumerate(self.shapes) if shape.size == size] for size in groups]
        return plan_sequence(problem, shapes)

    def _refusal(self, last: OutOfSram | None) -> Infeasible:
        """Why nothing fits, and the fewest chips that would do."""
        problem, groups = self.problem(self.chips), self.options.groups
        if groups is not None and len(groups) > self.allowed.sum() - 1:
            return self._too_many_stages(len(groups))
        fewest = smallest_chips(replace(problem, max_latency=None, max_interval=None))
        limited = self.options.max_latency is not None or self.options.max_interval is not None
        if limited and fewest is not None and fewest <= self.chips:
            message = (
                f"no plan on {self.chips} chips of {self.target.name} keeps --max-latency and --max-interval "
                "by the solver's estimates. Allow more chips or raise the limits."
            )
            return Infeasible(Problem("limits_not_met", message))
        usable = int(self.target.chip.usable_bytes)
        needed = int(np.min(problem.resident[:, -1] * np.array(problem.sizes)))
        if problem.states is not None:
            needed += int(np.min(problem.states[:, -1] * np.array(problem.sizes))) * self.options.users
        asked = f"{self.chips} chips" if groups is None else f"groups of {','.join(map(str, groups))} chips"
        why = (
            f"{asked} of {self.target.name} do not hold the model: weights and states take {size(needed)} or "
            f"more, a chip holds {size(usable)}."
        )
        shortage = Shortage(self.graph, self.target, self.options, self.chips, last)
        return shortage.refusal(why, self._cure(fewest, shortage), needed, usable * self.chips, fewest)

    def _cure(self, fewest: int | None, shortage: Shortage) -> str:
        if self.options.groups is not None:
            return "Ask for more or larger groups"
        return "No number of chips fits" if fewest is None else shortage.fewest_words(fewest, ", in groups")

    def _too_many_stages(self, asked: int) -> Infeasible:
        most = int(self.allowed.sum()) - 1
        if self.options.stages is not None:
            message = (
                f"the annotations ask for {asked} stages, and {asked - most} of them have nothing to execute "
                "but what every stage computes for itself; leave --use-annotations out"
            )
            return Infeasible(Problem("too_many_stages", message, needed=asked, available=most))
        message = (
            f"--groups asks for {asked} stages, and {self.graph.name} can be cut into {most} at the most; "
            "ask for fewer"
        )
        return Infeasible(Problem("too_many_stages", message, needed=asked, available=most))

    def realise(self, plan: GroupPlan, objective: str | None = None) -> GroupCandidate:
        """Place, lower and schedule what the solver chose, for an objective or the one that was asked for.
        Raises OutOfSram."""
        shapes = [self.shapes[arc.size_index] for arc in plan.arcs]
        groups = [
            GroupStage(operators, shape.mesh, self._decisions(operators, shape))
            for operators, shape in zip(self._operators(plan.arcs), shapes, strict=True)
        ]
        carried = self._carried
        entries = enumerate(arc.first for arc in plan.arcs[1:])
        traffic = {(number, number + 1): int(carried[first]) for number, first in entries}
        chips, placement = place_groups([shape.mesh for shape in shapes], traffic, self.target.topology)
        self.progress(f"lowering {len(groups)} stages")
        device = build_device_graph(self.graph, self.atoms, groups, self._choose, self.wire)
        tiled = tile_graph(device.graph, self.target.chip)
        stages = tuple(
            StageWork(tuple(map(int, held)), shape.mesh, operators)
            for held, shape, operators in zip(chips, shapes, device.stages, strict=True)
        )
        search = IntervalSearch(
            device.graph,
            self.target,
            tiled,
            objective or self.options.objective,
            self.options.users,
            self.progress,
        )
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
            tuple(group.operators for group in groups),
            certificates,
        )

    def _choose(self, request: CollectiveRequest) -> str:
        return self._costs_of[request.mesh].choose(request)

    @cached_property
    def _costs_of(self) -> dict[Mesh, CollectiveCosts]:
        return {shape.mesh: shape.costs for shape in self.shapes}

    def _decisions(self, operators: Sequence[int], shape: ShapeCosts) -> Mapping[int, Decision]:
        none: Decision = (None,) * len(shape.mesh)
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
