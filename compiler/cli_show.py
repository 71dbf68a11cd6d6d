"""`chiplan show`: a plan as a page of tables, or as one object."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from chiplan.ir import Plan, Unit, plan_elapsed

from .cli_sharding import choice_document
from .cli_summary import print_bounds, print_headline, print_rates, stated_figures
from .cli_tables import print_list, print_table, table
from .memory_kinds import Kind
from .plan_folding import Run, fold_edges, fold_stages
from .plan_summary import (
    EdgeSummary,
    LinkSummary,
    StageSummary,
    context_of,
    precision_types,
    recomputed_values,
    summarise_edges,
    summarise_links,
    summarise_stages,
    wire_types,
)
from .quantities import counted, grouped, groups_words, least_and_most, ranges, share, size

LINKS_SHOWN = 10


def print_plan(console: Console, plan: Plan) -> None:
    """Everything that the plan says, in tables that fit 80 columns at usual sizes."""
    stages = fold_stages(summarise_stages(plan))
    print_headline(console, plan)
    print_rates(console, plan, stated_figures(plan, ""))
    _print_stages(console, stages)
    _print_memory(console, plan, stages)
    _print_units(console, plan, stages)
    _print_edges(console, plan)
    _print_links(console, plan)
    print_bounds(console, plan)
    _print_certificates(console, plan)
    print_list(console, "Assumed", plan.assumptions)
    print_list(console, "Recomputed where carrying would cost more", tuple(_recomputed_lines(plan)))


def _print_stages(console: Console, stages: Sequence[Run[StageSummary]]) -> None:
    rows = (
        (
            _span(run[0].index, run[-1].index),
            ranges([int(chip) for stage in run for chip in stage.chips]),
            groups_words([run[0].mesh]),
            grouped(run[0].operators),
            f"{run[0].first_node} .. {run[-1].last_node}",
        )
        for run in stages
    )
    columns = ("stage", "chips", "mesh", "operators", "<ONNX nodes, first .. last")
    print_table(console, f"Stages{_each(stages)}", table(columns, rows, words=0))


def _print_memory(console: Console, plan: Plan, stages: Sequence[Run[StageSummary]]) -> None:
    usable = plan.target.chip.usable_bytes
    rows = (
        (
            _span(run[0].index, run[-1].index),
            size(run[0].weight_bytes),
            size(run[0].state_bytes),
            size(run[0].memory.alive),
            size(run[0].memory.needed),
            share(run[0].memory.needed, usable),
        )
        for run in stages
    )
    columns = ("stage", "weights", "states", "alive at once", "addresses end", "use")
    print_table(console, f"SRAM of a chip, {size(usable)} usable", table(columns, rows, words=0))
    kinds = (Kind.ACTIVATION, Kind.RECEIVED, Kind.COLLECTIVE, Kind.IN_FLIGHT)
    rest = (
        (
            _span(run[0].index, run[-1].index),
            *(size(run[0].memory.kinds[kind.value]) for kind in kinds),
            grouped(run[0].memory.cycle or 0),
        )
        for run in stages
    )
    columns = ("stage", "activations", "received", "collectives", "in flight", "at cycle")
    print_table(console, "Besides weights and states, in the fullest cycle", table(columns, rest, words=0))


def _each(runs: Sequence[Run[Any]]) -> str:
    """What a title adds where lines stand for several that are alike."""
    return (
        " (equal neighbours are one line, figures those of each)" if any(len(run) > 1 for run in runs) else ""
    )


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _print_units(console: Console, plan: Plan, stages: Sequence[Run[StageSummary]]) -> None:
    columns = ("stage", *(name for unit in Unit for name in (unit.value, "")))
    made = table(columns, (_unit_row(plan, run) for run in stages), words=0)
    print_table(console, "Busiest instance of each unit: cycles a run, share of the interval", made)


def _unit_row(plan: Plan, run: Run[StageSummary]) -> tuple[str, ...]:
    cells = [_span(run[0].index, run[-1].index)]
    for unit in Unit:
        cells += [grouped(run[0].busy[unit]), share(run[0].busy[unit], plan.interval)]
    return tuple(cells)


def _print_edges(console: Console, plan: Plan) -> None:
    edges = summarise_edges(plan)
    between = fold_edges([edge for edge in edges if edge.source != edge.destination])
    columns = ("from", "to", "bytes", "transfers", "links", "hops", "cycles", "use")
    made = table(columns, (_between_row(plan, run) for run in between), words=0)
    print_table(console, "Between stages (cycles and use of the busiest link)", made)
    inside = fold_edges([edge for edge in edges if edge.source == edge.destination])
    columns = ("stage", "<exchanges", "bytes", "transfers", "links", "hops", "cycles", "use")
    made = table(columns, (_inside_row(plan, run) for run in inside), words=0)
    print_table(console, "Inside the groups of stages (cycles and use of the busiest link)", made)


def _between_row(plan: Plan, run: Run[EdgeSummary]) -> tuple[str, ...]:
    first, last = run[0], run[-1]
    ends = _span(first.source, last.source), _span(first.destination, last.destination)
    return (*ends, *_edge_cells(plan, run))


def _inside_row(plan: Plan, run: Run[EdgeSummary]) -> tuple[str, ...]:
    kinds = ", ".join(counted(count, kind) for kind, count in run[0].exchanges)
    return (_span(run[0].source, run[-1].source), kinds, *_edge_cells(plan, run))


def _edge_cells(plan: Plan, run: Run[EdgeSummary]) -> tuple[str, ...]:
    """Bytes and counts; the least and the most where edges of a run differ."""
    columns = zip(*((e.transfers, e.links, e.hops, e.cycles) for e in run), strict=True)
    counts = [least_and_most(values) for values in columns]
    most = max(edge.cycles for edge in run)
    return (size(run[0].nbytes), *counts, share(most, plan.interval))


def _print_links(console: Console, plan: Plan) -> None:
    links = summarise_links(plan)
    columns = ("link", "from chip", "to chip", "transfers", "cycles", "use")
    made = table(columns, (_link_row(plan, used) for used in links[:LINKS_SHOWN]), words=0)
    title = f"Links ({len(links)} used of {len(plan.target.topology.links)}, busiest first)"
    print_table(console, title, made)


def _link_row(plan: Plan, used: LinkSummary) -> tuple[str, ...]:
    ends = (str(used.index), str(used.link.source), str(used.link.destination))
    return (*ends, grouped(used.transfers), grouped(used.busy), share(used.busy, plan.interval))


def _print_certificates(console: Console, plan: Plan) -> None:
    rows = (
        (
            proof.problem,
            proof.status,
            grouped(proof.objective),
            grouped(proof.bound),
            f"{100 * proof.gap:.2f} %" if proof.gap <= 10 else f"{1 + proof.gap:.0f}x",
            f"{proof.deterministic_time:.3f}",
        )
        for proof in plan.certificates
    )
    columns = ("<decision", "status", "objective", "bound", "gap", "det. time")
    print_table(console, "Certificates of the solver", table(columns, rows, words=2))
    passed = plan_elapsed(plan)
    if plan.certificates and (passed.latency, passed.interval) != (plan.latency, plan.interval):
        what = (
            *(("aligning clocks",) * bool(passed.deskew_interval)),
            *(("host transfers",) * bool(passed.host_latency)),
        )
        console.print(f"cycles of the chips' programs; figures above include {' and '.join(what)}")
        console.print()


def _recomputed_lines(plan: Plan) -> Iterator[str]:
    for value in recomputed_values(plan):
        yield f"{value.node} ({value.operator}) on stages {', '.join(map(str, value.stages))}"


def plan_document(plan: Plan, sha256: str) -> dict[str, object]:
    """What `show --json` prints; field names as in `compile --json` where they mean the same."""
    clock, passed = plan.target.chip.clock_hz, plan_elapsed(plan)
    return {
        "ok": True,
        "model": plan.graph.name,
        "target": plan.target.name,
        "precision": plan.precision,
        "precision_types": list(precision_types(plan)),
        "wire_types": list(wire_types(plan)),
        "objective": plan.objective,
        "batch": plan.batch,
        "sequence": plan.sequence,
        "context": context_of(plan),
        "users": plan.users,
        "chips": sum(len(stage.chips) for stage in plan.stages),
        "stages": len(plan.stages),
        "latency_cycles": passed.latency,
        "latency_us": 1e6 * passed.latency / clock,
        "interval_cycles": passed.interval,
        **passed.parts(),
        "latency_includes_host": plan.target.chip.rules.host,
        "simulated": True,
        "usable_sram_bytes": int(plan.target.chip.usable_bytes),
        "stage_details": [_stage_document(stage) for stage in summarise_stages(plan)],
        "sharding": [choice_document(choice) for choice in plan.sharding],
        "transfers": [asdict(edge) | {"exchanges": dict(edge.exchanges)} for edge in summarise_edges(plan)],
        "links": [_link_document(used) for used in summarise_links(plan)],
        "bounds": [asdict(bound) for bound in plan.bounds],
        "certificates": [asdict(proof) for proof in plan.certificates],
        "assumptions": list(plan.assumptions),
        "recomputed": [asdict(value) for value in recomputed_values(plan)],
        "options": dict(plan.options),
        "model_fingerprint": plan.model_fingerprint,
        "sha256": sha256,
    }


def _stage_document(stage: StageSummary) -> dict[str, object]:
    document = asdict(stage) | {"busy": {unit.value: cycles for unit, cycles in stage.busy.items()}}
    peak = stage.memory
    document["memory"] = {
        "alive_bytes": peak.alive,
        "top_bytes": peak.needed,
        "cycle": peak.cycle,
        "alive_by_kind": peak.kinds,
    }
    return document


def _link_document(used: LinkSummary) -> dict[str, object]:
    link = used.link
    ends = {"link": int(used.index), "source": int(link.source), "destination": int(link.destination)}
    return {**ends, "port": link.port, "busy": used.busy, "transfers": used.transfers}
