"""The timelines of a report: use in bins over all stages, and bars of operators within one stage.

Nothing is there tile by tile. Neighbouring tiles of one operator on one instance are one bar, and where bars
would still be too many, those with small gaps between them are joined.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from chiplan.ir import Stage, Unit

from .occupancy import busy_in_bins, folded_in_bins
from .report_source import Source, StageRun

BINS = 480
"""Columns of the overview."""
MOST_BARS = 6000
"""Bars of one stage, at most."""
LINK_ROWS = 8
"""Links of a stage that have a row of their own, the busiest ones."""
MOST_ROWS = 400
"""Rows of the overview, at most; of more stages the first of every run is shown."""
_UNITS = tuple(Unit)


def overview(source: Source) -> dict[str, Any]:
    """Use of every stage's units and links in per cent, row by row in bins: once over the latency of one
    micro-batch, once over the interval in steady state; and where the critical path is in each bin."""
    plan = source.plan
    latency, interval = max(1, int(plan.latency)), max(1, int(plan.interval))
    edges, folded = (np.linspace(0, span, BINS + 1).astype(np.int64) for span in (latency, interval))
    stages = list(range(len(plan.stages)))
    if len(stages) * (len(_UNITS) + 1) > MOST_ROWS:
        stages = [run.first for run in source.runs]
    rows: list[dict[str, Any]] = []
    for stage in stages:
        for name, start, end, wide in _resources(source, stage):
            once = busy_in_bins(start, end, edges) / np.maximum(1, np.diff(edges)) / wide
            steady = folded_in_bins(start, end, folded, interval) / np.maximum(1, np.diff(folded)) / wide
            rows.append({
                "stage": stage, "resource": name, "once": _percent(once), "steady": _percent(steady),
                "path": _path_bins(source, stage, name, edges),
            })  # fmt: skip
    return {"latency": latency, "interval": interval, "bins": BINS, "rows": rows}


def _percent(share: np.ndarray) -> list[int]:
    """At least 1 where there is anything at all."""
    return [int(value) for value in np.ceil(100 * np.clip(share, 0, 1))]


def _resources(source: Source, stage: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    """(name, start, end, how many) of what a stage uses: each kind of unit, and the links that its chips
    send over, all cables of all of them together."""
    program = source.plan.stages[stage].program
    for number, unit in enumerate(_UNITS):
        mine = program.tiles.unit == number
        if mine.any():
            start, end = _occupied(source, stage)
            yield unit.value, start[mine], end[mine], source.timeline.instances(number)
    hops = _hops_of(source, stage)
    if len(hops):
        columns = source.plan.hops
        many = len(np.unique(columns.link[hops]))
        yield "links", columns.start[hops], columns.end[hops], many


def _occupied(source: Source, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """When every tile of a stage holds its instance, in the order of its columns; a matrix tile also while
    its block is loaded."""
    table = source.timeline.tiles
    mine = table.stage == stage
    before = np.maximum(0, table.load[mine] - table.occupancy[mine])
    return table.start[mine] - before, table.end[mine]


def _hops_of(source: Source, stage: int) -> np.ndarray:
    """Hops of what a stage's chips send."""
    senders = source.timeline.groups.stage[source.plan.transfers.source]
    return np.flatnonzero(senders[source.plan.hops.transfer] == stage)


def _path_bins(source: Source, stage: int, resource: str, edges: np.ndarray) -> list[int]:
    """First and last bin of every stretch that the critical path is on a resource of a stage, flat."""
    name = "link" if resource == "links" else resource
    steps = source.path_on.get((stage, name))
    covered = np.zeros(BINS, dtype=bool)
    if steps is not None:
        covered = busy_in_bins(steps[:, 1], steps[:, 2], edges) > 0
    ends = np.flatnonzero(np.diff(np.concatenate([[0], covered.astype(np.int8), [0]])))
    return [int(end) for end in ends]


