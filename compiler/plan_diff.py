"""What differs between two plans, as tables: one row a thing, its figures before and after."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TypeAlias

from chiplan.ir import Plan, printable

from .cli_summary import stated_figures
from .figure_words import Better, figure_better, figure_label
from .node_matching import match_nodes
from .plan_profile import NodeCost, profile_nodes
from .plan_summary import EdgeSummary, StageSummary, summarise_edges, summarise_stages
from .quantities import ranges
from .target_numbers import target_numbers

Cell: TypeAlias = int | float | str | None
Cells: TypeAlias = tuple[Cell, ...]
Named: TypeAlias = tuple[str, Cells]

_BLOCK = re.compile(r" of block \d+")


@dataclass(frozen=True)
class Row:
    """One thing that differs. before, after: its figures, a cell a column; None where it is not there. label:
    its name on a page. better: which way its last figure gets better."""

    name: str
    before: Cells | None
    after: Cells | None
    label: str = ""
    better: Better = Better.NEITHER


@dataclass(frozen=True)
class Section:
    """One kind of thing. key: its name in JSON. note: what the figures mean, for people. folds: whether rows
    of equal figures may be read as one."""

    key: str
    title: str
    thing: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    folds: bool = True


@dataclass(frozen=True)
class PlanDiff:
    """before, after: what the two plans are called. identical: their files are equal bytes.
    sections: those that have a row. includes_host: of each, whether its figures hold the host's transfers."""

    before: str
    after: str
    identical: bool
    sections: tuple[Section, ...] = ()
    includes_host: tuple[bool, bool] = (False, False)


@dataclass(frozen=True)
class _Side:
    """What is compared of one plan."""

    plan: Plan
    figures: Mapping[str, Cell]
    nodes: tuple[NodeCost, ...]
    stages: tuple[StageSummary, ...]
    includes_host: bool


def compare_plans(before: Plan, after: Plan, names: tuple[Path, Path], sha256: tuple[str, str]) -> PlanDiff:
    """Everything that differs. Names of the files, and the fingerprints of their bytes, are given."""
    identical = sha256[0] == sha256[1]
    called = (printable(str(names[0])), printable(str(names[1])))
    if identical:
        return PlanDiff(*called, identical)
    first, second = _side(before), _side(after)
    sections = tuple(section for section in _sections(first, second) if section.rows)
    return PlanDiff(*called, identical, sections, (first.includes_host, second.includes_host))


def _side(plan: Plan) -> _Side:
    stages = summarise_stages(plan)
    figures = stated_figures(plan, "")
    names = (
        "latency_cycles", "latency_us", "interval_cycles", "inferences_per_second", "tokens_per_second_read",
        "tokens_per_second_user", "tokens_per_second_total", "chips", "stages",
    )  # fmt: skip
    shown: dict[str, Cell] = {name: figures[name] for name in names if figures[name] is not None}
    shown["sram_bytes"] = max((stage.sram_bytes for stage in stages), default=0)
    shown["transfers"] = len(plan.transfers.start)
    shown["hops"] = len(plan.hops.start)
    return _Side(plan, shown, profile_nodes(plan), stages, bool(figures["latency_includes_host"]))


def _sections(before: _Side, after: _Side) -> Iterator[Section]:
    pairs = match_nodes(before.nodes, after.nodes)
    matched = [(before.nodes[left], after.nodes[right]) for left, right in pairs]
    sides = before, after
    value = ("value",)
    yield _figures(before, after)
    asked = (_single(_asked(side.plan)) for side in sides)
    yield _listed("options", "Model and options", "name", value, *asked)
    numbers = (_single(target_numbers(side.plan.target)) for side in sides)
    yield _listed("target", "Target", "number", value, *numbers)
    yield _moved(matched)
    yield _costs(before.nodes, after.nodes, pairs)
    yield _renamed(matched)
    yield from _stage_sections(before, after)
    bounds = ([(b.quantity, (b.binding, b.value)) for b in side.plan.bounds] for side in sides)
    yield _repeating("bounds", "Proven lower bounds", "quantity", ("what binds", "value"), *bounds)
    columns = ("status", "objective", "bound")
    yield _repeating("certificates", "Certificates", "decision", columns, *map(_proofs, sides))
    assumed = ([(line, ("assumed",)) for line in side.plan.assumptions] for side in sides)
    yield _repeating("assumptions", "Assumptions", "assumption", value, *assumed)


