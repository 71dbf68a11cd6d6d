"""By how much a figure may grow: a share of it (`2%`) or an amount (`+3`), exactly."""

import re
from dataclasses import dataclass
from fractions import Fraction

import click

_FORM = re.compile(r"\+?(\d{1,12}(?:\.\d{1,9})?)%|\+?(\d{1,15})", re.ASCII)


@dataclass(frozen=True)
class Tolerance:
    """share: of the figure, 1/50 for 2 %. amount: in the figure's own unit."""

    text: str
    share: Fraction = Fraction(0)
    amount: int = 0

    def limit(self, before: int) -> Fraction:
        """The most that a figure may be."""
        return before * (1 + self.share) + self.amount


def tolerance(text: str) -> Tolerance:
    """`0%`, `2.5%`, `+3`. Raises click.BadParameter."""
    found = _FORM.fullmatch(text)
    if not found:
        raise click.BadParameter(f"{text!r} is neither a share such as 2.5% nor an amount such as +3")
    if found[1] is not None:
        return Tolerance(f"+{found[1]} %", share=Fraction(found[1]) / 100)
    return Tolerance(f"+{int(found[2]):,}", amount=int(found[2]))
