"""When each micro-batch starts, and which relative shifts between micro-batches ever occur.

Without state, micro-batch n starts at n * interval. With state, at most `users` are in flight:
    start(n) = max(start(n - 1) + interval, start(n - users) + latency)
with the latency that the plan states. If users * interval >= latency the second term never binds.
Otherwise `users` micro-batches start an interval apart, then the pattern waits for the first of them
and repeats: start(q * users + r) = q * latency + r * interval.
"""

from dataclasses import dataclass

import numpy as np

from chiplan.ir import Plan

from .limits import check_entries


@dataclass(frozen=True)
class Rhythm:
    """`shifts` micro-batches start in every `period` cycles, at these cycles of the period."""

    period: int
    shifts: tuple[int, ...]

    def start(self, number: int) -> int:
        """Start of micro-batch `number`; negative numbers continue the pattern backwards."""
        turn, place = divmod(number, len(self.shifts))
        return turn * self.period + self.shifts[place]


def user_rhythm(plan: Plan, interval: int) -> Rhythm:
    """The pattern in which micro-batches really start."""
    if not plan.graph.states or plan.users * interval >= plan.latency:
        return Rhythm(interval, (0,))
    check_entries("the users in flight", plan.users)
    return Rhythm(int(plan.latency), tuple(r * interval for r in range(plan.users)))


def rhythms(plan: Plan, interval: int) -> tuple[Rhythm, ...]:
    """Every pattern that units and links must bear: the interval that the plan claims for its
    resources, and the waiting of users for their states where that shifts micro-batches by something
    else than multiples of the interval."""
    steady, waiting = Rhythm(interval, (0,)), user_rhythm(plan, interval)
    return (steady,) if waiting == steady else (steady, waiting)


def finish_times(plan: Plan, latency: int, micro_batches: int) -> tuple[int, ...]:
    """Cycle in which each of the first micro-batches has its last output element."""
    rhythm = user_rhythm(plan, int(plan.interval))
    return tuple(rhythm.start(n) + latency for n in range(micro_batches))


def repeated(values: np.ndarray, rhythm: Rhythm) -> np.ndarray:
    """`values` once for every micro-batch of a period."""
    check_entries("a row for each micro-batch of a period", len(values) * len(rhythm.shifts))
    return np.tile(values, len(rhythm.shifts))


def shifted(start: np.ndarray, rhythm: Rhythm) -> np.ndarray:
    """`start` of every micro-batch of a period."""
    check_entries("a row for each micro-batch of a period", len(start) * len(rhythm.shifts))
    return np.asarray(np.add.outer(rhythm.shifts, start).ravel())
