"""How tiles are packed onto the instances of a unit: dealt out in turn, or as if each operator were alone."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from chiplan.ir import Chip, Unit, unit_instances

from .modulo import ModuloTable, compact, place_in_order


@dataclass
class ChipState:
    """Reservation tables of the units of a stage's chips, and the matrix unit's longest block load."""

    chip: Chip
    interval: int
    longest_load: int
    tables: dict[Unit, list[ModuloTable]] = field(default_factory=dict)

    def instances(self, unit: Unit) -> list[ModuloTable]:
        if unit not in self.tables:
            self.tables[unit] = [ModuloTable(self.interval) for _ in range(unit_instances(self.chip, unit))]
        return self.tables[unit]


@dataclass(frozen=True)
class Packing:
    """How operators are packed onto a unit. Which way is better, only the whole schedule tells.

    grain: operators start at multiples of it, in cycles. pauses: an operator may start early and wait
    for its producer in between; else it starts when it can run through. thrift: see LinkScheduler.
    """

    grain: int = 1
    pauses: bool = False
    thrift: int = 0


RUN_THROUGH = Packing()

Placer = Callable[[list[ModuloTable], np.ndarray, np.ndarray, Packing], tuple[np.ndarray, np.ndarray]]
"""Start cycle and instance of every atom, int64[atoms] each, from the instances' tables, the atoms'
ready cycles and durations, and how to pack."""


def deal_in_turn(
    tables: list[ModuloTable], ready: np.ndarray, durations: np.ndarray, packing: Packing
) -> tuple[np.ndarray, np.ndarray]:
    """Atoms are dealt to the instances in turn, the least busy instance first."""
    first = min(range(len(tables)), key=lambda i: tables[i].busy)
    start = np.empty(len(durations), dtype=np.int64)
    for number, table in enumerate(tables):
        queue = slice((number - first) % len(tables), None, len(tables))
        if len(durations[queue]):
            wait = ready[queue] if packing.pauses else compact(ready[queue], durations[queue], packing.grain)
            start[queue] = place_in_order(table, wait, durations[queue])
    return start, (np.arange(len(durations)) + first) % len(tables)


def start_alone(
    tables: list[ModuloTable], ready: np.ndarray, durations: np.ndarray, _packing: Packing
) -> tuple[np.ndarray, np.ndarray]:
    """Every operator has the unit to itself: what no schedule of these tiles in this order beats."""
    start = np.empty(len(ready), dtype=np.int64)
    for number in range(len(tables)):
        queue = slice(number, None, len(tables))
        before = np.cumsum(durations[queue]) - durations[queue]
        start[queue] = np.maximum.accumulate(ready[queue] - before) + before
    return start, np.arange(len(ready)) % len(tables)
