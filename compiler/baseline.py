"""A baseline: the figures that a model's plan is held against, and the stick that they were measured with.

One small TOML file, reviewed like code. Target and options are the stick; figures and nodes are what was
measured; nodes say where the cycles went, so that what costs more can be named without the old plan.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import tomli_w

from chiplan.ir import BadInput, Codec, CodecError, Problem, printable

from .node_runs import NodeRun, unfold_nodes

FORMAT = 1
MOST_BYTES = 16_000_000
LARGEST_FIGURE = 2**62
"""Far beyond any plan; nothing that is computed with it is too large for a float."""

OptionValue: TypeAlias = bool | int | float | str | tuple[str, ...]

_HEADER = """\
# A chiplan baseline. All figures are simulated.
#   hold a model against it:  chiplan check MODEL --baseline {name}
#   write it again:           chiplan check MODEL --baseline {name} --update
# [target] and [options] are the measuring stick; nodes say where the cycles of one micro-batch go.
"""


@dataclass(frozen=True)
class Figures:
    """What was measured. sram_bytes: of the fullest chip. clock_hz: what a cycle is."""

    latency_cycles: int
    interval_cycles: int
    chips: int
    sram_bytes: int
    clock_hz: int


@dataclass(frozen=True)
class TargetStick:
    """The target: a shipped one's name, or a file's path from the baseline's folder; and its numbers."""

    name: str
    numbers: dict[str, bool | int | float | str]


@dataclass(frozen=True)
class ModelIdentity:
    """What the model was. inputs, outputs: name, type and extents of each."""

    sha256: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Baseline:
    """Everything that the file says. tool: versions by name."""

    format: int
    figures: Figures
    target: TargetStick
    options: dict[str, OptionValue]
    model: ModelIdentity
    tool: dict[str, str]
    nodes: tuple[NodeRun, ...]


_CODEC = Codec(Baseline)


def read_baseline(path: Path) -> Baseline:
    """Raises BadInput: `baseline_missing`, `baseline_broken`, `baseline_version`."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        message = f"{path}: no such baseline; make it with --update, and commit it once it was reviewed"
        raise BadInput(Problem("baseline_missing", message)) from None
    except OSError as error:
        raise _broken(path, f"cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise _broken(path, f"expected at most {MOST_BYTES:,} bytes")
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"not valid TOML: {error}") from None
    if document.get("format") != FORMAT:
        found_format = printable(str(document.get("format")))[:40]
        message = f"{path}: expected a chiplan baseline of format {FORMAT}, found {found_format}"
        raise BadInput(Problem("baseline_version", message))
    try:
        found: Baseline = _CODEC.decode(document)
        _check_figures(found.figures)
        unfold_nodes(found.nodes)
    except (CodecError, ValueError) as error:
        raise _broken(path, str(error)) from None
    return found


def _check_figures(figures: Figures) -> None:
    """Raises ValueError for figures that no plan has."""
    for name, value in asdict(figures).items():
        least = 1 if name in ("chips", "clock_hz") else 0
        if not least <= value <= LARGEST_FIGURE:
            found = printable(str(value))[:40]
            raise ValueError(f"figures.{name}: expected {least} to {LARGEST_FIGURE:,}, found {found}")


def _broken(path: Path, why: str) -> BadInput:
    message = f"{path}: {why}; restore the file, or write it again with --update after deleting it"
    return BadInput(Problem("baseline_broken", message))


def baseline_text(baseline: Baseline, name: str) -> str:
    """The file: equal baselines are equal bytes."""
    document = asdict(baseline)
    nodes = document.pop("nodes")
    parts = [_HEADER.format(name=name), f"format = {document.pop('format')}\n"]
    if nodes:
        parts.append(f"nodes = [\n{''.join(f'    {_inline(row)},{chr(10)}' for row in nodes)}]\n")
    else:
        parts.append("nodes = []\n")
    numbers = document["target"].pop("numbers")
    for title, table in document.items():
        parts.append(_section(title, table))
        if title == "target":
            parts.append(_section("target.numbers", numbers))
    return "\n".join(parts)


def _section(title: str, table: Mapping[str, object]) -> str:
    return f"[{title}]\n{tomli_w.dumps(table)}"


def _inline(row: Mapping[str, object]) -> str:
    """A table on one line: a line that changed is a run of nodes that changed."""
    return f"{{ {', '.join(_pair(key, value) for key, value in row.items())} }}"


def _pair(key: str, value: object) -> str:
    if isinstance(value, tuple):
        items = (_pair("x", item).removeprefix("x = ") for item in value)
        return f"{key} = [{', '.join(items)}]"
    return tomli_w.dumps({key: value}).removesuffix("\n")
