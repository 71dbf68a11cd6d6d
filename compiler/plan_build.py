"""Write a schedule down as a plan: columns in their canonical order, and an address for every buffer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chiplan.ir import (
    BufferColumns,
    Certificate,
    ChipId,
    Graph,
    HopColumns,
    Role,
    Stage,
    Target,
    TileColumns,
    TileProgram,
    TransferColumns,
    Unit,
)

from .addresses import AddressSearch, BufferNeed, OutOfSram, assign_addresses, rotation_copies
from .movements import Movement
from .scheduled_tiles import ScheduledOperator
from .scheduling import Lifetime, Schedule, StageWork

_UNIT_NUMBER = {unit: number for number, unit in enumerate(Unit)}


def build_stages(stages: Sequence[StageWork], schedule: Schedule) -> tuple[Stage, ...]:
    """Every stage with its chips and its tile program."""
    counts = Counter(operator for stage in stages for operator in stage.operators)
    return tuple(
        Stage(
            chips=tuple(map(ChipId, stage.chips)),
            mesh=stage.mesh,
            program=_program(stage, [schedule.programs[i, stage.first_chip] for i in stage.operators]),
            recomputed=tuple(i for i in stage.operators if counts[i] > 1),
        )
        for stage in stages
    )


def _program(stage: StageWork, scheduled: Sequence[ScheduledOperator]) -> TileProgram:
    counts = [len(done.start) for done in scheduled]
    units = [_UNIT_NUMBER[done.tiled.operator.unit] for done in scheduled]
    tiles = TileColumns(
        operator=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        tile=np.concatenate([np.arange(n, dtype=np.int32) for n in counts]),
        unit=np.repeat(np.array(units, dtype=np.uint8), counts),
        instance=np.concatenate([done.instance for done in scheduled]).astype(np.int16),
        start=np.concatenate([done.start for done in scheduled]).astype(np.int64),
        end=np.concatenate([done.end for done in scheduled]).astype(np.int64),
    )
    return TileProgram(stage.operators, tuple(done.tiled.tiling for done in scheduled), tiles)


def build_transfers(sent: Sequence[Movement], names: dict[str, int]) -> tuple[TransferColumns, HopColumns]:
    """One row a leg, and one row a link that it crosses."""
    rows = np.concatenate([np.zeros((0, 9), dtype=np.int64), *(_leg_rows(m, names) for m in sent)])
    order = np.lexsort(rows[:, :5].T[::-1])
    rows = rows[order]
    widest = max((m.links.shape[1] for m in sent), default=1)
    links = [np.pad(m.links, ((0, 0), (0, widest - m.links.shape[1])), constant_values=-1) for m in sent]
    routes = np.concatenate([np.zeros((0, widest), dtype=np.int32), *links])[order]
    transfer, hop = np.nonzero(routes >= 0)
    start = rows[transfer, 0] + hop * (sent[0].stride if sent else 0)
    transfers = TransferColumns(
        start=rows[:, 0].copy(),
        source=rows[:, 1].astype(np.int32),
        destination=rows[:, 2].astype(np.int32),
        tensor=rows[:, 3].astype(np.int32),
        first=rows[:, 4].copy(),
        last=rows[:, 5].copy(),
        into=rows[:, 6].astype(np.int32),
        at=rows[:, 7].copy(),
    )
    return transfers, HopColumns(
        transfer=transfer.astype(np.int32),
        hop=hop.astype(np.int16),
        link=routes[transfer, hop].astype(np.int32),
        start=start,
        end=start + rows[transfer, 8],
    )


def _leg_rows(sent: Movement, names: dict[str, int]) -> np.ndarray:
    """start, source, destination, tensor, first, last, into, at and slot of every leg, int64[legs, 9]."""
    tensor, into = (
        np.full(len(sent.start), names[name], dtype=np.int64) for name in (sent.tensor, sent.into)
    )
    columns = (sent.start, sent.source, sent.destination, tensor, sent.first, sent.last, into, sent.at)
    return np.stack([*columns, sent.slot], axis=1)


def _buffer_needs(
    graph: Graph, stage: StageWork, lifetimes: Mapping[str, Lifetime], interval: int, users: int
) -> list[BufferNeed]:
    """Every buffer of each of a stage's chips: residents, inputs, values made there or received, which live
    for `lifetimes`."""
    touched = set(lifetimes)
    for index in stage.operators:
        touched.update(operand.tensor for operand in graph.operators[index].operands)
        touched.update(result.tensor for result in graph.operators[index].results)
    needs = []
    for name in sorted(touched):
        tensor = graph.tensors[name]
        if tensor.role in (Role.WEIGHT, Role.STATE):
            copies = users if tensor.role is Role.STATE else 1
            needs.append(BufferNeed(name, tensor.nbytes, copies, 0, -1))
            continue
        life = lifetimes[name]
        copies = rotation_copies(life.birth, life.death, interval)
        needs.append(BufferNeed(name, tensor.nbytes, copies, life.birth, life.death))
    return needs


@dataclass(frozen=True)
class PlacedBuffers:
    """All buffers with their addresses, and a certificate of every chip where a solver had to find them."""

    columns: BufferColumns
    certificates: tuple[Certificate, ...]


def build_buffers(
    graph: Graph,
    stages: Sequence[StageWork],
    schedule: Schedule,
    target: Target,
    users: int,
    names: dict[str, int],
    search: AddressSearch | None = None,
) -> PlacedBuffers:
    """Addresses of all buffers on all chips; raises OutOfSram."""
    rows: list[tuple[int, int, int, int, int, int, int]] = []
    certificates = []
    lifetimes: dict[int, dict[str, Lifetime]] = {}
    for (chip, name), life in schedule.lifetimes.items():
        lifetimes.setdefault(chip, {})[name] = life
    for stage in stages:
        held = lifetimes.get(stage.first_chip, {})
        needs = _buffer_needs(graph, stage, held, schedule.interval, users)
        try:
            placed = assign_addresses(stage.first_chip, needs, target.chip, schedule.interval, search)
        except OutOfSram as shortage:
            shortage.graph, shortage.operators = graph, stage.operators
            raise
        rows += [
            (stage.first_chip, address, names[n.tensor], n.nbytes, n.copies, n.birth, n.death)
            for n, address in zip(needs, placed.addresses, strict=True)
        ]
        certificates += [] if placed.certificate is None else [placed.certificate]
    rows.sort()
    return PlacedBuffers(_columns(rows), tuple(certificates))


def _columns(rows: Sequence[tuple[int, ...]]) -> BufferColumns:
    """Rows (chip, address, tensor, nbytes, copies, birth, death) as columns."""
    columns = np.array(rows, dtype=np.int64).reshape(-1, 7)
    return BufferColumns(
        chip=columns[:, 0].astype(np.int32),
        address=columns[:, 1].copy(),
        tensor=columns[:, 2].astype(np.int32),
        nbytes=columns[:, 3].copy(),
        copies=columns[:, 4].astype(np.int32),
        birth=columns[:, 5].copy(),
        death=columns[:, 6].copy(),
    )
