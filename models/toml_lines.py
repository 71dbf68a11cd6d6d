"""Where each key of a TOML text stands, for messages that name a line.

The text has been parsed before, so this only splits it into statements; it checks nothing. Keys that
it does not list (inside an inline table, inside a nested list) stand on the line of what holds them.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_TOKEN = re.compile(
    r'(?P<string>"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\')'
    r"|(?P<comment>#[^\n]*)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<comma>,)|(?P<equals>=)|(?P<end>\n)"
    r"|(?P<blank>[ \t]+)|(?P<bare>[^\s\"'#\[\]{},=]+)",
    re.DOTALL,
)


class _Statement:
    """A header or an assignment: its tokens before the equals sign, and where its values start."""

    def __init__(self) -> None:
        self.left = ""
        self.line = 0
        self.assigns = False
        self.depth = 0
        self.starts: list[int] = []
        self.expects_value = True

    def add(self, kind: str, text: str, line: int) -> None:
        if kind in ("blank", "comment", "end"):
            return
        self.line = self.line or line
        if not self.assigns:
            self.assigns = kind == "equals"
            self.left += "" if self.assigns else text
            return
        if self.depth == 1 and self.expects_value and kind != "close":
            self.starts.append(line)
            self.expects_value = False
        self.depth += (kind == "open") - (kind == "close")
        self.expects_value |= self.depth == 1 and (kind == "comma" or len(self.starts) == 0)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every table, key and list element of a valid TOML text with Unix line ends.

    A path holds names, and indices where a list stands in between: ("chip", "matrix", "fp16",
    "blocks", 0). The whole document is ().
    """
    lines: dict[KeyPath, int] = {(): 1}
    table: KeyPath = ()
    arrays: dict[KeyPath, int] = {}
    for statement in _statements(text):
        if statement.assigns:
            path = table + _names(statement.left)
            lines.update({(*path, index): line for index, line in enumerate(statement.starts)})
        elif statement.left.startswith("[["):
            path = _resolve(_names(statement.left[2:-2]), arrays)
            arrays[path] = arrays.get(path, -1) + 1
            table = path = (*path, arrays[path])
        else:
            table = path = _resolve(_names(statement.left[1:-1]), arrays)
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], statement.line)
    return lines


def nearest_line(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of `path`, or of the closest thing around it that has one."""
    while path not in lines:
        path = path[:-1]
    return lines[path]


def _statements(text: str) -> Iterator[_Statement]:
    statement, line = _Statement(), 1
    for token in _TOKEN.finditer(text + "\n"):
        kind = token.lastgroup or ""
        if kind == "end" and statement.depth == 0 and statement.left:
            yield statement
            statement = _Statement()
        statement.add(kind, token.group(), line)
        line += token.group().count("\n")


def _names(left: str) -> tuple[str, ...]:
    """The parts of a key, bare, quoted or dotted."""
    names: list[str] = []
    value: object = tomllib.loads(f"{left} = 0")
    while isinstance(value, dict):
        name, value = next(iter(value.items()))
        names.append(name)
    return tuple(names)


def _resolve(names: tuple[str, ...], arrays: dict[KeyPath, int]) -> KeyPath:
    """A header's path: below a list of tables it means the last table so far."""
    path: KeyPath = ()
    for name in names[:-1]:
        path = (*path, name)
        if path in arrays:
            path = (*path, arrays[path])
    return (*path, names[-1])
