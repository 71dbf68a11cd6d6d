"""Rules of the verifier: what the chips of a group send each other."""

from collections.abc import Iterator

from .graph import Graph
from .mesh import Exchange, ExchangeKind
from .verify_broken import Broken
from .verify_tensors import distinct


def _place(exchange: Exchange) -> str:
    return f"{exchange.kind.value} into {exchange.target!a}"


def exchange_targets(graph: Graph) -> Iterator[Broken]:
    """What is exchanged are tensors of the graph, and no two exchanges fill one."""
    seen: set[str] = set()
    for exchange in graph.exchanges:
        needed = [exchange.target]
        # A gather's source is a piece that no chip need hold by itself.
        needed += [exchange.source] if exchange.kind is not ExchangeKind.GATHER else []
        for name in needed:
            if name not in graph.tensors:
                yield Broken(_place(exchange), "a tensor of the graph", f"{name!a}")
        if exchange.target in seen:
            yield Broken(_place(exchange), "a target of one exchange", "another exchange into it")
        seen.add(exchange.target)


def exchange_axes(graph: Graph) -> Iterator[Broken]:
    """An exchange runs along distinct axes of a mesh."""
    for exchange in graph.exchanges:
        if not exchange.axes or not distinct(exchange.axes):
            yield Broken(_place(exchange), "distinct mesh axes", f"{exchange.axes}")


def exchange_circles(graph: Graph) -> Iterator[Broken]:
    """Nothing is moved in a circle."""
    moves = {e.target: e.source for e in graph.exchanges if e.kind is not ExchangeKind.GATHER}
    for exchange in graph.exchanges:
        source, steps = exchange.target, 0
        while source in moves and steps <= len(moves):
            source, steps = moves[source], steps + 1
        if steps > len(moves):
            yield Broken(_place(exchange), "a source that does not come from the target", "a circle")


def exchange_shapes(graph: Graph) -> Iterator[Broken]:
    """Both ends hold elements of one type, as many as the kind of exchange moves."""
    for exchange in graph.exchanges:
        target = graph.tensors[exchange.target]
        source = graph.tensors.get(exchange.source, target)
        if source.dtype is not target.dtype:
            yield Broken(_place(exchange), f"elements of {source.dtype.value}", target.dtype.value)
        elif exchange.kind is ExchangeKind.SHIFT and source.shape != target.shape:
            yield Broken(_place(exchange), f"the shape {source.shape}", f"{target.shape}")
        elif exchange.kind is ExchangeKind.SCATTER:
            rows, part = target.shape if len(target.shape) == 2 else (0, 0)
            if not rows or (rows + 1) * part < source.elements:
                expected = f"a row for every other chip, together with its own {source.elements} elements"
                yield Broken(_place(exchange), expected, f"the shape {target.shape}")
