"""Cuts and group shapes against every path of stages on small problems, and at full size."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.partitioner import GroupPlan, GroupProblem, frontier, plan_groups, smallest_chips

Figures = tuple[int, int, int]
"""Chips, latency, interval."""


def prefix(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(rows[..., :1]), rows.cumsum(axis=-1)], axis=-1)


@st.composite
def problems(draw: st.DrawFn) -> GroupProblem:
    items, shapes = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))

    def numbers(*shape: int, most: int = 9) -> np.ndarray:
        return random.integers(0, most + 1, shape)

    return GroupProblem(
        sizes=tuple(draw(st.lists(st.integers(1, 4), min_size=shapes, max_size=shapes))),
        latency=prefix(numbers(shapes, items, most=30)),
        work=prefix(numbers(shapes, 2, items)),
        resident=prefix(numbers(shapes, items)),
        activations=numbers(shapes, items, most=4),
        crossing=numbers(shapes, items + 1),
        capacity=draw(st.integers(5, 30)),
        chips=draw(st.integers(1, 12)),
        max_latency=draw(st.none() | st.integers(10, 120)),
        max_interval=draw(st.none() | st.integers(5, 40)),
        users=draw(st.integers(1, 2)),
        states=prefix(numbers(shapes, items, most=2)),
        crossing_work=numbers(shapes, 2, items + 1, most=3),
        allowed=numbers(items + 1, most=4) > 0,
    )


def stage_figures(problem: GroupProblem, first: int, last: int, shape: int) -> Figures | None:
    assert problem.states is not None
    assert problem.crossing_work is not None
    assert problem.allowed is not None
    held = problem.resident[shape] + problem.users * problem.states[shape]
    if held[last] - held[first] + problem.activations[shape, first:last].max() > problem.capacity:
        return None
    if not all(problem.allowed[p] or p in (0, problem.items) for p in (first, last)):
        return None
    latency = problem.latency[shape, last] - problem.latency[shape, first] + problem.crossing[shape, first]
    busy = problem.work[shape, :, last] - problem.work[shape, :, first]
    return problem.sizes[shape], int(latency), int((busy + problem.crossing_work[shape, :, first]).max())


def every_pipeline(problem: GroupProblem, first: int = 0) -> Iterator[Figures]:
    if first == problem.items:
        yield 0, 0, 0
        return
    for last in range(first + 1, problem.items + 1):
        rest = list(every_pipeline(problem, last))
        for shape in range(len(problem.sizes)):
            stage = stage_figures(problem, first, last, shape)
            for chips, latency, interval in rest if stage else ():
                assert stage is not None
                yield stage[0] + chips, stage[1] + latency, max(stage[2], interval)


def within(problem: GroupProblem, figures: Figures) -> bool:
    return figures[1] <= (problem.max_latency or 10**9) and figures[2] <= (problem.max_interval or 10**9)


def figures_of(plan: GroupPlan) -> Figures:
    return plan.chips, plan.latency, plan.interval


ORDER = {"throughput": (2, 1, 0), "latency": (1, 0, 2), "chips": (0, 2, 1)}


@given(problems(), st.sampled_from(sorted(ORDER)))
@settings(max_examples=150, deadline=None)
def test_the_plan_is_the_best_of_all_pipelines(problem: GroupProblem, objective: str) -> None:
    problem = replace(problem, objective=objective)
    possible = [figures for figures in every_pipeline(problem) if within(problem, figures)]
    affordable = [figures for figures in possible if figures[0] <= problem.chips]
    plan = plan_groups(problem)
    assert smallest_chips(problem) == min((figures[0] for figures in possible), default=None)
    if plan is None:
        assert not affordable
        return
    order = ORDER[objective]
    best = min(affordable, key=lambda figures: tuple(figures[i] for i in order))
    assert figures_of(plan) == best
    assert plan.certificate.status == "optimal"
    assert plan.certificate.objective == plan.certificate.bound == best[order[0]]
    check_path(problem, plan)


def check_path(problem: GroupProblem, plan: GroupPlan) -> None:
    """The arcs chain from 0 to n and come to the figures that the plan states."""
    ends = [arc.last for arc in plan.arcs]
    assert [arc.first for arc in plan.arcs] == [0, *ends[:-1]]
    assert ends[-1] == problem.items
    stages = [stage_figures(problem, arc.first, arc.last, arc.size_index) for arc in plan.arcs]
    known = [stage for stage in stages if stage is not None]
    assert len(known) == len(stages)
    chips, latency, interval = zip(*known, strict=True)
    assert figures_of(plan) == (sum(chips), sum(latency), max(interval))


@given(problems())
@settings(max_examples=60, deadline=None)
def test_no_pipeline_beats_a_point_of_the_frontier(problem: GroupProblem) -> None:
    affordable = [f for f in every_pipeline(problem) if within(problem, f) and f[0] <= problem.chips]
    points = frontier(problem)
    assert len(points) <= 20
    assert bool(points) == bool(affordable)
    for plan in points:
        check_path(problem, plan)
        mine = figures_of(plan)
        assert not any(f != mine and all(a <= b for a, b in zip(f, mine, strict=True)) for f in affordable)
    for axis in range(3) if affordable else ():
        assert min(figures_of(plan)[axis] for plan in points) == min(f[axis] for f in affordable)


@given(problems(), st.sampled_from(sorted(ORDER)))
@settings(max_examples=40, deadline=None)
def test_more_chips_are_never_worse(problem: GroupProblem, objective: str) -> None:
    order, before = ORDER[objective], None
    for chips in range(1, 14):
        plan = plan_groups(replace(problem, chips=chips, objective=objective))
        if before is not None:
            assert plan is not None
            now, earlier = figures_of(plan), figures_of(before)
            assert now[order[0]] <= earlier[order[0]]
        before = plan


SIZES = (1, 2, 3, 4, 6, 8, 16, 24, 32, 40, 64, 72)


def language_model(layers: int, chips: int, objective: str) -> GroupProblem:
    """Two halves a layer and an entry and an exit, like Llama-2-70B int8: compute shrinks with the group,
    collectives do not."""
    items, random = 2 * layers + 2, np.random.default_rng(1)
    weights = random.integers(400_000_000, 440_000_000, items)
    size = np.array(SIZES)[:, None]
    compute, collective = weights // 10_240 // size, np.where(size > 1, 900 + 700 * (size > 8), 0)
    work = np.stack([compute + 60, np.broadcast_to(collective // 2, compute.shape)], axis=1)
    return GroupProblem(
        sizes=SIZES,
        latency=prefix(compute + collective + 60),
        work=prefix(work),
        resident=prefix(-(-weights // size)),
        activations=np.full((len(SIZES), items), 1_000_000),
        crossing=np.full((len(SIZES), items + 1), 600),
        capacity=220_200_960,
        chips=chips,
        objective=objective,
    )


@pytest.mark.parametrize("objective", sorted(ORDER))
@pytest.mark.parametrize("chips", [576, 10_440])
def test_a_large_model_is_planned_to_the_end(objective: str, chips: int) -> None:
    plan = plan_groups(language_model(80, chips, objective))
    assert plan is not None
    assert plan.chips <= chips
    assert plan.certificate.gap == 0


def test_too_few_chips_are_refused_with_the_count_that_would_do() -> None:
    problem = language_model(4, 8, "latency")
    assert plan_groups(problem) is None
    smallest = smallest_chips(problem)
    assert smallest is not None
    plan = plan_groups(replace(problem, chips=smallest))
    assert plan is not None
    assert plan.chips == smallest
    assert smallest_chips(replace(problem, max_latency=10)) is None
