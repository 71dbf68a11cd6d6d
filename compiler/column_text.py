"""Columns as lines of text, formatted many rows at a time: no Python step a tile or a transfer."""

from collections.abc import Iterator, Sequence

import numpy as np

_ROWS = 1 << 14
"""Rows formatted at once: what is in memory stays small, however long the columns."""


def column_lines(template: str, columns: Sequence[np.ndarray]) -> Iterator[str]:
    """`template % row` of every row, in chunks. columns: one a `%` of the template, of one length each;
    columns of text are arrays of objects."""
    rows = len(columns[0])
    for first in range(0, rows, _ROWS):
        chunk = np.empty((min(_ROWS, rows - first), len(columns)), dtype=object)
        for place, column in enumerate(columns):
            chunk[:, place] = column[first : first + _ROWS]
        yield template * len(chunk) % tuple(chunk.ravel().tolist())


def text_column(texts: Sequence[str]) -> np.ndarray:
    """Texts as a column that positions can index; object[len(texts)]."""
    column = np.empty(len(texts), dtype=object)
    column[:] = texts
    return column
