"""A baseline: the figures that a model's plan is held against, and the stick that they were measured with.

One small TOML file, reviewed like code. Target and options are the stick; figures and nodes are what was
measured. Nodes are kept as kinds that repeat (see `NodeKind`), so that a model of eighty layers takes no more lines
than one of two, and what costs more can be named without the old plan.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import tomli_w

from chiplan.ir import BadInput, Codec, CodecError, Problem

from .plan_profile import NodeCost
from .quantities import printable
from .quantities import printable

FORMAT = 1
MOST_BYTES = 16_000_000
MOST_NODES = 1 << 20

OptionValue: TypeAlias = int | float | str | tuple[str, ...]

_HEADER = """\
# A chiplan baseline. All figures are simulated and exclude transfers from and to the host.
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
    numbers: dict[str, int | float | str]


@dataclass(frozen=True)
class ModelIdentity:
    """What the model was. inputs, outputs: name, type and extents of each."""

    sha256: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class NodeKind:
    """Rows of `NodeCost` that are alike. at: their positions in graph order, as `3-47:11, 60` (first, last,
    step); first: the nodes of the first of them; the other fields as in `NodeCost`."""

    at: str
    unit_cycles: int
    link_cycles: int
    kind: str
    place: str
    first: tuple[str, ...]


@dataclass(frozen=True)
class Baseline:
    """Everything that the file says. tool: versions by name."""

    format: int
    figures: Figures
    target: TargetStick
    options: dict[str, OptionValue]
    model: ModelIdentity
    tool: dict[str, str]
    nodes: tuple[NodeKind, ...]


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
        found_format = printable(str(document.get("format")))[:40]
        message = f"{path}: expected a chiplan baseline of format {FORMAT}, found {found_format}"
        raise BadInput(Problem("baseline_version", message))
    try:
        found: Baseline = _CODEC.decode(document)
        expand_nodes(found.nodes)
    except (CodecError, ValueError) as error:
        raise _broken(path, str(error)) from None
    return found


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
    """A table on one line: a line that changed is a kind of node that changed."""
    return f"{{ {', '.join(_pair(key, value) for key, value in row.items())} }}"


def _pair(key: str, value: object) -> str:
    if isinstance(value, tuple):
        items = (_pair("x", item).removeprefix("x = ") for item in value)
        return f"{key} = [{', '.join(items)}]"
    return tomli_w.dumps({key: value}).removesuffix("\n")


def fold_nodes(rows: Sequence[NodeCost]) -> tuple[NodeKind, ...]:
    """Rows that are alike but for their names, together; kinds in the order of their first row."""
    together: dict[tuple[int, int, str, str], list[int]] = {}
    for position, row in enumerate(rows):
        key = (row.unit_cycles, row.link_cycles, row.kind, row.place)
        together.setdefault(key, []).append(position)
    return tuple(NodeKind(_steps(at), *key, rows[at[0]].nodes) for key, at in together.items())


def expand_nodes(kinds: Sequence[NodeKind]) -> tuple[NodeCost, ...]:
    """The rows again, in graph order. Raises ValueError where positions are missing or taken twice."""
    placed: dict[int, NodeCost] = {}
    for kind in kinds:
        for number, position in enumerate(_positions(kind.at)):
            if position in placed or len(placed) > MOST_NODES:
                raise ValueError(f"nodes: position {position} is given twice, or there are too many")
            nodes = kind.first if number == 0 else ()
            placed[position] = NodeCost(nodes, kind.kind, kind.place, kind.unit_cycles, kind.link_cycles)
    if placed.keys() != set(range(len(placed))):
        raise ValueError("nodes: positions are missing")
    return tuple(placed[position] for position in range(len(placed)))


def _steps(positions: Sequence[int]) -> str:
    """Ascending positions as runs of equal steps: 3, 14, 25, 30 -> `3-25:11, 30`."""
    runs: list[list[int]] = []
    for position in positions:
        run = runs[-1] if runs else []
        if len(run) == 1 or (len(run) > 1 and position - run[-1] == run[1] - run[0]):
            run.append(position)
        else:
            runs.append([position])
    return ", ".join(_run(run) for run in runs)


def _run(run: Sequence[int]) -> str:
    return str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}:{run[1] - run[0]}"


def _positions(text: str) -> Iterator[int]:
    """What `_steps` wrote; raises ValueError for anything else."""
    for part in text.split(", "):
        ends, _, step = part.partition(":")
        first, _, last = ends.partition("-")
        numbers = [int(number) for number in (first, last or first, step or "1")]
        if min(numbers) < 0 or numbers[2] < 1 or numbers[1] > MOST_NODES:
            raise ValueError(f"nodes: {part!r} is not first-last:step")
        yield from range(numbers[0], numbers[1] + 1, numbers[2])
