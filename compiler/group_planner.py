"""Stages on groups of chips: cuts, shapes and shardings together, then the schedule of the best of them."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from math import prod

import numpy as np

from chiplan.ir import DType, Graph, Infeasible, Target
from chiplan.partitioner import (
    GroupArc,
    GroupPlan,
    GroupProblem,
    frontier,
    group_shapes,
    plan_counts,
    plan_groups,
    plan_sequence,
    smallest_chips,
)

from .addresses import OutOfSram
from .atoms import GraphAtoms, find_atoms
from .blocks import find_blocks
from .group_candidate import GroupCandidate, Realisation
from .group_costs import RESOURCES, GroupCosts, Mesh, ShapeCosts, crossing_bytes, crossing_cycles
from .group_refusal import GroupRefusal, too_many_stages
from .interval_search import pace
from .memory_check import Shortage
from .options import Options
from .partitioning import recomputable, shared_items
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


class GroupPlanner:
    """Plans a prepared graph on groups of chips. Nothing is computed before it is asked for."""

    def __init__(
        self, graph: Graph, target: Target, options: Options, progress: Callable[[str], None]
    ) -> None:
        self.graph, self.target, self.options, self.progress = graph, target, options, progress
        self.chips = options.chips or target.topology.chips
        self.wire = DType(options.wire) if options.wire else None
        self._plans: dict[int, list[GroupPlan]] = {}

    def asked_for(self, options: Options) -> "GroupPlanner":
        """A planner for another objective or other limits, with what this one knows of the costs."""
        other = copy(self)
        other.options, other._plans = options, {}
        return other

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

    def problem(self, chips: int, spare: int = 0, pinned: bool = True) -> GroupProblem:
        """The stage problem on at most so many chips, `spare` bytes a chip left free. pinned: a group that
        cannot keep an operator's pins cannot execute it."""
        shapes = self.shapes
        columns, carried = list(self.planned), self._carried
        crossing = [crossing_cycles(carried, shape.size, self.target) for shape in shapes]
        link_work = np.zeros((len(shapes), RESOURCES, len(carried)), dtype=np.int64)
        link_work[:, -1] = [busy for _, busy in crossing]
        too_much = int(self.target.chip.usable_bytes) + 1 if pinned else 0
        return GroupProblem(
            sizes=tuple(shape.size for shape in shapes),
            latency=_prefix([shape.latency[columns] for shape in shapes]),
            work=_prefix([shape.work[:, columns] for shape in shapes]),
            resident=_prefix([(shape.resident + too_much * shape.unable)[columns] for shape in shapes]),
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
                    yield self.realise(plan, self.options.objective)
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
            plan = self._in_order(self.options.groups, self.problem(self.chips, spare))
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

    def _in_order(self, groups: Sequence[int], problem: GroupProblem) -> GroupPlan | None:
        """The best cut for groups of these sizes, in this order."""
        shapes = [[n for n, shape in enumerate(self.shapes) if shape.size == size] for size in groups]
        return plan_sequence(problem, shapes)

    def on_fewer(self, most: int, objective: str) -> list[GroupPlan]:
        """The best plan for an objective on at most so many chips, and on fewer, the fewest first."""
        counts = [count for count in _COUNTS if count < most][-_FEWER:]
        problem = replace(self.problem(most), objective=objective)
        plans = plan_counts(problem, (*counts[:: 1 if self._is_small else 3], most))
        return sorted({plan.arcs: plan for plan in plans}.values(), key=lambda plan: plan.chips)

    def _refusal(self, last: OutOfSram | None) -> Infeasible:
        """Why nothing fits, and the fewest chips that would do."""
        shortage = Shortage(self.graph, self.target, self.options, self.chips, last)
        groups, most = self.options.groups, int(self.allowed.sum()) - 1
        if groups is not None and len(groups) > most:
            return too_many_stages(shortage, len(groups), most)
        fewest = smallest_chips(self._unlimited(pinned=True))
        refusal = GroupRefusal(fewest, self.shapes, self.atoms, shortage)
        pins_matter = last is None and any(shape.unable.any() for shape in self.shapes)
        return refusal.pins_not_kept() if pins_matter and self._fits_unpinned() else refusal.too_small()

    def _unlimited(self, *, pinned: bool) -> GroupProblem:
        return replace(self.problem(self.chips, pinned=pinned), max_latency=None, max_interval=None)

    def _fits_unpinned(self) -> bool:
        """Whether there would be a plan without pins and limits."""
        problem = self._unlimited(pinned=False)
        if self.options.groups is not None:
            return self._in_order(self.options.groups, problem) is not None
        fewest = smallest_chips(problem)
        return fewest is not None and fewest <= self.chips

    def realise(self, plan: GroupPlan, objective: str) -> GroupCandidate:
        """Place, lower and schedule what the solver chose, for an objective. Raises OutOfSram."""
        return self._realisation.candidate(plan, objective)

    @cached_property
    def _realisation(self) -> Realisation:
        return Realisation(
            self.graph,
            self.atoms,
            self.target,
            self.shapes,
            self.planned,
            self.cheap,
            self._carried,
            self.options.users,
            self.wire,
            self.progress,
        )


def _prefix(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Sums before every position along the last axis, one shape after the other."""
    stacked = np.array(rows, dtype=np.int64)
    padded = np.zeros((*stacked.shape[:-1], stacked.shape[-1] + 1), dtype=np.int64)
    np.cumsum(stacked, axis=-1, out=padded[..., 1:])
    return padded
