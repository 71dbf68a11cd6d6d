"""The one idea: an operator is a loop nest over named factors.

A nest says which element of each operand and result an iteration touches:
    index along a dimension = offset + sum(stride * factor)
so a product of factors (heads x width) is two terms, a slice is an offset, a convolution's window
is a term for the output position and one for the kernel position, and a broadcast has no term.

The factor law (tested for every rule): split a parallel factor, run the operator on the slices,
and the results are the slices of the whole result; split a reduced factor, and the partial results
combine by its reducer. A factor that is `whole` (the axis of a sort, of a cumulative sum) may not
be split at all.
"""

from dataclasses import dataclass
from enum import Enum


class Reducer(Enum):
    """How partial results of a split reduced factor combine."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True)
class Factor:
    """One loop: `reducer` None is parallel. `whole` may be neither sharded nor tiled.

    `gathered` marks the axis that a data-dependent index selects from: it may be sharded (rows
    that a shard does not hold give zero) but a tile reads the whole of it.
    """

    name: str
    extent: int
    reducer: Reducer | None = None
    whole: bool = False
    gathered: bool = False


@dataclass(frozen=True)
class Axis:
    """Index map of one dimension: offset + sum(stride * factor over `terms`).

    `terms` holds (index into the nest's factors, stride). Empty means that every iteration reads
    index `offset` (extent 1, or broadcast).
    """

    terms: tuple[tuple[int, int], ...] = ()
    offset: int = 0


AxisMap = tuple[Axis, ...]
"""One `Axis` a dimension of an operand or result."""


@dataclass(frozen=True)
class LoopNest:
    """Factors, and the index map of every operand and of every result."""

    factors: tuple[Factor, ...]
    operands: tuple[AxisMap, ...]
    results: tuple[AxisMap, ...]
