"""Does every tensor have its bytes in SRAM, when it needs them, and to itself?"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from chiplan.ir import Role

from .circle import arcs_meet
from .faults import Fault, first_rows
from .limits import MOST_STEPS, check_entries
from .steady_state import Rhythm, user_rhythm
from .timeline import Timeline

_NOT_WRITTEN = np.iinfo(np.int64).max


class _Uses(NamedTuple):
    """One row a touch of a tensor on a group: key of the place, cycle in which writing begins
    (_NOT_WRITTEN: it is read), cycle in which the touch ends."""

    key: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


class MemoryUse:
    """When tiles and transfers touch each tensor on each group of chips, derived from the plan's
    columns. A place is the first chip of a group and a tensor, by its position in
    `Plan.tensor_names`; its key is chip x tensors + tensor."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        buffers = timeline.plan.buffers
        self.buffer_keys = self.key(buffers.chip, buffers.tensor)
        self.rows = {key: row for row, key in enumerate(self.buffer_keys.tolist())}
        parts = [self._by_tiles(), self._by_transfers(), self._by_the_host()]
        uses = _Uses(*[np.concatenate(columns) for columns in zip(*parts, strict=True)])
        self.keys, which = np.unique(uses.key, return_inverse=True)
        """Keys of the places that are touched, ascending."""
        self.first_write = np.full(len(self.keys), _NOT_WRITTEN)
        self.last_use = np.full(len(self.keys), -_NOT_WRITTEN)
        np.minimum.at(self.first_write, which.ravel(), uses.begins)
        np.maximum.at(self.last_use, which.ravel(), uses.ends)

    @cached_property
    def positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.timeline.plan.tensor_names)}

    def key(self, chip: np.ndarray, tensor: np.ndarray) -> np.ndarray:
        return np.asarray(chip.astype(np.int64) * len(self.timeline.plan.tensor_names) + tensor)

    def last_use_of(self, row: int) -> int | None:
        """End of the last touch of a buffer's tensor; None if nobody touches it."""
        key = int(self.buffer_keys[row])
        place = int(np.searchsorted(self.keys, key))
        found = place < len(self.keys) and self.keys[place] == key
        return int(self.last_use[place]) if found else None

    def _by_tiles(self) -> _Uses:
        timeline = self.timeline
        table = timeline.tiles
        if not timeline.runs:
            return _Uses(*np.zeros((3, 0), dtype=np.int64))
        heads = [run.first for run in timeline.runs]
        starts = np.minimum.reduceat(table.start, heads).tolist()
        ends = np.maximum.reduceat(table.start + table.occupancy, heads).tolist()
        ready = np.maximum.reduceat(table.ready, heads).tolist()
        rows: list[tuple[int, int, int]] = []
        for number, run in enumerate(timeline.runs):
            operator = timeline.operator(run)
            base = run.chip * len(self.positions)
            read = [base + self.positions[operand.tensor] for operand in operator.operands]
            written = [base + self.positions[result.tensor] for result in operator.results]
            rows += [(key, _NOT_WRITTEN, ends[number]) for key in read]
            rows += [(key, starts[number], ready[number]) for key in written]
        return _Uses(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)

    def _by_transfers(self) -> _Uses:
        timeline = self.timeline
        transfers, head = timeline.plan.transfers, timeline.groups.head
        sent = self.key(head[transfers.source], transfers.tensor)
        brought = self.key(head[transfers.destination], transfers.into)
        never = np.full(len(sent), _NOT_WRITTEN)
        return _Uses(
            np.concatenate([sent, brought]),
            np.concatenate([never, timeline.first_arrival]),
            np.concatenate([timeline.sent, timeline.arrival]),
        )

    def _by_the_host(self) -> _Uses:
        """The host writes a micro-batch's inputs in its first cycle, but where they come over links."""
        plan, head = self.timeline.plan, self.timeline.groups.head
        brought = self.key(head[plan.transfers.destination], plan.transfers.into)
        names = plan.tensor_names
        is_input = np.array([plan.graph.tensors[name].role is Role.INPUT for name in names], dtype=bool)
        given = self.buffer_keys[is_input[plan.buffers.tensor] & ~np.isin(self.buffer_keys, brought)]
        return _Uses(given, *np.zeros((2, len(given)), dtype=np.int64))

    def user(self, key: int) -> str:
        """Who touches a place, in words: the first one in the order of the plan."""
        timeline = self.timeline
        chip, tensor = divmod(key, len(self.positions))
        name, transfers = timeline.plan.tensor_names[tensor], timeline.plan.transfers
        for run in timeline.runs:
            operator = timeline.operator(run)
            touched = {o.tensor for o in operator.operands} | {r.tensor for r in operator.results}
            if run.chip == chip and name in touched:
                return operator.name
        head = timeline.groups.head
        touches = (head[transfers.source] == chip) & (transfers.tensor == tensor)
        touches |= (head[transfers.destination] == chip) & (transfers.into == tensor)
        return f"transfer {int(touches.argmax())}"

    def fault(self, name: str, row: int, problem: str, expected: int | None = None,
              found: int | None = None, cycle: int | None = None) -> Fault:  # fmt: skip
        """A fault of a row of the buffer columns."""
        buffers = self.timeline.plan.buffers
        tensor = self.timeline.plan.tensor_names[buffers.tensor[row]]
        chip = int(buffers.chip[row])
        message = f"the buffer of {tensor} on chip {chip} at address {buffers.address[row]} {problem}"
        return Fault(name, message, chip=chip, cycle=cycle, tensor=tensor, expected=expected, found=found)


