"""Does every tensor have its bytes in SRAM, when it needs them, and to itself?"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from chiplan.ir import Role

from .circle import arcs_meet
from .faults import Fault, first_rows
from .steady_state import Rhythm, user_rhythm
from .timeline import Timeline

Place = tuple[int, int]
"""A chip, and a tensor by its position in `Plan.tensor_names`."""


class MemoryUse:
    """When tiles and transfers touch each tensor on each chip, derived from the plan's columns."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.rows = {
            (int(chip), int(tensor)): row
            for row, (chip, tensor) in enumerate(
                zip(timeline.plan.buffers.chip, timeline.plan.buffers.tensor, strict=True)
            )
        }
        self.users: dict[Place, str] = {}
        """Who touches a tensor there, in words: the first one in the order of the plan."""
        self.first_write: dict[Place, int] = {}
        self.last_use: dict[Place, int] = {}
        self._note_tiles()
        self._note_transfers()
        self._note_inputs()

    @cached_property
    def positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.timeline.plan.tensor_names)}

    def _note_tiles(self) -> None:
        timeline = self.timeline
        table = timeline.tiles
        if not timeline.runs:
            return
        heads = [run.first for run in timeline.runs]
        starts = np.minimum.reduceat(table.start, heads).tolist()
        ends = np.maximum.reduceat(table.start + table.occupancy, heads).tolist()
        ready = np.maximum.reduceat(table.ready, heads).tolist()
        for number, run in enumerate(timeline.runs):
            operator = timeline.operator(run)
            for operand in operator.operands:
                self._note((run.chip, self.positions[operand.tensor]), operator.name, None, ends[number])
            for result in operator.results:
                place = (run.chip, self.positions[result.tensor])
                self._note(place, operator.name, starts[number], ready[number])

    def _note_transfers(self) -> None:
        timeline = self.timeline
        transfers = timeline.plan.transfers
        columns = (
            transfers.source, transfers.destination, transfers.tensor, timeline.sent,
            timeline.first_arrival, timeline.arrival,
        )  # fmt: skip
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for row, (source, destination, tensor, sent, begins, arrives) in enumerate(rows):
            self._note((source, tensor), f"transfer {row}", None, sent)
            self._note((destination, tensor), f"transfer {row}", begins, arrives)

    def _note_inputs(self) -> None:
        """The host writes a micro-batch's inputs in its first cycle, but where they come over links."""
        transfers = self.timeline.plan.transfers
        brought = set(zip(transfers.destination.tolist(), transfers.tensor.tolist(), strict=True))
        for place, row in self.rows.items():
            if self.role(row) is Role.INPUT and place not in brought:
                self._note(place, "the host", 0, 0)

    def _note(self, place: Place, user: str, written: int | None, used: int) -> None:
        self.users.setdefault(place, user)
        self.last_use[place] = max(used, self.last_use.get(place, used))
        if written is not None:
            self.first_write[place] = min(written, self.first_write.get(place, written))

    def fault(self, name: str, row: int, problem: str, expected: int | None = None,
              found: int | None = None, cycle: int | None = None) -> Fault:  # fmt: skip
        """A fault of a row of the buffer columns."""
        buffers = self.timeline.plan.buffers
        tensor = self.timeline.plan.tensor_names[buffers.tensor[row]]
        chip = int(buffers.chip[row])
        message = f"the buffer of {tensor} on chip {chip} at address {buffers.address[row]} {problem}"
        return Fault(name, message, chip=chip, cycle=cycle, tensor=tensor, expected=expected, found=found)

    def role(self, row: int) -> Role:
        plan = self.timeline.plan
        return plan.graph.tensors[plan.tensor_names[plan.buffers.tensor[row]]].role


def check_presence(use: MemoryUse) -> Iterator[Fault]:
    """buffer_missing, weight_not_resident, duplicate_buffer: one buffer for a tensor that a chip uses."""
    plan = use.timeline.plan
    for (chip, tensor), user in sorted(use.users.items()):
        if (chip, tensor) not in use.rows:
            name = plan.tensor_names[tensor]
            is_weight = plan.graph.tensors[name].role is Role.WEIGHT
            message = f"{user} uses {name} on chip {chip}, which has no buffer for it"
            fault_name = "weight_not_resident" if is_weight else "buffer_missing"
            yield Fault(fault_name, message, chip=chip, tensor=name)
    keys = np.column_stack([plan.buffers.chip, plan.buffers.address, plan.buffers.tensor]).astype(np.int64)
    order = np.lexsort(keys.T[::-1])
    for row in first_rows(order != np.arange(len(order))):
        yield use.fault("buffer_order", row, "is out of the order (chip, address, tensor)")
    if len(use.rows) != len(plan.buffers.tensor):
        places = zip(plan.buffers.chip.tolist(), plan.buffers.tensor.tolist(), strict=True)
        for row, place in enumerate(places):
            if use.rows[place] != row:
                yield use.fault("duplicate_buffer", row, "is not the only one of that tensor there")


