"""Where a verb writes: refused before any work where it cannot be, or where it would destroy a file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from chiplan.ir import BadInput, Problem

STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class Output:
    """A place that a verb writes to, and the option that names it. is_text: may be standard output."""

    option: str
    path: Path
    is_text: bool = False
    is_folder: bool = False


def outputs(
    files: Mapping[str, Path | None] | None = None,
    texts: Mapping[str, Path | None] | None = None,
    folders: Mapping[str, Path | None] | None = None,
) -> tuple[Output, ...]:
    """Those that were asked for, by option."""
    return (
        *(Output(option, path) for option, path in (files or {}).items() if path),
        *(Output(option, path, is_text=True) for option, path in (texts or {}).items() if path),
        *(Output(option, path, is_folder=True) for option, path in (folders or {}).items() if path),
    )


def check_places(read: Mapping[str, Path | None], written: Sequence[Output]) -> None:
    """Refuses an output that cannot be written, that is an input or another output, or a folder that holds
    one. read: all files that the verb reads, by what the command line calls them.

    Raises BadInput (`output_not_writable`)."""
    for output in written:
        if output.path != STANDARD_OUTPUT:
            (check_folder_writable if output.is_folder else check_writable)(output.path)
        elif not output.is_text:
            cure = "name a folder" if output.is_folder else "give a file name"
            raise not_writable(output.path, f"{output.option} is not for standard output; {cure}")
    files = [output for output in written if output.path != STANDARD_OUTPUT]
    for output in files:
        for name, path in read.items():
            if path is not None and _would_destroy(output, path):
                is_it = "it holds" if output.is_folder else "it is"
                why = f"{is_it} the file that is read as {name}; give {output.option} another name"
                raise not_writable(output.path, why)
    for one, other in combinations(files, 2):
        if _would_destroy(one, other.path) or _would_destroy(other, one.path):
            why = f"{one.option} and {other.option} are one place; give each its own"
            raise not_writable(other.path, why)


def _would_destroy(output: Output, path: Path) -> bool:
    """Whether writing the output replaces `path`, whatever links lead there."""
    place, other = _real(output.path), _real(path)
    if place == other or (output.is_folder and other.is_relative_to(place)):
        return True
    return place.exists() and other.exists() and place.samefile(other)


def check_writable(path: Path) -> None:
    """Refuses an output path before any work is done for it. Raises BadInput."""
    if path == STANDARD_OUTPUT:
        raise not_writable(path, "it is not for standard output; give a file name")
    if path.is_dir():
        raise not_writable(path, "it is a folder; give a file name")
    if path.exists() and not path.is_file():
        raise not_writable(path, "it is no regular file; give another name")
    _check_folder(path, _real(path).parent)


def check_folder_writable(path: Path) -> None:
    """The same of an output that is a folder. Raises BadInput."""
    if path == STANDARD_OUTPUT:
        raise not_writable(path, "it is not for standard output; name a folder")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise not_writable(path, "it is there and is no folder; give another name")
    _check_folder(path, path.absolute().parent)


def _check_folder(path: Path, folder: Path) -> None:
    """`folder` is where the new file is made: elsewhere than `path` where that is a link."""
    shown = folder if path.is_symlink() else path.parent
    if not folder.is_dir():
        raise not_writable(path, f"the folder {shown} does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise not_writable(path, f"the folder {shown} may not be written")


def not_writable(path: Path, why: str) -> BadInput:
    """The refusal of an output."""
    return BadInput(Problem("output_not_writable", f"cannot write {path}: {why}"))


def _real(path: Path) -> Path:
    """Unlike `Path.resolve`, it takes links that lead round in a circle."""
    return Path(os.path.realpath(path))
