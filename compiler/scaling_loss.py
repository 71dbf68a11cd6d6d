"""Where the chip-cycles of a plan go: the parts of chips x cycles that are work, and those that are lost.

Throughput: chips allowed x cycles a micro-batch. Latency: chips allowed x latency. The parts of each
add up to it exactly, so the loss against a baseline is the sum of what each part has grown by.
"""

from collections.abc import Iterable, Mapping
from math import ceil

import numpy as np

from chiplan.ir import Elapsed, Plan, Unit
from chiplan.runtime_sim import Report

from .plan_summary import busy_cycles

PARTS: Mapping[str, str] = {
    "work": "more work: padding of smaller pieces, repeated operators, arithmetic of collectives",
    "imbalance": "chips that wait for the busiest unit of the busiest stage",
    "links": "links that are busier than any unit, or that everybody waits for",
    "memory": "SRAM that forces an uneven cut, or a longer interval",
    "schedule": "gaps that no tile fits into, and the depth of units",
    "clocks": "aligning the clocks of several chips once an interval",
    "host": "transfers from and to the host",
    "fill": "stages that have no micro-batch yet, or wait for a user",
    "unused": "chips allowed but not used: nothing is gained by whole stages or groups more",
}
"""Every part and what it stands for, in the order in which they are printed."""


def throughput_parts(plan: Plan, report: Report, allowed: int, passed: Elapsed, kind: Unit) -> dict[str, int]:
    """Parts of allowed x pace, in chip-cycles. `kind` is the unit whose work counts as work: that
    of the baseline's busiest unit."""
    used, interval = chips_used(plan), int(plan.interval)
    pace = passed.pace(plan.users, bool(plan.graph.states))
    hosted = min(passed.host_interval, pace - interval - passed.deskew_interval)
    busiest = max(max(busy_cycles(plan, stage).values()) for stage in plan.stages)
    busiest = min(busiest, interval)
    work = min(unit_work(report, kind), busiest * used)
    cut = min(busiest, _cut_by_memory(plan))
    uneven = max(0, cut * used - work)
    linked = min(interval, max(busiest, max((link.busy for link in report.links), default=0)))
    unclosed = (interval - linked) * used
    short = _closes_late_for_memory(plan)
    return {
        "work": work,
        "imbalance": busiest * used - work - uneven,
        "links": (linked - busiest) * used,
        "memory": uneven + (unclosed if short else 0),
        "schedule": 0 if short else unclosed,
        "clocks": passed.deskew_interval * used,
        "host": hosted * used,
        "fill": (pace - interval - passed.deskew_interval - hosted) * used,
        "unused": pace * (allowed - used),
    }


def latency_parts(plan: Plan, allowed: int, passed: Elapsed) -> dict[str, int]:
    """Parts of allowed x latency, in chip-cycles. A chip that executes no tile waits for another
    stage (fill), else for what is on its way over a link (links), else for a unit's depth (schedule)."""
    used = chips_used(plan)
    latency = passed.latency - passed.deskew_latency - passed.host_latency
    tiles = [(stage.program.tiles.start, stage.program.tiles.end) for stage in plan.stages]
    sizes = [len(stage.chips) for stage in plan.stages]
    work = sum(size * covered_cycles([one], latency) for size, one in zip(sizes, tiles, strict=True))
    executing = covered_cycles(tiles, latency)
    hops = (plan.hops.start, plan.hops.end + plan.target.link.hop_latency)
    moving = covered_cycles([*tiles, hops], latency)
    return {
        "work": work,
        "imbalance": 0,
        "links": (moving - executing) * used,
        "memory": 0,
        "schedule": (latency - moving) * used,
        "clocks": passed.deskew_latency * used,
        "host": passed.host_latency * used,
        "fill": executing * used - work,
        "unused": passed.latency * (allowed - used),
    }


def chips_used(plan: Plan) -> int:
    """Chips that run a stage."""
    return sum(len(stage.chips) for stage in plan.stages)


def unit_work(report: Report, kind: Unit) -> int:
    """Cycles of work of one unit kind on all chips together, were it even over each chip's instances."""
    return ceil(sum(use.busy / use.instances for use in report.units if use.unit == kind.value))


def busiest_kind(report: Report) -> Unit:
    """The unit kind with the most work on all chips together; of equals the first."""
    return max(Unit, key=lambda kind: unit_work(report, kind))


def covered_cycles(spans: Iterable[tuple[np.ndarray, np.ndarray]], limit: int) -> int:
    """Cycles of [0, limit) that lie in any of the half-open intervals (starts, ends)."""
    pairs = list(spans)
    low = np.concatenate([start for start, _ in pairs]).clip(0, limit)
    high = np.concatenate([end for _, end in pairs]).clip(0, limit)
    order = np.argsort(low, kind="stable")
    low, high = low[order], np.maximum.accumulate(high[order])
    before = np.concatenate([low[:1], high[:-1]])
    return int((high - np.maximum(before, low)).clip(min=0).sum())


def _cut_by_memory(plan: Plan) -> int:
    """The load of the best cut into stages where SRAM keeps it above an even split; 0 where it does not."""
    bounds = (b.value for b in plan.bounds if b.quantity == "interval" and "SRAM binds" in b.binding)
    return max(bounds, default=0)


def _closes_late_for_memory(plan: Plan) -> bool:
    """Whether it was SRAM that kept a shorter interval of the chosen stages from closing."""
    return any("SRAM" in c.problem for c in plan.certificates if c.problem.startswith("schedule"))
