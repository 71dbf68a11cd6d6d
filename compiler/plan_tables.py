"""A plan as tables of comma-separated values, one file a table: for pandas, DuckDB or a spreadsheet.

docs/exports.md lists the columns. The tables follow RFC 4180.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chiplan.ir import Plan, Stage, Unit

from .column_text import column_lines, text_column
from .plan_summary import summarise_links, summarise_stages

UNITS = tuple(unit.value for unit in Unit)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula."""
_SPECIAL = frozenset('",\r\n')


@dataclass(frozen=True)
class Table:
    """`columns`: title and values, all of one length; texts are arrays of objects, not yet quoted."""

    name: str
    columns: tuple[tuple[str, np.ndarray], ...]


def text_field(text: str) -> str:
    """A text as a field: no formula (an apostrophe goes before what would be one), quoted where needed."""
    if text.startswith(_FORMULA):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.intersection(text) else text


def write_table(table: Table, folder: Path) -> None:
    """`folder/NAME.csv`; a line an entry, ended by CR LF."""
    columns = [_written(values) for _, values in table.columns]
    template = ",".join("%s" if values.dtype == object else "%d" for values in columns) + "\r\n"
    with (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(title for title, _ in table.columns) + "\r\n")
        file.writelines(column_lines(template, columns))


def _written(values: np.ndarray) -> np.ndarray:
    """Texts are quoted once for each that is different; floats become their shortest text."""
    if values.dtype.kind == "f":
        return text_column([repr(value) for value in values.tolist()])
    if values.dtype != object:
        return values
    different = dict.fromkeys(values.tolist())
    fields = {text: text_field(text) for text in different}
    return text_column(list(map(fields.__getitem__, values.tolist())))


def plan_tables(plan: Plan) -> Iterator[Table]:
    """All tables of a plan."""
    yield _stages(plan)
    yield _operators(plan)
    yield _tiles(plan)
    yield _transfers(plan)
    hops = plan.hops
    route = _columns(transfer=hops.transfer, hop=hops.hop, link=hops.link)
    yield Table("hops", (*route, ("start_cycle", hops.start), ("end_cycle", hops.end)))
    yield _links(plan)
    yield _units(plan)
    yield _buffers(plan)
    yield _records("bounds", plan.bounds, ("quantity", "value", "binding"))
    figures = ("problem", "status", "objective", "bound", "gap", "deterministic_time")
    yield _records("certificates", plan.certificates, figures)
    splits = ("block", "stages", "node", "operator", "mesh", "factors", "gives", "cycles")
    yield _records("sharding", plan.sharding, (*splits, "next_factors", "next_cost", "pinned"))


def _columns(**columns: np.ndarray) -> tuple[tuple[str, np.ndarray], ...]:
    return tuple(columns.items())


def _words(values: Iterable[object]) -> str:
    """Several entries in one field, between blanks."""
    return " ".join(map(str, values))


def _records(name: str, rows: Sequence[object], fields: Sequence[str]) -> Table:
    """Dataclasses as a table."""
    return Table(name, tuple((field, _values([getattr(row, field) for row in rows])) for field in fields))


def _values(values: Sequence[object]) -> np.ndarray:
    if values and all(isinstance(value, int) for value in values):
        return np.array(values, dtype=np.int64)
    if values and all(isinstance(value, float) for value in values):
        return np.array(values, dtype=np.float64)
    return text_column([_words(value) if isinstance(value, tuple) else str(value) for value in values])


def _stages(plan: Plan) -> Table:
    stages = summarise_stages(plan)
    fields = ("index", "chips", "mesh", "operators", "recomputed", "tiles", "first_node", "last_node")
    table = _records("stages", stages, (*fields, "sram_bytes", "weight_bytes", "state_bytes"))
    busy = ((f"{u.value}_cycles", _values([stage.busy[u] for stage in stages])) for u in Unit)
    return Table("stages", (("stage", table.columns[0][1]), *table.columns[1:], *busy))


def _operators(plan: Plan) -> Table:
    """One row for each operator that a stage executes."""
    rows = [row for number, stage in enumerate(plan.stages) for row in _stage_operators(plan, number, stage)]
    what = ("stage", "operator", "name", "unit", "nodes", "factors", "blocks", "splits", "recomputed")
    titles = (*what, "tiles", "busy_cycles", "start_cycle", "end_cycle")
    columns = zip(*rows, strict=True) if rows else [()] * len(titles)
    return Table("operators", tuple((t, _values(c)) for t, c in zip(titles, columns, strict=True)))


