"""Executes a plan as it stands and says whether it holds.

A rule is a small function from the plan, laid out as tables, to the faults it finds. Rules of one
phase take for granted what the phases before them found in order, so a broken tiling does not drown
in the thousand late reads that follow from it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from chiplan.ir import Cycle, Plan, streams_taken

from .exchanges import check_exchanges
from .faults import MOST_PER_RULE, Fault
from .groups import check_groups
from .links import check_link_overlap, check_ranges, check_routes
from .memory_map import (
    MemoryUse,
    check_extents,
    check_lifetimes,
    check_presence,
    check_sharing,
    highest_bytes,
)
from .outputs import OutputPlaces, check_holds, check_outputs, output_places
from .readiness import Readiness
from .reads import check_readiness
from .shardings import check_shardings
from .steady_state import finish_times
from .tiles import check_cover, check_durations, check_missing, check_producers, check_units
from .timeline import Timeline
from .units import check_accumulation, check_overlap
from .usage import LinkUse, MemoryPeak, UnitUse, critical_resource, link_use, memory_peaks, unit_use
from .variation import Variation, check_variation


@dataclass(frozen=True)
class Report:
    """The verdict. Cycles count from the start of micro-batch 0.

    latency: measured, when the last output is whole in a chip's SRAM; None when the faults leave it open.
    interval: the plan's, proved to repeat without conflict when there is no fault.
    finish: when the first micro-batches are done, in steady state.
    """

    ok: bool
    faults: tuple[Fault, ...]
    latency: Cycle | None
    interval: Cycle
    finish: tuple[int, ...] = ()
    units: tuple[UnitUse, ...] = ()
    links: tuple[LinkUse, ...] = ()
    memory: tuple[MemoryPeak, ...] = ()
    critical: str = ""


class Simulation:
    """The tables of one run, each made when the first rule asks for it."""

    def __init__(self, plan: Plan) -> None:
        self.timeline = Timeline(plan)
        self._readiness: Readiness | None = None
        self._memory: MemoryUse | None = None
        self._variation: Variation | None = None
        self._outputs: tuple[OutputPlaces, ...] | None = None

    @property
    def readiness(self) -> Readiness:
        self._readiness = self._readiness or Readiness(self.timeline)
        return self._readiness

    @property
    def memory(self) -> MemoryUse:
        self._memory = self._memory or MemoryUse(self.timeline)
        return self._memory

    @property
    def variation(self) -> Variation:
        self._variation = self._variation or Variation(self.timeline)
        return self._variation

    @property
    def outputs(self) -> tuple[OutputPlaces, ...]:
        if self._outputs is None:
            self._outputs = output_places(self.timeline, self.readiness)
        return self._outputs

    @property
    def stated_latency(self) -> int:
        return int(self.timeline.plan.latency)

    def latency(self) -> Cycle | None:
        """Cycle in which the last output is whole on a chip; None when one never is."""
        cycles = [place.finish for place in self.outputs]
        known = [cycle for cycle in cycles if cycle is not None]
        return Cycle(max(known, default=0)) if len(known) == len(cycles) else None


Rule: TypeAlias = Callable[[Simulation], Iterator[Fault]]


def _check_interval(run: Simulation) -> Iterator[Fault]:
    """wrong_interval: no resource is busier in one micro-batch than the interval is long."""
    stated = int(run.timeline.plan.interval)
    busy, name = run.timeline.busiest
    if stated < max(1, busy):
        message = f"the plan states an interval of {stated} cycles, but {name} is busy for {busy}"
        yield Fault("wrong_interval", message, expected=busy, found=stated)


def _check_streams(run: Simulation) -> Iterator[Fault]:
    """stream_budget: units, loads and links have no more streams than pass a point of a chip."""
    chip = run.timeline.chip
    taken, there = streams_taken(chip), chip.streams.count * chip.streams.sides
    if chip.rules.stream_budget and taken > there:
        message = f"the target deals out {taken} streams a chip of {there}"
        yield Fault("stream_budget", message, expected=there, found=taken)


RULES: tuple[tuple[Rule, ...], ...] = (
    (
        _check_streams,
        lambda run: check_groups(run.timeline.groups, run.timeline.plan),
        lambda run: check_shardings(run.timeline),
        lambda run: check_cover(run.timeline),
        lambda run: check_missing(run.timeline),
        lambda run: check_ranges(run.timeline),
        lambda run: check_routes(run.timeline),
    ),
    (
        lambda run: check_units(run.timeline),
        lambda run: check_presence(run.memory),
        lambda run: check_extents(run.memory),
        lambda run: check_exchanges(run.timeline, run.variation),
        lambda run: check_variation(run.timeline, run.variation),
    ),
    (
        lambda run: check_durations(run.timeline),
        lambda run: check_overlap(run.timeline),
        lambda run: check_accumulation(run.timeline),
        lambda run: check_producers(run.timeline),
        lambda run: check_readiness(run.timeline, run.readiness),
        lambda run: check_link_overlap(run.timeline),
        lambda run: check_lifetimes(run.memory),
        lambda run: check_sharing(run.memory),
        _check_interval,
        lambda run: check_outputs(run.outputs, run.stated_latency),
        lambda run: check_holds(run.outputs, run.memory, run.stated_latency),
    ),
)


def simulate(plan: Plan, micro_batches: int = 8) -> Report:
    """Check every rule on the plan, and measure it. Each rule reports MOST_PER_RULE faults at most.

    Steady state is checked for all micro-batches; `micro_batches` sets how many finish times are
    listed. The plan's references must be sound, as `ir.read_plan` makes sure.
    """
    run = Simulation(plan)
    for phase in RULES:
        faults = tuple(fault for rule in phase for fault in islice(rule(run), MOST_PER_RULE))
        if faults:
            break
    if faults and phase is not RULES[-1]:
        return Report(False, faults, None, plan.interval)
    return _measure(run, faults, micro_batches)


def structural_faults(plan: Plan) -> tuple[Fault, ...]:
    """Whether a plan holds together, so that its tiles and transfers can be counted and drawn: the faults
    of the first phase alone."""
    run = Simulation(plan)
    return tuple(fault for rule in RULES[0] for fault in islice(rule(run), MOST_PER_RULE))


def _measure(run: Simulation, faults: tuple[Fault, ...], micro_batches: int) -> Report:
    plan, latency = run.timeline.plan, run.latency()
    return Report(
        ok=not faults,
        faults=faults,
        latency=latency,
        interval=plan.interval,
        finish=() if latency is None else finish_times(plan, latency, micro_batches),
        units=unit_use(run.timeline),
        links=link_use(run.timeline),
        memory=memory_peaks(run.timeline, highest_bytes(run.memory)),
        critical=critical_resource(run.timeline),
    )
