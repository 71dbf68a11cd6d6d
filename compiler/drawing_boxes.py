"""What a picture of a plan shows: a box a stage, or a run of equal stages, and what they send each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from chiplan.ir import Plan

from .plan_folding import Run, fold_stages
from .plan_summary import EdgeSummary, StageSummary, summarise_edges, summarise_stages
from .quantities import counted, groups_words, least_and_most, ranges, size

MOST_BOXES = 12
"""With more stages, neighbours that are alike share a box."""


@dataclass(frozen=True)
class BoxEdge:
    """All that the stages of one box send those of another; source and destination: numbers of boxes."""

    source: int
    destination: int
    edges: tuple[EdgeSummary, ...]


@dataclass(frozen=True)
class StageBox:
    """Equal stages. inside: what the chips of each send each other, by stage; steps: what one sends another
    of the same box."""

    number: int
    stages: Run[StageSummary]
    inside: tuple[EdgeSummary, ...]
    steps: tuple[EdgeSummary, ...]

    @property
    def first(self) -> StageSummary:
        return self.stages[0]


def partition(plan: Plan) -> tuple[list[StageBox], list[BoxEdge]]:
    """Boxes in pipeline order, and edges between different boxes by (source, destination)."""
    stages = summarise_stages(plan)
    runs = fold_stages(stages) if len(stages) > MOST_BOXES else [(stage,) for stage in stages]
    box_of = {stage.index: number for number, run in enumerate(runs) for stage in run}
    between: dict[tuple[int, int], list[EdgeSummary]] = {}
    for edge in summarise_edges(plan):
        between.setdefault((box_of[edge.source], box_of[edge.destination]), []).append(edge)
    boxes = [_box(number, run, between.get((number, number), [])) for number, run in enumerate(runs)]
    return boxes, [
        BoxEdge(source, destination, tuple(edges))
        for (source, destination), edges in sorted(between.items())
        if source != destination
    ]


def _box(number: int, run: Run[StageSummary], edges: Sequence[EdgeSummary]) -> StageBox:
    inside = tuple(edge for edge in edges if edge.source == edge.destination)
    return StageBox(number, run, inside, tuple(edge for edge in edges if edge.source != edge.destination))


def box_title(box: StageBox) -> str:
    """The stages, and the chips that run them."""
    numbers = [stage.index for stage in box.stages]
    chips = [int(chip) for stage in box.stages for chip in stage.chips]
    stages = f"{'stage' if len(numbers) == 1 else 'stages'} {ranges(numbers)}"
    mesh = f", mesh {groups_words([box.first.mesh])}" if len(box.first.chips) > 1 else ""
    return f"{stages} on {'chips' if len(chips) > 1 else 'chip'} {ranges(chips)}{mesh}"


def nodes_words(plan: Plan, box: StageBox) -> str:
    """The nodes of the system that a box stands on."""
    nodes = sorted({plan.target.topology.node_of[chip] for stage in box.stages for chip in stage.chips})
    return f"{'node' if len(nodes) == 1 else 'nodes'} {ranges(nodes)}"


def inside_words(box: StageBox) -> tuple[str, ...]:
    """What moves within a box, in lines; none where nothing does."""
    lines = []
    if box.inside:
        edge = box.inside[0]
        lines += [", ".join(counted(count, kind) for kind, count in edge.exchanges) or "passed on"]
        lines += [f"{size(edge.nbytes)} inside{' each' if len(box.stages) > 1 else ''}"]
    steps = [edge for edge in box.steps if edge.destination == edge.source + 1]
    others = [edge for edge in box.steps if edge.destination != edge.source + 1]
    lines += [f"{_sizes(steps)} to the next"] if steps else []
    lines += [f"{_sizes(others)} further on"] if others else []
    return tuple(lines)


def edge_words(edge: BoxEdge) -> str:
    """Bytes and busy cycles; of each pair of stages where there are several."""
    cycles = least_and_most([e.cycles for e in edge.edges])
    return f"{_sizes(edge.edges)}, {cycles} cycles" + (" each" if len(edge.edges) > 1 else "")


def edge_details(edge: BoxEdge) -> str:
    """Over how much of the system."""
    links = _counted([e.links for e in edge.edges], "link")
    several = f", to {counted(len(edge.edges), 'stage')}" if len(edge.edges) > 1 else ""
    return f"{links}, {_counted([e.hops for e in edge.edges], 'hop')}{several}"


def _counted(values: Sequence[int], noun: str) -> str:
    return f"{least_and_most(values)} {noun}{'' if max(values) == 1 else 's'}"


def _sizes(edges: Sequence[EdgeSummary]) -> str:
    low, high = min(edge.nbytes for edge in edges), max(edge.nbytes for edge in edges)
    return size(low) if low == high else f"{size(low)} to {size(high)}"
