"""The whole compiler on models that ship: laws of plans, refusals, objectives, users, precisions."""

from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from chiplan.compiler import Compiled, check_numerics, compile_model
from chiplan.compiler.plan_summary import binding_bounds, reached
from chiplan.ir import BadInput, Infeasible, plan_bytes
from chiplan.models import find_model, load_target, target_text
from chiplan.runtime_sim import figures


@cache
def compiled(name: str, target: str, **options: Any) -> Compiled:
    return compile_model(find_model(name), target=load_target(target), **options)


def interval_bound(found: Compiled) -> int:
    """The largest proven lower bound of the interval, of any plan or of one with these stages."""
    of_any = [b.value for b in found.plan.bounds if b.quantity == "interval"]
    of_these = [c.bound for c in found.plan.certificates if c.problem.startswith("schedule: interval")]
    return max(of_any + of_these)


@pytest.mark.parametrize("chips", [1, 2, 4])
@pytest.mark.parametrize(("target", "precision"), [("groq-node", "fp16"), ("tiny-ring", "model")])
@pytest.mark.parametrize(
    "name", ["bert-tiny", "gpt2-tiny", "llama-tiny-gqa-past", "vit-tiny", "llama-tiny-gqa-op23"]
)
def test_numerics_agree_on_one_two_and_four_chips(name: str, target: str, precision: str, chips: int) -> None:
    found = compiled(name, target, chips=chips, precision=precision)
    assert found.report.ok
    report = check_numerics(found.plan, find_model(name))
    assert report.ok, report.first_divergence


@pytest.mark.parametrize("precision", ["int8", "w8a16"])
@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny-gqa", "t5-tiny-encoder"])
def test_numerics_agree_with_quantised_weights(name: str, precision: str) -> None:
    found = compiled(name, "groq-node", chips=2, precision=precision)
    report = check_numerics(found.plan, find_model(name))
    assert report.ok, report.first_divergence


@pytest.mark.parametrize(
    ("name", "chips"),
    [
        ("gpt2", 2),
        ("gpt2", 4),
        ("gpt2", 8),
        ("bert-base", 2),
        ("bert-base", 8),
        ("bert-large", 4),
        ("bert-large", 8),
    ],
)
def test_the_interval_is_within_five_per_cent_of_its_bound(name: str, chips: int) -> None:
    found = compiled(name, "groq-node", chips=chips)
    assert found.plan.interval <= 1.05 * interval_bound(found)
    cuts = [
        c for c in found.plan.certificates if c.problem in ("stages: interval", "groups: estimated interval")
    ]
    assert {c.status for c in cuts} == {"optimal"}


def test_bert_large_on_four_chips_is_within_five_per_cent_of_its_stages_bound() -> None:
    found = compiled("bert-large", "groq-node", chips=4, sequence=384)
    assert found.plan.interval <= 1.05 * interval_bound(found)


@pytest.mark.parametrize("name", ["gpt2-tiny", "bert-tiny"])
def test_more_chips_never_give_a_longer_interval(name: str) -> None:
    intervals = [compiled(name, "tiny-ring", chips=chips).plan.interval for chips in (1, 2, 3, 4, 8)]
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[-1] < intervals[0]


def test_objectives_order_what_they_name() -> None:
    plans = {
        objective: compiled("gpt2-tiny", "tiny-ring", chips=4, objective=objective).plan
        for objective in ("throughput", "latency", "chips")
    }
    assert plans["throughput"].interval == min(p.interval for p in plans.values())
    assert plans["latency"].latency == min(p.latency for p in plans.values())
    chips = {name: sum(len(stage.chips) for stage in plan.stages) for name, plan in plans.items()}
    assert chips["chips"] == 1 < chips["throughput"]


def test_micro_batches_overlap_inside_a_stage() -> None:
    plan = compiled("bert-base", "groq-node", chips=2).plan
    for stage in plan.stages:
        tiles = stage.program.tiles
        assert tiles.end.max() - tiles.start.min() > plan.interval


@pytest.mark.parametrize("target", ["tiny-ring", "groq-node"])
@pytest.mark.parametrize("users", [1, 2, 3])
def test_users_have_their_own_state_and_more_chips_serve_no_fewer(target: str, users: int) -> None:
    rates = []
    for chips in (1, 2, 4):
        found = compiled("llama-tiny-gqa-past", target, chips=chips, users=users, context=40)
        rates.append(figures(found.plan, found.report)["tokens_per_second_total"])
        report = check_numerics(found.plan, find_model("llama-tiny-gqa-past"))
        assert report.ok, report.first_divergence
    assert rates == sorted(rates)


