"""Do transfers travel over links that exist, at link speed, one at a time on every link?"""

from collections.abc import Iterator

import numpy as np

from chiplan.ir import Plan

from .circle import circular_neighbours
from .faults import Fault, first_rows
from .steady_state import repeated, rhythms, shifted
from .timeline import Timeline


def check_ranges(timeline: Timeline) -> Iterator[Fault]:
    """broken_route: every transfer carries elements of its tensor from one chip to another, and the
    transfers are in canonical order."""
    transfers = timeline.plan.transfers
    sizes = _tensor_column(timeline.plan, "elements")[transfers.tensor]
    bad = (transfers.first < 0) | (transfers.first >= transfers.last) | (transfers.last > sizes)
    bad |= transfers.source == transfers.destination
    for row in first_rows(bad):
        yield _transfer_fault(
            timeline, row, f"carries elements {transfers.first[row]}..{transfers.last[row]} of "
            f"{sizes[row]} from chip {transfers.source[row]} to chip {transfers.destination[row]}",
        )  # fmt: skip
    room = _tensor_column(timeline.plan, "elements")[transfers.into]
    for row in first_rows((transfers.at < 0) | (transfers.at + transfers.last - transfers.first > room)):
        into = timeline.plan.tensor_names[transfers.into[row]]
        yield _transfer_fault(
            timeline, row, f"puts {transfers.last[row] - transfers.first[row]} elements at "
            f"{transfers.at[row]} of {into}, which has {room[row]}",
        )  # fmt: skip
    keys = (transfers.first, transfers.tensor, transfers.destination, transfers.source, transfers.start)
    order = np.lexsort(keys)
    for row in first_rows(order != np.arange(len(order))):
        yield _transfer_fault(
            timeline, row, "is out of the order (start, source, destination, tensor, first)"
        )


def check_routes(timeline: Timeline) -> Iterator[Fault]:
    """broken_route: hops are a connected path from source to destination with cut-through timing."""
    transfers, hops = timeline.plan.transfers, timeline.plan.hops
    count = np.bincount(hops.transfer, minlength=len(transfers.tensor))
    for row in first_rows(count == 0):
        yield _transfer_fault(timeline, row, "has no hop")
    first = np.cumsum(count) - count
    numbered = hops.hop == np.arange(len(hops.hop)) - first[hops.transfer]
    numbered[1:] &= hops.transfer[1:] >= hops.transfer[:-1]
    for row in first_rows(~numbered):
        yield _hop_fault(timeline, row, "is out of the order (transfer, hop)")
    if numbered.all():
        yield from _check_path(timeline)
        yield from _check_slots(timeline)


def _check_path(timeline: Timeline) -> Iterator[Fault]:
    """Each hop leaves the chip that the one before reached."""
    transfers, hops = timeline.plan.transfers, timeline.plan.hops
    ends = np.array(timeline.plan.target.topology.links, dtype=np.int64).reshape(-1, 3)
    leaves, reaches = ends[hops.link, 0], ends[hops.link, 1]
    here = transfers.source[hops.transfer].astype(np.int64)
    inner = hops.hop > 0
    here[inner] = reaches[:-1][inner[1:]]
    for row in first_rows(leaves != here):
        yield _hop_fault(timeline, row, "does not leave the chip where the transfer is",
                         int(here[row]), int(leaves[row]))  # fmt: skip
    is_last = np.append(hops.hop[1:] == 0, True)[: len(hops.hop)]
    goal = transfers.destination[hops.transfer]
    for row in first_rows(is_last & (reaches != goal)):
        yield _hop_fault(timeline, row, "does not end at the destination", int(goal[row]), int(reaches[row]))


def _check_slots(timeline: Timeline) -> Iterator[Fault]:
    """Flits set the length of a slot; the hop before, or the transfer, sets its start."""
    transfers, hops, rule = timeline.plan.transfers, timeline.plan.hops, timeline.plan.target.link
    itemsize = _tensor_column(timeline.plan, "itemsize")[transfers.tensor]
    flits = -(-(transfers.last - transfers.first) * itemsize // int(rule.flit_bytes))
    length = (flits * int(rule.cycles_per_flit))[hops.transfer]
    for row in first_rows(hops.end - hops.start != length):
        yield _hop_fault(timeline, row, "has a slot of the wrong length",
                         int(length[row]), int(hops.end[row] - hops.start[row]))  # fmt: skip
    start = transfers.start[hops.transfer].astype(np.int64)
    inner = hops.hop > 0
    step = int(rule.cycles_per_flit) + int(rule.hop_latency)
    start[inner] = hops.start[:-1][inner[1:]] + step
    for row in first_rows(hops.start != start):
        yield _hop_fault(timeline, row, "starts at the wrong cycle", int(start[row]), int(hops.start[row]))


def check_link_overlap(timeline: Timeline) -> Iterator[Fault]:
    """link_overlap: one transfer at a time on every link, also between micro-batches."""
    hops = timeline.plan.hops
    rows = len(hops.link)
    length = hops.end - hops.start
    for rhythm in rhythms(timeline.plan, timeline.interval):
        start = shifted(hops.start, rhythm)
        pairs = circular_neighbours(repeated(hops.link, rhythm), start, rhythm.period)
        first, second = pairs.first % max(rows, 1), pairs.second % max(rows, 1)
        for pair in first_rows(pairs.gap < length[first]):
            before, row = int(first[pair]), int(second[pair])
            free, used = int(hops.end[before]), int(hops.start[before] + pairs.gap[pair])
            problem = (
                f"enters {timeline.link_name(int(hops.link[row]))} while transfer {hops.transfer[before]} "
                f"holds it (time repeats every {rhythm.period} cycles)"
            )
            yield _hop_fault(timeline, row, problem, free, used, name="link_overlap", cycle=used)


def _tensor_column(plan: Plan, attribute: str) -> np.ndarray:
    """Elements or itemsize of every tensor, in the order of `tensor_names`."""
    tensors = [plan.graph.tensors[name] for name in plan.tensor_names]
    values = [t.elements if attribute == "elements" else t.dtype.itemsize for t in tensors]
    return np.array(values, dtype=np.int64)


def _transfer_fault(timeline: Timeline, row: int, problem: str) -> Fault:
    transfers = timeline.plan.transfers
    tensor = timeline.plan.tensor_names[transfers.tensor[row]]
    message = f"transfer {row} of {tensor} {problem}"
    return Fault("broken_route", message, chip=int(transfers.source[row]), cycle=int(transfers.start[row]),
                 tensor=tensor)  # fmt: skip


def _hop_fault(
    timeline: Timeline,
    row: int,
    problem: str,
    expected: int | None = None,
    found: int | None = None,
    name: str = "broken_route",
    cycle: int | None = None,
) -> Fault:
    hops, transfers = timeline.plan.hops, timeline.plan.transfers
    transfer = int(hops.transfer[row])
    tensor = timeline.plan.tensor_names[transfers.tensor[transfer]]
    suffix = "" if expected is None else f": expected {expected}, found {found}"
    return Fault(
        name,
        f"hop {hops.hop[row]} of transfer {transfer} of {tensor} {problem}{suffix}",
        chip=int(timeline.plan.target.topology.links[hops.link[row]].source),
        link=int(hops.link[row]),
        cycle=int(hops.start[row]) if cycle is None else cycle,
        tensor=tensor,
        expected=expected,
        found=found,
    )
