"""Which chips a cable joins, and at which ports: the regular topologies.

A cable stands for two directed links. A chip's ports are numbered from zero in the order of the chips
at the other end; parallel cables take neighbouring ports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from chiplan.ir import BadInput, Problem

MOST_CHIPS = 65_536
MOST_LINKS = 4_000_000


@dataclass(frozen=True)
class Cables:
    """`ends` is int64[cables, 4]: chip a, port of a, chip b, port of b."""

    chips: int
    ends: np.ndarray


class ParameterRefused(BadInput):
    """A parameter that no system can be built from. `path` leads to it: ("edges", 3)."""

    def __init__(self, message: str, *path: str | int) -> None:
        self.path = path
        self.message = message
        named = "".join(f"[{part}]" if isinstance(part, int) else part for part in path)
        super().__init__(Problem("target_value", f"topology parameter {named}: {message}"))


def refuse_too_many(parameter: str, chips: int, links: int) -> None:
    """Raises ParameterRefused before anything of that size is allocated."""
    if chips > MOST_CHIPS:
        raise ParameterRefused(f"makes {chips:,} chips; at most {MOST_CHIPS:,} can be planned", parameter)
    if links > MOST_LINKS:
        raise ParameterRefused(f"makes {links:,} links; at most {MOST_LINKS:,} can be planned", parameter)


def number_ports(chips: int, pairs: np.ndarray) -> Cables:
    """Cables between `pairs` of chips, int64[cables, 2], with ports in the order of the far chips."""
    count = len(pairs)
    near, far = pairs.T.ravel(), pairs[:, ::-1].T.ravel()
    order = np.lexsort((np.tile(np.arange(count), 2), far, near))
    ports_of_chip = np.bincount(near, minlength=chips)
    first = ports_of_chip.cumsum() - ports_of_chip
    ports = np.empty(2 * count, dtype=np.int64)
    ports[order] = np.arange(2 * count) - first[near[order]]
    return Cables(chips, np.column_stack([pairs[:, 0], ports[:count], pairs[:, 1], ports[count:]]))


def clique_pairs(chips: int) -> np.ndarray:
    """Every pair of `chips` chips once, int64[pairs, 2]."""
    return np.column_stack(np.triu_indices(chips, 1)).astype(np.int64)


def clique(chips: int) -> Cables:
    """One cable between any two chips."""
    refuse_too_many("chips", chips, chips * (chips - 1))
    return number_ports(chips, clique_pairs(chips))


def ring(chips: int) -> Cables:
    """Chip i to chip i + 1, and the last to the first; two chips have one cable."""
    refuse_too_many("chips", chips, 2 * chips)
    return torus((chips,))


def mesh(dims: Sequence[int]) -> Cables:
    """A grid of these extents, chips in row-major order (the last dimension varies fastest)."""
    refuse_too_many("dims", prod(dims), 2 * len(dims) * prod(dims))
    grid = np.arange(prod(dims), dtype=np.int64).reshape(dims)
    return number_ports(grid.size, np.concatenate([_steps(grid, axis) for axis in range(grid.ndim)]))


def torus(dims: Sequence[int]) -> Cables:
    """A mesh whose rows close. A row of two chips has one cable between them, not two."""
    refuse_too_many("dims", prod(dims), 2 * len(dims) * prod(dims))
    grid = np.arange(prod(dims), dtype=np.int64).reshape(dims)
    steps = [_steps(grid, axis) for axis in range(grid.ndim)]
    closures = [_closures(grid, axis) for axis in range(grid.ndim) if grid.shape[axis] > 2]
    return number_ports(grid.size, np.concatenate(steps + closures))


def edges(chips: int, edges: Sequence[Sequence[int]]) -> Cables:
    """One cable a listed pair; a pair that is listed twice has two. Every chip must be reachable."""
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    refuse_too_many("chips", chips, 2 * len(pairs))
    unknown = (pairs < 0) | (pairs >= chips)
    _refuse_pair(pairs, unknown[:, 0] | unknown[:, 1], f"two chips from 0 to {chips - 1} (chips = {chips})")
    _refuse_pair(pairs, pairs[:, 0] == pairs[:, 1], "two different chips")
    lost = sorted(set(range(chips)) - _reached(pairs))
    if lost:
        raise ParameterRefused(
            f"chip {lost[0]} cannot be reached from chip 0 ({len(lost):,} such); add cables, or lower chips",
            "edges",
        )
    return number_ports(chips, pairs)


def _refuse_pair(pairs: np.ndarray, wrong: np.ndarray, expected: str) -> None:
    for index in np.flatnonzero(wrong)[:1].tolist():
        raise ParameterRefused(f"expected {expected}, found {pairs[index].tolist()}", "edges", index)


def _reached(pairs: np.ndarray) -> set[int]:
    """Chips that have a way to chip 0."""
    neighbours: dict[int, list[int]] = {}
    for near, far in pairs.tolist():
        neighbours.setdefault(near, []).append(far)
        neighbours.setdefault(far, []).append(near)
    seen, waiting = {0}, [0]
    while waiting:
        new = set(neighbours.get(waiting.pop(), ())) - seen
        seen |= new
        waiting.extend(new)
    return seen


def _steps(grid: np.ndarray, axis: int) -> np.ndarray:
    """Pairs of neighbours along one axis."""
    rows = np.moveaxis(grid, axis, 0)
    return np.column_stack([rows[:-1].ravel(), rows[1:].ravel()])


def _closures(grid: np.ndarray, axis: int) -> np.ndarray:
    """Pairs (first, last) along one axis."""
    rows = np.moveaxis(grid, axis, 0)
    return np.column_stack([rows[0].ravel(), rows[-1].ravel()])
