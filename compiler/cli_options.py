"""Options that several verbs share, and the types that check them."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

MOST_USERS = 2**20
LARGEST_EXTENT = 2**31 - 1
"""That of `import_dimensions`, which asks for more than an option's check may wait for."""

COUNT = click.IntRange(1, LARGEST_EXTENT)
USERS = click.IntRange(1, MOST_USERS)


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


def with_json(command: Command) -> Command:
    """Adds `--json`."""
    option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
    return option(command)


def with_shape(command: Command) -> Command:
    """Adds the options that bind symbolic dimensions."""
    options = (
        click.option(
            "--batch", type=COUNT, default=1, show_default=True, help="Sequences that run together."
        ),
        click.option("--sequence", type=COUNT, help="Tokens in this run. [1 with a KV cache, else 128]"),
        click.option(
            "--context",
            type=COUNT,
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
