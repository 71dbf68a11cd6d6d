"""What crosses each position of an operator sequence, and where a cut is allowed."""

import numpy as np

from chiplan.ir import Graph, Role, Unit

from .graph_edit import readers_of, writers_of


def crossing_bytes(graph: Graph) -> np.ndarray:
    """int64[operators + 1]: bytes of the values that cross each position."""
    change = np.zeros(len(graph.operators) + 2, dtype=np.int64)
    for name, (written, read) in value_spans(graph).items():
        change[written[0] + 1] += graph.tensors[name].nbytes
        change[read + 1] -= graph.tensors[name].nbytes
    total: np.ndarray = change.cumsum()[:-1]
    return total


def value_spans(graph: Graph) -> dict[str, tuple[list[int], int]]:
    """Of every computed value that is read: its writers, and its last reader."""
    writers, readers = writers_of(graph.operators), readers_of(graph.operators)
    return {
        name: (made, readers[name][-1])
        for name, made in writers.items()
        if name in readers and graph.tensors[name].role is Role.VALUE and readers[name][-1] > made[0]
    }


def allowed_cuts(graph: Graph, recomputed: frozenset[int]) -> np.ndarray:
    """bool[operators + 1]: no state, and no tensor that several operators write, has work on both sides.
    `recomputed` are operators that each side has for itself."""
    change = np.zeros(len(graph.operators) + 1, dtype=np.int64)
    writers, readers = writers_of(graph.operators), readers_of(graph.operators)
    states = [name for name in readers if graph.tensors[name].role is Role.STATE]
    for name in dict.fromkeys([*writers, *states]):
        using = readers.get(name, []) if graph.tensors[name].role is Role.STATE else []
        touching = sorted({*writers.get(name, []), *using} - recomputed)
        if len(touching) > 1:
            change[touching[0] + 1] += 1
            change[touching[-1] + 1] -= 1
    allowed: np.ndarray = change.cumsum() == 0
    return allowed


def products_across(graph: Graph) -> np.ndarray:
    """int64[operators + 1]: how many values across each position the matrix unit makes."""
    change = np.zeros(len(graph.operators) + 2, dtype=np.int64)
    for written, read in value_spans(graph).values():
        if graph.operators[written[-1]].unit is Unit.MATRIX:
            change[written[0] + 1] += 1
            change[read + 1] -= 1
    total: np.ndarray = change.cumsum()[:-1]
    return total
