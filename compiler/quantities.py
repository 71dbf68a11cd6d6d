"""How figures are written for people: grouped thousands, binary sizes, shares."""

from collections.abc import Sequence
from itertools import groupby
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
    """By how much `achieved` is above its bound, in per cent."""
    return "-" if achieved is None or bound <= 0 else f"{100 * (achieved - bound) / bound:,.1f} %"


def duration(cycles: int, clock_hz: int) -> str:
    """Cycles as microseconds of the chip's clock."""
    return f"{1e6 * cycles / clock_hz:,.1f} us"


_TIMES = (("ns", 1e9), ("us", 1e6), ("ms", 1e3))


def brief_duration(cycles: int, clock_hz: int) -> str:
    """Three digits or more, in seconds or the unit below them that keeps the number under 1,000: 0.5 us ->
    500 ns."""
    seconds = cycles / clock_hz
    unit, value = next(((u, seconds * n) for u, n in _TIMES if seconds * n < 999.5), ("s", seconds))
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


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


def least_and_most(values: Sequence[int]) -> str:
    """2, 17, 5 -> 2-17; one number where all are equal."""
    low, high = min(values), max(values)
    return grouped(low) if low == high else f"{grouped(low)}-{grouped(high)}"


def groups_words(meshes: Sequence[tuple[int, ...]]) -> str:
    """Groups of the stages in order: 8, then two of 4 by 8 chips are `8, 2 of 4x8`."""
    runs = [(mesh, len(list(alike))) for mesh, alike in groupby(meshes)]
    shapes = (("x".join(map(str, mesh)), count) for mesh, count in runs)
    return ", ".join(shape if count == 1 else f"{count} of {shape}" for shape, count in shapes)
