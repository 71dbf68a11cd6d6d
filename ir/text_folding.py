"""Repeated lines folded: what differs evenly, or in names, prints once.

    repeat i 12 {
      ...          lines with holes, see `text_templates`
    }

Folding knows nothing of what the lines mean, so all that is repeated folds alike: layers of a graph, tiles
of equal stages, buffers. It loses nothing: what is folded is unfolded again and compared, and where it is
not the very same text the lines stay as they were.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from .errors import BadInput
from .text_lexer import broken, shown
from .text_templates import (
    Line,
    Template,
    is_name,
    line_text,
    merged,
    read_template,
    split_lines,
    template_value,
)

LEAST_SAVED = 8
"""Lines that a fold must save; fewer are easier to read as they are."""
MOST_LINES = 2**20
"""More lines than the text of any plan has once unfolded; a text that claims more is refused."""
_LETTERS = "ijkl"
_TRIES = 3


class _Block(NamedTuple):
    """`lines` `times` over, the index named `letter`."""

    letter: str
    times: int
    lines: "Folded"


Folded: TypeAlias = "list[Line | _Block]"


def fold_lines(lines: Sequence[str], numbers: bool) -> list[str]:
    """`lines` with their repetitions folded. `numbers`: whether numbers that stand alone may differ between
    repetitions, as cycles do, or not, as extents."""
    folded = _text(_fold(split_lines(lines), numbers, 0))
    if len(folded) < len(lines) and unfolded(folded) == list(lines):
        return folded
    return list(lines)


def unfolded(lines: Sequence[str]) -> list[str]:
    """The lines that `fold_lines` folded. Raises BadInput (`text_broken`)."""
    return [text for _, text in unfold(lines)]


def _fold(lines: list[Line], numbers: bool, depth: int) -> Folded:
    if depth == len(_LETTERS) or len(lines) <= LEAST_SAVED:
        return list(lines)
    found = _best_repeat(lines, numbers, _LETTERS[depth])
    if found is None:
        return list(lines)
    body = _fold(found.body, numbers, depth + 1)
    block = _Block(_LETTERS[depth], found.times, body)
    last = found.first + found.times * len(found.body)
    before, after = _fold(lines[: found.first], numbers, depth), _fold(lines[last:], numbers, depth)
    return [*before, block, *after]


@dataclass(frozen=True)
class _Repeat:
    """Lines [first, first + times * len(body)) are `body`, `times` over."""

    first: int
    times: int
    body: list[Line]


def _best_repeat(lines: list[Line], numbers: bool, letter: str) -> _Repeat | None:
    """The first of the largest repetitions that reads well."""
    for first, times, period in _candidates(_forms(lines, numbers))[:_TRIES]:
        best = _trimmed(lines, _repeat(lines, first, times, period, letter), letter)
        if _reads_well(lines, best):
            return best
    return None


def _trimmed(lines: list[Line], whole: _Repeat, letter: str) -> _Repeat:
    """`whole`, or without its first turn, its last, or both, where that makes the text shorter: the first
    layer often has other names than those that count on from it."""
    if not any(line.listed for line in whole.body):
        return whole
    period = len(whole.body)
    candidates = [whole]
    for before, behind in ((1, 0), (0, 1), (1, 1)):
        times = whole.times - before - behind
        if (times - 1) * period >= LEAST_SAVED:
            candidates.append(_repeat(lines, whole.first + before * period, times, period, letter))
    return min(candidates, key=lambda repeat: _length(repeat.body) - _length(_covered(lines, repeat)))


def _reads_well(lines: list[Line], repeat: _Repeat) -> bool:
    """A third shorter, and no mere list of what differs."""
    length, listed = _length(repeat.body), sum(line.listed for line in repeat.body)
    return 3 * length < 2 * _length(_covered(lines, repeat)) and 2 * listed < length


def _repeat(lines: list[Line], first: int, times: int, period: int, letter: str) -> _Repeat:
    last = first + times * period
    return _Repeat(first, times, [merged(lines[n:last:period], letter) for n in range(first, first + period)])


def _covered(lines: list[Line], repeat: _Repeat) -> list[Line]:
    return lines[repeat.first : repeat.first + repeat.times * len(repeat.body)]


def _length(lines: Sequence[Line]) -> int:
    return sum(line.length for line in lines)


def _forms(lines: list[Line], numbers: bool) -> np.ndarray:
    """int64[lines]: equal for lines that may be one line with holes."""
    known: dict[Hashable, int] = {}
    forms = (tuple([_atom_form(atom, numbers) for atom in line.atoms]) for line in lines)
    return np.array([known.setdefault(form, len(known)) for form in forms], dtype=np.int64)


def _atom_form(atom: Template, numbers: bool) -> Hashable:
    if is_name(atom):
        return True
    if not numbers:
        return atom
    # What is between the numbers must be the same, and what they grow by in the loops around.
    return tuple([piece if isinstance(piece, str) else None for piece in atom])


def _candidates(forms: np.ndarray) -> list[tuple[int, int, int]]:
    """(first, times, period) of the longest repetition of every period, those that save most lines first."""
    found = []
    for period in range(1, len(forms) // 2 + 1):
        alike = forms[period:] == forms[:-period]
        if np.count_nonzero(alike) < max(period, LEAST_SAVED):
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], alike.astype(np.int8), [0]]))).reshape(-1, 2)
        length = edges[:, 1] - edges[:, 0]
        longest = int(length.argmax())
        times = int(length[longest]) // period + 1
        if (times - 1) * period >= LEAST_SAVED:
            found.append((int(edges[longest, 0]), times, period))
    return sorted(found, key=lambda repeat: (-(repeat[1] - 1) * repeat[2] - repeat[2], repeat[2], repeat[0]))


def _text(folded: Folded) -> list[str]:
    lines = []
    for item in folded:
        if isinstance(item, _Block):
            lines.append(f"repeat {item.letter} {item.times} {{")
            lines += [f"  {line}" for line in _text(item.lines)]
            lines.append("}")
        else:
            lines.append(line_text(item))
    return lines


def unfold(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Every line with its repetitions written out, stripped, and the number (from 1) of the line that it
    came from. Raises BadInput (`text_broken`)."""
    for count, (number, text) in enumerate(_Unfolding(lines).lines(0, len(lines), {}), 1):
        if count > MOST_LINES:
            raise _broken(number, f"at most {MOST_LINES} lines once unfolded", "more")
        yield number, text


