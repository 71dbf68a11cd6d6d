"""The brute-force simulator: it agrees with the fast one on good plans, and sees what is broken."""

from dataclasses import replace

import numpy as np
import pytest

from chiplan.ir import BufferColumns, Cycle, Plan
from chiplan.runtime_sim import simulate

from .handmade import small_plan
from .mutant_editing import canonical
from .mutant_plans import BY_HAND, COMPILED, compiled_case, hand_case
from .stepping_simulator import step
from .test_simulator_faults import BROKEN
from .test_simulator_groups import BROKEN as BROKEN_GROUPS
from .test_simulator_groups import GOOD

BY_VALUES = {"wrong_exchange", "wrong_sharding"}
"""What is there, but is another value than the graph asks for: numerics sees it, stepping need not."""
BY_ORDER = {"tiles out of order", "a hop misnumbered", "resident rows written", "no interval"}
"""What a plan file may not say, though chips could do it; and an interval that no plan file has."""


@pytest.mark.parametrize("name", BY_HAND)
def test_both_simulators_agree_on_plans_made_by_hand(name: str) -> None:
    plan = hand_case(name).plan
    stepped, report = step(plan), simulate(plan)
    assert (stepped.problem, stepped.latency) == (None, report.latency)
    assert report.ok


@pytest.mark.parametrize("words", COMPILED, ids=lambda words: f"{words[0]} {words[1]} {words[2]}")
def test_both_simulators_agree_on_compiled_plans(words: tuple) -> None:
    plan = compiled_case(*words).plan
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


def _with_early_lives(birth: int) -> Plan:
    """Two tensors that nobody touches on chip 0: the last copy of p shares bytes with the first of out."""
    plan = small_plan(interval=461)
    p, out = plan.tensor_names.index("p"), plan.tensor_names.index("out")
    new = {
        "tensor": [p, out], "chip": [0, 0], "address": [32_768, 32_768 + 7 * 192], "nbytes": [192, 240],
        "copies": [8, 8], "birth": [birth, 100], "death": [birth + 200, 300],
    }  # fmt: skip
    columns = {name: np.append(getattr(plan.buffers, name), column) for name, column in new.items()}
    return canonical(replace(plan, buffers=BufferColumns(**columns)))


def test_a_buffer_that_lives_long_before_its_micro_batch_is_in_the_way() -> None:
    """Where a user waits, micro-batch 7 starts 7 latencies behind the first; its buffer lives then."""
    apart, together = _with_early_lives(-7 * 906 - 100), _with_early_lives(-7 * 906 + 50)
    assert step(apart).problem is None
    assert simulate(apart).ok
    assert "byte" in str(step(together).problem)
    assert {fault.name for fault in simulate(together).faults} == {"sram_overlap"}
