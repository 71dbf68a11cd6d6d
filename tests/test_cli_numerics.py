"""How a numeric verdict is printed, whatever its figures are."""

import json
from pathlib import Path

import pytest

from chiplan.compiler.cli import main
from chiplan.compiler.cli_numerics import numerics_document, print_numerics
from chiplan.compiler.cli_output import page
from chiplan.compiler.numeric_check import Divergence, NumericsReport
from chiplan.ir import Plan, write_plan


@pytest.fixture
def diverging() -> NumericsReport:
    """A NaN came out."""
    place = Divergence("operator first, tile 3 on chip 1 stores a wrong h", "h", float("inf"), "first")
    return NumericsReport(
        ok=False, max_error=float("nan"), tolerance=1e-4, micro_batches=3, first_divergence=place
    )


def test_what_is_not_finite_is_null(diverging: NumericsReport) -> None:
    document = json.loads(json.dumps(numerics_document(diverging), allow_nan=False))
    assert (document["ok"], document["max_error"], document["tolerance"]) == (False, None, 1e-4)
    assert document["first_divergence"]["error"] is None
    assert document["first_divergence"]["operator"] == "first"


def test_the_place_is_printed(diverging: NumericsReport, capsys: pytest.CaptureFixture[str]) -> None:
    print_numerics(page(), diverging)
    text = capsys.readouterr().out
    assert "DIVERGES from onnxruntime" in text
    assert "first divergence: operator first, tile 3 on chip 1" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("kind", ["text", "plan", "no weights"])
def test_a_model_that_cannot_be_compared_is_refused_before_anything_is_printed(
    kind: str, hand_plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, text = tmp_path / "hand.chiplan", tmp_path / "model.onnx"
    write_plan(hand_plan, plan)
    text.write_text("no model\n")
    model = {"text": text, "plan": plan, "no weights": "gpt2"}[kind]
    assert main(["simulate", str(plan), "--numerics", str(model)]) in (2, 4)
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert errors.startswith("error: ")
