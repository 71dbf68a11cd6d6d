"""SRAM addresses of a chip's buffers, over lifetimes on the circle of one interval.

In the steady state micro-batch n uses a buffer n intervals later than micro-batch 0, so two buffers
may share bytes when their lifetimes do not meet modulo the interval. A buffer that lives longer than
the interval has several copies, used in rotation, which share with nothing.

First fit, largest buffer first, is nearly always enough. Where it is not, though what is alive at once would
fit, a search may be given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from chiplan.ir import Certificate, Chip, Graph
from chiplan.partitioner import Allocation, AllocationProblem, allocate, first_fit

_ATTEMPTS = 16

_LIMIT = 0.03
"""Deterministic time for one chip's addresses, in the solver's units: less than a second."""
_LIMIT_OF_ALL = 0.3
"""The same for all that is tried in one search for an interval."""


@dataclass(frozen=True)
class BufferNeed:
    """A buffer of one chip. `death` -1: there for ever (weights, states)."""

    tensor: str
    nbytes: int
    copies: int
    birth: int
    death: int


class OutOfSram(Exception):
    """The buffers of a chip do not fit; carries the bytes asked for and there, and what the buffers are.
    is_packable: what is alive at once would fit, so that only holes between buffers are too much. graph,
    operators: of the stage, where they are known."""

    graph: Graph | None = None
    operators: tuple[int, ...] = ()

    def __init__(
        self, chip: int, needed: int, needs: Sequence[BufferNeed], problem: AllocationProblem
    ) -> None:
        super().__init__(f"chip {chip}: {needed} of {problem.capacity} bytes")
        self.chip, self.needed, self.available = chip, needed, problem.capacity
        self.needs, self.problem = needs, problem
        self.is_packable = problem.peak <= problem.capacity


@dataclass(frozen=True)
class Addresses:
    """The address of every buffer, in the order of the needs, and what a solver proved where it was asked."""

    addresses: list[int]
    certificate: Certificate | None = None


class AddressSearch:
    """Addresses by CP-SAT where first fit fails, as long as deterministic time is left."""

    def __init__(self, limit: float = _LIMIT_OF_ALL) -> None:
        self._left = limit

    def run(self, problem: AllocationProblem) -> Allocation | None:
        """Addresses, or None where none were found. Equal chips of equal stages are solved once."""
        if self._left <= 0:
            return None
        # Turned so that the first buffer is born in cycle 0: equal stages differ in nothing else.
        births = (problem.births - problem.births[:1].sum()) % problem.period
        columns = (problem.padded, births, np.minimum(problem.lengths, problem.period), problem.always)
        keys = tuple(column.tobytes() for column in columns)
        found = _allocated(keys, problem.period, problem.capacity, problem.alignment)
        # What is remembered counts as if it had been solved anew: the answer depends on nothing before.
        self._left -= found.certificate.deterministic_time
        return found if found.addresses is not None else None


@lru_cache(maxsize=256)
def _allocated(keys: tuple[bytes, ...], period: int, capacity: int, alignment: int) -> Allocation:
    sizes, births, lengths = (np.frombuffer(key, dtype=np.int64) for key in keys[:3])
    always = np.frombuffer(keys[3], dtype=bool)
    problem = AllocationProblem(sizes, births, lengths, always, period, capacity, alignment)
    return allocate(problem, _LIMIT)


def padded_bytes(nbytes: int, alignment: int) -> int:
    """Bytes of SRAM that a buffer takes: whole aligned units."""
    return -(-nbytes // alignment) * alignment


def rotation_copies(birth: int, death: int, interval: int) -> int:
    """Copies of a buffer that lives [birth, death), one micro-batch an interval."""
    return max(1, -(-(death - birth) // interval))


def allocation_problem(needs: Sequence[BufferNeed], chip: Chip, interval: int) -> AllocationProblem:
    """A chip's buffers with all their copies, which lie one behind the other."""
    table = np.array([(n.nbytes, n.copies, n.birth, n.death) for n in needs], dtype=np.int64).reshape(-1, 4)
    nbytes, copies, births, deaths = table.T
    alignment = int(chip.alignment)
    return AllocationProblem(
        sizes=-(-nbytes // alignment) * alignment * copies,
        births=births,
        lengths=np.maximum(1, deaths - births),
        always=(deaths < 0) | (copies > 1),
        period=interval,
        capacity=int(chip.usable_bytes),
        alignment=alignment,
    )


def assign_addresses(
    chip_id: int, needs: Sequence[BufferNeed], chip: Chip, interval: int, search: AddressSearch | None = None
) -> Addresses:
    """Address of every buffer; raises OutOfSram.

    Where holes between buffers alone are what is short, the buffers that stuck out go first and all
    are placed again, a few times; then `search` is asked.
    """
    problem = allocation_problem(needs, chip, interval)
    sizes = problem.padded
    order = sorted(
        range(len(needs)),
        key=lambda i: (needs[i].death >= 0, -int(sizes[i]), needs[i].birth, needs[i].tensor),
    )
    tops = []
    for _ in range(_ATTEMPTS):
        addresses = first_fit(problem, order)
        ends = addresses + sizes
        tops.append(int(ends.max(initial=0)))
        if tops[-1] <= problem.capacity:
            return Addresses(addresses.tolist())
        if len(tops) == 1 and problem.peak > problem.capacity:
            break
        sticking_out = ends > problem.capacity
        order.sort(key=lambda i: (needs[i].death >= 0, not sticking_out[i]))
    shortage = OutOfSram(chip_id, min(tops), needs, problem)
    found = search.run(problem) if search is not None and shortage.is_packable else None
    if found is None or found.addresses is None:
        raise shortage
    missing = shortage.needed - problem.capacity
    why = f"SRAM addresses of chip {chip_id}: first fit is {missing:,} bytes short, {found.search!r} is not"
    return Addresses(found.addresses.tolist(), replace(found.certificate, problem=why))
