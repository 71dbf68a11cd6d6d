"""The verifier of graphs: what every graph must be, as a flat list of small rules.

A rule is a function that says what breaks it, and its name is the function's. `SHAPE_RULES` are those that
others, and every reader of a plan, take for granted; `FLOW_RULES` are looked at only where they hold.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .graph import Graph
from .verify_broken import Broken
from .verify_exchanges import exchange_axes, exchange_circles, exchange_shapes, exchange_targets
from .verify_flow import (
    cache_states,
    graph_inputs,
    operators_in_order,
    results_apart,
    results_cover,
    values_have_writers,
    writers_write_values,
)
from .verify_operators import (
    factor_extents,
    instruction_inputs,
    operand_axes,
    operators_do_something,
    own_pieces,
    products,
    result_axes,
    results_inside,
    split_factors,
)
from .verify_tensors import (
    resident_rows,
    tensor_names,
    tensor_shapes,
    tensor_shardings,
    tensors_exist,
    views_apply,
)
from .verify_types import reductions_reduce, result_types, unit_bodies

GraphRule: TypeAlias = Callable[[Graph], Iterator[Broken]]

SHAPE_RULES: tuple[GraphRule, ...] = (
    tensor_names,
    tensor_shapes,
    resident_rows,
    tensor_shardings,
    tensors_exist,
    operators_do_something,
    factor_extents,
    products,
    split_factors,
    instruction_inputs,
    views_apply,
    operand_axes,
    result_axes,
    own_pieces,
    results_inside,
    exchange_targets,
    exchange_axes,
    exchange_circles,
)
FLOW_RULES: tuple[GraphRule, ...] = (
    graph_inputs,
    cache_states,
    writers_write_values,
    values_have_writers,
    operators_in_order,
    results_apart,
    results_cover,
    result_types,
    unit_bodies,
    reductions_reduce,
    exchange_shapes,
)


@dataclass(frozen=True)
class Finding:
    """A rule that is broken, by its name, and what breaks it."""

    rule: str
    place: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: expected {self.expected}, found {self.found} ({self.rule})"


def verify_graph(graph: Graph) -> Iterator[Finding]:
    """What is wrong with a graph; nothing, if it holds."""
    shapes = list(broken_shapes(graph))
    yield from shapes or _findings(FLOW_RULES, graph)


def broken_shapes(graph: Graph) -> Iterator[Finding]:
    """What of a graph refers to nothing, or to what does not fit it."""
    return _findings(SHAPE_RULES, graph)


def _findings(rules: Sequence[GraphRule], graph: Graph) -> Iterator[Finding]:
    for rule in rules:
        for broken in rule(graph):
            yield Finding(rule.__name__, *broken)
