"""Mutants of transfers and hops: what is carried from where to where, and on which links when."""

from dataclasses import replace

import numpy as np

from chiplan.ir import Plan

from .mutant_editing import Kind, amount, cells, hops_of, names, pick, rows

ROUTE = "broken_route"
CARRIED = f"{ROUTE} wrong_exchange receive_without_arrival send_before_ready missing_output buffer_missing"
TIMES = "send_before_ready link_overlap read_before_ready buffer_lifetime wrong_latency"


def _moved(plan: Plan, transfer: int, by: int) -> Plan:
    """A transfer and its hops, some cycles later."""
    mine = plan.hops.transfer == transfer
    start, end = (np.where(mine, column + by, column) for column in (plan.hops.start, plan.hops.end))
    transfers = cells(plan.transfers, transfer, start=int(plan.transfers.start[transfer]) + by)
    return replace(plan, hops=replace(plan.hops, start=start, end=end), transfers=transfers)


def _shifted(plan: Plan, random: np.random.Generator) -> Plan | None:
    count = len(plan.transfers.start)
    return _moved(plan, pick(random, count), amount(random)) if count else None


def _hop_cell(name: str):
    def change(plan: Plan, random: np.random.Generator) -> Plan | None:
        if not len(plan.hops.start):
            return None
        row = pick(random, len(plan.hops.start))
        value = int(getattr(plan.hops, name)[row]) + amount(random)
        return replace(plan, hops=cells(plan.hops, row, **{name: value}))

    return change


def _hop_shifted(plan: Plan, random: np.random.Generator) -> Plan | None:
    if not len(plan.hops.start):
        return None
    row, by = pick(random, len(plan.hops.start)), amount(random)
    start, end = int(plan.hops.start[row]) + by, int(plan.hops.end[row]) + by
    return replace(plan, hops=cells(plan.hops, row, start=start, end=end))


def _link(plan: Plan, random: np.random.Generator) -> Plan | None:
    if not len(plan.hops.link):
        return None
    row, count = pick(random, len(plan.hops.link)), len(plan.target.topology.links)
    value = (int(plan.hops.link[row]) + 1 + pick(random, count - 1)) % count
    return replace(plan, hops=cells(plan.hops, row, link=value))


def _routes_swapped(plan: Plan, random: np.random.Generator) -> Plan | None:
    """The hops of two transfers are each other's."""
    count = len(plan.transfers.start)
    if count < 2:
        return None
    one, other = random.choice(count, 2, replace=False)
    a, b = hops_of(plan, one), hops_of(plan, other)
    if plan.hops.link[a].tolist() == plan.hops.link[b].tolist():
        return None
    transfer = plan.hops.transfer.copy()
    transfer[a], transfer[b] = other, one
    return replace(plan, hops=replace(plan.hops, transfer=transfer))


def without_transfer(plan: Plan, number: int) -> Plan:
    kept = np.delete(np.arange(len(plan.transfers.start)), number)
    hops = rows(plan.hops, np.flatnonzero(plan.hops.transfer != number))
    hops = replace(hops, transfer=hops.transfer - (hops.transfer > number))
    return replace(plan, transfers=rows(plan.transfers, kept), hops=hops)


def _dropped(plan: Plan, random: np.random.Generator) -> Plan | None:
    count = len(plan.transfers.start)
    return without_transfer(plan, pick(random, count)) if count else None


def _duplicated(plan: Plan, random: np.random.Generator) -> Plan | None:
    """The same transfer again, at once or later."""
    count = len(plan.transfers.start)
    if not count:
        return None
    number = pick(random, count)
    transfers = rows(plan.transfers, np.append(np.arange(count), number))
    mine = hops_of(plan, number)
    hops = rows(plan.hops, np.append(np.arange(len(plan.hops.link)), mine))
    transfer = hops.transfer.copy()
    transfer[len(plan.hops.link) :] = count
    plan = replace(plan, transfers=transfers, hops=replace(hops, transfer=transfer))
    return _moved(plan, count, int(random.choice([0, 0, 1, 5])))


