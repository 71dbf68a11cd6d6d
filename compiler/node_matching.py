"""Which nodes of one plan are which of another: by name, by what they compute, and where they stand.

Names alone mislead: an exporter that numbers its nodes renames all those behind a change. So rows are aligned
in order twice, by name first and by what they and their neighbours compute first, and the alignment that
leaves fewer rows over holds. What is left may have moved: it is paired by a common node, then by what it
computes, and last by its position between the same neighbours.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeAlias

from rapidfuzz.distance import LCSseq

from .plan_profile import NodeCost

Pair: TypeAlias = tuple[int, int]
"""Positions before and after."""
Key: TypeAlias = Callable[[NodeCost], Hashable]


def _name(row: NodeCost) -> Hashable:
    return row.nodes, row.kind


def _place(row: NodeCost) -> Hashable:
    return row.place


def _kind(row: NodeCost) -> Hashable:
    return row.kind


_WAYS: tuple[tuple[Key, ...], ...] = ((_name, _place, _kind), (_place, _name, _kind))
"""Keys by which rows are aligned; each works in the gaps that the one before left."""


def match_nodes(before: Sequence[NodeCost], after: Sequence[NodeCost]) -> list[Pair]:
    """Positions of the rows that are the same, ascending in `after`; the others were removed or added."""
    whole = range(len(before)), range(len(after))
    pairs = max((_aligned(before, after, *whole, keys) for keys in _WAYS), key=len)
    pairs += _moved(before, after, pairs, lambda row: row.nodes)
    pairs += _moved(before, after, pairs, lambda row: (row.kind,))
    pairs += _beside(before, after, pairs)
    return sorted(pairs, key=lambda pair: pair[1])


def _aligned(
    before: Sequence[NodeCost], after: Sequence[NodeCost], left: range, right: range, keys: Sequence[Key]
) -> list[Pair]:
    """The longest common subsequence by the first key, and in its gaps by the next ones."""
    if not keys or not left or not right:
        return []
    numbers: dict[Hashable, int] = {}
    key, *others = keys
    first = [numbers.setdefault(key(before[row]), len(numbers)) for row in left]
    second = [numbers.setdefault(key(after[row]), len(numbers)) for row in right]
    pairs: list[Pair] = []
    done_left, done_right = left.start, right.start
    # The last block of rapidfuzz is empty and stands behind the end: it closes the last gap.
    for block in LCSseq.opcodes(first, second).as_matching_blocks():
        start, other = left.start + block.a, right.start + block.b
        gap = range(done_left, start), range(done_right, other)
        pairs += _aligned(before, after, *gap, others)
        pairs += zip(range(start, start + block.size), range(other, other + block.size), strict=True)
        done_left, done_right = start + block.size, other + block.size
    return pairs


def _moved(
    before: Sequence[NodeCost],
    after: Sequence[NodeCost],
    pairs: Sequence[Pair],
    marks: Callable[[NodeCost], Sequence[str]],
) -> list[Pair]:
    """Pairs among what is left, of the first rows with a mark in common, wherever they stand."""
    free_before, free_after = _left(before, after, pairs)
    waiting: dict[str, list[int]] = {}
    for row in free_before:
        for mark in marks(before[row]):
            waiting.setdefault(mark, []).append(row)
    used: set[int] = set()
    found = []
    for row in free_after:
        candidates = (other for mark in marks(after[row]) for other in waiting.get(mark, ()))
        other = next((candidate for candidate in candidates if candidate not in used), None)
        if other is not None:
            used.add(other)
            found.append((other, row))
    return found


def _beside(before: Sequence[NodeCost], after: Sequence[NodeCost], pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Pairs of rows that stand, equally many, behind the same pair."""
    free_before, free_after = _left(before, after, pairs)
    behind = dict(pairs)
    gaps: dict[int, tuple[list[int], list[int]]] = {}
    for row in free_before:
        anchor = next((other for other in range(row - 1, -1, -1) if other in behind), -1)
        gaps.setdefault(behind.get(anchor, -1), ([], []))[0].append(row)
    matched = set(behind.values())
    for row in free_after:
        anchor = next((other for other in range(row - 1, -1, -1) if other in matched), -1)
        gaps.setdefault(anchor, ([], []))[1].append(row)
    for left, right in gaps.values():
        if len(left) == len(right):
            yield from zip(left, right, strict=True)


def _left(
    before: Sequence[NodeCost], after: Sequence[NodeCost], pairs: Sequence[Pair]
) -> tuple[list[int], list[int]]:
    """Rows without a pair."""
    first, second = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    return (
        [row for row in range(len(before)) if row not in first],
        [row for row in range(len(after)) if row not in second],
    )
