"""Rules of the verifier: where values come from, and in which order."""

from collections.abc import Iterator
from itertools import combinations
from math import prod

from .graph import Graph, Operator, Result, Role
from .verify_broken import Broken, place_of
from .verify_operators import written_box


def graph_inputs(graph: Graph) -> Iterator[Broken]:
    """The inputs are the tensors that are given with every micro-batch, each once."""
    given = sorted(name for name, tensor in graph.tensors.items() if tensor.role is Role.INPUT)
    if sorted(graph.inputs) != given:
        yield Broken("inputs", f"the input tensors {given}", f"{sorted(graph.inputs)}")


def cache_states(graph: Graph) -> Iterator[Broken]:
    """A pair of past and present is held in a state, along one of its axes."""
    for state in graph.states:
        place, tensor = place_of("state", state.past), graph.tensors[state.tensor]
        if tensor.role is not Role.STATE:
            yield Broken(place, f"a tensor {state.tensor!a} that is a state", tensor.role.value)
        # The axis is one of the whole tensor, of which a chip may hold a piece of another shape.
        if not 0 <= state.axis < len(tensor.whole_shape):
            yield Broken(place, f"an axis of the shape {tensor.whole_shape}", f"{state.axis}")


def writers_write_values(graph: Graph) -> Iterator[Broken]:
    """Inputs and weights are given; operators write values and states."""
    for operator in graph.operators:
        for result in operator.results:
            role = graph.tensors[result.tensor].role
            if role in (Role.INPUT, Role.WEIGHT):
                place = place_of("operator", operator.name)
                yield Broken(place, "a result that is a value or a state", f"{role.value} {result.tensor!a}")


def values_have_writers(graph: Graph) -> Iterator[Broken]:
    """Every value that is read or given out is written, or comes from other chips."""
    made = {result.tensor for operator in graph.operators for result in operator.results}
    made |= {exchange.target for exchange in graph.exchanges}
    for name in _read(graph):
        if graph.tensors[name].role is Role.VALUE and name not in made:
            yield Broken(place_of("tensor", name), "an operator or an exchange that makes it", "none")


def _read(graph: Graph) -> dict[str, None]:
    operands = (operand.tensor for operator in graph.operators for operand in operator.operands)
    return dict.fromkeys([*operands, *(output.tensor for output in graph.outputs)])


def operators_in_order(graph: Graph) -> Iterator[Broken]:
    """An operator comes behind all that write what it reads."""
    last = {r.tensor: n for n, operator in enumerate(graph.operators) for r in operator.results}
    for exchange in graph.exchanges:
        last.setdefault(exchange.target, last.get(exchange.source, -1))
    for number, operator in enumerate(graph.operators):
        written = {result.tensor for result in operator.results}
        for operand in operator.operands:
            writer = last.get(operand.tensor, -1)
            if writer > number and operand.tensor not in written:
                expected = f"a place behind {graph.operators[writer].name!a}, which writes {operand.tensor!a}"
                yield Broken(place_of("operator", operator.name), expected, f"place {number}")


def results_apart(graph: Graph) -> Iterator[Broken]:
    """No element is written twice on one chip."""
    for name, written in _writers(graph).items():
        for (first, one), (second, other) in combinations(written, 2):
            box, beside = written_box(one, first), written_box(other, second)
            meet = all(max(a[0], b[0]) < min(a[1], b[1]) for a, b in zip(box, beside, strict=True))
            if meet and one.only == other.only:
                expected = f"a box of {name!a} apart from {box} of {first.name!a}"
                yield Broken(place_of("operator", second.name), expected, f"{beside}")


def results_cover(graph: Graph) -> Iterator[Broken]:
    """All elements of a value are written, if no chip brings some of them."""
    brought = {exchange.target for exchange in graph.exchanges}
    for name, written in _writers(graph).items():
        tensor = graph.tensors[name]
        partly = any(result.own or result.only for _, result in written)
        if tensor.role is not Role.VALUE or partly or name in brought:
            continue
        elements = sum(
            prod(high - low for low, high in written_box(result, operator)) for operator, result in written
        )
        if elements < tensor.elements:
            expected = f"{tensor.elements} elements written"
            yield Broken(place_of("tensor", name), expected, f"{elements}")


def _writers(graph: Graph) -> dict[str, list[tuple[Operator, Result]]]:
    writers: dict[str, list[tuple[Operator, Result]]] = {}
    for operator in graph.operators:
        for result in operator.results:
            writers.setdefault(result.tensor, []).append((operator, result))
    return writers
