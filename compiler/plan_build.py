"""Write a schedule down as a plan: columns in their canonical order, and an address for every buffer."""

from collections.abc import Sequence

import numpy as np

from chiplan.ir import (
    BufferColumns,
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

from .addresses import BufferNeed, assign_addresses, rotation_copies
from .links import SentTensor
from .scheduling import Schedule, ScheduledOperator, StageWork

_UNIT_NUMBER = {unit: number for number, unit in enumerate(Unit)}


def build_stages(stages: Sequence[StageWork], schedule: Schedule) -> tuple[Stage, ...]:
    """A stage a chip, with its tile program."""
    everywhere = [operator for stage in stages for operator in stage.operators]
    shared = (
        {operator for operator in everywhere if everywhere.count(operator) > 1} if len(stages) > 1 else set()
    )
    return tuple(
        Stage(
            chips=(ChipId(stage.chip),),
            mesh=(1,),
            program=_program(stage, [schedule.programs[i, stage.chip] for i in stage.operators]),
            recomputed=tuple(i for i in stage.operators if i in shared),
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


def build_transfers(sent: Sequence[SentTensor], names: dict[str, int]) -> tuple[TransferColumns, HopColumns]:
    """One row a chunk, and one row a link that it crosses."""
    rows = [
        (chunk.start, s.source, s.destination, names[s.tensor], chunk.first, chunk.last, chunk)
        for s in sent
        for chunk in s.chunks
    ]
    rows.sort(key=lambda row: row[:5])
    hops = [
        (number, hop, link, start, start + chunk.slot)
        for number, (*_, chunk) in enumerate(rows)
        for hop, (link, start) in enumerate(zip(chunk.links, chunk.hop_starts(), strict=True))
    ]
    columns = np.array([row[:6] for row in rows], dtype=np.int64).reshape(-1, 6)
    hop_columns = np.array(hops, dtype=np.int64).reshape(-1, 5)
    transfers = TransferColumns(
        start=columns[:, 0].copy(),
        source=columns[:, 1].astype(np.int32),
        destination=columns[:, 2].astype(np.int32),
        tensor=columns[:, 3].astype(np.int32),
        first=columns[:, 4].copy(),
        last=columns[:, 5].copy(),
        into=columns[:, 3].astype(np.int32),
        at=columns[:, 4].copy(),
    )
    return transfers, HopColumns(
        transfer=hop_columns[:, 0].astype(np.int32),
        hop=hop_columns[:, 1].astype(np.int16),
        link=hop_columns[:, 2].astype(np.int32),
        start=hop_columns[:, 3].copy(),
        end=hop_columns[:, 4].copy(),
    )


def buffer_needs(graph: Graph, stage: StageWork, schedule: Schedule, users: int) -> list[BufferNeed]:
    """Every buffer of a stage's chip: residents, inputs, values made there or received."""
    touched = dict.fromkeys(
        name
        for index in stage.operators
        for name in (
            *(operand.tensor for operand in graph.operators[index].operands),
            *(result.tensor for result in graph.operators[index].results),
        )
    )
    touched |= dict.fromkeys(name for chip, name in schedule.lifetimes if chip == stage.chip)
    needs = []
    for name in sorted(touched):
        tensor = graph.tensors[name]
        if tensor.role in (Role.WEIGHT, Role.STATE):
            copies = users if tensor.role is Role.STATE else 1
            needs.append(BufferNeed(name, tensor.nbytes, copies, 0, -1))
            continue
        life = schedule.lifetimes[stage.chip, name]
        copies = rotation_copies(life.birth, life.death, schedule.interval)
        needs.append(BufferNeed(name, tensor.nbytes, copies, life.birth, life.death))
    return needs


def build_buffers(
    graph: Graph,
    stages: Sequence[StageWork],
    schedule: Schedule,
    target: Target,
    users: int,
    names: dict[str, int],
) -> BufferColumns:
    """Addresses of all buffers on all chips; raises OutOfSram."""
    rows: list[tuple[int, int, int, int, int, int, int]] = []
    for stage in stages:
        needs = buffer_needs(graph, stage, schedule, users)
        addresses = assign_addresses(stage.chip, needs, target.chip, schedule.interval)
        rows += [
            (stage.chip, address, names[n.tensor], n.nbytes, n.copies, n.birth, n.death)
            for n, address in zip(needs, addresses, strict=True)
        ]
    rows.sort()
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
