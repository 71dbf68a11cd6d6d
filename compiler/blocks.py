"""Blocks: repeated layers, found in the operator sequence by structure alone.

Operators get a number by their structure (not their names); layers show as a period in the sequence of
numbers. Where in a layer the blocks begin is free: where the fewest bytes cross. What stands before,
between and after repeated layers is a block of its own, or has other repeated layers inside.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from chiplan.ir import Graph, Operator, Unit

from .crossing import Crossing
from .graph_edit import kept_tensors


@dataclass(frozen=True)
class Block:
    """Operators [first, last) of a graph. Blocks of equal `kind` have equal operators, wired alike."""

    first: int
    last: int
    kind: int


@dataclass(frozen=True)
class CrossingValue:
    """A value that is written before a cut and read behind it. `cheap`: what makes it is recomputed."""

    name: str
    nbytes: int
    cheap: bool


@dataclass(frozen=True)
class CutPosition:
    """Between operators position - 1 and position. `block` is the number of the block that operator
    `position` belongs to. `allowed`: no state, and no tensor that several operators write, has work on
    both sides."""

    position: int
    block: int
    values: tuple[CrossingValue, ...]
    allowed: bool

    @property
    def nbytes(self) -> int:
        """Bytes of a micro-batch that must be sent across."""
        return sum(value.nbytes for value in self.values if not value.cheap)


def find_blocks(graph: Graph, structure: np.ndarray | None = None) -> tuple[Block, ...]:
    """All operators of the graph in blocks, in their order; `structure` as `structures` has it, if known."""
    structure = structures(graph) if structure is None else structure
    crossing = Crossing(graph)
    ranges = _segmented(structure, crossing, 0, len(structure))
    kinds: dict[Hashable, int] = {}
    wiring = _Wiring(crossing, structure)
    return tuple(
        Block(first, last, kinds.setdefault(wiring.of(first, last), len(kinds))) for first, last in ranges
    )


def cut_positions(
    graph: Graph, blocks: Sequence[Block], recomputed: Collection[int] = ()
) -> tuple[CutPosition, ...]:
    """Every position between two operators, with the values that cross it. `recomputed` are operators that
    each stage executes for itself; see `partitioning.recomputable`."""
    count = len(graph.operators)
    crossing: list[list[CrossingValue]] = [[] for _ in range(count + 1)]
    between = Crossing(graph)
    for name, (written, read) in between.spans.items():
        value = CrossingValue(name, graph.tensors[name].nbytes, written[-1] in recomputed)
        for position in range(written[0] + 1, read + 1):
            crossing[position].append(value)
    block_of = np.repeat(np.arange(len(blocks)), [block.last - block.first for block in blocks])
    allowed = between.allowed_cuts(frozenset(recomputed))
    return tuple(
        CutPosition(position, int(block_of[position]), tuple(crossing[position]), bool(allowed[position]))
        for position in range(1, count)
    )


def structures(graph: Graph) -> np.ndarray:
    """int64[operators]: equal numbers for operators that differ in names alone."""
    kinds: dict[Hashable, int] = {}
    stored = {
        name: kinds.setdefault((tensor.shape, tensor.dtype, tensor.role, tensor.resident_rows), len(kinds))
        for name, tensor in graph.tensors.items()
    }
    numbers: dict[Hashable, int] = {}
    forms = (_form(operator, stored) for operator in graph.operators)
    return np.array([numbers.setdefault(form, len(numbers)) for form in forms], dtype=np.int64)


def _form(operator: Operator, stored: Mapping[str, int]) -> Hashable:
    """What an operator is but for names; `stored` numbers the kinds of tensors."""
    return (
        operator.unit,
        tuple([(f.extent, f.reducer, f.whole, f.gathered) for f in operator.factors]),
        tuple([(operand.view, operand.axes, stored[operand.tensor]) for operand in operator.operands]),
        tuple([(r.axes, r.offsets, r.value, stored[r.tensor]) for r in operator.results]),
        operator.body,
    )


class _Wiring:
    """How the operators of a range hang together: tensors numbered as they appear, and which leave it."""

    def __init__(self, crossing: Crossing, structure: np.ndarray) -> None:
        self._graph, self._structure = crossing.graph, structure.tolist()
        self._kept = kept_tensors(crossing.graph)
        self._last_read = {name: readers[-1] for name, readers in crossing.readers.items()}

    def of(self, first: int, last: int) -> Hashable:
        numbers: dict[str, int] = {}
        form: list[Hashable] = []
        for index in range(first, last):
            operator = self._graph.operators[index]
            read = tuple(numbers.setdefault(o.tensor, len(numbers)) for o in operator.operands)
            made = tuple(numbers.setdefault(r.tensor, len(numbers)) for r in operator.results)
            leaves = tuple(
                r.tensor in self._kept or self._last_read.get(r.tensor, 0) >= last for r in operator.results
            )
            form.append((self._structure[index], read, made, leaves))
        return tuple(form)


@dataclass(frozen=True)
class _Repeat:
    """Operators [first, last) repeat every `period`, twice at least."""

    first: int
    last: int
    period: int

    @property
    def times(self) -> int:
        return (self.last - self.first) // self.period


def _segmented(structure: np.ndarray, crossing: Crossing, first: int, last: int) -> list[tuple[int, int]]:
    """[first, last) in ranges: the layers that repeat, and what is around them likewise."""
    repeats = _repeats(structure[first:last])
    for found in repeats:
        repeat = replace(found, first=found.first + first, last=found.last + first)
        if _is_chain(crossing.graph, repeat):
            start = _best_start(repeat, crossing)
            end = start + (repeat.last - start) // repeat.period * repeat.period
            layers = list(pairwise(range(start, end + 1, repeat.period)))
            before = _segmented(structure, crossing, first, start)
            return [*before, *layers, *_segmented(structure, crossing, end, last)]
    return [(first, last)] if first < last else []


def _repeats(structure: np.ndarray) -> list[_Repeat]:
    """Of every period its longest run, those that cover most first, then the shortest periods."""
    found = []
    for period in range(1, len(structure) // 2 + 1):
        alike = structure[period:] == structure[:-period]
        if np.count_nonzero(alike) < period:
            continue
        same = np.concatenate([[False], alike, [False]])
        ends = np.flatnonzero(same[1:] != same[:-1]).reshape(-1, 2)
        lengths = ends[:, 1] - ends[:, 0]
        if len(ends) and lengths.max() >= period:
            longest = int(lengths.argmax())
            found.append(_Repeat(int(ends[longest, 0]), int(ends[longest, 1]) + period, period))
    return sorted(found, key=lambda repeat: (-repeat.times * repeat.period, repeat.period, repeat.first))


def _is_chain(graph: Graph, repeat: _Repeat) -> bool:
    """Layers do work of the matrix unit and read what the layer before has made; three projections of one
    value repeat as well, and are no layers."""
    if all(op.unit is not Unit.MATRIX for op in graph.operators[repeat.first : repeat.first + repeat.period]):
        return False
    starts = range(repeat.first, repeat.first + repeat.times * repeat.period, repeat.period)
    for start, end in pairwise(starts):
        made = {r.tensor for operator in graph.operators[start:end] for r in operator.results}
        behind = graph.operators[end : end + repeat.period]
        if not any(operand.tensor in made for operator in behind for operand in operator.operands):
            return False
    return True


def _best_start(repeat: _Repeat, crossing: Crossing) -> int:
    """Among the starts of most whole periods, the first that cuts best: where a cut is allowed, the fewest
    bytes cross, and none come straight from a product, where chips may hold partial sums."""
    spare = (repeat.last - repeat.first) % repeat.period
    allowed, products, nbytes = crossing.allowed_cuts(), crossing.products, crossing.nbytes

    def cost(start: int) -> tuple[int, int, int, int]:
        bounds = slice(start + repeat.period, repeat.last, repeat.period)
        refused = int((~allowed[bounds]).sum())
        return refused, int(nbytes[bounds].max()), int(products[bounds].sum()), start

    return min(range(repeat.first, repeat.first + spare + 1), key=cost)
