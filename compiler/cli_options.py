"""Options that several verbs share, and the types that check them."""

from collections.abc import Callable, Iterable, Iterator
from math import nan
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from .options import MOST_MICROSECONDS, MOST_USERS

Command = TypeVar("Command", bound=Callable[..., Any])

LARGEST_EXTENT = 2**31 - 1
"""That of `import_dimensions`, which asks for more than an option's check may wait for."""


class WholeNumber(click.ParamType[int]):
    """A whole number of a range, both ends included."""

    name = "integer"

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            number = self.low - 1
        if not self.low <= number <= self.high:
            self.fail(
                f"expected a whole number from {self.low:,} to {self.high:,}, found {value}", param, ctx
            )
        return number


class PositiveNumber(click.ParamType[float]):
    """A number above 0 and at most `high`. What is not a number (nan) is in no range."""

    name = "number"

    def __init__(self, high: float) -> None:
        self.high = high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = nan
        if not 0 < number <= self.high:
            self.fail(f"expected a number above 0, up to {self.high:,.0f}, found {value}", param, ctx)
        return number


COUNT = WholeNumber(1, LARGEST_EXTENT)
USERS = WholeNumber(1, MOST_USERS)
MOST_COUNTS = 64
"""Chip counts in one run of `scale`."""
MICROSECONDS = PositiveNumber(MOST_MICROSECONDS)
EFFICIENCY = PositiveNumber(10.0)


