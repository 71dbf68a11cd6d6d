"""More chips never give a worse plan: the solver may leave chips unused."""

from itertools import pairwise

import pytest

from chiplan.compiler import compile_model
from chiplan.compiler.interval_search import pace
from chiplan.ir import Plan
from chiplan.models import find_model, load_target

SWEEPS = [
    ("bert-tiny", "latency", (1, 2, 4, 7), {"sequence": 16}),
    ("bert-tiny", "throughput", (1, 3, 5), {"sequence": 16}),
    ("gpt2-tiny", "latency", (1, 3, 4, 8), {"sequence": 16}),
    ("llama-tiny-gqa", "latency", (1, 2, 4, 7), {"sequence": 16}),
    ("llama-tiny-gqa-past", "latency", (1, 2, 3, 5, 8), {"context": 64}),
    ("mixtral-tiny", "latency", (1, 2, 5, 8), {"sequence": 8}),
    ("mixtral-tiny", "throughput", (1, 2, 8), {"sequence": 8}),
    ("t5-tiny-encoder", "latency", (1, 2, 4, 8), {"sequence": 16}),
    ("vit-tiny", "latency", (1, 4, 6), {}),
]


def merit(plan: Plan, objective: str) -> int:
    if objective == "latency":
        return int(plan.latency)
    return pace(int(plan.interval), int(plan.latency), plan.users, bool(plan.graph.states))


def chips_of(plan: Plan) -> int:
    return sum(len(stage.chips) for stage in plan.stages)


@pytest.mark.parametrize(("name", "objective", "counts", "options"), SWEEPS)
def test_more_chips_never_give_a_worse_plan(
    name: str, objective: str, counts: tuple[int, ...], options: dict[str, int]
) -> None:
    """In every sweep some counts use more chips, and are strictly faster."""
    plans = [
        compile_model(
            find_model(name), target=load_target("tiny-ring"), chips=count, objective=objective, **options
        ).plan
        for count in counts
    ]
    found = [merit(plan, objective) for plan in plans]
    used = [chips_of(plan) for plan in plans]
    assert all(chips <= count for chips, count in zip(used, counts, strict=True))
    assert found == sorted(found, reverse=True), list(zip(counts, used, found, strict=True))
    assert any(
        more > chips and faster < merit_before
        for (chips, more), (merit_before, faster) in zip(pairwise(used), pairwise(found), strict=True)
    )