def stage_bars(
    source: Source, run: StageRun, folded_of: dict[tuple[int, int], tuple[int, int]]
) -> dict[str, Any]:
    """Bars of the first stage of a run: rows are instances, then the busiest links that it sends over.
    folded_of: number of the folded operator, and of its repeat, by (stage, operator); bars refer to both,
    with -1 for what is on a link."""
    stage = source.plan.stages[run.first]
    rows, bars = _unit_bars(source, run.first, stage)
    names, more = _link_bars(source, run.first, len(rows))
    known = [folded_of[run.first, index] for index in stage.program.operators]
    operators = np.array(known, dtype=np.int64).reshape(-1, 2)
    first = {key: np.concatenate([bars[key], more[key]]).tolist() for key in ("row", "start", "end", "busy")}
    number, repeat = np.concatenate([operators[bars["operator"]], np.full((len(more["row"]), 2), -1)]).T
    on_path = _bars_on_path(source, run.first, rows, bars) + [0] * len(more["row"])
    return {"stage": run.first, "rows": [*rows, *names], **first, "operator": number.tolist(),
            "repeat": repeat.tolist(), "path": on_path}  # fmt: skip


def _unit_bars(source: Source, number: int, stage: Stage) -> tuple[list[str], dict[str, np.ndarray]]:
    tiles = stage.program.tiles
    start, end = _occupied(source, number)
    keys = tiles.unit.astype(np.int64) * 1000 + tiles.instance
    distinct, row = np.unique(keys, return_inverse=True)
    rows = [f"{_UNITS[key // 1000].value} {key % 1000}" for key in distinct.tolist()]
    return rows, _joined(row.ravel(), start, end, tiles.operator, int(source.plan.latency))


def _joined(
    row: np.ndarray, start: np.ndarray, end: np.ndarray, operator: np.ndarray, span: int
) -> dict[str, np.ndarray]:
    """Intervals of one row and operator that follow each other, as one; gaps of ever more cycles are
    bridged until there are not too many."""
    order = np.lexsort((start, row))
    row, start, end, operator = row[order], start[order], end[order], operator[order]
    alike = (row[1:] == row[:-1]) & (operator[1:] == operator[:-1])
    gap, bridge = start[1:] - end[:-1], max(0, span // 4000)
    cuts = np.flatnonzero(~(alike & (gap <= bridge)))
    while len(cuts) > MOST_BARS and bridge <= span:
        bridge = 2 * bridge + 1
        cuts = np.flatnonzero(~((alike if bridge < span // 200 else row[1:] == row[:-1]) & (gap <= bridge)))
    first = np.append(0, cuts + 1) if len(row) else np.zeros(0, dtype=np.int64)
    last = np.append(first[1:], len(row)) - 1 if len(row) else first
    busy = np.add.reduceat(end - start, first) if len(first) else first
    return {
        "row": row[first],
        "start": start[first],
        "end": end[last],
        "operator": operator[first],
        "busy": busy,
    }


def _link_bars(source: Source, stage: int, rows: int) -> tuple[list[str], dict[str, np.ndarray]]:
    hops, columns = _hops_of(source, stage), source.plan.hops
    held = np.bincount(columns.link[hops], weights=(columns.end - columns.start)[hops], minlength=1)
    busiest = np.argsort(-held, kind="stable")[:LINK_ROWS]
    busiest = busiest[held[busiest] > 0]
    place = np.full(len(held), -1, dtype=np.int64)
    place[busiest] = rows + np.arange(len(busiest))
    hops = hops[place[columns.link[hops]] >= 0]
    links = source.plan.target.topology.links
    names = [f"link {links[link].source}→{links[link].destination}" for link in busiest.tolist()]
    none = np.zeros(len(hops), dtype=np.int64)
    row = place[columns.link[hops]]
    return names, _joined(row, columns.start[hops], columns.end[hops], none, int(source.plan.latency))


def _bars_on_path(source: Source, stage: int, rows: list[str], bars: dict[str, np.ndarray]) -> list[int]:
    """Whether the critical path runs through each bar of a unit."""
    table = source.timeline.tiles
    mine = [source.path_on.get((stage, unit.value)) for unit in _UNITS]
    steps = np.concatenate(
        [np.zeros(0, dtype=np.int64), *(found[:, 0] for found in mine if found is not None)]
    )
    marked = np.zeros(len(bars["row"]), dtype=np.int64)
    names = [f"{_UNITS[u].value} {i}" for u, i in zip(table.unit[steps], table.instance[steps], strict=True)]
    number = {name: at for at, name in enumerate(rows)}
    at = np.array([number[name] for name in names], dtype=np.int64)
    low = int(min(bars["start"].min(initial=0), 0))
    span = int(source.plan.latency) + 1 - low
    keys = bars["row"] * span + (bars["start"] - low)
    found = np.searchsorted(keys, at * span + (table.start[steps] - low), side="right") - 1
    marked[found[found >= 0]] = 1
    return marked.tolist()
