"""What is asked of a plan is kept, or refused with what stands against it: pins, and limits."""

from pathlib import Path
from typing import Any

import pytest

from chiplan.compiler import compile_model
from chiplan.compiler.cli import main
from chiplan.compiler.compile import Compiled
from chiplan.compiler.scaling import scale_model
from chiplan.ir import BadInput, ChiplanError, Infeasible, InternalFault
from chiplan.models import load_target
from chiplan.runtime_sim import figures

from .small_models import chain

NODE = load_target("groq-node")
FIRST, LAST = "MatMul_0", "MatMul_4"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So small that a single chip is the best of plans."""
    return chain(tmp_path_factory.mktemp("chain") / "chain.onnx", 3, 16, 64)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several chips help."""
    return chain(tmp_path_factory.mktemp("chain") / "large.onnx", 3, 320, 1024)


def compiled(model: Path, pins: tuple[tuple[str, str], ...] = (), **options: Any) -> Compiled:
    return compile_model(model, target=NODE, pins=pins, **options)


def refusal(model: Path, kind: type[ChiplanError], **options: Any) -> tuple[str, str]:
    """(code, message) of the first problem."""
    with pytest.raises(kind) as refused:
        compiled(model, **options)
    return refused.value.problems[0].code, refused.value.problems[0].message


def microseconds(found: Compiled, limit: str) -> float:
    """The reported figure that has the limit."""
    cycles = figures(found.plan, found.report)[f"{limit.removeprefix('max_')}_cycles"]
    return float(1e6 * cycles / NODE.chip.clock_hz)


def chips_of(found: Compiled) -> int:
    return sum(len(stage.chips) for stage in found.plan.stages)


def splits_of(plan: Compiled, node: str) -> set[tuple[str, ...]]:
    return {choice.factors for choice in plan.plan.sharding if choice.node == node}


@pytest.mark.parametrize("objective", ["throughput", "latency", "chips"])
def test_a_pin_is_kept_where_a_single_chip_would_be_best(model: Path, objective: str) -> None:
    assert chips_of(compiled(model, objective=objective, chips=4)) == 1
    found = compiled(model, ((FIRST, "n"),), objective=objective, chips=4)
    assert splits_of(found, FIRST) == {("n",)}


def test_a_pinned_operator_is_never_in_a_stage_of_one_chip(model: Path) -> None:
    found = compiled(model, ((LAST, "k"),), groups=(1, 2))
    assert splits_of(found, LAST) == {("k",)}
    code, message = refusal(model, Infeasible, pins=((FIRST, "k"),), groups=(1, 2))
    assert code == "pins_not_kept"
    assert f"groups of 1,2 chips of groq-node cannot keep --pin {FIRST}=k" in message


def test_a_single_chip_keeps_pins_to_none_alone(model: Path) -> None:
    for options in ({"chips": 1}, {"groups": (1,)}):
        found = compiled(model, ((FIRST, "none"), (FIRST, "none")), **options)
        assert chips_of(found) == 1
        code, message = refusal(model, Infeasible, pins=((FIRST, "n"), (LAST, "none")), **options)
        assert (code, "a single chip splits nothing" in message) == ("pins_not_kept", True)
        assert LAST not in message
    assert "1 chip of groq-node cannot keep" in refusal(model, Infeasible, pins=((FIRST, "n"),), chips=1)[1]


def test_pins_of_one_node_that_differ_are_refused(model: Path) -> None:
    code, message = refusal(model, BadInput, pins=((FIRST, "n"), (LAST, "k"), (FIRST, "k")))
    assert code == "pins_contradict"
    assert f"--pin {FIRST}=n and --pin {FIRST}=k" in message


