"""No output of any verb replaces a file that the verb reads, or another of its outputs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chiplan.compiler.cli import main
from chiplan.compiler.output_places import check_places, outputs
from chiplan.ir import BadInput, write_plan
from chiplan.models import find_model, target_text

from .handmade import small_plan

CHECK = ["check", "m.onnx", "--baseline", "p.toml"]
VERBS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "compile": (["compile", "m.onnx", "--target", "./t.toml"], ["m.onnx", "t.toml"], ["--output"]),
    "scale": (["scale", "m.onnx", "--chips", "1", "--target", "./t.toml"], ["m.onnx", "t.toml"], ["--svg"]),
    "show": (
        ["show", "a.chiplan", "--frontier", "f.json"],
        ["a.chiplan", "f.json"],
        ["--html", "--svg", "--dot", "--trace", "--model-explorer"],
    ),
    "diff": (["diff", "a.chiplan", "b.chiplan"], ["a.chiplan", "b.chiplan"], ["--html"]),
    "check": (CHECK, ["m.onnx", "p.toml", "t.toml"], ["--junit"]),
    "check with a target": ([*CHECK, "--target", "./u.toml"], ["m.onnx", "p.toml", "u.toml"], ["--junit"]),
    "update": ([*CHECK, "--update"], ["m.onnx", "t.toml"], ["--junit"]),
    "update in place": (
        ["check", "m.onnx", "--update", "--target", "./t.toml"], ["m.onnx", "t.toml"], ["--baseline"]
    ),
    "export": (["export", "a.chiplan", "m.onnx"], ["a.chiplan", "m.onnx"], ["--onnx"]),
}  # fmt: skip
"""By name: the command, the files that it reads, and the options that write one."""


def cases() -> Iterator[tuple[str, str, str]]:
    for verb, (_, read, options) in VERBS.items():
        yield from ((verb, option, path) for option in options for path in read)


def baseline_of(target: str) -> str:
    return f"""format = 1
nodes = []
[figures]
latency_cycles = 1
interval_cycles = 1
chips = 1
sram_bytes = 1
clock_hz = 1
[target]
name = "{target}"
[target.numbers]
[options]
[model]
sha256 = "x"
inputs = []
outputs = []
[tool]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every file that a verb may read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(find_model("bert-tiny").read_bytes())
    for name in ("t", "u"):
        (tmp_path / f"{name}.toml").write_text(target_text("tiny-ring"), encoding="utf-8")
    (tmp_path / "p.toml").write_text(baseline_of("t.toml"), encoding="utf-8")
    (tmp_path / "f.json").write_text("{}", encoding="utf-8")
    for name in ("a", "b"):
        write_plan(small_plan(), tmp_path / f"{name}.chiplan")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def words_of(verb: str, option: str, path: str) -> list[str]:
    words = VERBS[verb][0]
    more = ["--html", "other.html"] if "--frontier" in words and option != "--html" else []
    return [*words, *more, option, path]


@pytest.mark.parametrize(("verb", "option", "path"), list(cases()))
def test_no_output_is_an_input(
    verb: str, option: str, path: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    (folder / "link").symlink_to(path)
    os.link(folder / path, folder / "hard")
    for name in (path, f"./{path}", str(folder / path), "link", "hard"):
        assert main(words_of(verb, option, name)) == 2, name
        error = capsys.readouterr().err
        assert "the file that is read as" in error
        assert f"give {option} another name" in error
    assert {name: data for name, data in contents(folder).items() if name not in ("link", "hard")} == before


@pytest.mark.parametrize(
    "words",
    [
        ["show", "a.chiplan", "--html", "x", "--svg", "./x"],
        ["show", "a.chiplan", "--trace", "x", "--dot", "x"],
        ["show", "a.chiplan", "--model-explorer", "g.json", "--svg", "g.cycles.json"],
        ["show", "a.chiplan", "--html", "d/x.html", "--csv", "d"],
        [*CHECK, "--update", "--junit", "p.toml"],
        ["check", "m.onnx", "--update", "--target", "tiny-ring", "--baseline", "x", "--junit", "x"],
        ["export", "a.chiplan", "m.onnx", "--onnx", "d", "--split", "./d"],
    ],
)
def test_no_output_is_another(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "d/x.html" in words:
        (folder / "d").mkdir()
    before = contents(folder)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "are one place; give each its own" in error
    assert contents(folder) == before


def test_a_folder_that_holds_an_input(folder: Path) -> None:
    with pytest.raises(BadInput, match="it holds the file that is read as MODEL"):
        check_places({"MODEL": folder / "m.onnx"}, outputs(folders={"--split": folder}))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "a.chiplan", "--csv", "-"], "--csv is not for standard output; name a folder"),
        (["show", "a.chiplan", "--trace", "-"], "--trace is not for standard output; give a file name"),
        ([*CHECK, "--junit", "-"], "--junit is not for standard output; give a file name"),
        (["compile", "m.onnx", "--target", "t.toml", "-o", "-"], "--output is not for standard output"),
        (
            ["show", "a.chiplan", "--model-explorer", "-", "--ir", "plan"],
            "--model-explorer - and --ir each need standard output",
        ),
    ],
)
def test_what_is_not_for_standard_output(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert main(words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert contents(folder) == before


def test_outputs_that_are_apart_are_written(folder: Path) -> None:
    words = ["show", "a.chiplan", "--svg", "x.svg", "--dot", "x.dot", "--csv", "tables"]
    assert main(words) == 0
    assert {"x.svg", "x.dot"} <= set(contents(folder))
    assert (folder / "tables").is_dir()
