"""Exchanges inside a group: which chip sends which elements to whom, and when all chips have them.

Every leg is cut into chunks that leave as their elements are made. Chunk k of all pairs of chips
comes before chunk k + 1, destinations are rotated, so that no chip's links starve. Where chips have
no direct link, a gathered piece may be passed on from neighbour to neighbour.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from chiplan.ir import Exchange, ExchangeKind, Own, Reshape, Tensor, View, mesh_peers

from .forwarding import Handover, all_to_all
from .link_patterns import LinkPatterns
from .links import LinkScheduler
from .movements import Leg, Moved, arrival_map
from .ready_times import ReadyMap, constant_map, map_step, range_maximum

_CHUNKS, _MOST_CHUNKS = 16, 64
"""Chunks of a piece, and of a large one: more use the routes more evenly and leave less for the end, and
take longer to schedule."""
_LEGS, _MOST_LEGS, _FEWEST_CHUNKS = 800, 8_000, 4
"""Chunks that all pairs of chips together send in one exchange, in a long one, and each pair at the least."""
_LONG_CHUNK = 1_000
"""Cycles on a link beyond which a chunk is cut: a few times what it takes to reach another chip."""


class Part(NamedTuple):
    """Elements [first, last) of the source go to element `at` and on of the target; made at cycle `ready`.
    sender and receiver are positions along the exchange's axes."""

    sender: int
    receiver: int
    first: int
    last: int
    at: int
    ready: int


def reads_own_piece(exchange: Exchange, view: View, ways: int) -> bool:
    """Whether a chip that looks at an exchange's target through `view` sees what it wrote itself."""
    mine = Own(0, exchange.axes, ways)
    return exchange.kind is ExchangeKind.GATHER and view[:1] == (mine,)


