"""docs/ci.md, played through in a scratch git repository (`--update-golden` writes its outputs there)."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from chiplan.compiler.cli import main

BLOCK = re.compile(r"```(console|python|yaml)\n(.*?)```", flags=re.DOTALL)
EXIT_CODE = '; echo "exit code $?"'

Run = Callable[[str], str]


def blocks(page: str, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page) if kind == language]


def yaml_block(page: str, file: str) -> dict[str, object]:
    (body,) = [body for body in blocks(page, "yaml") if body.startswith(f"# {file}\n")]
    return yaml.safe_load(body)


@pytest.fixture(scope="module")
def page_path(repository: Path) -> Path:
    return repository / "docs/ci.md"


@pytest.fixture
def scratch(page_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the page's scripts in it, and git as it is out of the box."""
    for body in blocks(page_path.read_text(encoding="utf-8"), "python"):
        name, _, script = body.partition("\n")
        (tmp_path / name.removeprefix("# ")).write_text(script, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join((scripts, os.environ["PATH"])))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return tmp_path


@pytest.fixture
def run(scratch: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command of the page and returns what a terminal shows; chiplan runs in this process."""

    def run_one(line: str) -> str:
        command, shows_code, _ = line.partition(EXIT_CODE)
        if command.startswith("chiplan ") and ">" not in command:
            code = main(shlex.split(command)[1:])
        else:
            code = subprocess.run(["bash", "-c", command], cwd=scratch, check=False, timeout=60).returncode
        shown = capfd.readouterr()
        assert shows_code or code == 0, shown.err
        return shown.out + shown.err + (f"exit code {code}\n" if shows_code else "")

    return run_one


def settled(text: str) -> str:
    """Without what another version of git or of the solver may print."""
    return re.sub(r"^(index |[+-]?ortools = ).*$", r"\1...", text, flags=re.MULTILINE)


def test_the_story_is_what_happens(
    page_path: Path, scratch: Path, run: Run, request: pytest.FixtureRequest
) -> None:
    page = page_path.read_text(encoding="utf-8")
    told = blocks(page, "console")
    commands = [re.findall(r"^\$ (.*)$", block, re.MULTILINE) for block in told]
    happened = ["".join(f"$ {line}\n{run(line)}" for line in lines) for lines in commands]
    if request.config.getoption("--update-golden"):
        fresh = iter(happened)
        told = happened
        page = BLOCK.sub(
            lambda found: f"```console\n{next(fresh)}```" if found[1] == "console" else found[0], page
        )
        page_path.write_text(page, encoding="utf-8")
    assert [settled(block) for block in told] == [settled(block) for block in happened]
    _check_verdicts("".join(happened))
    assert str(scratch) not in (scratch / "perf.toml").read_text(encoding="utf-8")


def _check_verdicts(story: str) -> None:
    """What the story must show, whatever the figures are."""
    answers = re.findall(
        r"^\$ chiplan check (.*); echo.*\n((?:(?!\$ ).*\n)*?)exit code (\d)$", story, re.MULTILINE
    )
    assert [int(code) for _, _, code in answers] == [0, 1, 0, 1, 4, 1, 0]
    renamed, longer, _, _, stick, slower, updated = [said for _, said, _ in answers]
    assert "model on chip: same" in renamed
    assert "The model changed" in renamed
    assert re.search(r"^layer2/matmul2 .* new ", longer, re.MULTILINE)
    assert "target link.cycles_per_flit: 27 in the baseline, now 54" in stick
    assert re.search(r"^layer0/matmul0 ", slower, re.MULTILINE)
    assert "model on chip: same" in updated


def prepare_repository(run: Run) -> None:
    """A baseline that is committed, and a model that has become worse."""
    run("git init --quiet")
    run("python export.py")
    run("chiplan targets show groq-node > chip.toml")
    run("chiplan check model.onnx --baseline perf.toml --update --target chip.toml --chips 2 --groups 1,1")
    run("git add . && git commit --quiet --message baseline")
    run("python export.py layer 2")


def test_the_workflow_fails_on_a_worse_plan_and_leaves_a_report(
    page_path: Path, scratch: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = yaml_block(page_path.read_text(encoding="utf-8"), ".github/workflows/chiplan.yml")
    steps = workflow["jobs"]["check"]["steps"]
    (command,) = [step["run"] for step in steps if "chiplan check" in step.get("run", "")]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(scratch / "summary.md"))
    prepare_repository(run)
    assert run(f'{command}; echo "exit code $?"').endswith("exit code 1\n")
    assert "is worse" in (scratch / "summary.md").read_text(encoding="utf-8")
    suite = ET.parse(scratch / "chiplan.xml").getroot()
    assert {case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None} >= {
        "latency_cycles"
    }


def test_the_hook_refuses_the_commit_of_a_worse_plan(
    page_path: Path, repository: Path, scratch: Path, run: Run
) -> None:
    hooks = yaml_block(page_path.read_text(encoding="utf-8"), ".pre-commit-config.yaml")
    (hook,) = hooks["repos"][0]["hooks"]
    (shipped,) = yaml.safe_load((repository / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["id"] == shipped["id"]
    assert hook["entry"].startswith(shipped["entry"])
    assert re.match(hook["files"], "model.onnx")
    prepare_repository(run)
    script = scratch / ".git/hooks/pre-commit"
    script.write_text(f"#!/bin/sh\nexec {hook['entry']}\n", encoding="utf-8")
    script.chmod(0o755)
    refused = run('git commit --quiet --all --message worse; echo "exit code $?"')
    assert "model on chip: worse" in refused
    assert refused.endswith("exit code 1\n")
    run("git checkout --quiet model.onnx")
    run("git commit --quiet --all --allow-empty --message same")


def test_the_fixture_of_the_page_passes(run: Run) -> None:
    run("python export.py")
    said = run("python -m pytest -q -p no:cacheprovider --import-mode=importlib test_plan.py")
    assert "1 passed" in said
