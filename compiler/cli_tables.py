"""Tables of a page: one style for all verbs, narrow enough for 80 columns."""

from collections.abc import Iterable, Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> Table:
    """A table whose first `words` columns and columns of prose stand left, figures right.

    A column name that begins with "<" is set left and gives way (is cut) where the page is narrow.
    """
    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.show_edge = False
    for position, name in enumerate(columns):
        prose = name.startswith("<")
        justify: Literal["left", "right"] = "left" if prose or position < words else "right"
        made.add_column(name.lstrip("<"), justify=justify, no_wrap=not prose, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def print_table(console: Console, made: Table) -> None:
    """The table and an empty line, or nothing where it has no row."""
    if made.row_count:
        console.print(made)
        console.print()


def print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    """A title and its lines, or nothing where there is no line."""
    if lines:
        console.print(title, style="bold")
        for line in lines:
            console.print(Padding(Text(f"- {line}"), (0, 0, 0, 2)))
        console.print()
