"""Which interval to schedule at: the shortest that closes, or the one that serves the objective best."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from math import ceil

from chiplan.ir import Certificate, ExchangeKind, Graph, Target, elapsed_cycles, mesh_ways

from .addresses import AddressSearch, OutOfSram
from .issue_order import issue_order
from .link_patterns import LinkPatterns
from .modulo import NoRoom
from .plan_build import build_buffers
from .scheduling import Schedule, Scheduler, StageWork
from .sram_room import SramRoom
from .tile_choice import TiledOperator
from .unit_packing import Packing

# Intervals that are tried, as fractions over the lower bound: one or two per cent of interval can be
# what a circle that is full to the last cycle needs to close.
_STRETCHES = (
    0.0,
    0.002,
    0.005,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.05,
    0.07,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1.0,
    2.0,
    4.0,
)
_PACKINGS = (Packing(), Packing(pauses=True))
_TIGHT_PACKING = Packing(grain=32)
"""A grain of about a row chunk wastes a few cycles an operator, and leaves gaps that short tiles fill to
the last cycle: a full circle may close with it alone."""

_WIDE_STRETCHES = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.5, 4.0, 8.0, 16.0)
"""The same for groups, fewer: a pass takes longer."""
_PARTS = (0.5, 0.75, 0.9)
"""Of the interval of a micro-batch that is alone: what is tried when none may be delayed."""
_EFFORT = 400_000
"""Legs that may be scheduled for groups in all intervals together; an operator counts for some."""
_OPERATOR_EFFORT = 20
_FEWEST_TRIES = 3
_GROUP_PACKINGS = (Packing(pauses=True),)
_SPARING_PACKING = Packing(pauses=True, thrift=1)
_THRIFTY_PACKING = Packing(pauses=True, thrift=4)
_LAST_PACKINGS = (_TIGHT_PACKING, _THRIFTY_PACKING)
"""What is tried where nothing else closes."""
_BISECTIONS = 3
_ENDLESS = 1 << 40
"""An interval in which no two micro-batches can meet."""


@dataclass(frozen=True)
class Found:
    """A schedule, and in words what kept a shorter interval from closing ("" when it is the shortest).
    waits: cycles a micro-batch in the long run below which users would not have waited for their last step;
    0 without state."""

    schedule: Schedule
    binding: str
    waits: int = 0


class IntervalSearch:
    """Schedules given stages at several intervals."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        tiled: Mapping[int, TiledOperator],
        objective: str,
        users: int,
        progress: Callable[[str], None],
    ) -> None:
        self.graph, self.target, self.tiled = graph, target, tiled
        self.objective, self.users, self.progress = objective, users, progress
        self.patterns = LinkPatterns(target)
        self.waiting = False
        self.addresses = AddressSearch()
        self._packings = (*_PACKINGS, _TIGHT_PACKING)
        self.names = {name: index for index, name in enumerate(sorted(graph.tensors))}
        self._turns = 1
        self._order = cache(lambda operators: issue_order(graph, tiled, operators))

    def run(self, stages: Sequence[StageWork]) -> Found:
        """The best schedule of all intervals worth trying. Where none fits into the SRAM of a single
        chip, operators wait for room; several chips may be cut otherwise. Raises OutOfSram."""
        try:
            return self._best(stages)
        except OutOfSram:
            if len(stages) > 1:
                raise
        self.waiting = True
        try:
            return self._best(stages)
        finally:
            self.waiting = False

    def _best(self, stages: Sequence[StageWork]) -> Found:
        if any(len(stage.chips) > 1 for stage in stages):
            return self._best_of_groups(stages)
        alone = self.alone(stages).latency if self.objective == "latency" else 0
        best: Schedule | None = None
        refusals: dict[int, NoRoom | OutOfSram] = {}
        for interval in self._intervals(stages):
            if best is not None and self._settled(best, interval, alone):
                break
            found = self._try(stages, interval, refusals)
            if found is not None and best is None and refusals:
                found = self._tightened(found, stages, refusals)
            best = self._better(best, found)
        if best is not None and self.graph.states:
            best = self._in_step(best, stages, refusals)
        if best is None:
            raise next(refusal for refusal in refusals.values() if isinstance(refusal, OutOfSram))
        shorter = [interval for interval in refusals if interval < best.interval]
        return self._found(best, self._words(refusals[max(shorter)]) if shorter else "")

    def _best_of_groups(self, stages: Sequence[StageWork]) -> Found:
        """A pass over thousands of chips' links is dear, so few intervals are tried: from the shortest
        that could help until no longer one can be better, or the effort is spent."""
        best = alone = self._best_alone(stages)
        self._turns = len(self._order(_operators(stages))) // len(self.graph.operators)
        cheap = (*_PACKINGS, _TIGHT_PACKING) if self._is_cheap(alone) else _GROUP_PACKINGS
        self._packings = (*cheap, _THRIFTY_PACKING)
        # Closer together micro-batches need more room, never less: what does not fit alone never does.
        self._check_room(stages, alone, self.addresses)
        refusals: dict[int, NoRoom | OutOfSram] = {}
        least = max(self.least(stages), ceil(alone.latency / self.users) if self.graph.states else 1)
        for interval in self._few_intervals(least, alone):
            if self._settled_early(best, alone):
                break
            found = self._try(stages, interval, refusals)
            if found is not None and best is alone and refusals and self._is_cheap(alone):
                found = self._tightened(found, stages, refusals)
            best = self._better(best, found) or best
        if best is alone and not self.graph.states and self.objective == "throughput":
            best = self._first_that_closes(stages, alone, refusals)
        if self.graph.states and self.users > 1:
            best = self._in_step(best, stages, refusals)
        shorter = [interval for interval in refusals if interval < best.interval]
        return self._found(best, self._words(refusals[max(shorter)]) if shorter else "")

    def _first_that_closes(
        self, stages: Sequence[StageWork], alone: Schedule, refusals: dict[int, NoRoom | OutOfSram]
    ) -> Schedule:
        """Where nothing near the busiest resource closes, longer intervals, each twice the last."""
        interval = 2 * max(refusals, default=alone.interval)
        while interval < alone.interval:
            found = self._try(stages, interval, refusals)
            if found is not None:
                return found
            interval *= 2
        return alone

    def _few_intervals(self, least: int, alone: Schedule) -> list[int]:
        """Ascending. A micro-batch that others may not delay at all needs nearly the interval that it has
        alone; one that they may, as little as the busiest resource."""
        if self.objective == "latency" and not self.graph.states:
            return [interval for part in _PARTS if (interval := int(alone.interval * part)) >= least]
        ladder = dict.fromkeys(least + int(least * stretch) for stretch in _WIDE_STRETCHES)
        intervals = [interval for interval in ladder if interval < alone.interval]
        tries = max(_FEWEST_TRIES, _EFFORT // self._effort(alone))
        return intervals[:: max(1, ceil(len(intervals) / tries))]

    def _effort(self, alone: Schedule) -> int:
        """Of one pass. Where operators take turns, exchanges overlap, and few of them repeat."""
        legs = sum(len(moved.start) for moved in alone.sent)
        return self._turns * (_OPERATOR_EFFORT * len(self.graph.operators) + legs)

    def _is_cheap(self, alone: Schedule) -> bool:
        """Whether some more passes are no matter."""
        return self._effort(alone) * 4 * _BISECTIONS <= _EFFORT

    def _settled_early(self, best: Schedule, alone: Schedule) -> bool:
        """Whether no longer interval than the last one tried can be better."""
        if self.graph.states:
            return best.latency <= alone.latency and self.pace(best) <= ceil(alone.latency / self.users)
        return best is not alone and (self.objective != "latency" or best.latency <= alone.latency)

    def alone(self, stages: Sequence[StageWork]) -> Schedule:
        """The schedule of a micro-batch that has the chips to itself, packed in the first way."""
        return self._at(stages, _ENDLESS)

    def _best_alone(self, stages: Sequence[StageWork]) -> Schedule:
        """The schedule of a micro-batch that has the chips to itself, at the shortest interval at which
        it still has."""
        packings = _GROUP_PACKINGS if self.graph.states else (*_GROUP_PACKINGS, _SPARING_PACKING)
        schedules = (self._at(stages, _ENDLESS, packing) for packing in packings)
        return min((replace(done, interval=done.span) for done in schedules), key=self.merit)

    def _try(
        self, stages: Sequence[StageWork], interval: int, refusals: dict[int, NoRoom | OutOfSram]
    ) -> Schedule | None:
        """A schedule whose buffers have addresses, or None and an entry in `refusals`."""
        self.progress(f"scheduling at an interval of {interval:,} cycles")
        found: list[Schedule] = []
        packable: list[Schedule] = []
        for packing in self._packings:
            if found and packing in _LAST_PACKINGS:
                break
            try:
                schedule = self._at(stages, interval, packing)
                self._check_room(stages, schedule)
            except NoRoom as refusal:
                refusals[interval] = refusal
            except OutOfSram as refusal:
                refusals[interval] = refusal
                packable += [schedule] if refusal.is_packable else []
            else:
                found.append(schedule)
        if not found:
            packable.sort(key=self.merit)
            # Searching takes long: the first that has room will do.
            found = list(islice((s for s in packable if self._has_room(stages, s)), 1))
        if not found:
            return None
        refusals.pop(interval, None)
        return min(found, key=self.merit)

    def _check_room(
        self, stages: Sequence[StageWork], schedule: Schedule, search: AddressSearch | None = None
    ) -> None:
        """Raises OutOfSram when no addresses are found for the buffers of a schedule."""
        build_buffers(self.graph, stages, schedule, self.target, self.users, self.names, search)

    def _has_room(self, stages: Sequence[StageWork], schedule: Schedule) -> bool:
        """Whether a solver finds addresses where first fit did not."""
        self.progress("searching for SRAM addresses")
        try:
            self._check_room(stages, schedule, self.addresses)
        except OutOfSram:
            return False
        return True

    def _words(self, refusal: NoRoom | OutOfSram) -> str:
        if isinstance(refusal, OutOfSram):
            return f"SRAM binds: {refusal.needed - refusal.available:,} bytes short on chip {refusal.chip}"
        return str(refusal)

    def _settled(self, best: Schedule, interval: int, alone: int) -> bool:
        """Whether no longer interval can be better: a micro-batch alone is no faster, or the pace is
        the interval's already."""
        return best.latency <= alone if self.objective == "latency" else interval >= self.pace(best)

    def _tightened(
        self, found: Schedule, stages: Sequence[StageWork], refusals: dict[int, NoRoom | OutOfSram]
    ) -> Schedule:
        """Bisect between the last interval that did not close and the first that did."""
        best, low, high = found, max(refusals), found.interval
        for _ in range(_BISECTIONS):
            middle = (low + high) // 2
            schedule = self._try(stages, middle, refusals) if middle > low else None
            if schedule is None:
                low = middle
            else:
                best, high = self._better(best, schedule) or best, middle
        return best

    def _in_step(
        self, best: Schedule, stages: Sequence[StageWork], refusals: dict[int, NoRoom | OutOfSram]
    ) -> Schedule:
        """At an interval of latency / users no user waits, and the latency need not be rounded."""
        for _ in range(_BISECTIONS):
            interval = ceil(best.latency / self.users)
            if interval == best.interval:
                break
            best = self._better(best, self._try(stages, interval, refusals)) or best
        return best

    def _better(self, best: Schedule | None, found: Schedule | None) -> Schedule | None:
        if best is None or found is None:
            return best or found
        return found if self.merit(found) < self.merit(best) else best

    def pace(self, schedule: Schedule) -> int:
        """Cycles a micro-batch in the long run."""
        return pace(schedule.interval, schedule.latency, self.users, bool(self.graph.states))

    def merit(self, schedule: Schedule) -> tuple[int, int]:
        """Smaller is better, in the order that the objective asks for; of all cycles that pass."""
        passed = elapsed_cycles(self.target, self.graph, schedule.chips, schedule.latency, schedule.interval)
        pace, latency = passed.pace(self.users, bool(self.graph.states)), passed.latency
        return (latency, pace) if self.objective == "latency" else (pace, latency)

    def _found(self, best: Schedule, binding: str) -> Found:
        return Found(best, binding, ceil(best.latency / self.users) if self.graph.states else 0)

    def _at(self, stages: Sequence[StageWork], interval: int, packing: Packing = _PACKINGS[0]) -> Schedule:
        room = None
        if self.waiting:
            operators = {stage.first_chip: stage.operators for stage in stages}
            room = SramRoom(self.graph, operators, self.target.chip, self.users)
        order = self._order(_operators(stages)) if packing.pauses else None
        return Scheduler(
            self.graph,
            self.target,
            stages,
            self.tiled,
            interval,
            self.patterns,
            packing,
            self.users,
            room,
            order=order,
        ).run()

    def least(self, stages: Sequence[StageWork]) -> int:
        """An interval below which the busiest unit or the links into the chips of a group have no time."""
        return max(busiest_unit(stages, self.tiled), busiest_entry(stages, self.graph, self.target))

    def _intervals(self, stages: Sequence[StageWork]) -> Iterator[int]:
        least = self.least(stages)
        yield from dict.fromkeys(least + int(least * stretch) for stretch in _STRETCHES)
        alone, interval = self.alone(stages).latency + 1, 10 * least
        while interval < alone:
            yield interval
            interval *= 2
        # A micro-batch that has the chips to itself always closes.
        yield max(interval, alone)


def _operators(stages: Sequence[StageWork]) -> tuple[tuple[int, ...], ...]:
    """Those of every stage."""
    return tuple(stage.operators for stage in stages)


def pace(interval: int, latency: int, users: int, has_states: bool) -> int:
    """Cycles a micro-batch in the long run: a user's next one waits for the last one's end."""
    return max(interval, ceil(latency / users)) if has_states else interval


def certify(found: Found, least: int) -> Certificate:
    """How far the cycles a micro-batch are from the least that these stages need. With state it is the pace:
    where users wait for the last step, a shorter interval would gain nothing at this latency."""
    interval, binding = found.schedule.interval, found.binding
    if found.waits > least:
        interval, least = max(interval, found.waits), found.waits
        binding = "users wait for their last step" if interval == least else binding
    problem = "schedule: interval of these stages" + (f"; {binding}" if binding else "")
    status = "optimal" if interval == least else "feasible"
    return Certificate(problem, status, interval, least, (interval - least) / max(1, least), 0.0)


def busiest_unit(stages: Sequence[StageWork], tiled: Mapping[int, TiledOperator]) -> int:
    """Cycles that the busiest unit instance of any stage needs at the least."""
    loads: dict[tuple[int, object], int] = {}
    for stage in stages:
        for index in stage.operators:
            key = (stage.first_chip, tiled[index].operator.unit)
            loads[key] = loads.get(key, 0) + tiled[index].work
    return max(1, *loads.values()) if loads else 1


def busiest_entry(stages: Sequence[StageWork], graph: Graph, target: Target) -> int:
    """Cycles that the links into a chip of a group need at the least for what the chips exchange."""
    entries = Counter(int(link.destination) for link in target.topology.links)
    home = {
        result.tensor: stage
        for stage in stages
        for index in stage.operators
        for result in graph.operators[index].results
    }
    received: Counter[int] = Counter()
    for exchange in graph.exchanges:
        if (stage := home.get(exchange.source)) is not None:
            ways = mesh_ways(stage.mesh, exchange.axes)
            share = ways if exchange.kind is ExchangeKind.SHIFT else ways - 1
            received[stage.first_chip] += graph.tensors[exchange.source].nbytes * share // ways
    rule = target.link
    return max(
        (
            received[stage.first_chip] // rule.flit_bytes * rule.cycles_per_flit // max(1, entries[chip])
            for stage in stages
            for chip in stage.chips
        ),
        default=0,
    )
