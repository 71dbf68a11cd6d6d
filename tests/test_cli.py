"""Every way in which a verb ends: exit codes, messages, one JSON object or none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chiplan.compiler import cli
from chiplan.compiler.cli import main
from chiplan.compiler.cli_output import problem_lines, replacing
from chiplan.ir import BadInput, Infeasible, InternalFault, MemoryPeak, Problem
from chiplan.models import model_names

Capture = pytest.CaptureFixture[str]


def _raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli.models_verb, "callback", fail)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothing"], "No such command"),
        (["compile"], "Missing argument 'MODEL'"),
        (["compile", "gpt2"], "Missing option '--target'"),
        (["compile", "gpt2", "--target", "t", "--chips", "0"], "--chips"),
        (["compile", "gpt2", "--target", "t", "--objective", "speed"], "throughput"),
        (["compile", "gpt2", "--target", "t", "--bind", "s16"], "not NAME=VALUE with a whole number"),
        (["compile", "gpt2", "--target", "t", "--bind", "s16=0"], "not NAME=VALUE with a whole number"),
        (["compile", "gpt2", "--target", "t", "--bind", f"s16={10**22}"], "the most that a dimension can be"),
        (["compile", "gpt2", "--target", "t", "--bind", f"s16={'9' * 5000}"], "--bind"),
        (["compile", "gpt2", "--target", "t", "--batch", str(10**22)], "2,147,483,647"),
        (["compile", "gpt2", "--target", "t", "--sequence", str(2**31)], "2,147,483,647"),
        (["compile", "gpt2", "--target", "t", "--context", str(10**19)], "2,147,483,647"),
        (["compile", "gpt2", "--target", "t", "--chips", str(10**19)], "--chips"),
        (["compile", "gpt2", "--target", "t", "--users", str(2**20 + 1)], "1,048,576"),
        (["compile", "gtp2", "--target", "t"], "Did you mean gpt2"),
        (["compile", "gpt2", "--target", "no-such-target"], "no-such-target"),
        (["compile", "gpt2", "--target", "groq-node", "-o", "no/such/folder/x.chiplan"], "does not exist"),
        (["compile", "gpt2", "--target", "groq-node", "-o", "."], "it is a folder"),
        (["compile", "gpt2", "--target", "groq-node", "-o", "/dev/null"], "it is no regular file"),
        (["compile", "gpt2", "--target", "groq-node", "-o", "-"], "give a file name"),
        (["show", "gpt2"], "gpt2 is a model, not a plan. Compile it first"),
        (["simulate", "gpt2", "--numerics", "gpt2"], "gpt2 is a model, not a plan. Compile it first"),
        (["simulate", "no-such.chiplan"], "no-such.chiplan"),
        (["show", "no-such.chiplan"], "no-such.chiplan"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(words: list[str], expected: str, capsys: Capture) -> None:
    assert main(words) == 2
    text, errors = capsys.readouterr()
    assert text == ""
    assert errors.startswith("error: ")
    assert expected in errors
    assert main([*words, "--json"]) == 2
    text, errors = capsys.readouterr()
    refusal = json.loads(text)
    assert errors == ""
    assert (refusal["ok"], refusal["exit_code"]) == (False, 2)
    assert expected in refusal["errors"][0]["message"]
    assert set(refusal["errors"][0]) == {
        "code", "message", "node", "operator", "dimension", "needed", "available", "smallest_chips",
        "memory", "cures",
    }  # fmt: skip


def test_a_verb_is_needed(capsys: Capture) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "error: Missing command. (see chiplan --help)\n"


def test_every_problem_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    problems = [Problem("a", "first"), Problem("b", "second", node="n", needed=5)]
    _raising(monkeypatch, BadInput(problems))
    assert main(["models"]) == 2
    assert capsys.readouterr().err == "error: first\nerror: second\n"
    assert main(["models", "--json"]) == 2
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert [(error["code"], error["node"], error["needed"]) for error in errors] == [
        ("a", None, None),
        ("b", "n", 5),
    ]


def test_problems_that_are_alike_are_folded_in_text_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    weights = [Problem("tensor_too_large", f"weight {number}") for number in range(9)]
    _raising(monkeypatch, BadInput([*weights, Problem("other", "last", operator="Loop")]))
    assert main(["models"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: weight 0",
        "error: weight 1",
        "error: weight 2",
        "error: and 6 more like it (--json lists them all)",
        "error: last",
    ]
    assert main(["models", "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["errors"]) == 10
    assert problem_lines(weights[:4]) == [f"weight {number}" for number in range(4)]


def test_a_full_standard_output_is_told() -> None:
    script = "import sys; from chiplan.compiler.cli import main; sys.exit(main(['models']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        "error: cannot write standard output: no space is left there\n",
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Infeasible(Problem("too_small", "does not fit")), 3),
        (InternalFault(Problem("fault", "overlap")), 70),
        (ZeroDivisionError("by nothing"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_end_has_its_code_and_no_traceback(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delenv("CHIPLAN_TRACEBACK", raising=False)
    _raising(monkeypatch, error)
    assert main(["models"]) == code
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert ("bug in chiplan" in errors) is (code == 70)


def test_a_bug_shows_its_traceback_when_asked(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("CHIPLAN_TRACEBACK", "1")
    _raising(monkeypatch, ZeroDivisionError("by nothing"))
    assert main(["models", "--json"]) == 70
    text, errors = capsys.readouterr()
    assert json.loads(text)["errors"][0]["code"] == "bug"
    assert "Traceback" in errors


def test_models_lists_what_ships(capsys: Capture) -> None:
    assert main(["models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert [model["name"] for model in models] == list(model_names())
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in model_names())
    assert max(map(len, text.splitlines())) <= 80


def test_a_target_is_listed_and_shown(capsys: Capture) -> None:
    assert main(["targets", "--json"]) == 0
    names = [target["name"] for target in json.loads(capsys.readouterr().out)["targets"]]
    assert {"groq-node", "groq-rack", "generic-ring", "tiny-ring"} <= set(names)
    assert main(["targets"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in names)
    assert main(["targets", "show", "groq-node"]) == 0
    shown = capsys.readouterr().out
    for words in (["targets", "show", "groq-node", "--json"], ["targets", "--json", "show", "groq-node"]):
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out)["toml"] == shown


def test_a_failed_write_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("old")
    with pytest.raises(BadInput, match="disk full"), replacing(path) as beside:
        beside.write_text("half")
        raise OSError(28, "disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def _python(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def test_help_and_version_answer_without_a_solver() -> None:
    script = (
        "import sys; from chiplan.compiler.cli import main; code = main(['--help']);"
        "assert not {'ortools', 'onnx', 'onnxruntime'} & set(sys.modules); sys.exit(code)"
    )
    assert "chiplan compile gpt2 --target groq-node" in _python(script).stdout
    done = _python("from chiplan.compiler.cli import main; main(['--version'])")
    assert done.stdout.startswith("chiplan, version ")


def test_a_reader_that_goes_away_ends_quietly(tmp_path: Path) -> None:
    script = "import sys; from chiplan.compiler.cli import main; sys.exit(main(['models']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert errors == b""


def test_a_refusal_about_memory_is_a_sentence_a_line_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    message = f"{'no room ' * 20}here. Largest: {'a weight; ' * 10}b. Other cures: fewer users."
    peak = MemoryPeak(None, None, "n", 9, 9, 5, {}, ())
    _raising(monkeypatch, BadInput(Problem("a", message, memory=peak)))
    assert main(["models"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 80
    starts = [line for line in lines if not line.startswith("    ")]
    assert [line.split()[0] for line in starts] == ["error:", "Largest:", "Other"]
    assert " ".join(" ".join(lines).split()) == f"error: {message}"
    assert main(["models", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["errors"][0]["message"] == message
