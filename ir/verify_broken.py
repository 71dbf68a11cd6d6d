"""What a rule of the verifier says when it is broken."""

from typing import NamedTuple


class Broken(NamedTuple):
    """place: which tensor, operator, stage. expected and found: in words, names escaped."""

    place: str
    expected: str
    found: str


def place_of(kind: str, name: str) -> str:
    """`kind` and a name from a model, escaped."""
    return f"{kind} {name!a}"
