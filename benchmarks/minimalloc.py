"""The file format of MiniMalloc's allocation instances: CSV `id,lower,upper,size`, half-open lifetimes,
the capacity in the name (`A.1048576.csv`). Files are not trusted."""

import csv
from pathlib import Path

from chiplan.ir import BadInput, Problem
from chiplan.partitioner import AllocationProblem, on_a_line

COLUMNS = ("id", "lower", "upper", "size")
_MOST_BYTES, _MOST_BUFFERS, _LARGEST = 1 << 24, 20_000, 1 << 40


def read_instance(path: Path) -> AllocationProblem:
    """Raises BadInput for what is no such file."""
    suffixes = path.suffixes
    if len(suffixes) < 2 or suffixes[-1] != ".csv" or not suffixes[-2][1:].isdecimal():
        raise _bad(path, "its name must end in .CAPACITY.csv, the capacity in bytes, as in A.1048576.csv")
    capacity = _number(path, 0, suffixes[-2][1:], "capacity")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _bad(path, f"it is larger than {_MOST_BYTES:,} bytes")
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), strict=True))
    except OSError as error:
        raise _bad(path, error.strerror or "it cannot be read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _bad(path, "it is no CSV text") from error
    if not lines or sorted(lines[0]) != sorted(COLUMNS):
        raise _bad(path, f"its first line must be {','.join(COLUMNS)}")
    if not 1 < len(lines) <= _MOST_BUFFERS + 1:
        raise _bad(path, f"it has {len(lines) - 1:,} buffers, expected 1 to {_MOST_BUFFERS:,}")
    where = [lines[0].index(name) for name in COLUMNS[1:]]
    rows = [_row(path, number, line, where) for number, line in enumerate(lines[1:], 2)]
    return on_a_line(rows, capacity)


def _row(path: Path, number: int, line: list[str], where: list[int]) -> tuple[int, int, int]:
    if len(line) != len(COLUMNS):
        raise _bad(path, f"line {number} has {len(line)} values, expected {len(COLUMNS)}")
    names = zip(where, COLUMNS[1:], strict=True)
    lower, upper, nbytes = (_number(path, number, line[place], name) for place, name in names)
    if lower >= upper or nbytes < 1:
        raise _bad(path, f"line {number}: expected lower < upper and a size of 1 or more")
    return lower, upper, nbytes


def _number(path: Path, line: int, text: str, name: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 14 and int(text) <= _LARGEST):
        place = f"line {line}: {name}" if line else f"the {name} in its name"
        raise _bad(path, f"{place} must be a whole number up to {_LARGEST:,}, found {text[:20]!r}")
    return int(text)


def _bad(path: Path, why: str) -> BadInput:
    return BadInput(Problem("not_an_instance", f"{path}: no allocation instance: {why}"))
