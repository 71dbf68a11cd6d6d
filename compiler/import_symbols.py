"""Symbolic dimensions as linear expressions, and the equations between them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_TERM = re.compile(r"(?:(\d+)\s*\*\s*)?([^\s*+]+)(?:\s*\*\s*(\d+))?")


@dataclass(frozen=True)
class Expression:
    """constant + sum of coefficient * symbol."""

    constant: int
    terms: tuple[tuple[str, int], ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(symbol for symbol, _ in self.terms)

    def minus(self, other: "Expression") -> "Expression":
        total = dict(self.terms)
        for symbol, coefficient in other.terms:
            total[symbol] = total.get(symbol, 0) - coefficient
        terms = tuple((symbol, count) for symbol, count in total.items() if count)
        return Expression(self.constant - other.constant, terms)

    def substitute(self, values: Mapping[str, int]) -> "Expression":
        known = sum(count * values[symbol] for symbol, count in self.terms if symbol in values)
        rest = tuple((symbol, count) for symbol, count in self.terms if symbol not in values)
        return Expression(self.constant + known, rest)


def parse_dimension(text: str) -> Expression:
    """`past + sequence`, `s16 + 1`, `2*s0`; anything else is one opaque symbol."""
    total = Expression(0)
    for sign, part in _signed_parts(text.strip()):
        match = _TERM.fullmatch(part)
        if match is None or (match[1] and match[3]):
            return Expression(0, ((text, 1),))
        factor = sign * int(match[1] or match[3] or 1)
        name = match[2]
        term = Expression(factor * int(name)) if name.isdecimal() else Expression(0, ((name, factor),))
        total = total.minus(Expression(-term.constant, tuple((s, -c) for s, c in term.terms)))
    return total


def _signed_parts(text: str) -> list[tuple[int, str]]:
    """A minus sign counts only between spaces: exporters also write names such as `batch-size`."""
    pieces = re.split(r"\s*(\+|(?<=\s)-(?=\s))\s*", text)
    signs = [1] + [-1 if sign == "-" else 1 for sign in pieces[1::2]]
    return list(zip(signs, pieces[0::2], strict=True))


@dataclass(frozen=True)
class Equation:
    """`expression` is zero. `source` says where that is known from."""

    expression: Expression
    source: str


@dataclass(frozen=True)
class Conflict:
    """Equation `equation` contradicts what `reasons` say of its symbols."""

    equation: Equation
    reasons: tuple[str, ...]


@dataclass
class Equations:
    """Solves by substitution: an equation with one unknown gives its value."""

    open: list[Equation] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)

    def add(self, equations: Iterable[Equation]) -> None:
        """Take equations in, and everything that follows from them."""
        self.open.extend(equations)
        while self._step():
            pass

    def _step(self) -> bool:
        rest: list[Equation] = []
        learned = False
        for equation in self.open:
            left = equation.expression.substitute(self.values)
            if len(left.terms) > 1:
                rest.append(equation)
            elif left.terms and left.constant % left.terms[0][1] == 0:
                symbol, factor = left.terms[0]
                self.values[symbol] = -left.constant // factor
                self.sources[symbol] = equation.source
                learned = True
            elif left.terms or left.constant:
                self._conflict(equation)
        self.open = rest
        return learned

    def _conflict(self, equation: Equation) -> None:
        symbols = equation.expression.symbols
        reasons = tuple(dict.fromkeys(self.sources[s] for s in symbols if s in self.sources))
        self.conflicts.append(Conflict(equation, reasons))
