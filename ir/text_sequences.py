"""A column of integers as a few runs: `8+2x4+100x3` is 8 10 12 14, then the same 100 and 200 later.

    run   = first { sign step "x" count | "x" count }      innermost loop first; `x3` repeats
    column = run { "," run }

Every column has such a form; one that follows a loop nest, as cycles and places of tiles do, is short.
"""

import re
from collections.abc import Sequence
from math import prod

import numpy as np

from .text_lexer import MOST_DIGITS, Line

_LOOP = re.compile(r"([+-]\d+)?x(\d+)")
_LEVELS = 8
MOST_ROWS = 2**24
"""Rows of a column; a text that claims more is refused."""
Loops = tuple[tuple[int, int], ...]
"""(step, count) of the loops of a run, innermost first."""


def column_text(column: np.ndarray) -> str:
    """`column` (integers, one-dimensional) in runs; an empty one is `none`."""
    if not column.size:
        return "none"
    values = column.astype(np.int64)
    if (values == values[0]).all():
        return _run_text(int(values[0]), ((0, len(values)),))
    firsts, kinds = values, np.zeros(len(values), dtype=np.int64)
    shapes: list[Loops] = [()]
    for _ in range(_LEVELS):
        merged = _merge(firsts, kinds)
        if len(merged[0]) == len(firsts):
            break
        starts, steps, counts = merged
        keys, inverse = np.unique(np.stack([kinds[starts], steps, counts]), axis=1, return_inverse=True)
        shapes = [
            (*shapes[kind], (step, count)) if count > 1 else shapes[kind]
            for kind, step, count in keys.T.tolist()
        ]
        firsts, kinds = firsts[starts], inverse.reshape(-1)
    return ", ".join(
        _item_text(first, shapes[kind]) for first, kind in zip(firsts.tolist(), kinds.tolist(), strict=True)
    )


def _merge(firsts: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbours of one kind whose firsts grow evenly, taken together from the left, each as long as it
    goes: positions of the first of each, steps and counts."""
    count = len(firsts)
    difference, alike = np.diff(firsts), kinds[1:] == kinds[:-1]
    begins = np.ones(count - 1, dtype=bool)
    begins[1:] = (difference[1:] != difference[:-1]) | ~alike[1:] | ~alike[:-1]
    low = np.flatnonzero(begins)
    high = np.append(low[1:], count - 1)
    stolen = _stolen(high - low, alike[low])
    taken = alike[low] & (high - low > stolen)
    start, length = (low + stolen)[taken], (high - low - stolen + 1)[taken]
    # Elements of no run stand alone: a run of one.
    covered = np.zeros(count + 1, dtype=np.int64)
    covered[start], ends = covered[start] + 1, start + length
    covered[ends] -= 1
    alone = np.flatnonzero(np.cumsum(covered[:-1]) == 0)
    starts = np.concatenate([start, alone])
    steps = np.concatenate([difference[low][taken], np.zeros(len(alone), dtype=np.int64)])
    counts = np.concatenate([length, np.ones(len(alone), dtype=np.int64)])
    order = np.argsort(starts, kind="stable")
    return starts[order], steps[order], counts[order]


def _stolen(lengths: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Of stretches of equal differences, whether the first element of each ended the run before it (0 or
    1). A stretch of two or more always makes a run, one between kinds never; single ones take turns."""
    anchors = (lengths != 1) | ~alike
    index = np.arange(len(lengths))
    anchor = np.maximum.accumulate(np.where(anchors, index, -1))
    after_anchor = np.where(anchor >= 0, alike[anchor], False).astype(np.int64)
    after = after_anchor ^ ((index - anchor) & 1)
    return np.concatenate([[0], after[:-1]])


def _item_text(first: int, loops: Loops) -> str:
    # Two numbers are shorter, and easier to read, than a run of two.
    if len(loops) == 1 and loops[0][1] == 2 and loops[0][0]:
        return f"{first}, {first + loops[0][0]}"
    return _run_text(first, loops)


def _run_text(first: int, loops: Loops) -> str:
    ways = [f"{step:+d}x{count}" if step else f"x{count}" for step, count in loops if count > 1]
    return f"{first}{''.join(ways)}"


def read_column(line: Line) -> np.ndarray:
    """The column, int64, at the cursor. Raises BadInput, also for one of more than MOST_ROWS rows."""
    if line.accept("none"):
        return np.zeros(0, dtype=np.int64)
    runs: Sequence[np.ndarray] = line.items(lambda: _read_run(line))
    if sum(map(len, runs)) > MOST_ROWS:
        raise line.refusal(f"a column of at most {MOST_ROWS} rows")
    return np.concatenate(runs)


def _read_run(line: Line) -> np.ndarray:
    if line.peek().kind == "whole":
        return np.array([line.integer()], dtype=np.int64)
    text = line.take("run", "a number or a run such as 8+2x4")
    if max(map(len, re.findall(r"\d+", text))) > MOST_DIGITS:
        raise line.refusal("a run of numbers of 64 bits", text)
    head = re.match(r"-?\d+", text)
    assert head is not None
    loops = [(int(step or 0), int(count)) for step, count in _LOOP.findall(text[head.end() :])]
    spans = [step * (count - 1) for step, count in loops]
    first = int(head.group())
    least, most = first + sum(s for s in spans if s < 0), first + sum(s for s in spans if s > 0)
    if prod(count for _, count in loops) > MOST_ROWS or least < -(2**63) or most >= 2**63:
        raise line.refusal(f"a run of at most {MOST_ROWS} numbers of 64 bits", text)
    column = np.array([first], dtype=np.int64)
    for step, count in loops:
        column = (column[None, :] + step * np.arange(count, dtype=np.int64)[:, None]).reshape(-1)
    return column
