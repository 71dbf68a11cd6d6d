"""Reads files that anybody may have made: regular ones alone, and never more than a limit."""

import os
import stat
from pathlib import Path
from typing import BinaryIO


class NotRegular(OSError):
    """A device, a pipe, a socket or a folder: it may never end, or never begin."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.strerror = f"it is {kind}, not a regular file"


class TooLarge(OSError):
    """More bytes than the reader takes; nothing of the file was read."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__()
        self.size = size
        self.strerror = f"it has {size:,} bytes, and at most {limit:,} are read"


def open_regular(path: Path) -> BinaryIO:
    """The file, open for reading. Raises OSError, ValueError for a path with a NUL byte.

    Opening a pipe would wait for its writer, so it is opened without waiting, then looked at."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise NotRegular(_kind(mode))
    return os.fdopen(handle, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes. Raises as `open_regular` does, and TooLarge."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise TooLarge(size, limit)
        # What a file gains meanwhile is not read: `read` makes room for all that it is asked for.
        return file.read(size)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for matches, name in kinds if matches(mode)), "a device")
