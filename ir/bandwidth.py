"""How many bytes a cycle a unit moves: its streams, its share of the SRAM's bandwidth, its load port.

Every instance has a fixed share, so that what one does never depends on what another does in the same
cycle. `docs/machine-model.md` has the rules with their sources and worked examples.
"""

from collections.abc import Mapping
from math import ceil

import numpy as np

from .graph import Operator, Tensor, Unit
from .target import Chip


def unit_instances(chip: Chip, unit: Unit) -> int:
    """How many instances of a unit kind a chip has."""
    return _units(chip)[unit][0]


def _units(chip: Chip) -> dict[Unit, tuple[int, int]]:
    """(instances, streams of each) of every unit kind."""
    return {
        Unit.MATRIX: (chip.matrix.instances, chip.matrix.streams),
        Unit.VECTOR: (chip.vector.instances, chip.vector.streams),
        Unit.SWITCH: (chip.switch.instances, chip.switch.streams),
        Unit.MEMORY: (chip.memory.instances, chip.memory.streams),
    }


def streams_taken(chip: Chip) -> int:
    """Streams that all instances, their loads and the links hold together; the budget is
    `streams.count` x `streams.sides`."""
    taken = sum(instances * streams for instances, streams in _units(chip).values())
    load = ceil(chip.matrix.load_bytes_per_cycle / max(1, chip.streams.nbytes))
    return taken + chip.matrix.instances * load + chip.streams.links


def unit_rate(chip: Chip, unit: Unit) -> int | None:
    """Bytes of operands and results together that an instance moves a cycle at the most; None where no
    rule limits it."""
    demand = _units(chip)[unit][1] * chip.streams.nbytes
    limits = [demand] if chip.rules.stream_budget else []
    if chip.rules.sram_bandwidth:
        limits.append(_of_sram(chip, demand))
    return max(1, min(limits)) if limits else None


def load_rate(chip: Chip) -> int:
    """Bytes of a stationary block that an instance loads a cycle."""
    matrix = chip.matrix
    rate = matrix.load_bytes_per_cycle * (1 if chip.rules.shared_load_port else matrix.instances)
    return max(1, min(rate, _of_sram(chip, rate))) if chip.rules.sram_bandwidth else rate


def _of_sram(chip: Chip, demand: int) -> int:
    """The part of the SRAM's bandwidth that falls to a demand, in proportion to all of them."""
    everything = streams_taken(chip) * chip.streams.nbytes
    return demand * chip.sram_bytes_per_cycle // max(1, everything)


def moved_bytes(operator: Operator, tensors: Mapping[str, Tensor], extents: np.ndarray) -> np.ndarray:
    """Bytes that tiles of these extents (int64[..., factors]) read and write over streams, int64[...].

    matrix: the streamed operand, and the result; what is loaded has a port of its own. vector: all operands
    and results, each element of a tile's region once. switch, memory: what is written, in and out.
    """
    results = [(result.tensor, result.axes) for result in operator.results]
    operands = [(operand.tensor, operand.axes) for operand in operator.operands]
    if operator.unit is Unit.MATRIX:
        touched = [operands[0], *results]
    elif operator.unit is Unit.VECTOR:
        touched = [*operands, *results]
    else:
        touched = [results[0], results[0]]
    return np.asarray(sum(_bytes(tensors[name], axes, extents) for name, axes in touched))


def _bytes(tensor: Tensor, axes: tuple[int | None, ...], extents: np.ndarray) -> np.ndarray:
    used = [axis for axis in axes if axis is not None]
    return np.asarray(extents[..., used].prod(axis=-1) * tensor.dtype.itemsize)
