"""What crosses each position of an operator sequence, and where a cut is allowed."""

from collections.abc import Collection
from functools import cached_property

import numpy as np

from chiplan.ir import Graph, Role, Unit

from .graph_edit import readers_of, writers_of


class Crossing:
    """Nothing is computed before it is asked for. writers, readers: indices of the operators that write and
    read each tensor."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writers, self.readers = writers_of(graph.operators), readers_of(graph.operators)

    @cached_property
    def spans(self) -> dict[str, tuple[list[int], int]]:
        """Of every computed value that is read: its writers, and its last reader."""
        tensors, readers = self.graph.tensors, self.readers
        return {
            name: (made, readers[name][-1])
            for name, made in self.writers.items()
            if name in readers and tensors[name].role is Role.VALUE and readers[name][-1] > made[0]
        }

    @cached_property
    def nbytes(self) -> np.ndarray:
        """int64[operators + 1]: bytes of the values that cross each position."""
        tensors = self.graph.tensors
        return self._across([tensors[name].nbytes for name in self.spans])

    @cached_property
    def products(self) -> np.ndarray:
        """int64[operators + 1]: how many values across each position the matrix unit makes."""
        operators = self.graph.operators
        return self._across([operators[made[-1]].unit is Unit.MATRIX for made, _ in self.spans.values()])

    def _across(self, weights: Collection[int]) -> np.ndarray:
        """int64[operators + 1]: the weights of all spans across each position."""
        change = np.zeros(len(self.graph.operators) + 2, dtype=np.int64)
        spans = np.array([(made[0], read) for made, read in self.spans.values()], dtype=np.int64)
        spans, amounts = spans.reshape(-1, 2), np.array(list(weights), dtype=np.int64)
        np.add.at(change, spans[:, 0] + 1, amounts)
        np.subtract.at(change, spans[:, 1] + 1, amounts)
        total: np.ndarray = change.cumsum()[:-1]
        return total

    def allowed_cuts(self, recomputed: frozenset[int] = frozenset()) -> np.ndarray:
        """bool[operators + 1]: no state, and no tensor that several operators write, has work on both sides.
        `recomputed` are operators that each side has for itself."""
        change = np.zeros(len(self.graph.operators) + 1, dtype=np.int64)
        for touching in self._together():
            left = touching - recomputed
            if len(left) > 1:
                change[min(left) + 1] += 1
                change[max(left) + 1] -= 1
        allowed: np.ndarray = change.cumsum() == 0
        return allowed

    def _together(self) -> list[set[int]]:
        """Sets of operators that may not be parted."""
        tensors = self.graph.tensors
        sets = [set(made) for name, made in self.writers.items() if len(made) > 1]
        states = dict.fromkeys(
            name for name in (*self.writers, *self.readers) if tensors[name].role is Role.STATE
        )
        return sets + [{*self.writers.get(name, ()), *self.readers.get(name, ())} for name in states]
