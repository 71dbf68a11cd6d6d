"""The partition graph in Graphviz's language: stages as boxes by node, what they send as edges."""

from collections.abc import Iterator
from textwrap import wrap

from chiplan.ir import Plan, Unit, plan_elapsed

from .drawing_boxes import (
    StageBox,
    box_title,
    edge_details,
    edge_words,
    inside_words,
    nodes_words,
    partition,
)
from .plan_summary import binding_bounds, precision_words
from .quantities import counted, duration, grouped, share, size

_LETTERS = 100
"""Of a line of the title."""


def partition_dot(plan: Plan) -> str:
    """The partition graph as a DOT document, a cluster for the nodes of each stage. Names are escaped."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield f"digraph {_quoted(plan.graph.name)} {{"
    yield f"  label={_quoted(*_title(plan))};"
    yield '  labelloc="t"; fontname="Helvetica"; rankdir="TB";'
    yield '  node [shape="box", style="rounded", fontname="Helvetica", fontsize="11"];'
    yield '  edge [fontname="Helvetica", fontsize="10"];'
    boxes, edges = partition(plan)
    places = [nodes_words(plan, box) for box in boxes]
    for number, place in enumerate(dict.fromkeys(places)):
        yield f'  subgraph "cluster_{number}" {{'
        yield f'    label={_quoted(place)}; style="dashed";'
        for box, where in zip(boxes, places, strict=True):
            if where == place:
                yield f"    s{box.first.index} [label={_quoted(*_stage_label(plan, box))}];"
        yield "  }"
    for edge in edges:
        ends = f"s{boxes[edge.source].first.index} -> s{boxes[edge.destination].first.index}"
        yield f"  {ends} [label={_quoted(edge_words(edge), edge_details(edge))}];"
    yield "}"


def _title(plan: Plan) -> tuple[str, ...]:
    clock, passed = plan.target.chip.clock_hz, plan_elapsed(plan)
    return (
        f"{plan.graph.name} on {plan.target.name} ({precision_words(plan)}, simulated)",
        f"interval {counted(passed.interval, 'cycle')}, {duration(passed.interval, clock)}",
        f"latency {counted(passed.latency, 'cycle')}, {duration(passed.latency, clock)}",
        *bound_lines(plan, _LETTERS),
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _quoted(*lines: str) -> str:
    """A quoted DOT string; several lines are set flush left."""
    if len(lines) == 1:
        return f'"{_escaped(lines[0])}"'
    return '"' + "".join(f"{_escaped(line)}\\l" for line in lines) + '"'


def bound_lines(plan: Plan, letters: int) -> tuple[str, ...]:
    """The bound that binds of each quantity, in words; lines of at most `letters`."""
    told = (f"{b.quantity} >= {grouped(b.value)}: {b.binding}" for b in binding_bounds(plan))
    return tuple(line for words in told for line in wrap(words, letters, subsequent_indent="   "))


def _stage_label(plan: Plan, box: StageBox) -> tuple[str, ...]:
    stage, usable = box.first, plan.target.chip.usable_bytes
    use = (f"{unit.value} {share(stage.busy[unit], plan.interval)}" for unit in Unit)
    return (
        box_title(box),
        f"{counted(stage.operators, 'operator')}, {counted(stage.tiles, 'tile')}",
        f"{stage.first_node} .. {box.stages[-1].last_node}",
        f"weights {size(stage.weight_bytes)}, SRAM {share(stage.sram_bytes, usable)}",
        ", ".join(use),
        *inside_words(box),
    )
