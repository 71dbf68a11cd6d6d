"""The same input gives the same bytes: over hash seeds, folders, cores and threads; and who says when not."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chiplan.compiler import reproducible
from chiplan.compiler.cli import main
from chiplan.compiler.graph_passes import graph_passes
from chiplan.ir import InternalFault, first_difference, plan_bytes, read_plan
from chiplan.models import load_target

from .handmade import small_plan, with_tiles

COMPILE = ["compile", "bert-tiny", "--target", "tiny-ring", "--chips", "2", "--sequence", "16"]
TILE_COLUMNS = ("operator", "tile", "unit", "instance", "start", "end")

_SCRIPT = """
import hashlib, json
from chiplan.compiler import compile_model
from chiplan.ir import plan_bytes
from chiplan.models import find_model, load_target
from chiplan.partitioner import solver, stages

def sha256(name, chips, **options):
    plan = compile_model(find_model(name), target=load_target("tiny-ring"), chips=chips, **options).plan
    return hashlib.sha256(plan_bytes(plan)).hexdigest(), [c.status for c in plan.certificates if c.gap > 1]

found = {"group": sha256("bert-tiny", 2, groups=(2,)), "state": sha256("llama-tiny-gqa-past", 2, context=32)}
stages._LIMIT = stages._TIE_LIMIT = 1e-6
found["stopped at the limit"] = sha256("vit-tiny", 3)

# Stopped in the middle of a search: subsets of equal weight, which no bound tells apart.
model = solver.CpModel()
sizes = [(7919 * n * n + 104729 * n) % 99991 + 1 for n in range(60)]
bins = [[model.new_bool_var("") for _ in range(7)] for _ in sizes]
for row in bins:
    model.add_exactly_one(row)
most = model.new_int_var(0, sum(sizes), "")
for place in range(7):
    model.add(sum(size * row[place] for size, row in zip(sizes, bins)) <= most)
model.minimize(most)
solution = solver.solve(model, "bins", 0.05)
found["solver"] = [solution.certificate.objective, solution.certificate.bound, solution.certificate.gap,
                   [[solution.value(x) for x in row] for row in bins]]
print(json.dumps(found))
"""


def _compiled_elsewhere(folder: Path, seed: str, threads: str, cores: set[int]) -> dict[str, object]:
    folder.mkdir()
    threading = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        cwd=folder,
        env={**os.environ, **threading, "PYTHONHASHSEED": seed},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_hash_seed_folder_cores_and_threads_do_not_show(tmp_path: Path) -> None:
    """One core and all of them; also where the solver stops at its deterministic limit with a gap."""
    cores = os.sched_getaffinity(0)
    one = _compiled_elsewhere(tmp_path / "one", "1", "1", {min(cores)})
    two = _compiled_elsewhere(tmp_path / "another folder", "4242", "4", cores)
    assert one == two
    assert "feasible" in one["stopped at the limit"][1]
    objective, bound, gap, _ = one["solver"]
    assert objective > bound
    assert gap > 0


def test_the_check_compiles_twice_and_writes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*COMPILE, "-o", "once.chiplan"]) == 0
    compile_again, answers = reproducible.compile_again, list[bytes]()

    def listen(request: reproducible.Request) -> bytes:
        answers.append(compile_again(request))
        return answers[-1]

    monkeypatch.setattr(reproducible, "compile_again", listen)
    assert main([*COMPILE, "--groups", "1,1", "--check-reproducible", "-o", "twice.chiplan"]) == 0
    assert answers == [Path("twice.chiplan").read_bytes()]
    assert {path.name for path in tmp_path.iterdir()} == {"once.chiplan", "twice.chiplan"}
    out, errors = capsys.readouterr()
    assert errors == ""
    assert out.count("compiled twice: the same bytes\n") == 1


def test_what_was_checked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = []
    for words in ([], ["--verify-each", "--check-reproducible"]):
        assert main([*COMPILE, "-o", "a.chiplan", "--json", *words]) == 0
        document = json.loads(capsys.readouterr().out)
        asked.append((document["reproducible"], document["verified_passes"]))
    assert asked[0] == (None, None)
    assert asked[1][0] is True
    assert main([*COMPILE, "-o", "a.chiplan", "--verify-each"]) == 0
    assert f"{asked[1][1]} passes verified\n" in capsys.readouterr().out
    passes = graph_passes("model", load_target("tiny-ring"))
    assert asked[1][1] > len(list(passes))


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_plan_that_differs_is_not_written(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second compile that starts one tile a cycle later."""
    monkeypatch.chdir(tmp_path)
    assert main([*COMPILE, "-o", "old.chiplan"]) == 0
    old = Path("old.chiplan").read_bytes()
    other = with_tiles(read_plan("old.chiplan"), 0, start=lambda column: column + (column == column.max()))
    monkeypatch.setattr(reproducible, "compile_again", lambda _request: plan_bytes(other))
    capsys.readouterr()
    assert main([*COMPILE, "--check-reproducible", "-o", "old.chiplan", *words]) == 70
    out, errors = capsys.readouterr()
    assert "compiled twice, the plan differs: stage0000/start.npy, row" in out + errors
    assert Path("old.chiplan").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["old.chiplan"]


def test_a_second_compile_that_fails_is_said(tmp_path: Path) -> None:
    request = reproducible.compile_request(tmp_path / "gone.onnx", "tiny-ring")
    with pytest.raises(InternalFault, match=r"compiled a second time, it failed: .*no such file"):
        reproducible.compile_again(request)


def test_the_first_difference_is_named() -> None:
    plan = small_plan()
    data = plan_bytes(plan)
    assert first_difference(data, data) is None
    later = plan_bytes(with_tiles(plan, 1, end=lambda column: column + (column == column[3])))
    end = int(plan.stages[1].program.tiles.end[3])
    assert first_difference(data, later) == f"stage0001/end.npy, row 3: {end}, then {end + 1}"
    renamed = plan_bytes(replace(plan, assumptions=("batch = 2",)))
    assert first_difference(data, renamed) == (
        f"plan.json, plan.plan.assumptions: a list of {len(plan.assumptions)}, then a list of 1"
    )
    fewer = plan_bytes(with_tiles(plan, 0, **dict.fromkeys(TILE_COLUMNS, lambda column: column[:-1])))
    assert "has the shape (12,), then (11,)" in str(first_difference(data, fewer))
