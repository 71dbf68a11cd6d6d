"""Buffers in the text form, a line each: `hold %x chip 0 at 256 copies 2 during 13:41`.

    hold = "hold" "%name" "chip" number "at" address [ "bytes" number ] [ "copies" number ]
           [ "during" birth ":" death ]

`bytes` is left out where the buffer is as large as its tensor, `copies` where it is one, and `during` where
the buffer lives for ever.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .graph import Tensor
from .plan import BufferColumns
from .plan_columns import BUFFERS
from .text_columns import complete
from .text_lexer import Line
from .text_names import tensor_ref

FOR_EVER = (0, -1)


def buffer_lines(
    buffers: BufferColumns,
    names: Sequence[str],
    tensors: Mapping[str, Tensor],
    rows: np.ndarray | None = None,
) -> Iterator[str]:
    """A line for every buffer, or for those of some rows."""
    columns = {name: getattr(buffers, name) for name, _ in BUFFERS}
    if rows is not None:
        columns = {name: column[rows] for name, column in columns.items()}
    values = zip(*(columns[name].tolist() for name, _ in BUFFERS), strict=True)
    for row in values:
        yield _line(dict(zip(columns, row, strict=True)), names, tensors)


def _line(row: Mapping[str, int], names: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    name = names[row["tensor"]]
    parts = [f"hold {tensor_ref(name)} chip {row['chip']} at {row['address']}"]
    if row["nbytes"] != tensors[name].nbytes:
        parts.append(f"bytes {row['nbytes']}")
    if row["copies"] != 1:
        parts.append(f"copies {row['copies']}")
    if (row["birth"], row["death"]) != FOR_EVER:
        parts.append(f"during {row['birth']}:{row['death']}")
    return " ".join(parts)


class BufferReader:
    """Takes the lines of buffers."""

    def __init__(self, numbers: Mapping[str, int], tensors: Mapping[str, Tensor]) -> None:
        self._numbers, self._tensors = numbers, tensors
        self._rows: list[tuple[int, ...]] = []

    def read(self, line: Line) -> None:
        """One line, the cursor behind its first word."""
        name = line.tensor()
        if name not in self._numbers:
            raise line.refusal("a tensor of the graph", f"%{name}")
        chip, address = _number(line, "chip"), _number(line, "at")
        nbytes = line.integer() if line.accept("bytes") else int(self._tensors[name].nbytes)
        copies = line.integer() if line.accept("copies") else 1
        birth, death = FOR_EVER
        if line.accept("during"):
            birth = line.integer()
            line.expect(":")
            death = line.integer()
        line.end()
        self._rows.append((self._numbers[name], chip, address, nbytes, copies, birth, death))

    def columns(self) -> BufferColumns:
        rows = np.array(self._rows, dtype=np.int64).reshape(-1, len(BUFFERS))
        columns = {name: rows[:, place] for place, (name, _) in enumerate(BUFFERS)}
        return BufferColumns(**complete("buffers", BUFFERS, columns))


def _number(line: Line, word: str) -> int:
    line.expect(word)
    return line.integer()