def test_a_plan_that_loses_a_pin_is_a_bug(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chiplan.compiler.sharding_problem.pinned", lambda *asked: asked[2])
    code, _ = refusal(model, InternalFault, pins=((FIRST, "k"),), groups=(2,))
    assert code == "pin_not_kept"


def test_a_count_that_cannot_keep_pins_is_a_row_of_the_sweep(model: Path) -> None:
    scaling = scale_model(model, target=NODE, chips=(1, 2), pins=((FIRST, "n"),))
    first, second = scaling.points
    assert first.refusal is not None
    assert first.refusal.code == "pins_not_kept"
    assert second.measured is not None


def test_the_fewest_chips_within_a_limit_are_those_of_the_frontier(tmp_path: Path) -> None:
    """A pipeline that is packed for its interval misses limits of latency that it could keep."""
    path, ring = chain(tmp_path / "chain.onnx", 6, 128, 256), load_target("tiny-ring")
    frontier = compile_model(path, target=ring, chips=5, pareto=True).frontier
    for limit in sorted({point.latency for point in frontier}):
        fewest = min(point.chips for point in frontier if point.latency <= limit)
        microseconds = 1e6 * limit / ring.chip.clock_hz
        found = compile_model(path, target=ring, chips=5, objective="chips", max_latency=microseconds)
        assert chips_of(found) <= fewest


@pytest.mark.parametrize("objective", ["throughput", "latency", "chips"])
@pytest.mark.parametrize(("limit", "best"), [("max_interval", "throughput"), ("max_latency", "latency")])
def test_a_limit_out_of_reach_names_the_best_there_is(
    large: Path, objective: str, limit: str, best: str
) -> None:
    lowest = microseconds(compiled(large, objective=best, chips=3), limit)
    code, message = refusal(large, Infeasible, objective=objective, chips=3, **{limit: 0.5})
    assert code == "limits_not_met"
    named = float(message.partition("that was found is ")[2].partition(" us")[0])
    assert lowest <= named <= lowest + 0.001
    kept = compiled(large, objective=objective, chips=3, **{limit: named})
    assert microseconds(kept, limit) <= named


def test_two_limits_out_of_reach_name_the_best_of_each(large: Path) -> None:
    both = refusal(large, Infeasible, chips=2, max_latency=0.5, max_interval=0.5)[1]
    for limit in ("max_latency", "max_interval"):
        alone = refusal(large, Infeasible, chips=2, **{limit: 0.5})[1]
        assert alone.partition("keeps ")[2].partition(")")[0] in both


@pytest.mark.parametrize("limit", ["max_latency", "max_interval"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1.0, 0.0])
def test_limits_that_mean_nothing_are_refused(model: Path, limit: str, value: float) -> None:
    assert refusal(model, BadInput, **{limit: value})[0] == "limit_out_of_range"
    option = f"--{limit.replace('_', '-')}"
    assert main(["compile", str(model), "--target", "groq-node", option, str(value)]) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--chips", "0"], "expected a whole number from 1 to 2,147,483,647, found 0"),
        (["--users", "many"], "expected a whole number from 1 to 1,048,576, found many"),
        (["--max-latency", "nan"], "expected a number above 0, up to 1,000,000,000,000, found nan"),
    ],
)
def test_numbers_out_of_range_are_told_in_words(words: list[str], told: str, capsys: Capture) -> None:
    assert main(["compile", "gpt2-tiny", "--target", "groq-node", *words]) == 2
    assert told in capsys.readouterr().err


def test_an_efficiency_that_is_no_number_is_no_gate(model: Path, capsys: Capture) -> None:
    words = ["scale", str(model), "--target", "groq-node", "--chips", "1", "--min-efficiency", "nan"]
    assert main(words) == 2
    assert "above 0, up to 10, found nan" in capsys.readouterr().err
    assert scale_model(model, target=NODE, chips=(1,)).short_of(float("nan"))


def test_groups_that_are_too_small_say_how_many_would_do(large: Path) -> None:
    ring = load_target("tiny-ring")
    with pytest.raises(Infeasible) as refused:
        compile_model(large, target=ring, groups=(1,))
    (problem,) = refused.value.problems
    assert "a group of 1 chip of tiny-ring does not hold the model" in problem.message
    assert problem.smallest_chips is None or f"{problem.smallest_chips} chips in all" in problem.message
