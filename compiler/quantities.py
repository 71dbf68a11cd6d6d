"""How figures are written for people: grouped thousands, binary sizes, shares."""

from collections.abc import Sequence
from math import isfinite

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def grouped(value: int) -> str:
    """1234567 -> 1,234,567."""
    return f"{value:,}"


def size(nbytes: int) -> str:
    """Bytes in the largest binary unit that keeps the number at 1 or more: 1536 -> 1.5 KiB."""
    value, power = float(nbytes), 0
    while value >= 1024 and power < len(_SIZES) - 1:
        value, power = value / 1024, power + 1
    return f"{nbytes} B" if power == 0 else f"{value:.1f} {_SIZES[power]}"


def share(part: float, whole: float) -> str:
    """`part` of `whole` in per cent; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else "-"


def excess(achieved: int | None, bound: int) -> str:
    """By how much `achieved` is above its bound: per cent, or how many times it from elevenfold on."""
    if achieved is None or bound <= 0:
        return "-"
    return share(achieved - bound, bound) if achieved <= 11 * bound else f"{achieved / bound:.0f}x"


def duration(cycles: int, clock_hz: int) -> str:
    """Cycles as microseconds of the chip's clock."""
    return f"{1e6 * cycles / clock_hz:,.1f} us"


def rate(value: float | None) -> str:
    """A rate a second with three significant digits or more; a dash where it has no meaning."""
    if value is None or not isfinite(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending runs as first-last: 0, 1, 2, 5 -> 0-2,5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def counted(number: int, noun: str) -> str:
    """1 link, 2 links."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
