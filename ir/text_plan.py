"""A plan in the text form: figures, graph, stages, transfers, buffers, what was proved, the target.

    plan    = "plan" fields graph { stage { program } } { send } { hold } { record } target { constant }
    record  = field name of the plan, then the value that the codec makes of one entry
    target  = "target" field { "target" field } { "source" text } { column }

Every line says by its first word what it is. Lines that begin with # are notes and mean nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import get_args, get_origin, get_type_hints

import numpy as np

from .codec import Codec
from .graph import Graph
from .plan import Plan, Stage
from .plan_columns import CHIPS, LINKS
from .target import Target, Topology
from .text_buffers import buffer_lines
from .text_columns import columns_text
from .text_folding import fold_lines
from .text_graph import constant_lines, graph_lines
from .text_names import quoted
from .text_stages import OperatorNames, stage_lines
from .text_transfers import Wiring, transfer_lines
from .text_values import fields_text, value_text

_HINTS = get_type_hints(Plan)
_APART = {"target", "graph", "stages", "transfers", "hops", "buffers", "tensor_names"}
RECORDS = tuple(f.name for f in fields(Plan) if get_origin(_HINTS[f.name]) is tuple and f.name not in _APART)
"""Fields of a plan with an entry a line: bounds, certificates, ..."""
FIGURES = tuple(f.name for f in fields(Plan) if f.name not in _APART and f.name not in RECORDS)
WRITTEN = {"latency": "program_latency", "interval": "program_interval"}
"""Figures of the chips' programs alone, which are called otherwise: pages show all that passes."""
CODECS = {name: Codec(get_args(_HINTS[name])[0]) for name in RECORDS} | {
    name: Codec(_HINTS[name]) for name in FIGURES
}
TARGET = Codec(Target, omitted={Topology: {"links": (), "node_of": (), "rack_of": ()}})


def plan_text(plan: Plan) -> str:
    """`plan` as text; `read_plan_text` gives it back."""
    lines = [
        figures_line(plan),
        *graph_lines(plan.graph),
        *stages_lines(plan.graph, enumerate(plan.stages)),
        *sent_lines(plan),
        *held_lines(plan),
        *record_lines(plan),
        *target_lines(plan.target),
        *constant_lines(plan.graph),
    ]
    return "\n".join(lines) + "\n"


def stages_text(graph: Graph, stages: Sequence[Stage]) -> str:
    """A graph and the programs of stages that execute it; `read_stages` gives both back."""
    lines = [*graph_lines(graph), *stages_lines(graph, enumerate(stages)), *constant_lines(graph)]
    return "\n".join(lines) + "\n"


def figures_line(plan: Plan) -> str:
    figures = {WRITTEN.get(name, name): CODECS[name].encode(getattr(plan, name)) for name in FIGURES}
    return "plan " + fields_text(figures)


def stages_lines(graph: Graph, stages: Iterable[tuple[int, Stage]]) -> list[str]:
    """Numbered stages and their programs, equal ones folded."""
    names = OperatorNames(graph.operators)
    lines = [line for number, stage in stages for line in stage_lines(number, stage, names)]
    return fold_lines(lines, numbers=True)


def sent_lines(plan: Plan, rows: np.ndarray | None = None) -> list[str]:
    """Transfers, all or those of some rows."""
    dtypes = [plan.graph.tensors[name].dtype for name in plan.tensor_names]
    return fold_lines(list(transfer_lines(plan, Wiring(plan.target, dtypes), rows)), numbers=True)


def held_lines(plan: Plan, rows: np.ndarray | None = None) -> list[str]:
    """Buffers, all or those of some rows."""
    return fold_lines(
        list(buffer_lines(plan.buffers, plan.tensor_names, plan.graph.tensors, rows)), numbers=True
    )


def record_lines(plan: Plan) -> list[str]:
    """What was asked, assumed and proved, an entry a line."""
    entries = [(name, CODECS[name].encode(entry)) for name in RECORDS for entry in getattr(plan, name)]
    lines = [f"{name} {value_text(entry)}" for name, entry in entries]
    return fold_lines(lines, numbers=True)


def target_lines(target: Target) -> list[str]:
    """The target: its fields, its wiring, and the text that it came from."""
    content = TARGET.encode(target)
    sources = content.pop("sources")
    topology = target.topology
    links = np.array(topology.links, dtype=np.int64).reshape(-1, 3)
    wires = {name: links[:, place] for place, (name, _) in enumerate(LINKS)}
    chips = {"node": np.array(topology.node_of), "rack": np.array(topology.rack_of)}
    return [
        *(f"target {fields_text({name: value})}" for name, value in content.items()),
        *columns_text("wires", LINKS, wires),
        *columns_text("chips", CHIPS, chips),
        *(f"source {quoted(line)}" for line in sources.split("\n")),
    ]