class _Unfolding:
    """Lines with each template read once."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = [line.strip() for line in lines]
        self._templates: dict[int, Template] = {}
        self._turns = 0

    def lines(self, first: int, last: int, at: Mapping[str, int]) -> Iterator[tuple[int, str]]:
        """Lines [first, last) for one index of every loop around them."""
        number = first
        while number < last:
            text = self._lines[number]
            if text.startswith("repeat "):
                letter, times = _head(text, number + 1)
                self._turns += times
                if letter in at or self._turns > MOST_LINES:
                    raise _broken(number + 1, f"another letter, and at most {MOST_LINES} turns in all", text)
                end = _closing(self._lines, number, last)
                for index in range(times):
                    yield from self.lines(number + 1, end, {**at, letter: index})
                number = end
            else:
                yield number + 1, self._filled(number, at) if "{" in text or "}" in text else text
            number += 1

    def _filled(self, number: int, at: Mapping[str, int]) -> str:
        text = self._lines[number]
        if number not in self._templates:
            self._templates[number] = read_template(text, lambda found: _no_hole(number + 1, found))
        try:
            return template_value(self._templates[number], at)
        except (KeyError, IndexError):
            expected = "holes of the loops around the line, with a choice for each turn"
            raise _broken(number + 1, expected, text) from None


def _no_hole(number: int, found: str) -> BadInput:
    return _broken(number, "a hole such as {7+35i} or {i:a|b}", found)


def _head(text: str, number: int) -> tuple[str, int]:
    parts = text.split()
    whole = len(parts) == 4 and parts[3] == "{" and parts[1] in _LETTERS and parts[2].isdecimal()
    if whole and int(parts[2][:12]) <= MOST_LINES:
        return parts[1], int(parts[2])
    raise _broken(number, f"repeat i TIMES {{, with one of {_LETTERS} and at most {MOST_LINES} times", text)


def _closing(lines: Sequence[str], first: int, last: int) -> int:
    """The line with the } of the repeat in line `first`."""
    open_blocks = 0
    for number in range(first, last):
        text = lines[number]
        open_blocks += text.startswith("repeat ") - (text == "}")
        if not open_blocks:
            return number
    raise _broken(first + 1, "a } that ends the repetition", "the end of the text")


def _broken(number: int, expected: str, found: str) -> BadInput:
    return broken(f"line {number}: expected {expected}, found {shown(found)}")
