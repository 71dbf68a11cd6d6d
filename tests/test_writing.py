"""Whatever ends a write early leaves the old file whole and nothing beside it: every writer, every end."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chiplan.compiler.cli import main
from chiplan.compiler.cli_output import write_text
from chiplan.ir import BadInput, plan_bytes, read_plan, whole_file, write_plan

from .handmade import small_plan

OLD = b"what was there before"
WRITERS: dict[str, Callable[[Path], object]] = {
    "plan": lambda path: write_plan(small_plan(), path),
    "text": lambda path: write_text(path, "x" * 100_000),
}
_SCRIPT = """
import os, sys, time
from pathlib import Path
from chiplan.compiler.cli_output import write_text
from chiplan.ir import whole_file

def stop(_handle):
    print("ready", flush=True)
    time.sleep(60)

os.fsync = stop
write_text(Path("old"), "new")
"""


def only_the_old_file(folder: Path) -> bool:
    return [path.name for path in folder.iterdir()] == ["old"] and (folder / "old").read_bytes() == OLD


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_is_full_at_the_end(writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "old").write_bytes(OLD)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        WRITERS[writer](tmp_path / "old")
    assert only_the_old_file(tmp_path)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, MemoryError, SystemExit])
def test_any_exception_in_the_middle(ending: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(OLD)
    with pytest.raises(ending), whole_file(tmp_path / "old") as beside:
        beside.write_bytes(b"half")
        raise ending
    assert only_the_old_file(tmp_path)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["compile", "bert-tiny", "--target", "tiny-ring", "--chips", "1", "--sequence", "8", "-o"], "plan"),
        (["show", "PLAN", "--svg"], "picture"),
        (["show", "PLAN", "--dot"], "graph"),
    ],
)
def test_a_file_system_that_takes_no_more(words: list[str], name: str, tmp_path: Path) -> None:
    """The kernel refuses to let a file grow beyond 700 bytes, in the middle of the write."""
    del name
    plan, folder = tmp_path / "a.chiplan", tmp_path / "out"
    write_plan(small_plan(), plan)
    folder.mkdir()
    (folder / "old").write_bytes(OLD)
    command = [str(plan) if word == "PLAN" else word for word in words]
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700)); "
        "from chiplan.compiler.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, *command, str(folder / "old")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert only_the_old_file(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(OLD)
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 2
        writer.send_signal(number)
        writer.communicate(timeout=60)
    assert writer.returncode not in (0, 70)
    assert only_the_old_file(tmp_path)


def test_signals_do_again_what_they_did(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    write_plan(small_plan(), tmp_path / "a.chiplan")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_whole_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    write_plan(small_plan(), tmp_path / "a.chiplan")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "a.chiplan").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_stays_and_the_file_keeps_its_rights(tmp_path: Path) -> None:
    real = tmp_path / "folder" / "real"
    real.parent.mkdir()
    real.write_bytes(OLD)
    real.chmod(0o640)
    (tmp_path / "link").symlink_to(Path("folder") / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").readlink() == Path("folder") / "real"
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in real.parent.iterdir()] == ["real"]


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 247 + ".chiplan")
    write_plan(small_plan(), path)
    assert plan_bytes(read_plan(path)) == plan_bytes(small_plan())


def test_a_disk_that_is_full_for_standard_output(tmp_path: Path) -> None:
    write_plan(small_plan(), tmp_path / "a.chiplan")
    script = "import sys; from chiplan.compiler.cli import main; sys.exit(main(sys.argv[1:]))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script, "show", str(tmp_path / "a.chiplan"), "--svg", "-"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: cannot write standard output: no space is left there\n"


def test_a_refused_input_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").write_bytes(OLD)
    assert main(["compile", "old", "--target", "tiny-ring", "-o", "old"]) == 2
    assert main(["show", "old", "--svg", "new.svg"]) == 2
    assert only_the_old_file(tmp_path)
