"""Memory in a report: what is at which address of a chip's SRAM in which cycles."""

from typing import Any

import numpy as np

from .report_source import Source, StageRun, shown_name

MOST_BUFFERS = 4000
"""Buffers of a stage that are shown, the largest ones."""


def stage_memory(source: Source, run: StageRun) -> dict[str, Any]:
    """The buffers of the first stage of a run as columns; all its chips have the same. A buffer that is
    never given up lasts to the end of the run."""
    plan, buffers = source.plan, source.plan.buffers
    rows = np.flatnonzero(buffers.chip == plan.stages[run.first].chips[0])
    if len(rows) > MOST_BUFFERS:
        largest = np.argsort(-buffers.nbytes[rows], kind="stable")[:MOST_BUFFERS]
        rows = np.sort(rows[largest])
    alignment = int(plan.target.chip.alignment)
    stride = -(-buffers.nbytes[rows] // alignment) * alignment
    names = [plan.tensor_names[number] for number in buffers.tensor[rows].tolist()]
    tensors = [plan.graph.tensors[name] for name in names]
    death = np.where(buffers.death[rows] < 0, int(plan.latency), buffers.death[rows])
    return {
        "stage": run.first,
        "chip": int(plan.stages[run.first].chips[0]),
        "usable": int(plan.target.chip.usable_bytes),
        "left_out": int(np.count_nonzero(buffers.chip == plan.stages[run.first].chips[0])) - len(rows),
        "tensor": [shown_name(name) for name in names],
        "shape": [f"{tensor.dtype.value} [{', '.join(map(str, tensor.shape))}]" for tensor in tensors],
        "role": [tensor.role.value for tensor in tensors],
        "address": buffers.address[rows].tolist(),
        "top": (buffers.address[rows] + stride * buffers.copies[rows]).tolist(),
        "nbytes": buffers.nbytes[rows].tolist(),
        "copies": buffers.copies[rows].tolist(),
        "birth": buffers.birth[rows].tolist(),
        "death": np.maximum(death, buffers.birth[rows]).tolist(),
        "for_ever": (buffers.death[rows] < 0).astype(int).tolist(),
    }
