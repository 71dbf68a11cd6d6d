"""The stage cut against exhaustive search on small graphs, and its refusals."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.partitioner import (
    Carried,
    PartitionProblem,
    Recomputed,
    Resident,
    cut_stages,
    smallest_stage_count,
)
from chiplan.partitioner.measures import link_cycles_crossed, recomputed_on, stage_load


@st.composite
def problems(draw: st.DrawFn, objective: str) -> PartitionProblem:
    items, stages = draw(st.integers(2, 6)), draw(st.integers(1, 3))
    work = np.array(
        draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=items, max_size=items))
    )
    carried = []
    for producer in range(items - 1):
        consumers = draw(st.sets(st.integers(producer + 1, items - 1), max_size=2))
        if consumers:
            carried.append(Carried(producer, tuple(sorted(consumers)), draw(st.integers(1, 6))))
    resident = [
        Resident(
            draw(st.integers(1, 5)),
            tuple(sorted(draw(st.sets(st.integers(0, items - 1), min_size=1, max_size=2)))),
            tuple(sorted(draw(st.sets(st.integers(0, 1), max_size=1)))),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    users = draw(st.sets(st.integers(0, items - 1), min_size=1, max_size=3))
    recomputed = (
        Recomputed((draw(st.integers(0, 3)), 0), (), (1,)),
        Recomputed((0, 1), tuple(sorted(users)), ()),
    )
    capacity = draw(st.integers(5, 20))
    activations = np.array(draw(st.lists(st.integers(0, 6), min_size=items, max_size=items)))
    return PartitionProblem(
        work, activations, tuple(carried), tuple(resident), recomputed, stages, capacity, 2, objective
    )


def fullest(problem: PartitionProblem, stage: tuple[int, ...]) -> int:
    """Bytes of the fullest stage."""
    used = recomputed_on(problem, stage)
    most = 0
    for s in set(stage):
        held = [
            r.nbytes
            for r in problem.resident
            if s in {stage[i] for i in r.items} or any(s in used[index] for index in r.recomputed)
        ]
        active = max(int(problem.activations[i]) for i in range(problem.items) if stage[i] == s)
        most = max(most, sum(held) + active)
    return most


def allowed_cuts(problem: PartitionProblem) -> list[tuple[int, ...]]:
    cuts = []
    for stage in product(range(problem.stages), repeat=problem.items):
        forward = all(stage[c.producer] <= stage[v] for c in problem.carried for v in c.consumers)
        if forward and fullest(problem, stage) <= problem.capacity:
            cuts.append(stage)
    return cuts


@given(problems("throughput"))
@settings(max_examples=40, deadline=None)
def test_the_interval_is_the_smallest_and_then_the_link_cycles(problem: PartitionProblem) -> None:
    cuts = allowed_cuts(problem)
    found = cut_stages(problem)
    if not cuts:
        assert found is None
        return
    assert found is not None
    best = min((stage_load(problem, cut), link_cycles_crossed(problem, cut)) for cut in cuts)
    first = found.cuts[0]
    assert (stage_load(problem, first), link_cycles_crossed(problem, first)) == best
    assert found.bound == best[0]
    assert set(found.cuts) <= set(cuts)


@given(problems("latency"))
@settings(max_examples=25, deadline=None)
def test_for_latency_the_link_cycles_come_first(problem: PartitionProblem) -> None:
    cuts, found = allowed_cuts(problem), cut_stages(problem)
    if cuts:
        assert found is not None
        best = min((link_cycles_crossed(problem, cut), stage_load(problem, cut)) for cut in cuts)
        assert (link_cycles_crossed(problem, found.cuts[0]), stage_load(problem, found.cuts[0])) == best


@given(problems("chips"))
@settings(max_examples=25, deadline=None)
def test_for_chips_no_smaller_count_fits(problem: PartitionProblem) -> None:
    cuts, count = allowed_cuts(problem), smallest_stage_count(problem)
    full = [max(cut) + 1 for cut in cuts if len(set(cut)) == max(cut) + 1]
    assert (count and count.count) == min(full, default=None)
    assert count is None or count.bound == count.count
