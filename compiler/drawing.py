"""The partition graph in Graphviz's language: stages as boxes by node, what they send as edges."""

from collections.abc import Iterator
from textwrap import wrap

from chiplan.ir import Plan, Unit

from .plan_summary import (
    EdgeSummary,
    StageSummary,
    binding_bounds,
    precision_words,
    summarise_edges,
    summarise_stages,
)
from .quantities import counted, duration, grouped, share, size

_LETTERS = 100
"""Of a line of the title."""


def partition_dot(plan: Plan) -> str:
    """The partition graph as a DOT document, a cluster a node. Names are escaped."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield f"digraph {_quoted(plan.graph.name)} {{"
    yield f"  label={_quoted(*_title(plan))};"
    yield '  labelloc="t"; fontname="Helvetica"; rankdir="TB";'
    yield '  node [shape="box", style="rounded", fontname="Helvetica", fontsize="11"];'
    yield '  edge [fontname="Helvetica", fontsize="10"];'
    stages = summarise_stages(plan)
    node_of = plan.target.topology.node_of
    for node in sorted({node_of[stage.chips[0]] for stage in stages}):
        yield f'  subgraph "cluster_{node}" {{'
        yield f'    label="node {node}"; style="dashed";'
        for stage in stages:
            if node_of[stage.chips[0]] == node:
                yield f"    s{stage.index} [label={_quoted(*_stage_label(plan, stage))}];"
        yield "  }"
    for edge in summarise_edges(plan):
        yield f"  s{edge.source} -> s{edge.destination} [label={_quoted(*edge_label(edge))}];"
    yield "}"


def _title(plan: Plan) -> tuple[str, ...]:
    clock = plan.target.chip.clock_hz
    return (
        f"{plan.graph.name} on {plan.target.name} ({precision_words(plan)}, simulated)",
        f"interval {grouped(plan.interval)} cycles, {duration(plan.interval, clock)}",
        f"latency {grouped(plan.latency)} cycles, {duration(plan.latency, clock)}",
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


def stage_title(stage: StageSummary) -> str:
    """The stage and the chips that run it."""
    chips = ", ".join(str(chip) for chip in stage.chips)
    return f"stage {stage.index} on {'chips' if len(stage.chips) > 1 else 'chip'} {chips}"


def edge_label(edge: EdgeSummary) -> tuple[str, ...]:
    """What crosses, and over how much of the system."""
    carried = f"{size(edge.nbytes)}, {grouped(edge.cycles)} cycles"
    return carried, f"{counted(edge.links, 'link')}, {counted(edge.hops, 'hop')}"


def _stage_label(plan: Plan, stage: StageSummary) -> tuple[str, ...]:
    usable = plan.target.chip.usable_bytes
    use = (f"{unit.value} {share(stage.busy[unit], plan.interval)}" for unit in Unit)
    return (
        stage_title(stage),
        f"{counted(stage.operators, 'operator')}, {counted(stage.tiles, 'tile')}",
        f"{stage.first_node} .. {stage.last_node}",
        f"weights {size(stage.weight_bytes)}, SRAM {share(stage.sram_bytes, usable)}",
        ", ".join(use),
    )