def test_a_ring_whose_links_are_full_gets_no_worse_with_more_chips() -> None:
    intervals = [compiled("bert-tiny", "generic-ring", chips=chips).plan.interval for chips in (2, 4, 5, 8)]
    assert intervals == sorted(intervals, reverse=True)


@pytest.mark.parametrize("objective", ["throughput", "latency", "chips"])
@pytest.mark.parametrize(
    ("name", "target", "users"),
    [
        ("gpt2-tiny", "tiny-ring", 1),
        ("mixtral-tiny", "groq-node", 1),
        ("llama-tiny-gqa-past", "groq-node", 1),
        ("llama-tiny-gqa-past", "tiny-ring", 3),
    ],
)
def test_no_plan_is_below_its_bounds(name: str, target: str, users: int, objective: str) -> None:
    plan = compiled(name, target, chips=3, objective=objective, users=users).plan
    achieved = reached(plan)
    assert all(achieved[b.quantity] >= b.value for b in plan.bounds)
    if plan.graph.states:
        largest = {bound.quantity: bound.value for bound in binding_bounds(plan)}
        assert largest["interval"] >= ceil(largest["latency"] / users)
        assert achieved["interval"] >= ceil(plan.latency / users)


def test_a_user_s_wait_is_no_gap_of_the_schedule() -> None:
    """One user: no interval shorter than the latency would give a token sooner."""
    plan = compiled("llama-tiny-gqa-past", "groq-node", chips=4, objective="latency").plan
    (schedule,) = [c for c in plan.certificates if c.problem.startswith("schedule:")]
    assert schedule.problem.endswith("users wait for their last step")
    assert (schedule.status, schedule.objective, schedule.gap) == ("optimal", plan.latency, 0)


def test_parallel_links_and_detours_break_no_bound(tmp_path: Path) -> None:
    text = target_text("tiny-ring")
    edges = '[system.topology]\ngenerator = "edges"\nchips = 3\nedges = [[0, 1], [1, 2], [1, 2]]\n'
    path = tmp_path / "edges.toml"
    path.write_text(text[: text.index("[system.topology]")] + edges, encoding="utf-8")
    found = compile_model(find_model("gpt2-tiny"), target=load_target(path))
    assert found.report.ok
    assert found.plan.interval >= interval_bound(found)


def test_the_same_input_gives_the_same_bytes() -> None:
    target, path = load_target("tiny-ring"), find_model("gpt2-tiny")
    first, second = (compile_model(path, target=target, chips=3) for _ in range(2))
    assert plan_bytes(first.plan) == plan_bytes(second.plan)


def test_too_few_chips_are_refused_with_the_smallest_number_that_fits() -> None:
    with pytest.raises(Infeasible) as refusal:
        compiled("bert-large", "groq-node", chips=2)
    (problem,) = refusal.value.problems
    assert problem.smallest_chips == 4
    assert (problem.needed or 0) > (problem.available or 0) > 0


def test_tables_that_no_chip_holds_are_split() -> None:
    found = compiled("llama2-7b-decode", "groq-rack", objective="latency")
    assert found.report.ok
    usable = found.plan.target.chip.usable_bytes
    assert max(t.nbytes for t in found.plan.graph.tensors.values()) <= usable
    assert 1e6 * found.plan.latency / found.plan.target.chip.clock_hz < 500


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"objective": "speed"}, "unknown_objective"),
        ({"chips": 0}, "chips_out_of_range"),
        ({"chips": 9}, "chips_out_of_range"),
        ({"users": 0}, "users_out_of_range"),
        ({"precision": "fp4"}, "unknown_precision"),
        ({"users": 3}, "users_without_state"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(BadInput) as refusal:
        compiled("gpt2-tiny", "groq-node", **options)
    assert [p.code for p in refusal.value.problems] == [code]


def test_a_type_without_a_cycle_rule_names_the_operator() -> None:
    with pytest.raises(BadInput) as refusal:
        compiled("gpt2-tiny", "groq-node", precision="model")
    (problem,) = refusal.value.problems
    assert problem.code == "no_cycle_rule"
    assert problem.node
