"""Plans broken at random: the simulator finds them, by the right name, or they are harmless."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from chiplan.ir.plan_validity import first_problem
from chiplan.runtime_sim import Report, simulate

from . import mutant_verdict as verdict
from .mutant_plans import COMPILED, by_hand, compiled_case
from .mutant_verdict import FOUND, HARMLESS, KINDS, MISNAMED, REFUSED, SURVIVOR, Mutant, mutants, tallies
from .test_simulator_faults import BROKEN
from .test_simulator_groups import BROKEN as BROKEN_GROUPS


def _bad(found: list[Mutant]) -> list[str]:
    return [
        f"{m.verdict}: {m.kind.title} of {m.case}: {m.faults} {m.why}"
        for m in found
        if m.verdict in (SURVIVOR, MISNAMED)
    ]


def test_no_mutant_of_plans_made_by_hand_survives() -> None:
    found = list(mutants(by_hand(), 8 * len(KINDS), seed=1))
    assert _bad(found) == []
    assert all(tally.count >= 6 for tally in tallies(found))
    verdicts = Counter(mutant.verdict for mutant in found)
    assert verdicts[FOUND] > len(found) / 2
    assert verdicts[HARMLESS]
    assert verdicts[REFUSED]


def test_no_mutant_of_compiled_plans_survives() -> None:
    """Two of them: the others are broken by the benchmark."""
    cases = [compiled_case(*COMPILED[number]) for number in (0, 3)]
    assert _bad(list(mutants(cases, len(KINDS), seed=2))) == []


def test_a_simulator_that_misses_something_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its rules the simulator lets every mutant pass, and the harness must not."""

    def blind(plan: object) -> Report:
        good = simulate(by_hand()[0].plan)
        return replace(good, interval=plan.interval)

    monkeypatch.setattr(verdict, "simulate", blind)
    found = [m for m in mutants(by_hand(), 2 * len(KINDS), seed=3) if m.verdict != REFUSED]
    assert sum(m.verdict == SURVIVOR for m in found) > 0.7 * len(found)


def test_every_kind_changes_the_plan_and_the_plan_alone() -> None:
    random = np.random.default_rng(4)
    for kind in KINDS:
        changed = 0
        for case in by_hand():
            before = simulate(case.plan)
            mutant = kind.change(case.plan, random)
            assert simulate(case.plan) == before, kind.title
            changed += mutant is not None and (
                first_problem(mutant) is not None or not _same(mutant, case.plan)
            )
        assert changed, kind.title


def _same(one: object, other: object) -> bool:
    return all(
        np.array_equal(getattr(getattr(one, group), name), getattr(getattr(other, group), name))
        for group in ("transfers", "hops", "buffers")
        for name in getattr(one, group).__dataclass_fields__
    ) and repr((one.graph, one.target, one.stages, one.latency, one.interval, one.users)) == repr(
        (other.graph, other.target, other.stages, other.latency, other.interval, other.users)
    )


def test_kinds_name_faults_that_there_are() -> None:
    known = {name for _, name, _, _ in BROKEN} | {"buffer_order", "duplicate_buffer"}
    known |= {name for _, _, many, _, _ in BROKEN_GROUPS for name in many.split()}
    assert {name for kind in KINDS for name in kind.names} <= known
