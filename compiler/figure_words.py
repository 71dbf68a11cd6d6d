"""What figures are called on pages, by their names in JSON, and which way is better."""

from enum import Enum


class Better(Enum):
    """Which way a figure gets better; neither where that depends on what was asked."""

    LESS = -1
    NEITHER = 0
    MORE = 1


FIGURE_WORDS = {
    "latency_cycles": ("latency, cycles", Better.LESS),
    "latency_us": ("latency, us", Better.LESS),
    "interval_cycles": ("interval, cycles", Better.LESS),
    "inferences_per_second": ("inferences a second", Better.MORE),
    "tokens_per_second_read": ("tokens read a second", Better.MORE),
    "tokens_per_second_user": ("tokens a second, one user", Better.MORE),
    "tokens_per_second_total": ("tokens a second, in total", Better.MORE),
    "chips": ("chips", Better.LESS),
    "stages": ("stages", Better.NEITHER),
    "sram_bytes": ("SRAM of a chip, bytes", Better.LESS),
    "clock_hz": ("clock, Hz", Better.NEITHER),
    "transfers": ("transfers", Better.LESS),
    "hops": ("hops", Better.LESS),
}
"""Label and direction of every figure that a page compares."""


def figure_label(name: str) -> str:
    """The name itself where it is no figure."""
    return FIGURE_WORDS.get(name, (name, Better.NEITHER))[0]


def figure_better(name: str) -> Better:
    return FIGURE_WORDS.get(name, (name, Better.NEITHER))[1]
