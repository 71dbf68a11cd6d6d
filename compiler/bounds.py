"""Proven lower bounds of what a plan can reach, each with what sets it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, prod

import numpy as np

from chiplan.ir import Bound, Chip, Graph, Operator, Target, Unit, matrix_rules
from chiplan.partitioner import PartitionProblem, StageCuts, least_load, smallest_in_order, stage_load

from .partitioning import UNITS, GraphProblem
from .scheduling import Scheduler, one_chip
from .tile_choice import TiledOperator
from .unit_packing import start_alone


def interval_bounds(
    graph: Graph,
    tiled: Mapping[int, TiledOperator],
    built: GraphProblem,
    cuts: StageCuts,
    target: Target,
    unclosed: str,
) -> tuple[Bound, ...]:
    """interval >= work of a unit kind / chips; >= largest operator; >= best stage cut.

    The work is that of the tiles as they are cut (whole weight blocks, padding included); the bound
    without padding counts the multiplications alone.
    """
    problem = replace(built.problem, stages=cuts.stages)
    total = problem.work.sum(axis=0)
    unit = UNITS[int(total.argmax())]
    even = ceil(int(total.max()) / problem.stages)
    largest = max(range(len(graph.operators)), key=lambda i: tiled[i].work)
    operator = graph.operators[largest]
    best = max(cuts.bound, even, tiled[largest].work)
    above = f"; the plan is above it: {unclosed}" if unclosed else ""
    chips = "chips" if problem.stages > 1 else "chip"
    bounds = [
        Bound(
            "interval",
            even,
            f"all work of the {unit.value} unit, evenly on {problem.stages} {chips}",
        ),
        Bound(
            "interval",
            tiled[largest].work,
            f"the largest operator that one chip runs, {(*operator.nodes, operator.name)[0]}",
        ),
        Bound(
            "interval", best, f"the best cut into stages, by the solver{_why_uneven(problem, best)}{above}"
        ),
    ]
    if unit is Unit.MATRIX:
        dense = ceil(sum(_dense_cycles(graph, op, target.chip) for op in graph.operators) / problem.stages)
        bounds.insert(0, Bound("interval", dense, "the multiplications alone, were no weight block padded"))
    return tuple(bounds)


def _dense_cycles(graph: Graph, operator: Operator, chip: Chip) -> float:
    """Cycles of a matrix operator if its weights filled every block: rows x k x n / block area."""
    if operator.unit is not Unit.MATRIX:
        return 0.0
    area = max(
        rule.rows * rule.columns / rule.cycles_per_row for rule in matrix_rules(operator, graph.tensors, chip)
    )
    extents = prod(factor.extent for factor in operator.factors if not factor.gathered)
    return extents / area / chip.matrix.instances


def _why_uneven(problem: PartitionProblem, bound: int) -> str:
    """What keeps the best cut above an even split, in words."""
    if bound <= least_load(problem):
        return ""
    roomy = replace(problem, capacity=1 << 62)
    cut = smallest_in_order(roomy)
    if cut is not None and stage_load(roomy, cut) < bound:
        return f"; SRAM binds: without its limit {stage_load(roomy, cut):,} cycles would do"
    return "; operators are not divided"


def latency_bound(graph: Graph, target: Target, tiled: Mapping[int, TiledOperator]) -> Bound:
    """Critical path when links and weight loads are free and every operator has its unit to itself."""
    everything = one_chip(0, tuple(range(len(graph.operators))))
    free = {index: replace(t, load=np.zeros_like(t.load)) for index, t in tiled.items()}
    scheduler = Scheduler(graph, target, [everything], free, 1 << 40, place=start_alone, links_free=True)
    path = scheduler.run().latency
    return Bound(
        "latency", path, "the critical path of these tiles: each operator alone on its unit, links free"
    )


def with_waiting(bounds: Sequence[Bound], graph: Graph, users: int) -> tuple[Bound, ...]:
    """The bounds of a plan, and, of a graph with state, what users wait for. interval is then the pace in the
    long run (`Elapsed.pace`): a user's next step reads what the last one leaves in the state, so each user
    has at most one step under way, and `users` steps take a latency or more."""
    latency = max((b.value for b in bounds if b.quantity == "latency"), default=0)
    if not graph.states or not latency:
        return tuple(bounds)
    words = "a user's next step waits for the last one" + (f", {users} users" if users > 1 else "")
    return (Bound("interval", ceil(latency / users), words), *bounds)


def memory_bound(problem: PartitionProblem, chip: Chip) -> Bound:
    """chips >= resident bytes / usable bytes of a chip."""
    total = sum(resident.nbytes for resident in problem.resident)
    return Bound(
        "chips", max(1, ceil(total / chip.usable_bytes)), "weights and states over the SRAM of a chip"
    )