def run_exchange(
    exchange: Exchange,
    tensors: Mapping[str, Tensor],
    group: tuple[Sequence[int], tuple[int, ...]],
    ready: ReadyMap,
    links: LinkScheduler | None,
) -> Moved:
    """Schedule an exchange between the chips of a group, given as (chips, mesh), whose source is made as
    `ready` says; raises NoRoom.

    Without `links` everything is there as soon as it is made: what no schedule beats.
    """
    source, target = tensors[exchange.source], tensors[exchange.target]
    chips, mesh = group
    sets = [[chips[rank] for rank in ranks] for ranks in mesh_peers(mesh, exchange.axes)]
    ways = len(sets[0])
    piece = source.elements if exchange.kind is ExchangeKind.SHIFT else -(-source.elements // ways)
    pairs = len(sets) * ways * (ways - 1)
    size = _chunk_elements(source, piece, pairs, links) if links else max(1, -(-piece // _CHUNKS))
    flat = map_step(ready, Reshape((source.elements,)))
    parts = [_parts(exchange, (source, target), flat, size, peers, links) for peers in sets]
    if not parts[0]:
        return Moved(None, constant_map(target.shape, int(ready.cycles.max())))
    if links is None:
        made = np.array([(part.at, part.last - part.first, part.ready) for part in parts[0]])
        return Moved(None, arrival_map(target, *made.T))
    forwarded = exchange.kind is ExchangeKind.GATHER
    moved = links.carry(_legs(parts, sets, forwarded), source, target.name, divide=True)
    return Moved(moved, arrival_map(target, moved.at, moved.last - moved.first, moved.arrival))


def _chunk_elements(tensor: Tensor, piece: int, pairs: int, links: LinkScheduler) -> int:
    """Elements of a chunk of a piece that each of so many pairs of chips sends."""
    cycles = piece * tensor.dtype.itemsize // links.rule.flit_bytes * links.rule.cycles_per_flit
    usual = max(_FEWEST_CHUNKS, min(_CHUNKS, _LEGS // pairs))
    most = max(usual, min(_MOST_CHUNKS, _MOST_LEGS // pairs, cycles // _LONG_CHUNK))
    return links.chunk_elements(tensor, piece, most)


def exchange_by_pattern(
    exchange: Exchange,
    tensors: Mapping[str, Tensor],
    group: tuple[tuple[int, ...], tuple[int, ...]],
    ready: ReadyMap,
    links: LinkScheduler,
    patterns: LinkPatterns,
) -> Moved:
    """The same as `run_exchange`, once for all groups that are wired alike; raises NoRoom."""
    chips, mesh = group
    source, target = tensors[exchange.source], tensors[exchange.target]

    def draw(places: tuple[int, ...], made: ReadyMap, on: LinkScheduler) -> Moved:
        return run_exchange(exchange, tensors, (places, mesh), made, on)

    structure = (exchange.kind, exchange.axes, exchange.by, mesh, source.dtype, source.shape, target.shape)
    return patterns.move(structure, chips, ready, links, (source.name, target.name), draw)


def _parts(
    exchange: Exchange,
    tensors: tuple[Tensor, Tensor],
    flat: ReadyMap,
    size: int,
    peers: Sequence[int],
    links: LinkScheduler | None,
) -> list[Part]:
    """What goes where among one set of peers, in the order in which it is sent."""
    source, target = tensors
    match exchange.kind:
        case ExchangeKind.GATHER:
            spread = (
                all_to_all(peers, links.router)
                if links
                else [[Handover(c, d) for d in range(len(peers)) if d != c] for c in range(len(peers))]
            )
            return _gather_parts(source.elements // len(peers), spread, flat, size)
        case ExchangeKind.SCATTER:
            return _scatter_parts(source.elements, target.shape[-1], len(peers), flat, size)
        case ExchangeKind.SHIFT:
            return _shift_parts(source.elements, exchange.by, len(peers), flat, size)


def _gather_parts(piece: int, spread: list[list[Handover]], flat: ReadyMap, size: int) -> list[Part]:
    ways = len(spread)
    firsts, lasts = _chunks(piece, size)
    owners = np.arange(ways)[:, None] * piece
    cycles = range_maximum(flat, (owners + firsts).ravel(), (owners + lasts).ravel()).reshape(ways, -1)
    parts = [
        Part(*spread[c][step], c * piece + low, c * piece + high, c * piece + low, int(cycles[c, k]))
        for k, (low, high) in enumerate(zip(firsts.tolist(), lasts.tolist(), strict=True))
        for step in range(ways - 1)
        for c in range(ways)
    ]
    # What is made early goes early; a chunk that is passed on keeps its order.
    return sorted(parts, key=lambda part: part.ready)


def _scatter_parts(elements: int, part: int, ways: int, flat: ReadyMap, size: int) -> list[Part]:
    parts = []
    for d in range(ways):
        firsts, lasts = _chunks(min(part, elements - d * part), size)
        if not len(firsts):
            continue
        cycles = range_maximum(flat, d * part + firsts, d * part + lasts).tolist()
        for low, high, cycle in zip(firsts.tolist(), lasts.tolist(), cycles, strict=True):
            for row in range(ways - 1):
                c = (d + row + 1) % ways
                parts.append(Part(c, d, d * part + low, d * part + high, row * part + low, cycle))
    # What is made early goes early; at the same cycle chunk by chunk, so that all chips send all the time.
    return sorted(parts, key=lambda p: (p.ready, p.at % part, p.at, p.receiver))


def _shift_parts(elements: int, by: int, ways: int, flat: ReadyMap, size: int) -> list[Part]:
    firsts, lasts = _chunks(elements, size)
    cycles = range_maximum(flat, firsts, lasts).tolist()
    return [
        Part(c, (c + by) % ways, low, high, low, cycle)
        for low, high, cycle in zip(firsts.tolist(), lasts.tolist(), cycles, strict=True)
        for c in range(ways)
        if by % ways
    ]


def _chunks(elements: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    firsts = np.arange(0, max(0, elements), size)
    return firsts, np.minimum(firsts + size, elements)


def _legs(parts: Sequence[Sequence[Part]], sets: Sequence[Sequence[int]], forwarded: bool) -> list[Leg]:
    """The parts of all sets of peers in turn. What a chip passes on (`forwarded`: a chip sends what it
    has not made) leaves when it has arrived there."""
    brought: dict[tuple[int, int, int], int] = {}
    legs: list[Leg] = []
    for together in zip(*parts, strict=True):
        for number, (peers, part) in enumerate(zip(sets, together, strict=True)):
            after = brought.get((number, part.at, part.sender), -1) if forwarded else -1
            brought[number, part.at, part.receiver] = len(legs)
            ends = peers[part.sender], peers[part.receiver]
            legs.append(Leg(*ends, part.first, part.last, part.at, part.ready, after))
    return legs
