"""Factors of an operator in the text form, and what refers to them.

factor = name "=" extent [ "sum" | "max" | "min" ] [ "whole" ] [ "gathered" ]
ref    = word | "#" number                 by number where the name is no plain word or not the only one
index  = "." | ref | offset [ "+" ref ]    of a dimension; "." is index 0 of a dimension of extent 1
"""

import re
from collections.abc import Sequence

from .nest import Factor, Reducer
from .text_lexer import Line
from .text_names import quoted

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./]*")
_REDUCERS = {reducer.value: reducer for reducer in Reducer}
Index = tuple[int | None, int]
"""(factor, offset)."""


class FactorNames:
    """How the factors of one operator are referred to."""

    def __init__(self, factors: Sequence[Factor]) -> None:
        names = [factor.name for factor in factors]
        self._words = {
            number: name
            for number, name in enumerate(names)
            if _WORD.fullmatch(name) and names.count(name) == 1
        }
        self._numbers = {name: number for number, name in self._words.items()}

    def ref(self, factor: int) -> str:
        return self._words.get(factor, f"#{factor}")

    def index(self, factor: int | None, offset: int = 0) -> str:
        if factor is None:
            return str(offset) if offset else "."
        return f"{offset}+{self.ref(factor)}" if offset else self.ref(factor)

    def indices(self, axes: Sequence[int | None], offsets: Sequence[int] | None = None) -> str:
        pairs = zip(axes, offsets or [0] * len(axes), strict=True)
        return f"[{', '.join(self.index(axis, offset) for axis, offset in pairs)}]"

    def read(self, line: Line) -> int:
        """The factor that the cursor refers to."""
        if line.accept("#"):
            return line.integer()
        name = line.peek().text
        if line.peek().kind != "word" or name not in self._numbers:
            raise line.refusal(
                f"a factor of the operator ({', '.join(self._words.values()) or 'it has none'})"
            )
        return self._numbers[line.word("a factor")]

    def read_index(self, line: Line) -> Index:
        if line.accept("."):
            return None, 0
        if line.peek().kind != "whole":
            return self.read(line), 0
        offset = line.integer()
        return (self.read(line) if line.accept("+") else None), offset


def factor_text(factor: Factor) -> str:
    name = factor.name if _WORD.fullmatch(factor.name) else quoted(factor.name)
    marks = [factor.reducer.value] if factor.reducer is not None else []
    marks += [word for word in ("whole", "gathered") if getattr(factor, word)]
    return " ".join([f"{name}={factor.extent}", *marks])


def read_factor(line: Line) -> Factor:
    name = line.string() if line.peek().kind == "text" else line.word("the name of a factor")
    line.expect("=")
    extent = line.integer()
    reducer = None
    if line.peek().text in _REDUCERS:
        reducer = _REDUCERS[line.word("a reducer")]
    return Factor(name, extent, reducer, whole=line.accept("whole"), gathered=line.accept("gathered"))