def _hop_dropped(plan: Plan, random: np.random.Generator) -> Plan | None:
    if not len(plan.hops.link):
        return None
    kept = np.delete(np.arange(len(plan.hops.link)), pick(random, len(plan.hops.link)))
    return replace(plan, hops=rows(plan.hops, kept))


def _range(plan: Plan, random: np.random.Generator) -> Plan | None:
    """Other elements, the same flits or not."""
    t = plan.transfers
    if not len(t.start):
        return None
    row, by = pick(random, len(t.start)), amount(random)
    first, last, at = int(t.first[row]), int(t.last[row]), int(t.at[row])
    match pick(random, 3):
        case 0:
            return replace(plan, transfers=cells(t, row, last=max(0, last + by)))
        case 1:
            return replace(plan, transfers=cells(t, row, first=max(0, first + by), at=max(0, at + by)))
        case _:
            moved = {"first": max(0, first + by), "last": max(0, last + by), "at": max(0, at + by)}
            return replace(plan, transfers=cells(t, row, **moved))


def _chip(name: str):
    def change(plan: Plan, random: np.random.Generator) -> Plan | None:
        if not len(plan.transfers.start):
            return None
        row, chips = pick(random, len(plan.transfers.start)), plan.target.topology.chips
        value = (int(getattr(plan.transfers, name)[row]) + 1 + pick(random, chips - 1)) % chips
        return replace(plan, transfers=cells(plan.transfers, row, **{name: value}))

    return change


def _tensor(name: str):
    def change(plan: Plan, random: np.random.Generator) -> Plan | None:
        if not len(plan.transfers.start):
            return None
        row, count = pick(random, len(plan.transfers.start)), len(plan.tensor_names)
        value = (int(getattr(plan.transfers, name)[row]) + 1 + pick(random, count - 1)) % count
        return replace(plan, transfers=cells(plan.transfers, row, **{name: value}))

    return change


def _at(plan: Plan, random: np.random.Generator) -> Plan | None:
    if not len(plan.transfers.start):
        return None
    row = pick(random, len(plan.transfers.start))
    value = max(0, int(plan.transfers.at[row]) + amount(random))
    if value == int(plan.transfers.at[row]):
        value += 1
    return replace(plan, transfers=cells(plan.transfers, row, at=value))


def _wire(plan: Plan, random: np.random.Generator) -> Plan | None:
    """A link of the system that a hop uses leads elsewhere."""
    if not len(plan.hops.link):
        return None
    number = int(random.choice(plan.hops.link))
    topology = plan.target.topology
    link = topology.links[number]
    other = type(link.source)((int(link.destination) + 1 + pick(random, topology.chips - 1)) % topology.chips)
    links = list(topology.links)
    links[number] = link._replace(destination=other)
    topology = replace(topology, links=tuple(links))
    return replace(plan, target=replace(plan.target, topology=topology))


KINDS = (
    Kind("shift a transfer", _shifted, names(TIMES),
         reason="its links are idle in these cycles, and nothing waits for it"),
    Kind("shift a hop", _hop_shifted, names(ROUTE)),
    Kind("shorten or lengthen a slot", _hop_cell("end"), names(ROUTE)),
    Kind("change a hop's link", _link, names(ROUTE)),
    Kind("swap two routes", _routes_swapped, names(ROUTE)),
    Kind("drop a hop", _hop_dropped, names(ROUTE)),
    Kind("rewire a link", _wire, names(ROUTE)),
    Kind("drop a transfer", _dropped, names(CARRIED)),
    Kind("repeat a transfer", _duplicated, names(f"{TIMES} {CARRIED}")),
    Kind("change a transfer's range", _range, names(f"{CARRIED} {TIMES}")),
    Kind("change a transfer's source", _chip("source"), names(ROUTE)),
    Kind("change a transfer's destination", _chip("destination"), names(ROUTE)),
    Kind("change a transfer's tensor", _tensor("tensor"), names(CARRIED)),
    Kind("change what a transfer writes", _tensor("into"), names(CARRIED)),
    Kind("change where a transfer writes", _at, names(CARRIED)),
)  # fmt: skip