def check_extents(use: MemoryUse) -> Iterator[Fault]:
    """buffer_too_small, sram_misaligned, sram_overflow."""
    plan, buffers = use.timeline.plan, use.timeline.plan.buffers
    sizes = np.array([plan.graph.tensors[name].nbytes for name in plan.tensor_names], dtype=np.int64)
    needed = sizes[buffers.tensor]
    for row in first_rows(buffers.nbytes < needed):
        expected, found = int(needed[row]), int(buffers.nbytes[row])
        yield use.fault("buffer_too_small", row, f"has {found} bytes of {expected}", expected, found)
    alignment = int(use.timeline.chip.alignment)
    for row in first_rows(buffers.address % alignment != 0):
        found = int(buffers.address[row]) % alignment
        yield use.fault("sram_misaligned", row, f"is {found} bytes off a multiple of {alignment}", 0, found)
    top, usable = highest_bytes(use), int(use.timeline.chip.usable_bytes)
    for row in first_rows((top > usable) | (buffers.address < 0) | (buffers.copies < 1)):
        problem = f"with {buffers.copies[row]} copies ends at byte {top[row]} of {usable}"
        yield use.fault("sram_overflow", row, problem, usable, int(top[row]))


def strides(use: MemoryUse) -> np.ndarray:
    """Bytes from one copy of each buffer to the next."""
    alignment = int(use.timeline.chip.alignment)
    return np.asarray(-(-use.timeline.plan.buffers.nbytes // alignment) * alignment)


def highest_bytes(use: MemoryUse) -> np.ndarray:
    """The byte behind the last copy of each buffer."""
    buffers = use.timeline.plan.buffers
    return np.asarray(buffers.address + (buffers.copies - 1) * strides(use) + buffers.nbytes)


def check_lifetimes(use: MemoryUse) -> Iterator[Fault]:
    """buffer_lifetime, copies_too_few, weight_not_resident, state_copies."""
    plan = use.timeline.plan
    columns = (
        plan.buffers.chip,
        plan.buffers.tensor,
        plan.buffers.birth,
        plan.buffers.death,
        plan.buffers.copies,
    )
    for row, (chip, tensor, birth, death, copies) in enumerate(
        zip(*(c.tolist() for c in columns), strict=True)
    ):
        role = use.role(row)
        if role is Role.WEIGHT:
            if (birth, death) != (0, -1):
                problem = f"is a weight's and must live for ever (0, -1), found ({birth}, {death})"
                yield use.fault("weight_not_resident", row, problem, -1, death)
        elif role is Role.STATE:
            if copies < plan.users or death != -1:
                problem = f"is a state's and needs a copy for each of {plan.users} users, for ever"
                yield use.fault("state_copies", row, problem, plan.users, copies)
        else:
            yield from _check_lifetime(use, row, (chip, tensor), (birth, death, copies))


def _check_lifetime(use: MemoryUse, row: int, place: Place, life: tuple[int, int, int]) -> Iterator[Fault]:
    birth, death, copies = life
    if place not in use.users:
        return
    written = use.first_write.get(place, birth)
    used = use.last_use[place]
    if death == -1:
        birth, death = 0, -1
    elif written < birth:
        problem = f"is written at cycle {written}, before its birth at {birth}"
        yield use.fault("buffer_lifetime", row, problem, birth, written, cycle=written)
    elif used > death:
        problem = f"is in use until cycle {used}, after its death at {death}"
        yield use.fault("buffer_lifetime", row, problem, death, used, cycle=used)
    interval = use.timeline.interval
    if death == -1 or death - birth > copies * interval:
        problem = (
            f"lives for cycles {birth}..{death}: {copies} copies serve {copies * interval} cycles when a "
            f"micro-batch starts every {interval}"
        )
        needed = None if death == -1 else -(-(death - birth) // interval)
        yield use.fault("copies_too_few", row, problem, needed, copies, cycle=birth)


def check_sharing(use: MemoryUse) -> Iterator[Fault]:
    """sram_overlap: bytes belong to one tensor of one micro-batch at a time, in all micro-batches."""
    buffers = use.timeline.plan.buffers
    copies = np.maximum(buffers.copies, 0)
    row = np.repeat(np.arange(len(copies)), copies)
    number = np.arange(len(row)) - np.repeat(np.cumsum(copies) - copies, copies)
    low = buffers.address[row] + number * strides(use)[row]
    one, two = _address_pairs(buffers.chip[row], low, low + buffers.nbytes[row])
    distinct = row[one] != row[two]
    one, two = one[distinct], two[distinct]
    meet = _ever_meet(use, row, number, one, two)
    for pair in first_rows(meet):
        first, second = sorted(
            (int(one[pair]), int(two[pair])), key=lambda copy: int(buffers.birth[row[copy]])
        )
        other = use.timeline.plan.tensor_names[buffers.tensor[row[first]]]
        problem = (
            f"(copy {number[second]}) shares bytes with copy {number[first]} of {other} while both are in use"
        )
        cycle = int(buffers.birth[row[second]])
        yield use.fault("sram_overlap", int(row[second]), problem, cycle=cycle)


def _address_pairs(chip: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of ranges [low, high) that share a byte of a chip's SRAM."""
    if not len(chip):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    reach = int(high.max()) + 1
    base = chip.astype(np.int64) * reach
    order = np.argsort(base + low, kind="stable")
    starts, ends = (base + low)[order], (base + high)[order]
    # Every later range that starts before this one ends meets it.
    until = np.searchsorted(starts, ends, side="left")
    count = np.maximum(until - np.arange(len(order)) - 1, 0)
    one = np.repeat(np.arange(len(order)), count)
    two = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count)
    return order[one], order[two]


def _ever_meet(
    use: MemoryUse, row: np.ndarray, number: np.ndarray, one: np.ndarray, two: np.ndarray
) -> np.ndarray:
    """Whether two copies are ever in use in the same cycle. Copy c of C serves micro-batches n with
    n mod C = c, in [birth, death) after their starts."""
    buffers, interval = use.timeline.plan.buffers, use.timeline.interval
    first, second = row[one], row[two]
    always = (buffers.death[first] == -1) | (buffers.death[second] == -1)
    length = buffers.death - buffers.birth
    start = buffers.birth[row] + number * interval
    # Starts of the two differ by every multiple of the common divisor of their periods, no others.
    period = np.gcd(buffers.copies[first], buffers.copies[second]).astype(np.int64) * interval
    meet = arcs_meet(start[one], length[first], start[two], length[second], period) | always
    rhythm = user_rhythm(use.timeline.plan, interval)
    if rhythm != Rhythm(interval, (0,)):
        meet |= _meet_while_waiting(use, rhythm, (first, number[one]), (second, number[two]))
    return np.asarray(meet)


def _meet_while_waiting(
    use: MemoryUse,
    rhythm: Rhythm,
    one: tuple[np.ndarray, np.ndarray],
    two: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """The same where users wait for their states, so that starts are no multiples of the interval:
    every pair of micro-batches that can be in flight together is tried."""
    buffers, users = use.timeline.plan.buffers, len(rhythm.shifts)
    (first, c1), (second, c2) = one, two
    birth, death, copies = buffers.birth, buffers.death, buffers.copies.astype(np.int64)
    together = np.gcd(copies[first], copies[second])
    meet = np.zeros(len(first), dtype=bool)
    turns = int(death.max(initial=1)) // rhythm.period + 1
    for micro_batch in range(users):
        for ahead in range(-users * turns, users * turns + 1):
            # Some n with n = micro_batch (mod users), n = c1 (mod C1), n + ahead = c2 (mod C2) exists
            # exactly when the three agree pairwise (Chinese remainders).
            occurs = (micro_batch - c1) % np.gcd(users, copies[first]) == 0
            occurs &= (micro_batch + ahead - c2) % np.gcd(users, copies[second]) == 0
            occurs &= (c1 + ahead - c2) % together == 0
            shift = rhythm.start(micro_batch + ahead) - rhythm.start(micro_batch)
            overlap = (birth[first] < death[second] + shift) & (birth[second] + shift < death[first])
            meet |= occurs & overlap
    return meet
