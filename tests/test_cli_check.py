"""`check`: verdicts, the stick, and baselines that are missing or broken."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from chiplan.compiler.baseline import Baseline, Figures, baseline_text, read_baseline
from chiplan.compiler.baseline_check import Verdict, judge
from chiplan.compiler.cli import main
from chiplan.compiler.stick import option_names, planning
from chiplan.compiler.tolerance import Tolerance, tolerance
from chiplan.models import target_text

BEFORE = Figures(latency_cycles=1000, interval_cycles=100, chips=4, sram_bytes=4096, clock_hz=900_000_000)
EXACT = {name: Tolerance("+0 %") for name in ("latency_cycles", "interval_cycles", "chips", "sram_bytes")}

Check = Callable[..., tuple[int, str]]


def save_model(path: Path, names: Sequence[str], output: str = "y") -> None:
    """A product for every name, one after the other, width 32."""
    weight = numpy_helper.from_array(np.eye(32, dtype=np.float16), "w")
    values = ["x", *(f"{name}_value" for name in names[:-1]), output]
    nodes = [
        helper.make_node("MatMul", [values[number], "w"], [values[number + 1]], name=name)
        for number, name in enumerate(names)
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["batch", "sequence", 32])
        for name in ("x", output)
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs `check model.onnx --baseline perf.toml` and returns the exit code and all that was printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        code = main(["check", "model.onnx", "--baseline", "perf.toml", *words])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


@pytest.fixture
def held(check: Check, tmp_path: Path) -> Check:
    """The same, with a model, a target file and a baseline there."""
    save_model(tmp_path / "model.onnx", ["first", "second"])
    (tmp_path / "chip.toml").write_text(target_text("tiny-ring"), encoding="utf-8")
    code, _ = check("--update", "--target", "chip.toml", "--chips", "1", "--sequence", "16")
    assert code == 0
    return check


def test_a_missing_baseline_is_bad_input(check: Check, tmp_path: Path) -> None:
    save_model(tmp_path / "model.onnx", ["first"])
    code, said = check()
    assert code == 2
    assert "no such baseline" in said
    code, said = check("--update")
    assert code == 2
    assert "--target" in said
    assert not (tmp_path / "perf.toml").exists()


def test_update_is_repeatable_and_names_no_machine(held: Check, tmp_path: Path) -> None:
    first = (tmp_path / "perf.toml").read_bytes()
    assert held("--update")[0] == 0
    assert (tmp_path / "perf.toml").read_bytes() == first
    assert str(tmp_path).encode() not in first
    baseline = read_baseline(tmp_path / "perf.toml")
    assert (baseline.target.name, baseline.options["chips"], baseline.options["sequence"]) == (
        "chip.toml",
        1,
        16,
    )
    assert baseline_text(baseline, "perf.toml").encode() == first


@pytest.mark.usefixtures("held")
def test_target_paths_count_from_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    words = ["check", "../model.onnx", "--baseline"]
    assert main([*words, "../perf.toml"]) == 0
    assert main([*words, "perf.toml", "--update", "--target", "../chip.toml", "--chips", "1"]) == 0
    assert read_baseline(folder / "perf.toml").target.name == "../chip.toml"
    monkeypatch.chdir(tmp_path)
    assert main(["check", "model.onnx", "--baseline", "elsewhere/perf.toml"]) == 0


def test_verdicts(held: Check, tmp_path: Path) -> None:
    assert "model on chip: same" in held()[1]
    save_model(tmp_path / "model.onnx", ["other", "names"])
    code, said = held()
    assert (code, "chip: same" in said, "The model changed" in said) == (0, True, True)
    save_model(tmp_path / "model.onnx", ["first", "added", "second"])
    code, said = held("--json")
    document = json.loads(said)
    assert (code, document["verdict"], document["ok"]) == (1, "worse", False)
    assert [row["nodes"] for row in document["costs_more"]] == [["added"]]
    save_model(tmp_path / "model.onnx", ["first"])
    code, said = held("--json")
    assert (code, json.loads(said)["verdict"]) == (0, "better")


def test_every_page_fits_80_columns(held: Check, tmp_path: Path) -> None:
    save_model(tmp_path / "model.onnx", ["first", "a_name_that_is_far_too_long_for_one_cell" * 3, "second"])
    assert max(map(len, held()[1].splitlines())) <= 80


def test_another_stick_is_incomparable_unless_it_is_allowed(held: Check, tmp_path: Path) -> None:
    code, said = held("--batch", "2", "--junit", "check.xml")
    assert (code, "batch: 1 in the baseline, now 2" in said) == (4, True)
    assert ET.parse(tmp_path / "check.xml").getroot().find("testcase/error") is not None
    assert held("--batch", "2", "--allow", "batch")[0] == 1
    assert held("--batch", "1")[0] == 0
    code, said = held("--wire", "fp32", "--json")
    document = json.loads(said)
    assert (code, document["verdict"], document["exit_code"]) == (4, "incomparable", 4)
    assert document["errors"][0]["code"] == "baseline_wire"
    assert held("--allow", "nonsense")[0] == 2


def test_a_target_counts_by_its_numbers(held: Check, tmp_path: Path) -> None:
    target = tmp_path / "chip.toml"
    text = target.read_text(encoding="utf-8")
    target.write_text(f"# another comment\n{text}\n[cost]\nchip_price_usd = 5\n", encoding="utf-8")
    assert held()[0] == 0
    target.write_text(text.replace("clock_hz = 1_000_000_000", "clock_hz = 2_000_000_000"), encoding="utf-8")
    code, said = held("--markdown")
    assert (code, "chip.clock_hz" in said, "incomparable" in said) == (4, True, True)
    assert "better" in held("--allow", "target")[1]


def test_other_ends_of_the_model_are_incomparable(held: Check, tmp_path: Path) -> None:
    save_model(tmp_path / "model.onnx", ["first", "second"], output="z")
    code, said = held()
    assert (code, "outputs: y fp16" in said) == (4, True)
    assert held("--allow", "outputs")[0] == 0


def test_model_and_tool_are_part_of_the_stick_when_asked(held: Check, tmp_path: Path) -> None:
    assert held("--same", "model", "--same", "tool")[0] == 0
    baseline = tmp_path / "perf.toml"
    baseline.write_text(baseline.read_text().replace('chiplan = "', 'chiplan = "9.'), encoding="utf-8")
    assert held("--same", "tool")[0] == 4
    code, said = held()
    assert (code, "chiplan changed: 9." in said) == (0, True)
    save_model(tmp_path / "model.onnx", ["other", "names"])
    assert held("--same", "model")[0] == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("format = 1", "format = 2"),
        ("format = 1", "format = ["),
        ("chips = 1\n", "chips = 'one'\n"),
        ("latency_cycles =", "latency = 1\nlatency_cycles ="),
        ("latency_cycles = ", "latency_cycles = 0.5 #"),
        ("at = [0", "at = [7"),
        ("[tool]", "[tool]\nsolver = 1"),
        ('objective = "', 'objective = "no'),
        ('objective = "', 'nonsense = "'),
    ],
)
def test_broken_baselines_are_bad_input(held: Check, tmp_path: Path, old: str, new: str) -> None:
    baseline = tmp_path / "perf.toml"
    text = baseline.read_text(encoding="utf-8")
    assert old in text
    baseline.write_text(text.replace(old, new, 1), encoding="utf-8")
    code, said = held()
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def judged(after: Figures, **tolerances: Tolerance) -> dict[str, tuple[Verdict, bool]]:
    return {item.quantity: (item.verdict, item.beyond) for item in judge(BEFORE, after, EXACT | tolerances)}


def test_figures_are_exact_to_the_cycle() -> None:
    assert set(judged(BEFORE).values()) == {(Verdict.SAME, False)}
    assert judged(replace(BEFORE, latency_cycles=1001))["latency_cycles"] == (Verdict.WORSE, True)
    assert judged(replace(BEFORE, latency_cycles=999))["latency_cycles"] == (Verdict.BETTER, False)
    share, amount = tolerance("0.1%"), tolerance("+1")
    for allowed in (share, amount):
        assert not judged(replace(BEFORE, latency_cycles=1001), latency_cycles=allowed)["latency_cycles"][1]
        assert judged(replace(BEFORE, latency_cycles=1002), latency_cycles=allowed)["latency_cycles"][1]


def test_cycles_of_another_clock_are_compared_as_time() -> None:
    doubled = replace(BEFORE, clock_hz=2 * BEFORE.clock_hz, latency_cycles=2000, interval_cycles=199)
    verdicts = judged(doubled)
    assert verdicts["latency_cycles"] == (Verdict.SAME, False)
    assert verdicts["interval_cycles"] == (Verdict.BETTER, False)
    assert verdicts["chips"] == (Verdict.SAME, False)


def test_tolerances() -> None:
    assert tolerance("2.5%").limit(1000) == 1025
    assert tolerance("+3").limit(1000) == tolerance("3").limit(1000) == 1003
    assert tolerance("0.000000001%").limit(10) == 10 + Fraction(1, 10**10)
    for wrong in ("-1", "1.5", "%", "1 %", "nan%", "1e3", "+-1", "١%"):
        with pytest.raises(click.BadParameter):
            tolerance(wrong)


def test_every_option_that_chooses_a_plan_is_part_of_the_stick() -> None:
    compile_verb = {option.opts[0] for option in main_options("compile")}
    besides = {"--target", "--pareto", "--output", "-o", "--json", "model", "--verify-each"}
    besides.add("--check-reproducible")
    assert {f"--{name}" for name in option_names()} == compile_verb - besides
    assert planning({"groups": "2,2", "bind": ("a=1", "b=2")})["bind"] == {"a": 1, "b": 2}


def main_options(verb: str) -> Sequence[click.Parameter]:
    from chiplan.compiler.cli import chiplan

    return chiplan.commands[verb].params


@pytest.mark.usefixtures("held")
def test_a_baseline_reads_as_it_was_written(tmp_path: Path) -> None:
    baseline: Baseline = read_baseline(tmp_path / "perf.toml")
    hostile = replace(baseline, model=replace(baseline.model, inputs=('"\\\n# [x]\u2028',)))
    path = tmp_path / "again.toml"
    path.write_text(baseline_text(hostile, path.name), encoding="utf-8")
    assert read_baseline(path) == hostile


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clock_hz", "0"),
        ("chips", "0"),
        ("chips", "-1"),
        ("sram_bytes", "-1"),
        ("latency_cycles", "-5"),
        ("interval_cycles", str(2**62 + 1)),
    ],
)
def test_figures_that_no_plan_has_are_refused(held: Check, tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "perf.toml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    changed = [f"{name} = {value}\n" if line.startswith(f"{name} = ") else line for line in lines]
    assert changed != lines
    path.write_text("".join(changed), encoding="utf-8")
    code, said = held("--json")
    assert code == 2
    assert json.loads(said)["errors"][0]["code"] == "baseline_broken"
    assert f"figures.{name}: expected" in said
