"""A sample of `python -m benchmarks.fuzz`, and whether the harness sees what it is there for."""

import sys
from pathlib import Path

import pytest

from .fuzz_mutations import flip_bytes
from .fuzz_seeds import write_seeds
from .fuzzing import KINDS, Kind, attempt, mutated, run_tries, shares

SEED = 7
TRIES = 240


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    write_seeds(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_mutated_input_crashes(seeds: Path, kind: Kind) -> None:
    tries = list(run_tries(seeds, kind, range(shares(TRIES)[kind]), SEED))
    assert [tried for tried in tries if tried.verdict == "crash"] == []
    assert any(tried.verdict == "refused" for tried in tries)


def test_a_try_is_a_number(seeds: Path) -> None:
    for kind in KINDS:
        data = mutated(seeds, kind, 3, SEED)
        assert data == mutated(seeds, kind, 3, SEED)
        assert data != mutated(seeds, kind, 4, SEED)


def test_seeds_are_good(seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in sorted(seeds.iterdir()):
        family = path.name.split("-")[0]
        assert attempt(path.read_bytes(), family, 1).verdict == "accepted", path.name


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [("bug", "70"), ("escape", "terminal would obey"), ("left", "files left"), ("lines", "lines")],
)
def test_the_harness_sees_a_crash(
    broken: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chiplan.compiler.cli.main", lambda _words: _misbehave(broken))
    found = attempt(b"x", "plan", 1)
    assert found.verdict == "crash"
    assert complaint in found.detail
    assert list(tmp_path.iterdir()) == []


def _misbehave(how: str) -> int:
    match how:
        case "bug":
            return 70
        case "escape":
            sys.stdout.write("\x1b[2J")
        case "left":
            Path("stray.part").write_text("x")
        case "lines":
            sys.stdout.write("error\n" * 500)
    return 2


def test_a_worker_that_ends_is_one_crash_a_try(seeds: Path) -> None:
    """A kind that the worker does not know ends it."""
    unknown = Kind("no such kind", "plan", flip_bytes, 1)
    tries = list(run_tries(seeds, unknown, range(2), SEED))
    assert [(tried.number, tried.verdict) for tried in tries] == [(0, "crash"), (1, "crash")]
    assert "the worker ended with" in tries[0].detail


def test_a_worker_that_hangs_is_ended(seeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run_tries.__globals__, "LIMIT_SECONDS", 0.0)
    (tried,) = run_tries(seeds, KINDS[0], range(1), SEED)
    assert tried.verdict == "crash"
    assert "not done" in tried.detail
