"""Proven lower bounds of what a plan can reach, each with what sets it."""

from collections.abc import Mapping
from math import ceil

from chiplan.ir import Bound, Graph, Target
from chiplan.partitioner import PartitionProblem, StageCuts

from .partitioning import UNITS, GraphProblem
from .scheduling import Scheduler, StageWork, start_when_ready
from .tile_choice import TiledOperator


def interval_bounds(
    graph: Graph, tiled: Mapping[int, TiledOperator], built: GraphProblem, cut: StageCuts
) -> tuple[Bound, ...]:
    """interval >= work of a unit kind / chips; >= largest operator; >= best stage cut.

    The work is that of the tiles as they are cut (whole weight blocks, padding included); the bound
    without padding counts the multiplications alone.
    """
    problem = built.problem
    total = problem.work.sum(axis=0)
    unit = int(total.argmax())
    even = ceil(int(total[unit]) / problem.stages)
    largest = max(range(len(graph.operators)), key=lambda i: tiled[i].work)
    name = (
        graph.operators[largest].nodes[0] if graph.operators[largest].nodes else graph.operators[largest].name
    )
    return (
        Bound(
            "interval", even, f"all work of the {UNITS[unit].value} unit, evenly on {problem.stages} chips"
        ),
        Bound("interval", tiled[largest].work, f"the largest operator that one chip runs, {name}"),
        Bound(
            "interval", max(cut.bound, even, tiled[largest].work), "the best cut into stages, by the solver"
        ),
    )


def latency_bound(graph: Graph, target: Target, tiled: Mapping[int, TiledOperator]) -> Bound:
    """Critical path with unlimited units and free links."""
    everything = StageWork(0, tuple(range(len(graph.operators))))
    scheduler = Scheduler(graph, target, [everything], tiled, 1 << 40, place=start_when_ready)
    path = scheduler.run().latency
    return Bound("latency", path, "the critical path through the tiles, with unlimited units and free links")


def memory_bound(problem: PartitionProblem) -> Bound:
    """chips >= resident bytes / usable bytes of a chip."""
    total = sum(resident.nbytes for resident in problem.resident)
    return Bound(
        "chips", max(1, ceil(total / problem.capacity)), "weights and states over the SRAM of a chip"
    )
