"""Reads typed values out of TOML tables, and collects all that is wrong with them, by line.

A value that is missing or wrong is noted and replaced by a harmless one, so that reading goes on and
the user sees every problem of a file at once. Nothing read may be used before `Findings.refuse`.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chiplan.ir import BadInput, DType, Problem

from .toml_lines import KeyPath, key_lines, nearest_line

MOST_PROBLEMS = 50


def dotted(path: KeyPath) -> str:
    """A key as people write it: chip.matrix.fp16.blocks[0]."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def shown(value: object) -> str:
    """A TOML value in a message, cut short."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return f"a list of {len(value):,}" if len(value) > 4 else f"[{', '.join(map(shown, value))}]"
    if isinstance(value, int) and value.bit_length() > 100:
        return f"a number of {value.bit_length():,} bits"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Findings:
    """The problems of one file. `source` is how messages name it."""

    def __init__(self, source: str, text: str) -> None:
        self._source = source
        self._text = text
        self._lines: dict[KeyPath, int] | None = None
        self._found: list[tuple[int, Problem]] = []
        self._paths: list[KeyPath] = []

    def add(self, code: str, path: KeyPath, message: str) -> None:
        """Note a problem with the key at `path`."""
        if self._lines is None:
            self._lines = key_lines(self._text)
        self._paths.append(path)
        line = nearest_line(self._lines, path)
        where = f"{dotted(path)}: " if path else ""
        self._found.append((line, Problem(code, f"{self._source}:{line}: {where}{message}")))

    def inside(self, path: KeyPath) -> bool:
        """Whether anything at or below `path` is wrong so far."""
        return any(found[: len(path)] == path for found in self._paths)

    def refuse(self) -> None:
        """Raises BadInput with all problems in the order of their lines, if there are any."""
        if not self._found:
            return
        problems = [problem for _, problem in sorted(self._found, key=lambda found: found[0])]
        more = len(problems) - MOST_PROBLEMS
        if more > 0:
            problems[MOST_PROBLEMS:] = [
                Problem(problems[MOST_PROBLEMS].code, f"{self._source}: and {more:,} more problems")
            ]
        raise BadInput(problems)


@dataclass
class Table:
    """One TOML table. `present` is False where it is missing: its keys are then not missed as well."""

    values: Mapping[str, object]
    path: KeyPath
    findings: Findings
    present: bool = True
    _known: dict[str, None] = field(default_factory=dict)

    def has(self, key: str) -> bool:
        """Whether an optional key is there; it counts as known."""
        self._known[key] = None
        return key in self.values

    def take(self, key: str, expected: str) -> object:
        """The value as it stands, None if missing (which is noted)."""
        if not self.has(key) and self.present:
            self.findings.add("target_key_missing", (*self.path, key), f"missing; expected {expected}")
        return self.values.get(key)

    def wrong(self, key: str, expected: str, cure: str = "") -> None:
        """Note that a value is not what was expected."""
        message = f"expected {expected}, found {shown(self.values[key])}{cure}"
        self.findings.add("target_value", (*self.path, key), message)

    def whole(self, key: str, most: int, least: int = 1, note: str = "") -> int:
        """A whole number from `least` to `most`; `note` says what it counts."""
        expected = f"a whole number {'above 0' if least == 1 else f'of {least:,} or more'}{note}"
        value = self.take(key, expected)
        if value is None:
            return least
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.wrong(key, expected)
            return least
        if value > most:
            self.wrong(key, f"a whole number of at most {most:,}{note}")
            return least
        return value

    def whole_if_there(self, key: str, most: int) -> int:
        """A whole number from 1 to `most`; 0 where the key is absent."""
        return self.whole(key, most) if self.has(key) else 0

    def truth(self, key: str, default: bool) -> bool:
        """true or false; `default` where the key is absent."""
        value = self.values[key] if self.has(key) else default
        if isinstance(value, bool):
            return value
        self.wrong(key, "true or false")
        return default

    def amount(self, key: str) -> float:
        """A finite number of 0 or more; 0 where the key is absent."""
        value = self.values.get(key) if self.has(key) else 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e15:
            self.wrong(key, "a number of 0 or more, at most 10^15")
            return 0.0
        return float(value)

    def text(self, key: str, choices: Sequence[str]) -> str:
        """One of `choices`, "" if it is missing or another."""
        expected = f"one of {', '.join(choices)}"
        value = self.take(key, expected)
        if isinstance(value, str) and value in choices:
            return value
        if value is not None:
            self.wrong(key, expected, _suggestion(shown(value), choices))
        return ""

    def wholes(self, key: str, expected: str, most: int) -> tuple[int, ...]:
        """A list of whole numbers from 1 to `most`, 1 to 6 of them."""
        value = self.take(key, expected)
        if isinstance(value, list) and 1 <= len(value) <= 6 and _are_wholes(value, 1, most):
            return tuple(value)
        if value is not None:
            self.wrong(key, expected)
        return (1,)

    def pairs(self, key: str, expected: str, least: int, most: int, each: str) -> list[tuple[int, int]]:
        """A list of pairs of whole numbers from `least` to `most`; `each` describes one pair."""
        value = self.take(key, expected)
        if value is None:
            return []
        if not isinstance(value, list) or not value:
            self.wrong(key, expected)
            return []
        good = []
        for index, pair in enumerate(value):
            if isinstance(pair, list) and len(pair) == 2 and _are_wholes(pair, least, most):
                good.append((pair[0], pair[1]))
            else:
                message = f"expected {each}, found {shown(pair)}"
                self.findings.add("target_value", (*self.path, key, index), message)
        return good

    def table(self, key: str) -> "Table":
        """A table that must be there."""
        value = self.take(key, "a table")
        return self._inner(key, value)

    def optional_table(self, key: str) -> "Table | None":
        """A table that may be left out."""
        return self._inner(key, self.values[key]) if self.has(key) else None

    def dtypes(self) -> list[DType]:
        """The element types among the keys; all others become known names for suggestions."""
        return [dtype for dtype in DType if self.has(dtype.value)]

    def close(self) -> None:
        """Note every key that nothing has asked for."""
        known = ", ".join(self._known)
        unknown = [key for key in self.values if key not in self._known]
        for number, key in enumerate(unknown):
            # Past the problems that are shown, a suggestion would only cost time.
            cure = _suggestion(key, self._known) if number < MOST_PROBLEMS else ""
            message = f"unknown key{cure}; known here: {known}"
            self.findings.add("target_key_unknown", (*self.path, key), message)

    def _inner(self, key: str, value: object) -> "Table":
        path = (*self.path, key)
        if isinstance(value, dict):
            return Table(value, path, self.findings)
        if value is not None:
            self.wrong(key, "a table")
        return Table({}, path, self.findings, present=False)


def _are_wholes(values: list[object], least: int, most: int) -> bool:
    return all(
        isinstance(value, int) and not isinstance(value, bool) and least <= value <= most for value in values
    )


def _suggestion(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key[:100], list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
