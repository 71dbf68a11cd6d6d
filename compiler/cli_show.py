"""`chiplan show`: a plan as a page of tables, or as one object."""

from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console

from chiplan.ir import Plan, Unit

from .cli_summary import print_bounds, print_headline
from .cli_tables import print_list, print_table, table
from .plan_summary import (
    EdgeSummary,
    LinkSummary,
    StageSummary,
    precision_types,
    recomputed_values,
    summarise_edges,
    summarise_links,
    summarise_stages,
)
from .quantities import grouped, ranges, share, size

LINKS_SHOWN = 10


def print_plan(console: Console, plan: Plan) -> None:
    """Everything that the plan says, in tables that fit 80 columns at usual sizes."""
    stages = summarise_stages(plan)
    print_headline(console, plan, plan.latency)
    console.print()
    _print_stages(console, plan, stages)
    _print_units(console, plan, stages)
    _print_edges(console, plan)
    _print_links(console, plan)
    print_bounds(console, plan, plan.latency)
    _print_certificates(console, plan)
    print_list(console, "Assumed", plan.assumptions)
    print_list(console, "Recomputed where carrying would cost more", tuple(_recomputed_lines(plan)))


def _print_stages(console: Console, plan: Plan, stages: tuple[StageSummary, ...]) -> None:
    rows = (
        (
            str(stage.index),
            ranges(stage.chips),
            grouped(stage.operators),
            size(stage.weight_bytes),
            size(stage.sram_bytes),
            share(stage.sram_bytes, plan.target.chip.usable_bytes),
            f"{stage.first_node} .. {stage.last_node}",
        )
        for stage in stages
    )
    title = f"Stages ({size(plan.target.chip.usable_bytes)} of SRAM usable on a chip)"
    columns = ("stage", "chips", "ops", "weights", "SRAM", "use", "<ONNX nodes, first .. last")
    print_table(console, title, table(columns, rows, words=0))


def _print_units(console: Console, plan: Plan, stages: tuple[StageSummary, ...]) -> None:
    columns = ("stage", *(name for unit in Unit for name in (unit.value, "")))
    made = table(columns, (_unit_row(plan, stage) for stage in stages), words=0)
    print_table(console, "Busiest instance of each unit: cycles a run, share of the interval", made)


def _unit_row(plan: Plan, stage: StageSummary) -> tuple[str, ...]:
    cells = [str(stage.index)]
    for unit in Unit:
        cells += [grouped(stage.busy[unit]), share(stage.busy[unit], plan.interval)]
    return tuple(cells)


def _print_edges(console: Console, plan: Plan) -> None:
    columns = ("from", "to", "bytes", "transfers", "links", "routes", "hops", "cycles", "use")
    edges = summarise_edges(plan)
    for title, inside in (("Between stages", False), ("Inside the groups of stages", True)):
        chosen = [edge for edge in edges if (edge.source == edge.destination) is inside]
        made = table(columns, (_edge_row(plan, edge) for edge in chosen), words=0)
        print_table(console, f"{title} (cycles and use of the busiest link)", made)


def _edge_row(plan: Plan, edge: EdgeSummary) -> tuple[str, ...]:
    counts = (edge.transfers, edge.links, edge.routes, edge.hops, edge.cycles)
    ends = (str(edge.source), str(edge.destination))
    return (*ends, size(edge.nbytes), *map(grouped, counts), share(edge.cycles, plan.interval))


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
            f"{100 * proof.gap:.2f} %",
            f"{proof.deterministic_time:.3f}",
        )
        for proof in plan.certificates
    )
    columns = ("<decision", "status", "objective", "bound", "gap", "det. time")
    print_table(console, "Certificates of the solver", table(columns, rows, words=2))


def _recomputed_lines(plan: Plan) -> Iterator[str]:
    for value in recomputed_values(plan):
        yield f"{value.node} ({value.operator}) on stages {', '.join(map(str, value.stages))}"


def plan_document(plan: Plan, sha256: str) -> dict[str, object]:
    """What `show --json` prints; field names as in `compile --json` where they mean the same."""
    clock = plan.target.chip.clock_hz
    return {
        "ok": True,
        "model": plan.graph.name,
        "target": plan.target.name,
        "precision": plan.precision,
        "precision_types": list(precision_types(plan)),
        "objective": plan.objective,
        "batch": plan.batch,
        "sequence": plan.sequence,
        "users": plan.users,
        "chips": sum(len(stage.chips) for stage in plan.stages),
        "stages": len(plan.stages),
        "latency_cycles": int(plan.latency),
        "latency_us": 1e6 * plan.latency / clock,
        "interval_cycles": int(plan.interval),
        "latency_includes_host": False,
        "simulated": True,
        "usable_sram_bytes": int(plan.target.chip.usable_bytes),
        "stage_details": [_stage_document(stage) for stage in summarise_stages(plan)],
        "sharding": [asdict(choice) for choice in plan.sharding],
        "transfers": [asdict(edge) for edge in summarise_edges(plan)],
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
    return asdict(stage) | {"busy": {unit.value: cycles for unit, cycles in stage.busy.items()}}


def _link_document(used: LinkSummary) -> dict[str, object]:
    link = used.link
    ends = {"link": int(used.index), "source": int(link.source), "destination": int(link.destination)}
    return {**ends, "port": link.port, "busy": used.busy, "transfers": used.transfers}
