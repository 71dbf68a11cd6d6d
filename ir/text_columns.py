"""Whole columns in the text form, for what has no better one: `column hops link 0+1x4`."""

from collections.abc import Iterator, Mapping

import numpy as np

from .plan_columns import Layout
from .text_lexer import Line, broken
from .text_sequences import column_text, read_column


def columns_text(table: str, layout: Layout, columns: Mapping[str, np.ndarray]) -> Iterator[str]:
    """A line for every column of a table."""
    for name, _ in layout:
        yield f"column {table} {name} {column_text(columns[name])}"


def as_dict(columns: object, layout: Layout) -> dict[str, np.ndarray]:
    """The columns of a table by name, int64."""
    return {name: np.asarray(getattr(columns, name)).astype(np.int64) for name, _ in layout}


def read_raw(line: Line, layout: Layout, into: dict[str, np.ndarray]) -> None:
    """Reads a column of a table, the cursor behind the table's name."""
    name = line.word("the name of a column")
    if name not in dict(layout) or name in into:
        raise line.refusal(f"one of the columns {', '.join(name for name, _ in layout)}, once each", name)
    into[name] = read_column(line)
    line.end()


def complete(table: str, layout: Layout, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns in the types of the plan file, all there and of one length. Raises BadInput."""
    if columns.keys() != dict(layout).keys() or len({len(column) for column in columns.values()}) != 1:
        names = ", ".join(name for name, _ in layout)
        raise broken(f"expected the columns {names} of {table}, of one length; found {len(columns)} columns")
    typed = {name: columns[name].astype(kind) for name, kind in layout}
    for name, column in typed.items():
        if not np.array_equal(column, columns[name]):
            raise broken(f"expected {column.dtype} in the column {name} of {table}, found larger numbers")
    return typed
