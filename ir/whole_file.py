"""Files that are written whole or not at all: beside their place first, then renamed.

Whatever ends a write early (a full disk, an exception, SIGINT, SIGTERM, SIGHUP) leaves the older file as
it was and nothing beside it.
"""

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a process without a word; SIGINT is an exception in Python already."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A new path beside `path` to write to. At the end it takes the place of `path`, with the rights that an
    older file had; if anything is raised, it vanishes. Of a link, the file that it leads to is replaced.
    Raises OSError."""
    place = Path(os.path.realpath(path))
    # The name is not made of the file's own: that may be as long as the file system allows.
    beside = place.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.part")
    with _ended_by_exception():
        try:
            yield beside
            _onto_the_disk(beside)
            with suppress(FileNotFoundError):
                beside.chmod(place.stat().st_mode & 0o777)
            beside.replace(place)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise


def _onto_the_disk(path: Path) -> None:
    """Some file systems notice only then that they are full."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _ended_by_exception() -> Iterator[None]:
    """Inside, the signals that end a process raise SystemExit, so that what was begun is cleared away.

    Only the main thread may ask for that; a signal that the process ignores stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.getsignal(number) for number in _ENDS}
    heard = [number for number, handler in old.items() if handler is signal.SIG_DFL]
    for number in heard:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
