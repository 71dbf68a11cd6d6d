"""Plans and targets made to harm: refused in one message, soon, and before anything large is made."""

import io
import json
import os
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chiplan.compiler.cli import main
from chiplan.ir import BadInput, Cycle, Plan, is_plan_file, plan_bytes, read_plan
from chiplan.ir import plan_container as container
from chiplan.ir.plan_columns import npy_bytes
from chiplan.models import load_target
from chiplan.runtime_sim import limits, simulate
from chiplan.runtime_sim.memory_map import MemoryUse, check_sharing
from chiplan.runtime_sim.timeline import Timeline

from .handmade import edited, small_plan

Change = Callable[[dict[str, Any]], object]


def changed(change: Change, path: Path) -> Path:
    """A plan file whose container is right and whose plan.json is not."""
    archive = zipfile.ZipFile(io.BytesIO(plan_bytes(small_plan())))
    members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members["plan.json"])
    change(document["plan"])
    members["plan.json"] = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(container.pack(members))
    return path


def operator(plan: dict[str, Any], number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = plan["graph"]["operators"][number]
    return found


HARMFUL: dict[str, Change] = {
    "a value of a terabyte": lambda p: p["graph"]["tensors"]["y"].update(shape=[2**20, 2**20]),
    "iterations beyond 64 bits": lambda p: [factor.update(extent=2**40) for factor in operator(p)["factors"]],
    "a slow target": lambda p: p["target"]["link"].update(hop_latency=2**40),
    "a large target": lambda p: p["target"]["chip"].update(sram_bytes=2**61),
    "a name of two lines": lambda p: operator(p).update(name="x\n7 tiles checked: no fault"),
    "a name that clears the screen": lambda p: p["target"].update(name="\x1b[2J"),
    "a bound in red": lambda p: p.update(bounds=[{"quantity": "\x1b[31m", "value": 1, "binding": ""}]),
    "half a character": lambda p: p.update(precision="\ud800"),
    "a long name": lambda p: p.update(objective="x" * 70_000),
    "a context that is no number": lambda p: p.update(options=[["context", "many"]]),
}


@pytest.mark.parametrize("verb", ["simulate", "show"])
@pytest.mark.parametrize("change", HARMFUL.values(), ids=HARMFUL)
def test_a_plan_made_to_harm(
    verb: str, change: Change, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(change, tmp_path / "a.chiplan")
    begin = time.process_time()
    assert main([verb, str(path)]) == 2
    assert time.process_time() - begin < 5
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.count("\n") == 1
    assert errors.strip().isprintable()


def crowded(plan: Plan, buffers: int) -> Plan:
    """So many buffers of one tensor at one place."""
    columns = edited(
        plan.buffers, **{name: lambda column: np.repeat(column[:1], buffers) for name in vars(plan.buffers)}
    )
    return replace(plan, buffers=columns)


def test_tables_that_grow_with_the_square_are_not_made() -> None:
    """20,000 buffers at one place are 200 million pairs."""
    use = MemoryUse(Timeline(crowded(small_plan(), 20_000)))
    tracemalloc.start()
    with pytest.raises(BadInput, match="pairs of buffers that share bytes") as refusal:
        list(check_sharing(use))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
    assert refusal.value.problems[0].needed == 20_000 * 19_999 // 2


def test_more_users_than_can_be_followed() -> None:
    """Users who wait for their states are followed one by one."""
    plan = replace(small_plan(), users=2**30, interval=Cycle(1), latency=Cycle(2**40))
    with pytest.raises(BadInput) as refusal:
        simulate(plan)
    assert refusal.value.problems[0].code == "plan_too_large"


def test_more_copies_than_memory_has() -> None:
    plan = small_plan()
    many = edited(plan.buffers, copies=lambda column: np.full_like(column, 2**28))
    use = MemoryUse(Timeline(replace(plan, buffers=many)))
    with pytest.raises(BadInput, match="a row for each copy"):
        list(check_sharing(use))


def test_what_would_take_too_much_is_said_in_words() -> None:
    with pytest.raises(BadInput, match=r"would take 134,217,729 entries, and at most 134,217,728 are made"):
        limits.check_entries("a table", limits.MOST_ENTRIES + 1)
    limits.check_entries("a table", limits.MOST_ENTRIES)


def test_out_of_memory_is_a_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def give_up(_plan: Plan) -> None:
        np.zeros(2**62, dtype=np.int8)

    path = tmp_path / "a.chiplan"
    path.write_bytes(plan_bytes(small_plan()))
    monkeypatch.setattr("chiplan.compiler.cli_simulate.simulate", give_up)
    assert main(["simulate", str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: this takes more memory than there is here")


# Containers


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as refusal:
        read_plan(path)
    return refusal.value.problems[0].message


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.chiplan"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("plan.json", bytes(300_000_000))
    tracemalloc.start()
    assert "compressed" in refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


def test_a_directory_of_millions_is_not_read(tmp_path: Path) -> None:
    end = (
        b"PK\x05\x06"
        + bytes(4)
        + (65_535).to_bytes(2, "little") * 2
        + (2**28).to_bytes(4, "little")
        + bytes(6)
    )
    (tmp_path / "a.chiplan").write_bytes(b"PK\x03\x04" + bytes(1000) + end)
    assert "too many members" in refused(tmp_path / "a.chiplan")


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.chiplan"
    path.touch()
    os.truncate(path, container.LARGEST_FILE + 1)
    tracemalloc.start()
    assert "at most 1,073,741,824 are read" in refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_a_document_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.chiplan"
    path.write_bytes(plan_bytes(small_plan()))
    monkeypatch.setattr("chiplan.ir.plan_file.LARGEST_DOCUMENT", 1000)
    assert "plan.json has more than 1,000 bytes" in refused(path)


def test_columns_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    archive = zipfile.ZipFile(io.BytesIO(plan_bytes(small_plan())))
    members = {name: archive.read(name) for name in archive.namelist()}
    objects = io.BytesIO()
    np.save(objects, np.array([print], dtype=object), allow_pickle=True)
    members["hops/link.npy"] = objects.getvalue()
    path = tmp_path / "a.chiplan"
    path.write_bytes(container.pack(members))
    assert "hops/link.npy: expected" in refused(path)
    members["hops/link.npy"] = npy_bytes(np.zeros(0, np.int32))
    path.write_bytes(container.pack(members))
    assert "rows, expected one length" in refused(path)


# Pipes and devices


@pytest.mark.parametrize("verb", ["simulate", "show", "inspect", "targets show", "compile"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_never_read(
    verb: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Opening a pipe would wait for ever; a device never ends."""
    path = Path("/dev/zero") if kind == "device" else tmp_path / "pipe.toml"
    if kind == "pipe":
        os.mkfifo(path)
    words = [*verb.split(), str(path)]
    if verb == "compile":
        words = ["compile", "bert-tiny", "--target", str(path), "-o", str(tmp_path / "x.chiplan")]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not is_plan_file(path)
    assert not (tmp_path / "x.chiplan").exists()


def test_a_target_that_would_be_obeyed_is_shown_in_full_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = load_target("tiny-ring").sources + "# \x9b31m \u202e\n"
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert main(["targets", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("# \\x9b31m \\u202e\n")
    assert shown.startswith(load_target("tiny-ring").sources)