def _figures(before: _Side, after: _Side) -> Section:
    rows = (
        replace(row, label=figure_label(row.name), better=figure_better(row.name))
        for row in _keyed(_single(before.figures), _single(after.figures))
    )
    return Section("figures", "Figures", "figure", ("value",), tuple(rows), folds=False)


def _costly(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows whose last figure is what they cost."""
    return tuple(replace(row, better=Better.LESS) for row in rows)


def _stage_sections(before: _Side, after: _Side) -> Iterator[Section]:
    sides = before, after
    stages = ({str(stage.index): _stage_cells(stage) for stage in side.stages} for side in sides)
    note = "cycles: of the busiest unit instance in one micro-batch"
    yield Section(
        "stages", "Stages", "stage", ("chips", "operators", "cycles"), _costly(_keyed(*stages)), note
    )
    memory = ({str(stage.index): _memory_cells(stage) for stage in side.stages} for side in sides)
    columns = ("weight bytes", "state bytes", "all bytes")
    yield Section("memory", "SRAM of a chip", "stage", columns, _costly(_keyed(*memory)))
    edges = ({_edge_name(edge): _edge_cells(edge) for edge in summarise_edges(side.plan)} for side in sides)
    note, columns = "cycles: of the busiest link in one micro-batch", ("count", "bytes", "cycles")
    yield Section(
        "transfers", "Transfers between and inside stages", "stages", columns, _costly(_keyed(*edges)), note
    )


def _listed(
    key: str,
    title: str,
    thing: str,
    columns: tuple[str, ...],
    before: Mapping[str, Cells],
    after: Mapping[str, Cells],
) -> Section:
    """A section whose rows are read one by one."""
    return Section(key, title, thing, columns, _keyed(before, after), folds=False)


def _repeating(
    key: str,
    title: str,
    thing: str,
    columns: tuple[str, ...],
    before: Sequence[Named],
    after: Sequence[Named],
) -> Section:
    """The same where a name may come several times."""
    return Section(key, title, thing, columns, tuple(unlike_rows(before, after)), folds=False)


def _proofs(side: _Side) -> list[Named]:
    return [(proof.problem, (proof.status, proof.objective, proof.bound)) for proof in side.plan.certificates]


def _single(values: Mapping[str, Cell]) -> dict[str, Cells]:
    return {name: (value,) for name, value in values.items()}


def _asked(plan: Plan) -> dict[str, Cell]:
    asked: dict[str, Cell] = {"model": plan.graph.name, "model_sha256": plan.model_fingerprint[:16]}
    return asked | {printable(name): printable(value) for name, value in plan.options}


def _keyed(before: Mapping[str, Cells], after: Mapping[str, Cells]) -> tuple[Row, ...]:
    """Rows of what differs by name, in the order of `before`, then what is new."""
    names = dict.fromkeys((*before, *after))
    rows = (Row(name, before.get(name), after.get(name)) for name in names)
    return tuple(row for row in rows if row.before != row.after)


def unlike_rows(before: Sequence[Named], after: Sequence[Named]) -> Iterator[Row]:
    """Rows of what differs where names repeat: those equal in name and figures are pairs, also where only
    the number of their block is another; then those equal in name alone, in their order. What is left is
    gone or new."""
    gone, new = _unpaired(before, after), _unpaired(after, before)
    for name in dict.fromkeys(name for name, _ in (*before, *after)):
        sides = ([cells for called, cells in side.elements() if called == name] for side in (gone, new))
        for old, now in zip_longest(*sides):
            yield Row(printable(name), old, now)


def _unpaired(rows: Sequence[Named], others: Sequence[Named]) -> Counter[Named]:
    """What has no equal among `others`. Blocks are numbered anew where a model gets another one."""
    left, right = Counter(rows) - Counter(others), Counter(others) - Counter(rows)
    free = Counter((_BLOCK.sub("", name), cells) for name, cells in right.elements())
    kept: Counter[Named] = Counter()
    for row in left.elements():
        alike = _BLOCK.sub("", row[0]), row[1]
        if free[alike]:
            free[alike] -= 1
        else:
            kept[row] += 1
    return kept


def _moved(matched: Sequence[tuple[NodeCost, NodeCost]]) -> Section:
    rows = (Row(new.label, _where(old), _where(new)) for old, new in matched)
    moved = tuple(row for row in rows if row.before != row.after)
    return Section("moved", "Moved", "ONNX nodes", ("stages", "chips"), moved)


def _where(cost: NodeCost) -> Cells:
    return ranges(cost.stages), ranges([int(chip) for chip in cost.chips])


def _costs(
    before: Sequence[NodeCost], after: Sequence[NodeCost], pairs: Sequence[tuple[int, int]]
) -> Section:
    rows = [
        Row(_label(old, new), _cost_cells(old), _cost_cells(new))
        for old, new in changed_nodes(before, after, pairs)
    ]
    note = (
        "cycles of one micro-batch: of the busiest unit instance, and of the busiest link under the results"
    )
    return Section("nodes", "Cycles by node", "ONNX nodes", ("unit", "link", "together"), _costly(rows), note)


def changed_nodes(
    before: Sequence[NodeCost], after: Sequence[NodeCost], pairs: Sequence[tuple[int, int]]
) -> list[tuple[NodeCost | None, NodeCost | None]]:
    """Rows that are new, gone or cost another number of cycles; those that cost most more first."""
    left, right = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    found: list[tuple[NodeCost | None, NodeCost | None]] = [(before[a], after[b]) for a, b in pairs]
    found += [(None, row) for number, row in enumerate(after) if number not in right]
    found += [(row, None) for number, row in enumerate(before) if number not in left]
    changed = [pair for pair in found if _cost_cells(pair[0]) != _cost_cells(pair[1])]
    return sorted(changed, key=lambda pair: -cycles_more(*pair))


def cycles_more(before: NodeCost | None, after: NodeCost | None) -> int:
    """Cycles that a row costs more than before; it cost nothing where it was not there."""
    return (after.cycles if after else 0) - (before.cycles if before else 0)


def _label(before: NodeCost | None, after: NodeCost | None) -> str:
    known = after or before
    return known.label if known else ""


def _cost_cells(cost: NodeCost | None) -> Cells | None:
    return (cost.unit_cycles, cost.link_cycles, cost.cycles) if cost else None


def _renamed(matched: Sequence[tuple[NodeCost, NodeCost]]) -> Section:
    rows = tuple(Row(new.label, (old.label,), (new.label,)) for old, new in matched if old.nodes != new.nodes)
    return Section("renamed", "Renamed", "ONNX nodes", ("name",), rows)


def _stage_cells(stage: StageSummary) -> Cells:
    return ranges([int(chip) for chip in stage.chips]), stage.operators, max(stage.busy.values())


def _memory_cells(stage: StageSummary) -> Cells:
    return stage.weight_bytes, stage.state_bytes, stage.sram_bytes


def _edge_name(edge: EdgeSummary) -> str:
    return (
        f"{edge.source} to {edge.destination}" if edge.source != edge.destination else f"inside {edge.source}"
    )


def _edge_cells(edge: EdgeSummary) -> Cells:
    return edge.transfers, edge.nbytes, edge.cycles