def _stage_operators(plan: Plan, number: int, stage: Stage) -> Iterator[tuple[object, ...]]:
    program, tiles = stage.program, stage.program.tiles
    count = len(program.operators)
    first = np.searchsorted(tiles.operator, np.arange(count + 1))
    busy = np.add.reduceat(tiles.end - tiles.start, first[:-1])
    begin, end = np.minimum.reduceat(tiles.start, first[:-1]), np.maximum.reduceat(tiles.end, first[:-1])
    recomputed = frozenset(stage.recomputed)
    for place, (index, tiling) in enumerate(zip(program.operators, program.tilings, strict=True)):
        operator = plan.graph.operators[index]
        factors = operator.factors
        yield (
            number,
            index,
            operator.name,
            operator.unit.value,
            operator.nodes,
            _words(f"{factor.name}={factor.extent}" for factor in factors),
            tiling.blocks,
            _words(f"{factors[s.factor].name}/{_words(s.axes)}" for s in operator.splits),
            int(index in recomputed),
            int(first[place + 1] - first[place]),
            int(busy[place]),
            int(begin[place]),
            int(end[place]),
        )


def _tiles(plan: Plan) -> Table:
    """One row a tile of every stage; all chips of a stage execute it."""
    programs = [stage.program for stage in plan.stages]
    counts = [len(program.tiles.start) for program in programs]
    indices = [np.array(program.operators)[program.tiles.operator] for program in programs]
    tiles = [program.tiles for program in programs]
    units = text_column(UNITS)[np.concatenate([t.unit for t in tiles])]
    return Table(
        "tiles",
        _columns(
            stage=np.repeat(np.arange(len(programs)), counts),
            operator=np.concatenate(indices),
            tile=np.concatenate([t.tile for t in tiles]),
            unit=units,
            instance=np.concatenate([t.instance for t in tiles]),
            start_cycle=np.concatenate([t.start for t in tiles]),
            end_cycle=np.concatenate([t.end for t in tiles]),
        ),
    )


def _stage_of(plan: Plan) -> np.ndarray:
    """int64[chips of the target]; -1 for a chip without a stage."""
    stage_of = np.full(plan.target.topology.chips, -1, dtype=np.int64)
    for number, stage in enumerate(plan.stages):
        stage_of[list(stage.chips)] = number
    return stage_of


def _transfers(plan: Plan) -> Table:
    sent, stage_of, names = plan.transfers, _stage_of(plan), text_column(plan.tensor_names)
    sizes = np.array([plan.graph.tensors[n].dtype.itemsize for n in plan.tensor_names], dtype=np.int64)
    return Table(
        "transfers",
        _columns(
            transfer=np.arange(len(sent.start)),
            tensor=names[sent.tensor],
            source_chip=sent.source,
            destination_chip=sent.destination,
            source_stage=stage_of[sent.source],
            destination_stage=stage_of[sent.destination],
            first=sent.first,
            last=sent.last,
            bytes=(sent.last - sent.first) * sizes[sent.tensor],
            start_cycle=sent.start,
            into=names[sent.into],
            at=sent.at,
        ),
    )


def _links(plan: Plan) -> Table:
    """One row a link of the target, in order; those that carry nothing have zeros."""
    links = plan.target.topology.links
    used = {int(entry.index): entry for entry in summarise_links(plan)}
    busy = [used[n].busy if n in used else 0 for n in range(len(links))]
    carried = [used[n].transfers if n in used else 0 for n in range(len(links))]
    return Table(
        "links",
        _columns(
            link=np.arange(len(links)),
            source_chip=_values([int(link.source) for link in links]),
            destination_chip=_values([int(link.destination) for link in links]),
            port=_values([link.port for link in links]),
            transfers=_values(carried),
            busy_cycles=_values(busy),
        ),
    )


def _units(plan: Plan) -> Table:
    """One row for each unit instance of a stage's chips that executes anything."""
    rows = []
    for number, stage in enumerate(plan.stages):
        tiles = stage.program.tiles
        pairs = np.stack([tiles.unit, tiles.instance], axis=1)
        instances, which = np.unique(pairs, axis=0, return_inverse=True)
        busy = np.bincount(which.ravel(), weights=tiles.end - tiles.start)
        counts = np.bincount(which.ravel())
        rows += [
            (number, UNITS[unit], instance, int(count), int(cycles))
            for (unit, instance), count, cycles in zip(instances.tolist(), counts, busy, strict=True)
        ]
    titles = ("stage", "unit", "instance", "tiles", "busy_cycles")
    columns = zip(*rows, strict=True)
    return Table("units", tuple((t, _values(c)) for t, c in zip(titles, columns, strict=True)))


def _buffers(plan: Plan) -> Table:
    held, names = plan.buffers, text_column(plan.tensor_names)
    roles = text_column([plan.graph.tensors[name].role.value for name in plan.tensor_names])
    return Table(
        "buffers",
        _columns(
            chip=held.chip,
            stage=_stage_of(plan)[held.chip],
            tensor=names[held.tensor],
            role=roles[held.tensor],
            address=held.address,
            bytes=held.nbytes,
            copies=held.copies,
            birth_cycle=held.birth,
            death_cycle=held.death,
        ),
    )


def write_tables(plan: Plan, folder: Path) -> None:
    """Every table of the plan into `folder`."""
    for table in plan_tables(plan):
        write_table(table, folder)