def check_presence(use: MemoryUse) -> Iterator[Fault]:
    """buffer_missing, weight_not_resident, duplicate_buffer: one buffer for a tensor that a chip uses."""
    plan = use.timeline.plan
    for place in first_rows(~np.isin(use.keys, use.buffer_keys)):
        key = int(use.keys[place])
        chip, tensor = divmod(key, len(plan.tensor_names))
        name = plan.tensor_names[tensor]
        is_weight = plan.graph.tensors[name].role is Role.WEIGHT
        message = f"{use.user(key)} uses {name} on chip {chip}, which has no buffer for it"
        fault_name = "weight_not_resident" if is_weight else "buffer_missing"
        yield Fault(fault_name, message, chip=chip, tensor=name)
    keys = np.column_stack([plan.buffers.chip, plan.buffers.address, plan.buffers.tensor]).astype(np.int64)
    order = np.lexsort(keys.T[::-1])
    for row in first_rows(order != np.arange(len(order))):
        yield use.fault("buffer_order", row, "is out of the order (chip, address, tensor)")
    if len(use.rows) != len(plan.buffers.tensor):
        for row, key in enumerate(use.buffer_keys.tolist()):
            if use.rows[key] != row:
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
    plan, buffers = use.timeline.plan, use.timeline.plan.buffers
    roles = [plan.graph.tensors[name].role for name in plan.tensor_names]
    weights, states = (
        np.array([role is kind for role in roles], dtype=bool)[buffers.tensor]
        for kind in (Role.WEIGHT, Role.STATE)
    )
    for row in first_rows(weights & ((buffers.birth != 0) | (buffers.death != -1))):
        birth, death = int(buffers.birth[row]), int(buffers.death[row])
        problem = f"is a weight's and must live for ever (0, -1), found ({birth}, {death})"
        yield use.fault("weight_not_resident", row, problem, -1, death)
    for row in first_rows(states & ((buffers.copies < plan.users) | (buffers.death != -1))):
        problem = f"is a state's and needs a copy for each of {plan.users} users, for ever"
        yield use.fault("state_copies", row, problem, plan.users, int(buffers.copies[row]))
    # A buffer that nobody touches holds nothing.
    touched = np.flatnonzero(~weights & ~states & np.isin(use.buffer_keys, use.keys))
    yield from _check_lives(use, touched, np.searchsorted(use.keys, use.buffer_keys[touched]))
    yield from _check_copies(use, touched)


def _check_lives(use: MemoryUse, rows: np.ndarray, places: np.ndarray) -> Iterator[Fault]:
    """buffer_lifetime: the buffers `rows`, whose tensors are touched at `places`, live that long."""
    buffers = use.timeline.plan.buffers
    written, used = use.first_write[places], use.last_use[places]
    birth, death = buffers.birth[rows], buffers.death[rows]
    dies = death != -1
    for number in first_rows(dies & ((written < birth) | (used > death))):
        row, cycle = int(rows[number]), int(written[number])
        if cycle < int(birth[number]):
            problem = f"is written at cycle {cycle}, before its birth at {birth[number]}"
            limit = int(birth[number])
        else:
            cycle, limit = int(used[number]), int(death[number])
            problem = f"is in use until cycle {cycle}, after its death at {limit}"
        yield use.fault("buffer_lifetime", row, problem, limit, cycle, cycle=cycle)


def _check_copies(use: MemoryUse, rows: np.ndarray) -> Iterator[Fault]:
    """copies_too_few: no buffer of `rows` outlives the rotation of its copies."""
    buffers, interval = use.timeline.plan.buffers, use.timeline.interval
    death = buffers.death[rows]
    birth = np.where(death == -1, 0, buffers.birth[rows])
    served = buffers.copies[rows].astype(np.int64) * interval
    for number in first_rows((death == -1) | (death - birth > served)):
        row, (first, last) = int(rows[number]), (int(birth[number]), int(death[number]))
        problem = (
            f"lives for cycles {first}..{last}: {buffers.copies[row]} copies serve {served[number]} cycles "
            f"when a micro-batch starts every {interval}"
        )
        needed = None if last == -1 else -(-(last - first) // interval)
        yield use.fault("copies_too_few", row, problem, needed, int(buffers.copies[row]), cycle=first)


def check_sharing(use: MemoryUse) -> Iterator[Fault]:
    """sram_overlap: bytes belong to one tensor of one micro-batch at a time, in all micro-batches."""
    buffers = use.timeline.plan.buffers
    copies = np.maximum(buffers.copies, 0)
    check_entries("a row for each copy of a buffer", int(copies.sum(dtype=np.int64)))
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
    check_entries("pairs of buffers that share bytes", int(count.sum()))
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
    # A buffer may live before its micro-batch starts, so that a later one's is in the way.
    turns = int(death.max(initial=1) - birth.min(initial=0)) // rhythm.period + 1
    steps = users * (2 * users * turns + 1) * (len(first) + 1)
    check_entries("the micro-batches that may meet while users wait", steps, MOST_STEPS)
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
