"""The whole way in seconds: a model with weights to a plan, simulated, executed, shown."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chiplan.compiler.cli import main

PLAN_FIELDS = {
    "ok", "faults", "latency_cycles", "latency_us", "interval_cycles", "inferences_per_second",
    "tokens_per_second_user", "tokens_per_second_total", "precision", "latency_includes_host", "chips",
    "stages", "bounds", "certificates", "sha256",
}  # fmt: skip

COMPILE = ["compile", "gpt2-tiny", "--target", "tiny-ring", "--chips", "2", "--sequence", "16"]


def _printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    text, errors = capsys.readouterr()
    assert errors == ""
    document = json.loads(text)
    assert isinstance(document, dict)
    return document


def test_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    compiled = _printed(COMPILE, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["gpt2-tiny.chiplan"]
    assert compiled.keys() >= PLAN_FIELDS
    simulated = _printed(["simulate", "gpt2-tiny.chiplan", "--numerics", "gpt2-tiny"], capsys)
    assert simulated.keys() >= PLAN_FIELDS | {"numerics"}
    assert simulated["numerics"]["ok"] is True
    assert {name: simulated[name] for name in PLAN_FIELDS} == {name: compiled[name] for name in PLAN_FIELDS}
    shown = _printed(["show", "gpt2-tiny.chiplan", "--svg", "g.svg", "--dot", "g.dot"], capsys)
    assert (shown["stages"], shown["interval_cycles"]) == (compiled["stages"], compiled["interval_cycles"])
    assert Path("g.svg").stat().st_size > 1000


def test_other_folder_and_hash_seed_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first = _printed([*COMPILE, "-o", "first.chiplan"], capsys)
    script = "import sys; from chiplan.compiler.cli import main; sys.exit(main(sys.argv[1:]))"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, *COMPILE, "--json"],
        cwd=elsewhere,
        env={"PYTHONHASHSEED": "12345", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["sha256"] == first["sha256"]


def test_a_model_from_another_plan_is_incomparable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _printed(COMPILE, capsys)
    assert main(["simulate", "gpt2-tiny.chiplan", "--numerics", "gpt2-tiny-fp16"]) == 4
    assert "another model" in capsys.readouterr().err


def test_inspect_names_inputs_roles_and_operators(capsys: pytest.CaptureFixture[str]) -> None:
    document = _printed(["inspect", "gpt2-tiny"], capsys)
    assert document["supported"] is True
    assert document["problems"] == []
    assert main(["inspect", "gpt2-tiny"]) == 0
    text = capsys.readouterr().out
    assert "seq (sequence)" in text
    assert "Every operator is supported." in text
    assert max(map(len, text.splitlines())) <= 80
