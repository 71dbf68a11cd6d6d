"""Lines that differ in numbers and names alone, as one line with holes.

    hole   = "{" [ number ] { sign [ step ] letter } "}"        {7+35i}: 7, 42, 77, ... for i = 0, 1, 2, ...
           | "{" letter ":" template { "|" template } "}"       {i:%linear|%linear_7}: one for each i

A line is made of atoms; an atom is a name, a number or what stands between them, and is itself a tuple
of pieces: text, numbers that grow evenly, and choices. Names hold no { } or |, no line a { or }.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from .text_names import PLAIN, QUOTED


@dataclass(frozen=True)
class Even:
    """The number first + sum(step * index of the loop `letter`)."""

    first: int
    steps: tuple[tuple[str, int], ...] = ()

    def text(self) -> str:
        if not self.steps:
            return str(self.first)
        terms = "".join(_term(letter, step) for letter, step in self.steps)
        return f"{{{self.first}{terms}}}" if self.first else f"{{{terms.removeprefix('+')}}}"

    def value(self, at: Mapping[str, int]) -> str:
        return str(self.first + sum(step * at[letter] for letter, step in self.steps))


def _term(letter: str, step: int) -> str:
    sign, size = "-" if step < 0 else "+", abs(step)
    return f"{sign}{letter}" if size == 1 else f"{sign}{size}{letter}"


@dataclass(frozen=True)
class Choice:
    """Another template for every index of the loop `letter`."""

    letter: str
    options: tuple["Template", ...]

    def text(self) -> str:
        return f"{{{self.letter}:{'|'.join(map(template_text, self.options))}}}"

    def value(self, at: Mapping[str, int]) -> str:
        return template_value(self.options[at[self.letter]], at)


Piece: TypeAlias = str | Even | Choice
Template: TypeAlias = tuple[Piece, ...]


class Line(NamedTuple):
    """A line in atoms. length: characters. listed: those of its choices."""

    atoms: tuple[Template, ...]
    length: int
    listed: int


_ATOM = re.compile(rf"[%@]?{QUOTED}|[%@]{PLAIN}|[A-Za-z_][\w./]*|-?\d[\w.+-]*")
_NUMBER = re.compile(r"(?<!\d)(0|[1-9]\d{0,17})(?!\d)")
_EVEN = re.compile(r"\{(-?\d{1,19}(?![\da-z]))?((?:[+-]?\d{0,19}[a-z])+)\}")
_STEP = re.compile(r"([+-]?)(\d*)([a-z])")
_OUTSIDE, _IN_OPTION = re.compile(r"[^{}]+"), re.compile(r"[^{}|]+")
_MOST_INSIDE = 4
"""Choices inside each other: one for each loop around a line."""
_CHOICE = re.compile(r"\{([a-z]):")


def split_lines(texts: Sequence[str]) -> list[Line]:
    """The atoms of lines: names and numbers, and what stands between them."""
    known: dict[str, Template] = {}
    return [_split(text, known) for text in texts]


def _split(text: str, known: dict[str, Template]) -> Line:
    atoms: list[Template] = []
    end = 0
    for match in _ATOM.finditer(text):
        if match.start() > end:
            atoms.append((text[end : match.start()],))
        word = match.group()
        if word not in known:
            known[word] = _pieces(word)
        atoms.append(known[word])
        end = match.end()
    if end < len(text):
        atoms.append((text[end:],))
    return Line(tuple(atoms), len(text), 0)


def _pieces(atom: str) -> Template:
    parts = _NUMBER.split(atom)
    pieces: list[Piece] = [part if n % 2 == 0 else Even(int(part)) for n, part in enumerate(parts)]
    return tuple(piece for piece in pieces if piece != "")


def is_name(atom: Template) -> bool:
    """Whether an atom is a name or a quoted text, of which equal layers have different ones."""
    return isinstance(atom[0], str) and atom[0][0] in '%@"'


def template_text(template: Template) -> str:
    return "".join(piece if isinstance(piece, str) else piece.text() for piece in template)


def line_text(line: Line) -> str:
    return "".join(map(template_text, line.atoms))


def template_value(template: Template, at: Mapping[str, int]) -> str:
    """The text for one index of every loop around it."""
    return "".join(piece if isinstance(piece, str) else piece.value(at) for piece in template)


def merged(lines: Sequence[Line], letter: str) -> Line:
    """One line for all of `lines`, of equally many atoms: the index of the loop `letter` tells them apart."""
    columns = zip(*(line.atoms for line in lines), strict=True)
    atoms = tuple([_merged_atom(column, letter) for column in columns])
    listed = sum(len(piece.text()) for atom in atoms for piece in atom if isinstance(piece, Choice))
    return Line(atoms, sum(len(template_text(atom)) for atom in atoms), listed)


def _merged_atom(atoms: Sequence[Template], letter: str) -> Template:
    if all(atom == atoms[0] for atom in atoms):
        return atoms[0]
    pieces: list[Piece] = []
    if len({len(atom) for atom in atoms}) > 1:
        return (Choice(letter, tuple(atoms)),)
    for column in zip(*atoms, strict=True):
        piece = _merged_piece(column, letter)
        if piece is None:
            return (Choice(letter, tuple(atoms)),)
        pieces.append(piece)
    return tuple(pieces)


def _merged_piece(column: Sequence[Piece], letter: str) -> Piece | None:
    first, second = column[0], column[1]
    if all(piece == first for piece in column):
        return first
    if not isinstance(first, Even) or not isinstance(second, Even):
        return None
    step = second.first - first.first
    expected = (Even(first.first + n * step, first.steps) for n in range(len(column)))
    if all(piece == even for piece, even in zip(column, expected, strict=True)):
        return Even(first.first, (*first.steps, (letter, step)))
    return None


Refuse: TypeAlias = Callable[[str], Exception]
"""Makes the refusal of what is no template."""


def read_template(text: str, refuse: Refuse) -> Template:
    """The template of a line."""
    return _read(text, 0, 0, refuse)[0]


def _read(text: str, at: int, depth: int, refuse: Refuse) -> tuple[Template, int]:
    """Pieces from `at` to the end of the text, or, inside `depth` choices, to that of an option."""
    pieces: list[Piece] = []
    # Between options a | separates; elsewhere it is as any other character.
    ends, plain = ("|}", _IN_OPTION) if depth else ("", _OUTSIDE)
    while at < len(text) and text[at] not in ends:
        if (found := plain.match(text, at)) is not None:
            pieces.append(found.group())
        elif (found := _EVEN.match(text, at)) is not None:
            pieces.append(_even(found))
        elif (found := _CHOICE.match(text, at)) is not None and depth < _MOST_INSIDE:
            options, at = _read_options(text, found.end(), depth + 1, refuse)
            pieces.append(Choice(found.group(1), options))
            continue
        else:
            raise refuse(text[at:])
        at = found.end()
    return tuple(pieces), at


def _even(found: re.Match[str]) -> Even:
    steps = _STEP.findall(found.group(2))
    return Even(
        int(found.group(1) or 0), tuple((letter, int(f"{sign}{size or 1}")) for sign, size, letter in steps)
    )


def _read_options(text: str, at: int, depth: int, refuse: Refuse) -> tuple[tuple[Template, ...], int]:
    options = []
    while True:
        option, end = _read(text, at, depth, refuse)
        options.append(option)
        if end == len(text):
            raise refuse(text[at:])
        at = end + 1
        if text[end] == "}":
            return tuple(options), at
