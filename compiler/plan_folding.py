"""Stages and edges that are alike, folded: repeated layers on equal groups are one line of a page."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

from .plan_summary import EdgeSummary, StageSummary

Row = TypeVar("Row")
Run = tuple[Row, ...]


def fold_stages(stages: Sequence[StageSummary]) -> list[Run[StageSummary]]:
    """Neighbouring stages on equal meshes with equal work and memory, together."""
    return list(_runs(stages, _figures, lambda before, after: after.index == before.index + 1))


def _figures(stage: StageSummary) -> Hashable:
    busy = tuple(stage.busy.values())
    held = (stage.sram_bytes, stage.memory.needed, stage.memory.alive, tuple(stage.memory.kinds.values()))
    return stage.mesh, stage.operators, stage.recomputed, stage.tiles, busy, held


def fold_edges(edges: Sequence[EdgeSummary]) -> list[Run[EdgeSummary]]:
    """Edges of equal bytes together: steps of equal length from neighbouring stages, then those from one
    stage to neighbouring ones; each run ascending, by the first edge of the run."""
    ahead = sorted(edges, key=lambda edge: (edge.destination - edge.source, edge.source))
    chains = list(_runs(ahead, lambda edge: (edge.destination - edge.source, edge.nbytes), _follows))
    alone = sorted((chain[0] for chain in chains if len(chain) == 1), key=_ends)
    fans = _runs(alone, lambda edge: (edge.source, edge.nbytes), _is_beside)
    return sorted([*fans, *(chain for chain in chains if len(chain) > 1)], key=lambda run: _ends(run[0]))


def _ends(edge: EdgeSummary) -> tuple[int, int]:
    return edge.source, edge.destination


def _follows(before: EdgeSummary, after: EdgeSummary) -> bool:
    return after.source == before.source + 1


def _is_beside(before: EdgeSummary, after: EdgeSummary) -> bool:
    return after.destination == before.destination + 1


def _runs(
    rows: Sequence[Row], key: Callable[[Row], Hashable], joins: Callable[[Row, Row], bool]
) -> Iterator[Run[Row]]:
    """Neighbouring rows of equal keys of which each joins the one before."""
    run: list[Row] = []
    for row in rows:
        if run and not (key(run[-1]) == key(row) and joins(run[-1], row)):
            yield tuple(run)
            run = []
        run.append(row)
    if run:
        yield tuple(run)
