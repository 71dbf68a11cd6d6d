"""The critical path: worked out by hand on a small plan, and what holds of it on every plan."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from chiplan.compiler import compile_model
from chiplan.compiler.critical_path import Cause, PathStep, critical_path, time_by_cause
from chiplan.ir import Cycle, Plan
from chiplan.models import find_model, load_target
from chiplan.runtime_sim import Timeline


@pytest.fixture
def hand_path_plan(hand_plan: Plan) -> Plan:
    """The hand-made plan, its last tile when its block has been loaded."""
    first, second = hand_plan.stages
    tiles = replace(second.program.tiles, start=np.array([70, 78]), end=np.array([72, 80]))
    stages = (first, replace(second, program=replace(second.program, tiles=tiles)))
    return replace(hand_plan, stages=stages, latency=Cycle(83))


def test_the_path_of_a_plan_that_is_worked_out_by_hand(hand_path_plan: Plan) -> None:
    """A tile of `first` is done at 13, relu at 19; the half of r that the first tile of `second` reads is
    there at 37; the schedule lets it wait until 70, and the next tile has its block to load."""
    told = [
        (step.resource, step.cause.value, step.begin, step.load, step.wait, step.work, step.travel)
        for step in critical_path(hand_path_plan)
    ]
    assert told == [
        ("matrix", "input", 0, 0, 8, 2, 3),
        ("vector", "data", 13, 0, 0, 4, 2),
        ("link", "data", 19, 0, 0, 8, 10),
        ("matrix", "data", 37, 0, 33, 2, 0),
        ("matrix", "unit", 72, 6, 0, 2, 3),
    ]
    assert time_by_cause(critical_path(replace(hand_path_plan, interval=Cycle(1000)))) == {
        "matrix": 6, "vector": 4, "switch": 0, "memory": 0, "link": 8, "hops": 10, "pipeline": 8, "load": 6,
        "shared": 0, "wait": 41,
    }  # fmt: skip


def _compiled(model: str, target: str, **options: object) -> Plan:
    path = find_model(model)
    return compile_model(path, name=path.stem, target=load_target(target), **options).plan


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    return {
        "pipeline": _compiled("gpt2-tiny", "groq-node", groups=(1, 1), sequence=8),
        "group": _compiled("bert-tiny", "tiny-ring", groups=(2, 2), sequence=8),
    }


@pytest.mark.parametrize("name", ["pipeline", "group"])
def test_the_path_is_the_latency_without_a_gap(plans: dict[str, Plan], name: str) -> None:
    plan = plans[name]
    steps = critical_path(plan)
    assert steps[0].begin == 0
    assert steps[0].cause is Cause.INPUT
    assert all(before.end == after.begin for before, after in pairwise(steps))
    assert steps[-1].end == sum(time_by_cause(steps).values()) <= plan.latency
    assert all(min(s.load, s.wait, s.work, s.travel) >= 0 and 0 <= s.shared <= s.wait for s in steps)
    assert any(s.resource == "link" for s in steps)


@pytest.mark.parametrize("name", ["pipeline", "group"])
def test_every_step_stands_in_the_plan_and_waits_for_the_one_before(
    plans: dict[str, Plan], name: str
) -> None:
    plan = plans[name]
    timeline = Timeline(plan)
    steps = critical_path(plan)
    for before, step in pairwise(steps):
        assert step.start == _start(plan, timeline, step)
        match step.cause:
            case Cause.DATA:
                assert before.end == _done(timeline, before)
                assert before.destination == step.stage
            case Cause.UNIT:
                assert timeline.resource[before.row] == timeline.resource[step.row]
            case Cause.LINK:
                hops = plan.hops
                links = [set(hops.link[hops.transfer == row].tolist()) for row in (before.row, step.row)]
                assert links[0] & links[1]


def _start(plan: Plan, timeline: Timeline, step: PathStep) -> int:
    return int((plan.transfers.start if step.resource == "link" else timeline.tiles.start)[step.row])


def _done(timeline: Timeline, step: PathStep) -> int:
    return int((timeline.arrival if step.resource == "link" else timeline.tiles.ready)[step.row])


def test_a_schedule_that_starts_late_is_one_that_waits(hand_path_plan: Plan) -> None:
    """All of the second stage 10 cycles later: 10 cycles more of waiting, and nothing else."""
    first, second = hand_path_plan.stages
    tiles = second.program.tiles
    later = replace(tiles, start=tiles.start + 10, end=tiles.end + 10)
    late = replace(
        hand_path_plan,
        stages=(first, replace(second, program=replace(second.program, tiles=later))),
        latency=Cycle(int(hand_path_plan.latency) + 10),
    )
    before, after = time_by_cause(critical_path(hand_path_plan)), time_by_cause(critical_path(late))
    held = {"wait", "shared"}
    assert sum(after[name] - before[name] for name in held) == 10
    assert {name: before[name] for name in before.keys() - held} == {
        name: after[name] for name in after.keys() - held
    }


def test_waiting_is_told_apart_by_who_holds_the_unit(hand_path_plan: Plan) -> None:
    """With an interval so long that micro-batches never meet, nothing is held by another."""
    alone = time_by_cause(critical_path(replace(hand_path_plan, interval=Cycle(1000))))
    shared = time_by_cause(critical_path(replace(hand_path_plan, interval=Cycle(20))))
    assert alone["shared"] == 0
    assert shared["shared"] > 0
    assert shared["shared"] + shared["wait"] == alone["wait"]