def _shipped_models(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    from chiplan.models import model_names

    return _named(model_names(), typed)


def _shipped_targets(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    from chiplan.models import target_names

    return _named(target_names(), typed)


def _named(names: Iterable[str], typed: str) -> list[CompletionItem]:
    """What a shell offers: names that begin as typed, and files."""
    fitting = [CompletionItem(name) for name in names if name.startswith(typed)]
    return [*fitting, CompletionItem(typed, type="file")]


PLAN = click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
OUTPUT = click.Path(path_type=Path)
MODEL = click.argument("model", metavar="MODEL", shell_complete=_shipped_models)


def target_option(**how: Any) -> Callable[[Command], Command]:
    """`--target`, with what differs between verbs."""
    return click.option(
        "--target", "target_name", metavar="NAME|FILE", shell_complete=_shipped_targets, **how
    )


SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Where", ("target_name", "chips")),
    (
        "What is best",
        ("objective", "max_latency", "max_interval", "pareto", "min_efficiency", "weak", "layers"),
    ),
    ("The work", ("batch", "sequence", "context", "bind", "users", "precision", "host")),
    ("The solver's decisions, taken from it", ("groups", "pins", "use_annotations", "wire")),
    (
        "The check",
        ("baseline_path", "update", "max_latency_regression", "max_interval_regression", "max_chips",
         "max_sram", "allow", "same"),
    ),
    ("What is written", ("output", "twice", "svg", "junit", "markdown", "verify_each", "as_json", "help")),
)  # fmt: skip
"""Options of `compile`, `scale` and `check`, as `--help` lists them."""


def option_sections(
    command: click.Command, context: click.Context
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(title, (names, meaning) of its options) of every section that a command has options for; one section
    where the command has none of its own."""
    known = {
        option.name: option for option in command.get_params(context) if isinstance(option, click.Option)
    }
    listed = {name for _, names in SECTIONS for name in names}
    others = tuple(name for name in known if name is not None and name not in listed)
    sections = (*SECTIONS, ("Besides", others))
    if not isinstance(command, SectionedCommand):
        sections = (("Options", tuple(name for name in known if name is not None)),)
    for title, names in sections:
        found = (known[name].get_help_record(context) for name in names if name in known)
        records = [record for record in found if record]
        if records:
            yield title, records


class SectionedCommand(click.Command):
    """A command whose `--help` lists its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, records in option_sections(self, ctx):
            with formatter.section(title):
                formatter.write_dl(records)


def binding(value: str) -> tuple[str, int]:
    """`NAME=VALUE`: a symbolic dimension and its extent."""
    name, separator, extent = value.rpartition("=")
    if not separator or not name or not extent.isdecimal() or int(extent) < 1:
        raise click.BadParameter(f"{value!r} is not NAME=VALUE with a whole number of 1 or more")
    if int(extent) > LARGEST_EXTENT:
        raise click.BadParameter(f"{value!r} is beyond {LARGEST_EXTENT:,}, the most that a dimension can be")
    return name, int(extent)


def merged_bindings(pairs: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """The bindings by name; refuses two values for one name."""
    merged: dict[str, int] = {}
    for name, extent in pairs:
        if merged.setdefault(name, extent) != extent:
            raise click.UsageError(f"--bind gives {name} two values, {merged[name]} and {extent}; keep one")
    return merged


def pin(value: str) -> tuple[str, str]:
    """`NODE=FACTOR`: an ONNX node and the factor of it to split; `FACTOR,FACTOR` for two mesh axes."""
    node, separator, factor = value.rpartition("=")
    if not separator or not node or not factor:
        raise click.BadParameter(f"{value!r} is not NODE=FACTOR; `chiplan show PLAN --sharding` lists both")
    return node, factor


def group_sizes(value: str) -> tuple[int, ...]:
    """`4,4`: chips of each stage's group, in order."""
    parts = value.split(",")
    if not all(part.isdecimal() and 1 <= int(part) <= LARGEST_EXTENT for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of chip counts such as 4,4")
    return tuple(map(int, parts))


def chip_counts(value: str) -> tuple[int, ...]:
    """`1,2,4` or `1-8`, or both: chip counts, ascending, each once."""
    found: set[int] = set()
    for part in value.split(","):
        ends = part.strip().split("-")
        if len(ends) > 2 or not all(e.isdecimal() and 1 <= int(e) <= LARGEST_EXTENT for e in ends):
            raise click.BadParameter(f"{part!r} is neither a count of 1 or more nor a range such as 1-8")
        low, high = int(ends[0]), int(ends[-1])
        if high < low or high - low >= MOST_COUNTS:
            raise click.BadParameter(f"{part!r}: a range rises, over {MOST_COUNTS} counts at most")
        found.update(range(low, high + 1))
    if len(found) > MOST_COUNTS:
        raise click.BadParameter(f"{len(found)} counts; at most {MOST_COUNTS} in one run")
    return tuple(sorted(found))


def with_planning(command: Command) -> Command:
    """Adds the options that say what a good plan is."""
    options = (
        click.option("--chips", type=COUNT, metavar="N", help="Use at most so many. [all of the target]"),
        click.option(
            "--objective",
            type=click.Choice(["throughput", "latency", "chips"]),
            default="throughput",
            show_default=True,
            help="What is optimised first; the others break ties.",
        ),
        click.option(
            "--groups",
            type=group_sizes,
            metavar="N,N,...",
            help="One stage for each entry, on a group of so many chips.",
        ),
        click.option(
            "--use-annotations", is_flag=True, help="Stages, groups and splits as annotated in MODEL."
        ),
    )
    command = with_limits(command)
    for option in reversed(options):
        command = option(command)
    return command


def with_limits(command: Command) -> Command:
    """Adds the options that hold for a plan of any number of chips."""
    options = (
        click.option(
            "--precision",
            type=click.Choice(["model", "fp16", "int8", "w8a16"]),
            help="Stored and computed types. [the model's own if the target has it, else fp16]",
        ),
        click.option(
            "--users",
            type=USERS,
            metavar="N",
            default=1,
            show_default=True,
            help="Resident states, of --batch sequences each.",
        ),
        click.option("--max-latency", type=MICROSECONDS, metavar="US", help="Refuse a slower plan, in us."),
        click.option(
            "--max-interval", type=MICROSECONDS, metavar="US", help="Refuse a longer interval, in us."
        ),
        click.option(
            "--pin",
            "pins",
            type=pin,
            multiple=True,
            metavar="NODE=FACTOR",
            help="Split this factor of an ONNX node, or none; may be repeated. `show --sharding` lists both.",
        ),
        click.option(
            "--wire",
            type=click.Choice(["fp16", "fp32"]),
            help="Type of partial sums on links. [fp16; their own with --precision model; int8's are int32]",
        ),
        click.option("--host", is_flag=True, help="Figures include transfers from and to the host."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def with_json(command: Command) -> Command:
    """Adds `--json`."""
    option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
    return option(command)


def with_shape(command: Command) -> Command:
    """Adds the options that bind symbolic dimensions."""
    options = (
        click.option(
            "--batch",
            type=COUNT,
            metavar="N",
            default=1,
            show_default=True,
            help="Sequences that run together.",
        ),
        click.option(
            "--sequence", type=COUNT, metavar="N", help="Tokens in this run. [1 with a KV cache, else 128]"
        ),
        click.option(
            "--context",
            type=COUNT,
            metavar="N",
            help="Cached tokens and this run's together. [2048, or the position table if smaller]",
        ),
        click.option(
            "--bind",
            type=binding,
            multiple=True,
            metavar="NAME=VALUE",
            help="Extent of any other dimension.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
