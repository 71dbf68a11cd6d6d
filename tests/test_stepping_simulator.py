"""The brute-force simulator: it agrees with the fast one on good plans, and sees what is broken."""

from dataclasses import replace

import pytest

from chiplan.ir import Cycle
from chiplan.runtime_sim import simulate

from .handmade import small_plan
from .mutants.plans import BY_HAND, COMPILED, by_hand, compiled
from .stepping_simulator import step
from .test_simulator_faults import BROKEN
from .test_simulator_groups import BROKEN as BROKEN_GROUPS
from .test_simulator_groups import GOOD

BY_VALUES = {"wrong_exchange", "wrong_sharding"}
"""What is there, but is another value than the graph asks for: numerics sees it, stepping need not."""
BY_ORDER = {"tiles out of order", "a hop misnumbered", "resident rows written", "no interval"}
"""What a plan file may not say, though chips could do it; and an interval that no plan file has."""


@pytest.mark.parametrize("number", range(len(BY_HAND)), ids=list(BY_HAND))
def test_both_simulators_agree_on_plans_made_by_hand(number: int) -> None:
    plan = by_hand()[number].plan
    stepped, report = step(plan), simulate(plan)
    assert (stepped.problem, stepped.latency) == (None, report.latency)
    assert report.ok


@pytest.mark.parametrize("number", range(len(COMPILED)))
def test_both_simulators_agree_on_compiled_plans(number: int) -> None:
    plan = compiled()[number].plan
    stepped, report = step(plan), simulate(plan)
    assert (stepped.problem, stepped.latency) == (None, report.latency)
    assert report.ok


@pytest.mark.parametrize("users", [1, 2, 3, 4])
def test_both_agree_on_every_interval(users: int) -> None:
    """Also where users wait for their states, and where units or links do not bear the interval."""
    verdicts = set()
    for interval in range(150, 700, 37):
        plan = small_plan(users=users, interval=interval)
        stepped = step(plan)
        assert (stepped.problem is None) == simulate(plan).ok, (interval, stepped)
        verdicts.add(stepped.problem is None)
    assert verdicts == {True, False}


@pytest.mark.parametrize("case", [b for b in BROKEN if b[0] not in BY_ORDER], ids=lambda b: b[0])
def test_stepping_sees_what_is_broken(case: tuple) -> None:
    _, _, change, _ = case
    assert step(change(small_plan())).problem


@pytest.mark.parametrize(
    "case", [b for b in BROKEN_GROUPS if not BY_VALUES & set(b[2].split())], ids=lambda b: b[0]
)
def test_stepping_sees_what_is_broken_on_groups(case: tuple) -> None:
    _, plan, _, change, _ = case
    assert step(change(GOOD[plan]())).problem


def test_a_problem_is_told_with_its_cycle_and_its_place() -> None:
    assert step(replace(small_plan(with_state=False), latency=Cycle(800))).problem == (
        "cycle 800: no group has output out of micro-batch 0"
    )
