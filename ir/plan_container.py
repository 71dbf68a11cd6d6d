"""The container of a plan file: an uncompressed zip of members, and the limits of one that is read.

It is canonical (sorted members, fixed times and attributes), so equal members are equal bytes. A file is
read only when packing what was read gives the file's very bytes: every truncation and every flipped bit
is noticed, and there is nothing in a file that is not in its members.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from .input_file import open_regular, read_regular

LARGEST_FILE = 2**30
"""Bytes; a larger file is refused unread."""
LARGEST_DOCUMENT = 2**27
"""Bytes of plan.json: as Python values it takes up to twenty times as much memory."""
_LARGEST_DIRECTORY = 2**24
"""Bytes of the zip's directory, of which each entry takes 46 and its name, and ten times as much memory."""

_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_FIRST_BYTES = b"PK\x03\x04"
_END = struct.Struct("<4s4H2LH")
"""The zip's end record: signature, four counts, size and place of the directory, length of a comment."""
HOSTILE = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, ValueError, KeyError,
    IndexError, OSError, EOFError, OverflowError, MemoryError,
)  # fmt: skip
"""What the zip and JSON readers raise on bytes made to confuse them."""


class ContainerError(ValueError):
    """The bytes are no container of a plan; the text is the reason."""


def pack(members: Mapping[str, bytes]) -> bytes:
    """The container of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _FIXED_TIME)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """The members; raises ContainerError unless `data` is exactly what `pack` makes of them."""
    _check_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type or entry.file_size != entry.compress_size for entry in entries):
                raise ContainerError("its members are compressed")
            if sum(entry.file_size for entry in entries) > len(data):
                raise ContainerError("its members are larger than the file")
            members = {entry.filename: archive.read(entry) for entry in entries}
        if pack(members) != data:
            raise ContainerError("its container is not the canonical one")
    except ContainerError:
        raise
    except HOSTILE as error:
        raise ContainerError(f"it cannot be unpacked ({type(error).__name__})") from None
    return members


def _check_directory(data: bytes) -> None:
    """The zip reader makes an object of every entry before anything is known of them."""
    if len(data) < _END.size:
        raise ContainerError("it is too short")
    signature, *counts, size, _place, _comment = _END.unpack(data[-_END.size :])
    if signature != b"PK\x05\x06":
        raise ContainerError("it does not end as a plan does")
    if size > _LARGEST_DIRECTORY or max(counts) >= 0xFFFF or data[-_END.size - 20 :][:4] == b"PK\x06\x07":
        raise ContainerError("it has too many members")


def container_bytes(path: Path) -> bytes:
    """The bytes of a file that may be a container. Raises OSError and ValueError."""
    return read_regular(path, LARGEST_FILE)


def is_plan_file(path: str | Path) -> bool:
    """Whether a file presents itself as a plan: a zip that lists a plan.json at its end."""
    try:
        with open_regular(Path(path)) as file:
            if file.read(len(_FIRST_BYTES)) != _FIRST_BYTES:
                return False
            file.seek(0, io.SEEK_END)
            file.seek(max(0, file.tell() - _LARGEST_DIRECTORY))
            return b"plan.json" in file.read(_LARGEST_DIRECTORY)
    except (OSError, ValueError):
        return False
