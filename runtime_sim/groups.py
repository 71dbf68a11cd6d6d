"""Which stage a chip works for, and at which place of its group's mesh."""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from chiplan.ir import MeshPlace, Plan, mesh_places

from .faults import Fault, first_rows

Place = tuple[int, str]
"""A stage and a tensor: all chips of the stage's group have a buffer for it."""


class Ends(NamedTuple):
    """Stage and rank (position in `Stage.chips`) of both ends of every transfer; stage -1: none."""

    source: np.ndarray
    source_rank: np.ndarray
    destination: np.ndarray
    destination_rank: np.ndarray


class Groups:
    """The chips of a plan's stages. `head[c]` is the first chip of the group that chip c is in, by
    which its buffers go; c itself if it works for no stage."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        chips = plan.target.topology.chips
        self.stage = np.full(chips, -1, dtype=np.int64)
        self.rank = np.zeros(chips, dtype=np.int64)
        self.head = np.arange(chips, dtype=np.int64)
        for number, stage in enumerate(plan.stages):
            members = np.array(stage.chips, dtype=np.int64)
            self.stage[members] = number
            self.rank[members] = np.arange(len(members))
            self.head[members] = members[0]

    def mesh(self, stage: int) -> tuple[int, ...]:
        return self._plan.stages[stage].mesh

    @cached_property
    def places(self) -> tuple[tuple[MeshPlace, ...], ...]:
        """The places of every stage's chips, in their order."""
        return tuple(tuple(mesh_places(stage.mesh)) for stage in self._plan.stages)

    @cached_property
    def ends(self) -> Ends:
        source, destination = self._plan.transfers.source, self._plan.transfers.destination
        return Ends(self.stage[source], self.rank[source], self.stage[destination], self.rank[destination])

    @cached_property
    def arrivals(self) -> dict[Place, np.ndarray]:
        """Rows of the transfers that bring a tensor to a stage's chips."""
        return self._transfers_by(self.ends.destination, self._plan.transfers.into)

    @cached_property
    def sends(self) -> dict[Place, np.ndarray]:
        """Rows of the transfers that leave with a tensor from a stage's chips."""
        return self._transfers_by(self.ends.source, self._plan.transfers.tensor)

    def _transfers_by(self, stage: np.ndarray, tensor: np.ndarray) -> dict[Place, np.ndarray]:
        order = np.lexsort((tensor, stage))
        first, second = stage[order], tensor[order]
        cuts = np.flatnonzero((first[1:] != first[:-1]) | (second[1:] != second[:-1])) + 1
        groups = np.split(order, cuts) if len(order) else []
        return {(int(stage[rows[0]]), self._plan.tensor_names[tensor[rows[0]]]): rows for rows in groups}


def check_groups(groups: Groups, plan: Plan) -> Iterator[Fault]:
    """wrong_group: a chip works for one stage, and buffers are given by the first chip of a group."""
    seen: dict[int, int] = {}
    for number, stage in enumerate(plan.stages):
        for chip in map(int, stage.chips):
            if chip in seen:
                message = f"chip {chip} is in stage {seen[chip]} and again in stage {number}"
                yield Fault("wrong_group", message, chip=chip, stage=number)
            seen[chip] = number
    chips = plan.buffers.chip
    for row in first_rows((groups.stage[chips] < 0) | (groups.head[chips] != chips)):
        tensor = plan.tensor_names[plan.buffers.tensor[row]]
        message = (
            f"the buffer of {tensor} at address {plan.buffers.address[row]} is on chip {chips[row]}, "
            "which is not the first chip of a stage"
        )
        yield Fault("wrong_group", message, chip=int(chips[row]), tensor=tensor)
