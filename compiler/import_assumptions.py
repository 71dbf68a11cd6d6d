"""What was bound by role and not by the user, in words: one line for each fact."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .import_roles import PAST

_NAMES_SHOWN = 4


@dataclass(frozen=True)
class Default:
    """A role that got its value from nothing that the user or the file says."""

    role: str
    value: int
    reason: str


Meanings = Mapping[tuple[str, int], Sequence[str]]
"""Symbols of the file by the role that gave them their value, and that value."""


def assumption_lines(defaults: Sequence[Default], meanings: Meanings) -> Iterator[str]:
    """Defaults with the symbols that follow from them, then symbols that follow from anything else."""
    told = {(default.role, default.value) for default in defaults}
    for default in defaults:
        symbols = meanings.get((default.role, default.value), ())
        notes = [
            "default",
            default.reason,
            f"--{default.role} changes it",
            _in_the_file(default.role, symbols),
        ]
        yield f"{default.role} = {default.value} ({'; '.join(note for note in notes if note)})"
    for (role, value), symbols in meanings.items():
        if (role, value) not in told and _other_names(role, symbols):
            yield _follows(role, value, symbols)


def word_of(role: str) -> str:
    """What a role is called in messages."""
    return "number of cached tokens" if role == PAST else role


def _other_names(role: str, symbols: Sequence[str]) -> list[str]:
    """The symbols that do not say by their name alone what they are."""
    return [symbol for symbol in symbols if symbol != role]


def _in_the_file(role: str, symbols: Sequence[str]) -> str:
    others = _other_names(role, symbols)
    if len(others) > _NAMES_SHOWN:
        return f"{len(others)} dimensions in the file"
    return f"{', '.join(others)} in the file" if others else ""


def _follows(role: str, value: int, symbols: Sequence[str]) -> str:
    if len(symbols) <= _NAMES_SHOWN:
        return f"{', '.join(symbols)} = {value} ({word_of(role)})"
    return f"{len(symbols)} {'cache' if role == PAST else role} dimensions = {value} ({role})"
