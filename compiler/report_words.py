"""What a report says in words and tables: the headline, what binds, stages, proofs, the target."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from chiplan.ir import Plan, Unit, plan_elapsed
from chiplan.runtime_sim import Report, figures

from .cli_summary import ordered_bounds, outside_lines
from .critical_path import time_by_cause
from .plan_folding import fold_edges
from .plan_summary import (
    binding_bounds,
    context_of,
    node_name,
    precision_words,
    reached,
    recomputed_values,
    state_words,
    summarise_links,
    wire_types,
)
from .quantities import (
    counted,
    duration,
    excess,
    grouped,
    groups_words,
    least_and_most,
    ranges,
    rate,
    share,
    size,
)
from .report_source import Source, shown_name

MOST_ROWS = 40
"""Rows of a table, at most."""
LINKS, NODES, STEPS = 10, 10, 6

CAUSES = {
    "matrix": "streaming through matrix units",
    "load": "loading blocks into matrix units",
    "vector": "vector units",
    "switch": "switch units",
    "memory": "memory units",
    "pipeline": "pipelines of the units",
    "link": "sending on links",
    "hops": "transfers on their way over hops",
    "shared": "waiting for units and links that other micro-batches hold",
    "wait": "held back by the schedule",
}
"""Where the cycles of the critical path go, in the order in which they are shown."""


def page_words(source: Source, verdict: Report, sha256: str) -> dict[str, Any]:
    """Everything on the page but the plots, as texts and rows of cells."""
    plan = source.plan
    used = sum(len(stage.chips) for stage in plan.stages)
    return {
        "model": shown_name(plan.graph.name),
        "target": shown_name(plan.target.name),
        "setting": _setting(plan),
        "cards": list(_cards(plan, figures(plan, verdict), used)),
        "sentences": list(_sentences(source)),
        "checked": _checked(plan),
        "causes": _causes(source),
        "path": _path_words(plan),
        "slow_nodes": list(_slow_nodes(source)),
        "stages": (stages := list(_stages(source))),
        "stage_rows": [[row[name] for name in _STAGE_COLUMNS] for row in stages],
        "flows": list(_flows(source)),
        "steps": list(_steps(source)),
        "links": list(_links(plan)),
        "bounds": list(_bounds(plan)),
        "certificates": list(_certificates(plan)),
        "assumptions": [shown_name(line) for line in plan.assumptions],
        "options": [(shown_name(name), shown_name(value)) for name, value in plan.options],
        "recomputed": [
            f"{shown_name(value.node)} on stages {ranges(value.stages)}" for value in recomputed_values(plan)
        ][:MOST_ROWS],
        "target_facts": list(_target_facts(plan)),
        "sources": plan.target.sources,
        "fingerprints": [("model", plan.model_fingerprint), ("plan file, sha256", sha256)],
    }


def _setting(plan: Plan) -> str:
    wires = wire_types(plan)
    sums = f", partial sums travel as {', '.join(wires)}" if wires else ""
    return (
        f"precision {precision_words(plan)}, batch {plan.batch}, sequence {grouped(plan.sequence)}"
        f"{state_words(plan)}, objective {plan.objective}{sums}"
    )


def _cards(plan: Plan, measured: dict[str, Any], used: int) -> Iterator[tuple[str, str, str]]:
    """(what, its figure, what is beside it)."""
    clock, passed = plan.target.chip.clock_hz, plan_elapsed(plan)
    yield "latency", duration(passed.latency, clock), f"{grouped(passed.latency)} cycles"
    yield "interval", duration(passed.interval, clock), f"{grouped(passed.interval)} cycles a micro-batch"
    if plan.graph.states:
        context = context_of(plan)
        beside = f", context {grouped(context)}" if context is not None else ""
        each, total = measured["tokens_per_second_user"], measured["tokens_per_second_total"]
        yield "tokens a second", rate(each), f"one user{beside}; {rate(total)} in total"
    else:
        read = measured["tokens_per_second_read"]
        tokens = f"{rate(read)} tokens read a second" if read else f"batch {plan.batch}"
        yield "inferences a second", rate(measured["inferences_per_second"]), tokens
    everyone = plan.target.topology.chips
    shapes = groups_words([stage.mesh for stage in plan.stages])
    yield (
        "chips",
        f"{grouped(used)} of {grouped(everyone)}",
        f"{counted(len(plan.stages), 'stage')}: {shapes}",
    )


def _sentences(source: Source) -> Iterator[str]:
    """What binds, in words."""
    plan = source.plan
    achieved = reached(plan)
    spent = time_by_cause(source.path)
    total = sum(spent.values())
    if total:
        first, second = sorted(CAUSES, key=lambda cause: -spent[cause])[:2]
        yield (
            f"Most of the latency is {CAUSES[first]} ({share(spent[first], total)}), then {CAUSES[second]} "
            f"({share(spent[second], total)})."
        )
    yield f"The busiest resource is {_busiest(source)}."
    for bound in binding_bounds(plan):
        above = excess(achieved.get(bound.quantity), bound.value)
        yield (
            f"{_QUANTITIES.get(bound.quantity, bound.quantity)}: no plan is below "
            f"{counted(bound.value, 'chip' if bound.quantity == 'chips' else 'cycle')} "
            f"({shown_name(bound.binding)}); this one is {_above(above)}."
        )


_QUANTITIES = {"interval": "Interval", "latency": "Latency", "chips": "Chips"}


def _above(words: str) -> str:
    return f"{words} above" if words.endswith("%") else f"{words} that"


def _busiest(source: Source) -> str:
    interval = max(1, int(source.plan.interval))
    units = [
        (stage.busy[unit], f"a {unit.value} unit of stage {stage.index}")
        for stage in source.stages
        for unit in Unit
    ]
    links = [
        (used.busy, f"link {used.link.source}→{used.link.destination}")
        for used in summarise_links(source.plan)[:1]
    ]
    held, name = max([*units, *links], key=lambda entry: entry[0])
    return f"{name}, held for {share(held, interval)} of the interval"


def _checked(plan: Plan) -> str:
    tiles = sum(len(stage.program.tiles.start) for stage in plan.stages)
    *_, host = outside_lines(plan, plan_elapsed(plan))
    return (
        f"The simulator found no fault in {counted(tiles, 'tile')} and "
        f"{counted(len(plan.transfers.start), 'transfer')}. {host}"
    )


def _path_words(plan: Plan) -> str:
    """How long the critical path is, and what of the latency is not on it."""
    *outside, _ = outside_lines(plan, plan_elapsed(plan))
    return "; ".join((f"{grouped(plan.latency)} cycles", *(f"besides, {line}" for line in outside)))


def _causes(source: Source) -> list[dict[str, Any]]:
    spent = time_by_cause(source.path)
    total = max(1, sum(spent.values()))
    return [
        {"key": key, "words": words, "cycles": grouped(spent[key]), "share": share(spent[key], total),
         "width": f"{100 * spent[key] / total:.3f}"}
        for key, words in CAUSES.items()
        if spent[key]
    ]  # fmt: skip


def _slow_nodes(source: Source) -> Iterator[tuple[str, ...]]:
    """ONNX nodes with most cycles of the critical path."""
    plan, spent = source.plan, Counter[str]()
    for step in source.path:
        if step.operator >= 0:
            spent[node_name(plan, step.operator)] += step.load + step.work + step.travel
    for name, cycles in spent.most_common(NODES):
        yield shown_name(name), grouped(cycles), share(cycles, plan.latency)


_STAGE_COLUMNS = (
    "name", "chips", "mesh", "nodes", "operators", "tiles", "weights", "state", "sram", "use",
)  # fmt: skip


def _stages(source: Source) -> Iterator[dict[str, Any]]:
    """A row a run of equal stages."""
    plan, usable = source.plan, int(source.plan.target.chip.usable_bytes)
    for run in source.runs:
        first, last = source.stages[run.first], source.stages[run.stages[-1]]
        chips = [int(chip) for stage in run.stages for chip in plan.stages[stage].chips]
        yield {
            "stage": run.first,
            "name": ranges(run.stages),
            "chips": ranges(chips),
            "mesh": groups_words([first.mesh]) + (f", ×{len(run.stages)}" if len(run.stages) > 1 else ""),
            "nodes": f"{shown_name(first.first_node)} … {shown_name(last.last_node)}",
            "operators": grouped(first.operators),
            "tiles": grouped(first.tiles),
            "use": ", ".join(share(first.busy[unit], plan.interval) for unit in Unit),
            "weights": size(first.weight_bytes),
            "state": size(first.state_bytes),
            "sram": f"{size(first.sram_bytes)}, {share(first.sram_bytes, usable)}",
        }


def _flows(source: Source) -> Iterator[tuple[str, ...]]:
    for run in fold_edges(source.edges)[:MOST_ROWS]:
        first, last = run[0], run[-1]
        inside = ", ".join(counted(count, kind) for kind, count in first.exchanges)
        yield (
            ranges(sorted({edge.source for edge in run})),
            "inside" if first.source == first.destination else ranges(sorted({e.destination for e in run})),
            inside or ("passed on" if first.source == last.destination else ""),
            size(first.nbytes),
            least_and_most([edge.transfers for edge in run]),
            least_and_most([edge.links for edge in run]),
            least_and_most([edge.cycles for edge in run]),
            share(max(edge.cycles for edge in run), source.plan.interval),
        )


def _steps(source: Source) -> Iterator[str]:
    """What stages send to others, a line a run of equal edges, the most bytes first."""
    runs = [run for run in fold_edges(source.edges) if run[0].source != run[0].destination]
    for run in sorted(runs, key=lambda run: (-run[0].nbytes, run[0].source))[:STEPS]:
        ends = (ranges(sorted({edge.source for edge in run})), ranges(sorted({e.destination for e in run})))
        cycles = least_and_most([edge.cycles for edge in run])
        each = " each" if len(run) > 1 else ""
        yield f"{ends[0]} → {ends[1]}: {size(run[0].nbytes)}, {cycles} cycles{each}"


def _links(plan: Plan) -> Iterator[tuple[str, ...]]:
    for used in summarise_links(plan)[:LINKS]:
        ends = f"{used.link.source} → {used.link.destination}"
        yield ends, grouped(used.transfers), grouped(used.busy), share(used.busy, plan.interval)


def _bounds(plan: Plan) -> Iterator[tuple[str, ...]]:
    achieved = reached(plan)
    for bound, is_first in ordered_bounds(plan.bounds):
        got = achieved.get(bound.quantity)
        yield (
            bound.quantity,
            grouped(got) if is_first and got is not None else "",
            grouped(bound.value),
            excess(got, bound.value),
            shown_name(bound.binding),
        )


def _certificates(plan: Plan) -> Iterator[tuple[str, ...]]:
    for proof in plan.certificates:
        yield (
            shown_name(proof.problem),
            proof.status,
            grouped(proof.objective),
            grouped(proof.bound),
            f"{100 * proof.gap:.2f} %" if proof.gap <= 10 else f"{1 + proof.gap:.0f}x",
        )


def _target_facts(plan: Plan) -> Iterator[tuple[str, str]]:
    target, chip = plan.target, plan.target.chip
    yield "system", f"{target.topology.generator}, {counted(target.topology.chips, 'chip')}"
    racks, nodes = len(set(target.topology.rack_of)), len(set(target.topology.node_of))
    yield "racks and nodes", f"{counted(racks, 'rack')}, {counted(nodes, 'node')}"
    yield "links", f"{counted(len(target.topology.links), 'directed link')}"
    yield "clock", f"{chip.clock_hz / 1e6:,.0f} MHz"
    yield "SRAM a chip", f"{size(chip.sram_bytes)}, {size(chip.usable_bytes)} usable"
    yield "matrix instances", grouped(chip.matrix.instances)
    yield "vector lanes", f"{grouped(chip.vector.lanes)} × {chip.vector.instances}"
    rule = target.link
    flit = f"{size(rule.flit_bytes)} every {counted(rule.cycles_per_flit, 'cycle')}"
    yield "a link carries", f"{flit}; a hop takes {counted(rule.hop_latency, 'cycle')}"
