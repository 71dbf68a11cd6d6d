"""What a given cut costs: the figures that the solver minimises, computed directly."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from .problem import PartitionProblem


def stage_load(problem: PartitionProblem, stage: Sequence[int]) -> int:
    """Largest unit load of a stage in cycles, recomputed operators included."""
    stages = np.asarray(stage)
    load = np.zeros((problem.stages, problem.work.shape[1]), dtype=np.int64)
    np.add.at(load, stages, problem.work)
    for index, used in enumerate(recomputed_on(problem, stage)):
        load[sorted(used)] += np.array(problem.recomputed[index].work)
    return int(load.max(initial=0))


def link_load(problem: PartitionProblem, stage: Sequence[int]) -> int:
    """Estimate of the cycles that the links need: the fullest stage boundary over `link_ways`."""
    crossed = np.zeros(problem.stages, dtype=np.int64)
    for carried in problem.carried:
        last = max(stage[consumer] for consumer in carried.consumers)
        crossed[stage[carried.producer] : last] += carried.cycles
    return ceil(int(crossed.max(initial=0)) / problem.link_ways)


def link_cycles_crossed(problem: PartitionProblem, stage: Sequence[int]) -> int:
    """Link cycles of all tensors, once for every stage boundary that they cross."""
    return sum(
        carried.cycles * (max(stage[consumer] for consumer in carried.consumers) - stage[carried.producer])
        for carried in problem.carried
    )


def fits(problem: PartitionProblem, stage: Sequence[int]) -> bool:
    """Whether every stage's resident bytes and largest activations are within the capacity."""
    used = recomputed_on(problem, stage)
    stages = np.asarray(stage)
    held = np.zeros(problem.stages, dtype=np.int64)
    for resident in problem.resident:
        here = {stage[item] for item in resident.items}.union(*(used[r] for r in resident.recomputed))
        held[sorted(here)] += resident.nbytes
    active = np.zeros(problem.stages, dtype=np.int64)
    np.maximum.at(active, stages, problem.activations)
    return bool((held + active).max(initial=0) <= problem.capacity)


def recomputed_on(problem: PartitionProblem, stage: Sequence[int]) -> list[set[int]]:
    """Stages that execute each recomputed operator. Cones refer to later entries' users, so the list is
    walked from the last operator back."""
    used: list[set[int]] = [set() for _ in problem.recomputed]
    for index in reversed(range(len(problem.recomputed))):
        entry = problem.recomputed[index]
        used[index] = {stage[item] for item in entry.items}
        for cone in entry.cones:
            used[index] |= used[cone]
    return used
