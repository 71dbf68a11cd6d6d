"""How busy every unit, link and memory is, and which resource sets the pace."""

from dataclasses import dataclass, replace

import numpy as np

from chiplan.ir import Plan

from .circle import circular_neighbours
from .timeline import UNITS, Timeline


@dataclass(frozen=True)
class UnitUse:
    """The instances of one unit kind of a chip in one interval: `busy` cycles of all together, a matrix
    tile counting its block's load where that is longer; `utilisation` is the share of instances x
    interval."""

    chip: int
    unit: str
    instances: int
    busy: int
    utilisation: float


@dataclass(frozen=True)
class LinkUse:
    """A link that carries something: busy cycles, and their share of the interval."""

    link: int
    source: int
    destination: int
    busy: int
    utilisation: float


@dataclass(frozen=True)
class MemoryPeak:
    """Bytes of a chip's SRAM up to the highest one that a buffer holds, of those usable."""

    chip: int
    peak_bytes: int
    usable_bytes: int


def covered_bytes(plan: Plan) -> dict[int, int]:
    """By chip: bytes of SRAM that its buffers cover over the whole run, all copies counted, each as long as
    the alignment makes it."""
    buffers, alignment = plan.buffers, int(plan.target.chip.alignment)
    order = np.lexsort((buffers.address, buffers.chip))
    chips, first = np.unique(buffers.chip[order], return_index=True)
    low = buffers.address[order]
    high = low + (-(-buffers.nbytes // alignment) * alignment * buffers.copies)[order]
    ends = [*first[1:].tolist(), len(order)]
    return {
        chip: _union(low[start:end], high[start:end])
        for chip, start, end in zip(chips.tolist(), first.tolist(), ends, strict=True)
    }


def _union(low: np.ndarray, high: np.ndarray) -> int:
    """Length of the union of intervals that are sorted by where they begin."""
    reached = np.maximum.accumulate(high)
    before = np.concatenate([low[:1], reached[:-1]])
    return int((reached - np.maximum(before, low)).clip(min=0).sum())


def unit_use(timeline: Timeline) -> tuple[UnitUse, ...]:
    """One entry a chip and unit kind that has work, by chip and kind. The chips of a group are alike."""
    table = timeline.tiles
    keys, which = np.unique(table.stage * len(UNITS) + table.unit, return_inverse=True)
    busy = np.bincount(which.ravel(), weights=np.maximum(table.occupancy, table.load), minlength=len(keys))
    uses = []
    for key, cycles in zip(keys.tolist(), busy.tolist(), strict=True):
        stage, unit = divmod(key, len(UNITS))
        instances = timeline.instances(unit)
        share = cycles / max(1, instances * int(timeline.plan.interval))
        use = UnitUse(0, UNITS[unit].value, instances, int(cycles), share)
        uses += [replace(use, chip=int(chip)) for chip in timeline.plan.stages[stage].chips]
    order = [unit.value for unit in UNITS]
    return tuple(sorted(uses, key=lambda use: (use.chip, order.index(use.unit))))


def link_use(timeline: Timeline) -> tuple[LinkUse, ...]:
    """One entry a link that carries something, by link."""
    hops = timeline.plan.hops
    links, which = np.unique(hops.link, return_inverse=True)
    busy = np.bincount(which.ravel(), weights=hops.end - hops.start, minlength=len(links))
    uses = []
    for link, cycles in zip(links.tolist(), busy.tolist(), strict=True):
        source, destination, _ = timeline.plan.target.topology.links[link]
        share = cycles / max(1, int(timeline.plan.interval))
        uses.append(LinkUse(link, int(source), int(destination), int(cycles), share))
    return tuple(uses)


def memory_peaks(timeline: Timeline, highest: np.ndarray) -> tuple[MemoryPeak, ...]:
    """One entry a chip with buffers, by chip. `highest` is the byte behind each buffer, which all chips
    of a group have."""
    heads, which = np.unique(timeline.plan.buffers.chip, return_inverse=True)
    peak = np.zeros(len(heads), dtype=np.int64)
    np.maximum.at(peak, which.ravel(), highest)
    usable = int(timeline.chip.usable_bytes)
    groups = timeline.groups
    peaks = [
        MemoryPeak(int(chip), bytes_used, usable)
        for head, bytes_used in zip(heads.tolist(), peak.tolist(), strict=True)
        for chip in timeline.plan.stages[int(groups.stage[head])].chips
    ]
    return tuple(sorted(peaks, key=lambda memory: memory.chip))


def critical_resource(timeline: Timeline) -> str:
    """The instance or link that is held longest in an interval, in words. A matrix instance is held
    by a tile for as long as the next block takes to load, if that is longer."""
    interval = int(timeline.plan.interval)
    held, name = timeline.busiest
    table = timeline.tiles
    if len(table.start):
        pairs = circular_neighbours(timeline.resource, table.start, timeline.interval)
        cycles = np.maximum(table.occupancy[pairs.first], table.load[pairs.second])
        _, row, which = np.unique(timeline.resource[pairs.first], return_index=True, return_inverse=True)
        total = np.bincount(which.ravel(), weights=cycles)
        top = int(total.argmax())
        if int(total[top]) > held:
            held, name = int(total[top]), timeline.instance_name(int(pairs.first[row[top]]))
    return f"{name} is held for {held} of {interval} cycles"
