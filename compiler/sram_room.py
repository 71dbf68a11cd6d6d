"""When an operator may start so that what it makes has a place: the way out when SRAM is short.

Left alone, tiles start as soon as their operands are there, and so the buffers of three operators in
a row may be alive at once. Here an operator waits until enough of the buffers before it are dead.
One micro-batch is looked at, as if it had the chip to itself; whether several of them fit beside each
other is for the addresses to find out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from chiplan.ir import Chip, Graph, Role

from .addresses import padded_bytes
from .graph_edit import kept_tensors


class Span(Protocol):
    """A buffer's lifetime as far as it is known."""

    death: int


@dataclass(frozen=True)
class _Held:
    """A buffer that has been scheduled: its aligned bytes, and its death, None while readers are to come."""

    nbytes: int
    death: int | None


class SramRoom:
    """Bytes that the buffers of each chip leave, operator by operator in the order of scheduling."""

    def __init__(
        self, graph: Graph, operators: Mapping[int, tuple[int, ...]], chip: Chip, users: int
    ) -> None:
        self._graph, self._alignment = graph, chip.alignment
        self._kept = kept_tensors(graph)
        self._pending = Counter(
            name for indices in operators.values() for index in indices for name in self._reads(index)
        )
        self._left = {
            number: chip.usable_bytes - self._resident(indices, users)
            for number, indices in operators.items()
        }

    def _reads(self, index: int) -> set[str]:
        return {operand.tensor for operand in self._graph.operators[index].operands}

    def _size(self, name: str) -> int:
        return padded_bytes(self._graph.tensors[name].nbytes, self._alignment)

    def _resident(self, operators: Iterable[int], users: int) -> int:
        touched = {name for index in operators for name in self._reads(index)}
        touched |= {r.tensor for index in operators for r in self._graph.operators[index].results}
        copies = {Role.WEIGHT: 1, Role.STATE: users}
        return sum(self._size(name) * copies.get(self._graph.tensors[name].role, 0) for name in touched)

    def earliest(self, index: int, chip: int, lifetimes: Mapping[tuple[int, str], Span]) -> int:
        """First cycle from which the operator's new results fit beside all that lives on; 0 when they
        never do, as waiting is of no use then. Must be asked once for every operator that is scheduled."""
        for name in self._reads(index):
            self._pending[name] -= 1
        results = {result.tensor for result in self._graph.operators[index].results}
        new = [n for n in results if self._graph.tensors[n].role is Role.VALUE and (chip, n) not in lifetimes]
        held = [
            _Held(self._size(name), None if self._lives_on(name, index) else span.death)
            for (place, name), span in lifetimes.items()
            if place == chip
        ]
        excess = sum(map(self._size, new)) + sum(buffer.nbytes for buffer in held) - self._left[chip]
        dying = sorted((buffer.death, buffer.nbytes) for buffer in held if buffer.death is not None)
        cycle = 0
        for death, nbytes in dying:
            if excess <= 0:
                return cycle
            excess, cycle = excess - nbytes, death
        return cycle if excess <= 0 else 0

    def _lives_on(self, name: str, index: int) -> bool:
        """Whether a reader is still to come, be it the operator that is being scheduled."""
        return name in self._kept or self._pending[name] > 0 or name in self._reads(index)
