"""Tables of a page: one style for all verbs, narrow enough for 80 columns."""

from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> Table:
    """A table whose first `words` columns and columns of prose stand left, figures right.

    A column name that begins with "<" is set left and gives way (is cut) where the page is narrow.
    """
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.show_edge = False
    for position, name in enumerate(columns):
        prose = name.startswith("<")
        justify: Literal["left", "right"] = "left" if prose or position < words else "right"
        made.add_column(name.lstrip("<"), justify=justify, no_wrap=not prose, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def print_table(console: Console, title: str, made: Table) -> None:
    """Title, table and an empty line, or nothing where it has no row."""
    if not made.row_count:
        return
    console.print(title, style="bold")
    # Figures are never cut: a table that needs more than the page gets it.
    width = max(console.width, Measurement.get(console, console.options, made).minimum)
    if console.is_terminal:
        console.print(made, width=width, crop=False)
    else:
        with console.capture() as captured:
            console.print(made, width=width, crop=False)
        # rich pads every line to the table's width; a piped page ends where its text ends.
        console.file.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())
    console.print()


def print_text(console: Console, words: str, first: str = "", rest: str = "", style: str = "") -> None:
    """A sentence, broken at words; `first` begins its first line and `rest` the others."""
    wrapped = fill(words, console.width, initial_indent=first, subsequent_indent=rest)
    console.print(wrapped, soft_wrap=True, style=style)


def print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    """A title and its lines, or nothing where there is no line."""
    if lines:
        console.print(title, style="bold")
        for line in lines:
            print_text(console, line, first="  - ", rest="    ")
        console.print()
