"""`chiplan export`: what was written, and what of the plan could not be said."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from .cli_tables import print_list
from .onnx_export import Written
from .quantities import counted

_SHOWN = 8
"""Names of nodes that a page spells out."""


def print_written(console: Console, path: Path, written: Written) -> None:
    """One line, and lists of what is not as in the plan."""
    held = counted(len(written.files), "file") if written.files else counted(written.specs, "sharding spec")
    console.print(f"wrote {path}: {counted(written.nodes, 'node')}, {held}", soft_wrap=True)
    print_list(console, "A cut lies inside; whole in the last stage that has a part", _some(written.cut))
    print_list(console, "In a later stage than planned, behind what they read", _some(written.moved))
    print_list(console, "Data files that the model names and that are absent", _some(written.absent))


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    more = len(names) - _SHOWN
    return names if more <= 1 else (*names[:_SHOWN], f"and {more} more (--json lists them all)")


def written_document(
    annotated: Path | None, whole: Written | None, folder: Path | None, split: Written | None
) -> dict[str, object]:
    """What `export --json` prints."""
    return {
        "ok": True,
        "onnx": None if whole is None else {"file": str(annotated)} | asdict(whole),
        "split": None if split is None else {"folder": str(folder)} | asdict(split),
    }
