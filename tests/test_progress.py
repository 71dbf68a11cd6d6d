"""What is told while a plan is made, and that telling changes nothing."""

import pytest

from chiplan.compiler import compile_model
from chiplan.compiler.cli_output import progress
from chiplan.ir import plan_bytes
from chiplan.models import find_model, load_target


def test_steps_tell_what_is_solved_and_the_best_so_far() -> None:
    told: list[str] = []
    planning = {"target": load_target("tiny-ring"), "chips": 3, "sequence": 8}
    watched = compile_model(find_model("bert-tiny"), progress=told.append, **planning)
    assert told[0] == "importing"
    assert told[-1] == "simulating"
    assert any(step.startswith("solving stages") and "bound" in step for step in told)
    assert any("scheduling" in step and "best so far" in step for step in told)
    unwatched = compile_model(find_model("bert-tiny"), **planning)
    assert plan_bytes(watched.plan) == plan_bytes(unwatched.plan)


def test_nothing_is_told_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (True, False):
        with progress(as_json) as say:
            say("a step")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")
