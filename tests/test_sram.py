"""SRAM of a plan: addresses by search where first fit fails, and what a refusal says of the fullest cycle."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chiplan.compiler import compile_model
from chiplan.compiler.addresses import AddressSearch, BufferNeed, OutOfSram, assign_addresses
from chiplan.compiler.cli import main
from chiplan.compiler.plan_summary import summarise_stages
from chiplan.ir import ExitCode, Infeasible, Target
from chiplan.models import find_model, load_target
from chiplan.models.target_file import target_text

TIGHT, SHORT = 1_348_000, 1_000_000
"""Bytes for bert-tiny on one chip: first fit leaves holes of 1.7 KiB too much; too few for any addresses."""


def shrunken(folder: Path, nbytes: int) -> Path:
    """The tiny ring with so many bytes a chip, none of them reserved."""
    text = target_text("tiny-ring").replace("sram_bytes = 2_097_152", f"sram_bytes = {nbytes}")
    path = folder / "shrunken.toml"
    path.write_text(text.replace("reserved_bytes = 16_384", "reserved_bytes = 0"), encoding="utf-8")
    return path


@pytest.fixture
def tight(tmp_path: Path) -> Target:
    return load_target(shrunken(tmp_path, TIGHT))


def interval_on(target: Target) -> tuple[int, list[str]]:
    found = compile_model(find_model("bert-tiny"), target=target, chips=1)
    assert found.report.ok
    proofs = found.plan.certificates
    return int(found.plan.interval), [p.status for p in proofs if p.problem.startswith("SRAM addresses")]


def test_the_search_saves_an_interval_that_first_fit_cannot_have(
    tight: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter, proofs = interval_on(tight)
    assert proofs == ["optimal"]
    monkeypatch.setattr(AddressSearch, "run", lambda *_: None)
    longer, proofs = interval_on(tight)
    assert proofs == []
    assert shorter < longer


def test_what_is_never_needed_is_never_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(*_: object) -> None:
        raise AssertionError("first fit was enough")

    monkeypatch.setattr(AddressSearch, "run", searched)
    compile_model(find_model("bert-tiny"), target=load_target("tiny-ring"), chips=2)


def test_the_budget_is_spent_once_for_all() -> None:
    """In sixteenths of the SRAM, no order of first fit that is tried finds them."""
    chip = load_target("tiny-ring").chip
    unit = chip.usable_bytes // 16 // chip.alignment * chip.alignment
    needs = [BufferNeed(f"t{i}", 9 * unit, 1, 0, 5) for i in range(2)]
    with pytest.raises(OutOfSram) as refusal:
        assign_addresses(0, needs, chip, 10, AddressSearch())
    assert not refusal.value.is_packable
    assert AddressSearch(0.0).run(refusal.value.problem) is None


def test_a_refusal_names_chip_cycle_buffers_and_cures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compile", "bert-tiny", "--target", str(shrunken(tmp_path, SHORT)), "--chips", "1"]
    output = tmp_path / "none.chiplan"
    assert main([*command, "-o", str(output), "--json"]) == ExitCode.INFEASIBLE
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    memory = error["memory"]
    assert (memory["chip"], memory["available"]) == (0, SHORT)
    assert sum(memory["kinds"].values()) == memory["alive"] > SHORT
    sizes = [held["nbytes"] for held in memory["largest"]]
    assert sizes == sorted(sizes, reverse=True)
    assert {held["kind"] for held in memory["largest"]} == {"activation"}
    assert {"weight", "activation"} <= memory["kinds"].keys()
    for held in memory["largest"]:
        assert f"{held['kind']} {held['tensor']} of node {held['node']}" in error["message"]
    assert f"Fullest is chip 0 at cycle {memory['cycle']:,} of the interval" in error["message"]
    assert all(cure in error["message"] for cure in error["cures"])
    assert "MiB" in error["message"]
    assert " MB" not in error["message"]
    assert not output.exists()


def test_weights_alone_are_refused_by_estimate() -> None:
    with pytest.raises(Infeasible) as refusal:
        compile_model(find_model("bert-large"), target=load_target("groq-node"), chips=2)
    (problem,) = refusal.value.problems
    assert problem.memory is not None
    assert (problem.memory.chip, problem.memory.cycle) == (None, None)
    assert problem.memory.largest[0].kind == "weight"
    assert problem.cures[0] == "The smallest number of chips that fits is 4, in groups"


def test_kinds_of_the_fullest_cycle_add_up() -> None:
    found = compile_model(
        find_model("llama-tiny-gqa-past"), target=load_target("tiny-ring"), chips=4, groups=(2, 2), users=2
    )
    first, second = summarise_stages(found.plan)
    for stage in (first, second):
        memory = stage.memory
        assert sum(memory.kinds.values()) == memory.alive <= memory.needed <= memory.available
        assert memory.kinds["weight"] >= stage.weight_bytes > 0
        assert memory.kinds["state"] >= stage.state_bytes > 0
    assert first.memory.kinds["collective"] > 0
    assert second.memory.kinds["received"] > 0


INSTANCE = "id,lower,upper,size\na,0,2,5\nb,0,1,4\nc,1,3,4\n"


@pytest.fixture
def benchmark(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`python -m benchmarks.sram` with these words."""
    monkeypatch.syspath_prepend(repository)
    command = import_module("benchmarks.sram").main
    return lambda *words: CliRunner().invoke(command, list(words))


def test_the_benchmark_prints_every_allocator(tmp_path: Path, benchmark: Callable[..., Result]) -> None:
    path = tmp_path / "three.9.csv"
    path.write_text(INSTANCE)
    ran = benchmark(str(path), "--json")
    assert ran.exit_code == 0
    (row,) = json.loads(ran.output)["instances"]
    found = [
        row[name] for name in ("instance", "buffers", "capacity", "bound", "greedy", "cp_sat", "verified")
    ]
    assert found == ["three", 3, 9, 9, 9, 9, True]
    assert "three" in benchmark(str(path)).output


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("no-capacity.csv", INSTANCE, "its name must end in .CAPACITY.csv"),
        ("x.9.csv", "id,lower,upper\n", "its first line must be id,lower,upper,size"),
        ("x.9.csv", "id,lower,upper,size\n", "it has 0 buffers"),
        ("x.9.csv", INSTANCE + "d,3,3,1\n", "line 5: expected lower < upper"),
        ("x.9.csv", INSTANCE + "d,3,4\n", "line 5 has 3 values, expected 4"),
        ("x.9.csv", INSTANCE + "d,3,4,-1\n", "line 5: size must be a whole number"),
        ("x.9.csv", INSTANCE + f"d,3,4,{10**40}\n", "line 5: size must be a whole number"),
        ("x.99999999999999.csv", INSTANCE, "the capacity in its name must be a whole number"),
        ("x.9.csv", "\x00\x01", "its first line must be"),
        ("gone.9.csv", None, "No such file"),
    ],
)
def test_what_is_no_instance_is_refused(
    tmp_path: Path, benchmark: Callable[..., Result], name: str, text: str | None, expected: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    ran = benchmark(str(path))
    assert ran.exit_code == 2
    assert expected in ran.output
    assert ran.output.count("\n") == 1
