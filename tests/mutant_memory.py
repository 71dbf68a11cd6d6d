"""Mutants of buffers and of the figures that a plan states."""

from dataclasses import replace

import numpy as np

from chiplan.ir import Plan

from .mutant_editing import Kind, amount, cells, names, pick, rows

PLACED = "sram_overlap sram_misaligned sram_overflow duplicate_buffer"
TIMES = "unit_overlap link_overlap accumulation_interrupted sram_overlap copies_too_few"


def _row(plan: Plan, random: np.random.Generator) -> int:
    return pick(random, len(plan.buffers.chip))


def _address(plan: Plan, random: np.random.Generator) -> Plan:
    """Some bytes off, or to a multiple of the alignment below the highest byte in use."""
    row, b = _row(plan, random), plan.buffers
    alignment = int(plan.target.chip.alignment)
    if random.random() < 0.3:
        return replace(plan, buffers=cells(b, row, address=int(b.address[row]) + amount(random)))
    top = int((b.address + b.nbytes * b.copies).max())
    value = pick(random, top // alignment + 1) * alignment
    if value == int(b.address[row]):
        value += alignment
    return replace(plan, buffers=cells(b, row, address=value))


def _swapped(plan: Plan, random: np.random.Generator) -> Plan | None:
    """Two buffers of different sizes on a chip change places."""
    b, one, other = plan.buffers, _row(plan, random), _row(plan, random)
    if b.chip[one] != b.chip[other] or b.nbytes[one] * b.copies[one] == b.nbytes[other] * b.copies[other]:
        return None
    changed = cells(b, one, address=int(b.address[other]))
    return replace(plan, buffers=cells(changed, other, address=int(b.address[one])))


def _size(plan: Plan, random: np.random.Generator) -> Plan:
    row, b = _row(plan, random), plan.buffers
    alignment = int(plan.target.chip.alignment)
    by = int(random.choice([-alignment, -4, -1, alignment, 2 * alignment, 4 * alignment]))
    return replace(plan, buffers=cells(b, row, nbytes=int(b.nbytes[row]) + by))


def _copies(plan: Plan, random: np.random.Generator) -> Plan:
    row, b = _row(plan, random), plan.buffers
    return replace(plan, buffers=cells(b, row, copies=int(b.copies[row]) + int(random.choice([-1, 1, 2, 4]))))


def _birth(plan: Plan, random: np.random.Generator) -> Plan:
    row, b = _row(plan, random), plan.buffers
    by = amount(random) if random.random() < 0.8 else -int(random.integers(1, 8 * plan.latency))
    return replace(plan, buffers=cells(b, row, birth=int(b.birth[row]) + by))


def _death(plan: Plan, random: np.random.Generator) -> Plan:
    row, b = _row(plan, random), plan.buffers
    death = int(b.death[row])
    value = pick(random, plan.latency) if death == -1 else death + amount(random)
    return replace(plan, buffers=cells(b, row, death=value))


def _dropped(plan: Plan, random: np.random.Generator) -> Plan:
    kept = np.delete(np.arange(len(plan.buffers.chip)), _row(plan, random))
    return replace(plan, buffers=rows(plan.buffers, kept))


def _repeated(plan: Plan, random: np.random.Generator) -> Plan:
    """A second buffer of a tensor, at the same bytes or behind the first."""
    row, b = _row(plan, random), plan.buffers
    buffers = rows(b, np.append(np.arange(len(b.chip)), row))
    if random.random() < 0.5:
        buffers = cells(buffers, len(b.chip), address=int((b.address + b.nbytes).max() + 64) // 64 * 64)
    return replace(plan, buffers=buffers)


def _chip(plan: Plan, random: np.random.Generator) -> Plan:
    row, chips = _row(plan, random), plan.target.topology.chips
    value = (int(plan.buffers.chip[row]) + 1 + pick(random, chips - 1)) % chips
    return replace(plan, buffers=cells(plan.buffers, row, chip=value))


def _tensor(plan: Plan, random: np.random.Generator) -> Plan:
    row, count = _row(plan, random), len(plan.tensor_names)
    value = (int(plan.buffers.tensor[row]) + 1 + pick(random, count - 1)) % count
    return replace(plan, buffers=cells(plan.buffers, row, tensor=value))


def _latency(sign: int):
    def change(plan: Plan, random: np.random.Generator) -> Plan:
        return replace(plan, latency=max(1, int(plan.latency) + sign * abs(amount(random))))

    return change


def _interval(sign: int):
    def change(plan: Plan, random: np.random.Generator) -> Plan:
        return replace(plan, interval=max(1, int(plan.interval) + sign * abs(amount(random))))

    return change


def _users(plan: Plan, random: np.random.Generator) -> Plan | None:
    if not plan.graph.states:
        return None
    users = plan.users + int(random.choice([-1, 1, 1, 2]))
    return replace(plan, users=users) if users else None


KINDS = (
    Kind("move a buffer", _address, names(PLACED),
         reason="the bytes are free while the tensor has them"),
    Kind("swap two buffers' places", _swapped, names(PLACED)),
    Kind("change a buffer's size", _size, names(f"buffer_too_small {PLACED}"),
         reason="more bytes than the tensor has, and nobody else has them"),
    Kind("change a buffer's copies", _copies, names(f"copies_too_few state_copies {PLACED}"),
         reason="more copies than the interval asks for, in bytes that are free"),
    Kind("change a buffer's birth", _birth,
         names(f"buffer_lifetime copies_too_few weight_not_resident {PLACED}"),
         reason="earlier than need be, in bytes that are free, and not so long that copies run out"),
    Kind("change a buffer's death", _death,
         names(f"buffer_lifetime copies_too_few weight_not_resident state_copies output_not_held {PLACED}"),
         reason="later than need be, in bytes that are free, and not so long that copies run out"),
    Kind("drop a buffer", _dropped,
         names("buffer_missing weight_not_resident missing_output"),
         reason="a buffer of a tensor that nobody on that chip touches"),
    Kind("repeat a buffer", _repeated, names(f"duplicate_buffer {PLACED}")),
    Kind("change a buffer's chip", _chip,
         names("wrong_group buffer_missing weight_not_resident duplicate_buffer")),
    Kind("change a buffer's tensor", _tensor,
         names(f"buffer_missing weight_not_resident buffer_too_small {PLACED}")),
    Kind("state a shorter latency", _latency(-1), names(f"wrong_latency {TIMES}"),
         reason="a plan of several users promises whole intervals, which is more than it takes"),
    Kind("state a longer latency", _latency(1), names(f"output_not_held {TIMES}"),
         reason="the latency is a promise: outputs that are held until then are there, only later"),
    Kind("state a shorter interval", _interval(-1), names(f"wrong_interval {TIMES}"),
         reason="the interval that a schedule was made for is not always the shortest that it bears"),
    Kind("state a longer interval", _interval(1), names(f"wrong_interval {TIMES}"),
         reason="micro-batches that start less often than they could do not meet"),
    Kind("change the users", _users, names(f"state_copies {TIMES}"),
         reason="fewer users than the states have room for"),
)  # fmt: skip
