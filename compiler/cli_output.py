"""How every verb speaks: one JSON object or text on standard output, refusals, files made whole."""

import gzip
import hashlib
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

from rich.console import Console
from rich.text import Text

from chiplan.ir import ExitCode, Problem, printable, whole_file

from .output_places import STANDARD_OUTPUT, check_folder_writable, check_writable, not_writable

WIDTH = 80
"""Columns of a page that is piped; a terminal has its own."""
LIKE_SHOWN = 3
"""Problems of one kind that a refusal spells out."""
MOST_LINES = 50
"""Lines of one refusal: a file may have problems of any number of kinds."""
_ERROR = "error: "
_SENTENCE_END = re.compile(r"(?<=\.) (?=[A-Z])")


def shown_lines(text: str) -> str:
    """Text with its line breaks and tabs, but without anything else that a terminal would obey."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    kept = (c if c in "\n\t" else printable(c) for c in text)
    return "".join(kept)


class _Page(Console):
    """A console that leaves it to `main` what becomes of a reader who went away."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        """Text with line breaks, but without anything that a terminal would obey."""
        return super().render_str(shown_lines(text), **options)


def page() -> Console:
    """Standard output as a page: plain and 80 columns wide unless it is a terminal."""
    width = None if sys.stdout.isatty() else WIDTH
    return _Page(width=width, highlight=False, markup=False, emoji=False)


def print_json(document: Mapping[str, object]) -> None:
    """One object on standard output. NaN and infinity are no JSON: figures use null instead."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def print_refusal(problems: Sequence[Problem], exit_code: ExitCode, as_json: bool) -> None:
    """What is wrong, as lines on standard error, or every problem in one object."""
    if as_json:
        errors = [asdict(problem) for problem in problems]
        print_json({"ok": False, "exit_code": int(exit_code), "errors": errors})
    else:
        long = {problem.message for problem in problems if problem.memory is not None}
        for line in problem_lines(problems):
            parts = error_lines(line) if line in long else [f"{_ERROR}{line}"]
            sys.stderr.writelines(f"{part}\n" for part in parts)


def error_lines(message: str) -> list[str]:
    """A refusal of several sentences within WIDTH columns, a new line for each."""
    wrapper = TextWrapper(
        WIDTH, initial_indent=_ERROR, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    lines = []
    for sentence in _SENTENCE_END.split(message):
        lines += wrapper.wrap(sentence)
        wrapper.initial_indent = "  "
    return lines


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """One line a problem; of those that are alike (one code, one operator) the first three, and how
    many there are besides; MOST_LINES in all."""
    kinds = Counter((problem.code, problem.operator) for problem in problems)
    seen: Counter[tuple[str, str | None]] = Counter()
    lines = []
    for problem in problems:
        kind = problem.code, problem.operator
        seen[kind] += 1
        more = kinds[kind] - LIKE_SHOWN
        if seen[kind] <= LIKE_SHOWN or more == 1:
            lines.append(problem.message)
        elif seen[kind] == LIKE_SHOWN + 1:
            lines.append(f"and {more:,} more like it (--json lists them all)")
    if len(lines) > MOST_LINES:
        lines[MOST_LINES - 1 :] = [f"and {len(lines) - MOST_LINES + 1:,} lines more (--json lists them all)"]
    return lines


def _say_nothing(step: str) -> None:
    """Progress where nobody watches."""
    del step


@contextmanager
def progress(as_json: bool) -> Iterator[Callable[[str], None]]:
    """Says what is under way on a terminal; says nothing when piped or under `--json`."""
    if as_json or not sys.stderr.isatty():
        yield _say_nothing
        return
    console = Console(stderr=True, highlight=False, markup=False)
    with console.status("starting") as status:
        yield status.update


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes its place when whole and vanishes otherwise.

    Raises BadInput when the file system refuses.
    """
    check_writable(path)
    try:
        with whole_file(path) as beside:
            yield beside
    except OSError as error:
        raise not_writable(path, error.strerror or str(error)) from error


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write files to; it takes its place when whole and vanishes otherwise. A
    folder that is there is replaced if it holds nothing but files of the same names.

    Raises BadInput when there is anything else, or the file system refuses.
    """
    check_folder_writable(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    before = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        beside.mkdir()
        yield beside
        _check_replaceable(path, beside)
        if path.exists():
            path.replace(before)
        beside.replace(path)
    except OSError as error:
        raise not_writable(path, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def _check_replaceable(path: Path, made: Path) -> None:
    """Whether all that a folder holds is replaced by what is in `made`."""
    here, there = ({entry.relative_to(f) for entry in f.rglob("*")} for f in (path, made))
    others = sorted(here - there)
    if others:
        raise not_writable(path, f"the folder holds something else ({others[0]}); give another name")


def file_sha256(path: Path) -> str:
    """The fingerprint of a file that was just read or written."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_chunks(path: Path, chunks: Iterable[str]) -> None:
    """Writes a text file piece by piece, whole or not at all; compressed where the name ends in `.gz`, with
    no name and no time in it, so that equal texts are equal bytes."""
    with replacing(path) as beside, beside.open("wb") as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                packed.writelines(chunk.encode() for chunk in chunks)
        else:
            file.writelines(chunk.encode() for chunk in chunks)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; `-` is standard output."""
    if path == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")
