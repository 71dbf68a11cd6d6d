"""What a report is made from: a plan, and what is derived from it once for all of the report's parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from chiplan.ir import Plan
from chiplan.runtime_sim import Timeline

from .blocks import find_blocks, structures
from .critical_path import PathStep, critical_path
from .plan_folding import fold_stages
from .plan_summary import EdgeSummary, StageSummary, summarise_edges, summarise_stages

LONGEST_NAME = 240
"""Letters of a name that are shown; of a longer one the middle is left out."""


@dataclass(frozen=True)
class StageRun:
    """Stages that execute the same operators but for names, and look alike in all figures."""

    stages: tuple[int, ...]

    @property
    def first(self) -> int:
        return self.stages[0]


@dataclass(frozen=True)
class Segment:
    """Operators [first, last) of a stage's program, and how often they follow one another there."""

    first: int
    last: int
    times: int

    @property
    def length(self) -> int:
        return self.last - self.first


class Source:
    """A plan that the simulator accepts, and what the parts of a report share; all made on demand."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @cached_property
    def timeline(self) -> Timeline:
        return Timeline(self.plan)

    @cached_property
    def path(self) -> tuple[PathStep, ...]:
        return critical_path(self.plan)

    @cached_property
    def path_on(self) -> dict[tuple[int, str], np.ndarray]:
        """Steps of the path by stage and resource (a unit kind, or link): int64[steps, 3], each the row, and
        from when to when it is on the path."""
        found: dict[tuple[int, str], list[tuple[int, int, int]]] = {}
        for step in self.path:
            rows = found.setdefault((step.stage, step.resource), [])
            rows.append((step.row, step.start - step.load, step.end))
        return {key: np.array(rows, dtype=np.int64) for key, rows in found.items()}

    @cached_property
    def stages(self) -> tuple[StageSummary, ...]:
        return summarise_stages(self.plan)

    @cached_property
    def edges(self) -> tuple[EdgeSummary, ...]:
        return summarise_edges(self.plan)

    @cached_property
    def structures(self) -> np.ndarray:
        return structures(self.plan.graph)

    @cached_property
    def runs(self) -> tuple[StageRun, ...]:
        """All stages in order, neighbours that are alike together."""
        return tuple(
            StageRun(tuple(stage.index for stage in part))
            for run in fold_stages(self.stages)
            for part in self._split(run)
        )

    def _split(self, run: Sequence[StageSummary]) -> list[list[StageSummary]]:
        """A run cut where operators differ in more than their names."""
        parts: list[list[StageSummary]] = []
        for stage in run:
            if parts and np.array_equal(self._forms(parts[-1][0].index), self._forms(stage.index)):
                parts[-1].append(stage)
            else:
                parts.append([stage])
        return parts

    def _forms(self, stage: int) -> np.ndarray:
        return np.asarray(self.structures[list(self.plan.stages[stage].program.operators)])

    @cached_property
    def run_of(self) -> dict[int, int]:
        """Number of the run that each stage is in."""
        return {stage: number for number, run in enumerate(self.runs) for stage in run.stages}

    @cached_property
    def segments(self) -> tuple[tuple[Segment, ...], ...]:
        """Of every run the parts of its program, repeated layers folded."""
        return tuple(tuple(self._segments(run)) for run in self.runs)

    def _segments(self, run: StageRun) -> list[Segment]:
        operators = self.plan.stages[run.first].program.operators
        inside = tuple(self.plan.graph.operators[index] for index in operators)
        blocks = find_blocks(replace(self.plan.graph, operators=inside), self._forms(run.first))
        found: list[Segment] = []
        kind = -1
        for block in blocks:
            if found and kind == block.kind:
                found[-1] = replace(found[-1], times=found[-1].times + 1)
            else:
                found.append(Segment(block.first, block.last, 1))
            kind = block.kind
        return found


def shown_name(name: str) -> str:
    """A name from a model as it may be shown: one line, nothing that hides or reorders letters, not too
    long."""
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 60]}…{name[-59:]}"
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in name)
