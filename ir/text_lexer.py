"""The tokens of one line of the text form, and a cursor over them that says what it expected."""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from .errors import BadInput, Problem
from .text_names import PLAIN, QUOTED, read_name

_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<tensor>%(?:{QUOTED}|{PLAIN}))
  | (?P<at>@(?:{QUOTED}|{PLAIN}))
  | (?P<text>{QUOTED})
  | (?P<run>-?\d+(?:[+-]\d+x\d+|x\d+)+)
  | (?P<real>-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)|-?inf\b|nan\b)
  | (?P<whole>-?\d+)
  | (?P<word>[A-Za-z_][A-Za-z0-9_./]*)
  | (?P<mark>->|[\[\](),=|<>;:&$#+.])
    )""",
    re.VERBOSE,
)
_LARGEST = 2**63
_MOST_OPEN = 100
MOST_DIGITS = 20
"""Of a number, its sign counted: no number of 64 bits has more."""
Item = TypeVar("Item")


class Token(NamedTuple):
    """kind: tensor, at, text, run, real, whole, word, mark, or end. text: as it stands in the line."""

    kind: str
    text: str


class Line:
    """A cursor over the tokens of line `number` (1-based, in the file as it was given)."""

    def __init__(self, text: str, number: int) -> None:
        self.number = number
        self._tokens = self._split(text)
        self._next = 0
        self._open = 0

    def _split(self, text: str) -> list[Token]:
        tokens, position, text = [], 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.refusal("a name, a number or a mark", text[position : position + 20])
            assert match.lastgroup is not None
            tokens.append(Token(match.lastgroup, match.group(match.lastgroup)))
            position = match.end()
        return [*tokens, Token("end", "the end of the line")]

    def refusal(self, expected: str, found: str | None = None) -> BadInput:
        """What to raise (`text_broken`) where something else came: the next token, or `found`."""
        found = self._tokens[self._next].text if found is None else found
        return broken(f"line {self.number}: expected {expected}, found {shown(found)}")

    def peek(self, ahead: int = 0) -> Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    @property
    def position(self) -> int:
        return self._next

    def move(self, position: int) -> None:
        self._next = position

    def skip_to(self, word: str) -> bool:
        """Goes behind the next `word` that is in no bracket; stays where there is none."""
        depth = 0
        for position in range(self._next, len(self._tokens)):
            token = self._tokens[position]
            if token.kind == "mark":
                depth += (token.text in "[(<") - (token.text in "])>")
            elif depth == 0 and token == ("word", word):
                self._next = position + 1
                return True
        return False

    def take(self, kind: str, expected: str) -> str:
        """The text of the next token, which must be of `kind`."""
        if self._tokens[self._next].kind != kind:
            raise self.refusal(expected)
        self._next += 1
        return self._tokens[self._next - 1].text

    def accept(self, text: str) -> bool:
        """Whether the next token is the word or mark `text`; if so it is taken."""
        token = self._tokens[self._next]
        if token.text != text or token.kind not in ("word", "mark"):
            return False
        self._next += 1
        return True

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise self.refusal(repr(text))

    def end(self) -> None:
        if self.peek().kind != "end":
            raise self.refusal("the end of the line")

    def word(self, expected: str) -> str:
        return self.take("word", expected)

    def integer(self) -> int:
        text = self.take("whole", "a whole number")
        if len(text) > MOST_DIGITS or not -_LARGEST <= int(text) < _LARGEST:
            raise self.refusal("a number of 64 bits", text)
        return int(text)

    def tensor(self) -> str:
        return self._name("tensor", "a %tensor", skip=1)

    def at(self) -> str:
        return self._name("at", "an @name", skip=1)

    def string(self) -> str:
        return self._name("text", "a quoted text", skip=0)

    def _name(self, kind: str, expected: str, skip: int) -> str:
        text = self.take(kind, expected)[skip:]
        try:
            return read_name(text)
        except ValueError:
            self._next -= 1
            raise self.refusal(f"{expected} with the escapes of JSON") from None

    def items(self, read: Callable[[], Item]) -> tuple[Item, ...]:
        """One or more things, separated by commas."""
        found = [read()]
        while self.accept(","):
            found.append(read())
        return tuple(found)

    def bracketed(self, read: Callable[[], Item], opening: str = "[", closing: str = "]") -> tuple[Item, ...]:
        """Things in brackets, separated by commas; perhaps none."""
        self.expect(opening)
        if self.accept(closing):
            return ()
        self._open += 1
        if self._open > _MOST_OPEN:
            raise self.refusal(f"at most {_MOST_OPEN} brackets inside each other")
        found = self.items(read)
        self._open -= 1
        self.expect(closing)
        return found

    def integers(self) -> tuple[int, ...]:
        return self.bracketed(self.integer)

    def mesh_axes(self) -> tuple[int, ...]:
        """`@0.1`: axes of a mesh; `@-` for none."""
        text = self.at()
        parts = [] if text == "-" else text.split(".")
        if not all(part.lstrip("-").isdecimal() and len(part) < 10 for part in parts):
            self._next -= 1
            raise self.refusal("mesh axes such as @0 or @0.1")
        return tuple(map(int, parts))


def shown(text: str) -> str:
    """At most 60 characters of untrusted text, escaped, for a message."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def broken(what: str) -> BadInput:
    """The refusal of a text."""
    return BadInput(Problem("text_broken", f"{what}. docs/ir.md has the grammar."))


def integers_text(numbers: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, numbers))}]"


def mesh_axes_text(axes: tuple[int, ...]) -> str:
    return "@" + (".".join(map(str, axes)) or "-")
