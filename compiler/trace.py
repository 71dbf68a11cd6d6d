"""A plan as a trace in the Trace Event Format, which Perfetto and chrome://tracing open.

A process is a chip. Its threads are its unit instances, its outgoing links, and what arrives from each
incoming link. docs/trace.md describes the events.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chiplan.ir import BadInput, Plan, Problem, Stage, Unit, plan_elapsed, unit_instances
from chiplan.runtime_sim import user_rhythm

from .column_text import column_lines, text_column

_MICRO = 10**6
_COMMA = ",\n"


@dataclass(frozen=True)
class TraceChoice:
    """What of a plan is traced: these chips, all of them where there are none; so many micro-batches."""

    chips: tuple[int, ...] = ()
    micro_batches: int = 1


def choose_chips(plan: Plan, chips: Sequence[int], stages: Sequence[int]) -> tuple[int, ...]:
    """The chips named, and those of the stages named. Raises BadInput (`not_in_plan`)."""
    used = {int(chip) for stage in plan.stages for chip in stage.chips}
    problems = [
        Problem("not_in_plan", f"--chip {chip}: the plan uses no such chip; `chiplan show` lists its chips")
        for chip in chips
        if chip not in used
    ]
    problems += [
        Problem("not_in_plan", f"--stage {stage}: the plan has stages 0 to {len(plan.stages) - 1}")
        for stage in stages
        if not 0 <= stage < len(plan.stages)
    ]
    if problems:
        raise BadInput(problems)
    named = {int(chip) for stage in stages for chip in plan.stages[stage].chips}
    return tuple(sorted(named | set(chips)))


def trace_chunks(plan: Plan, choice: TraceChoice) -> Iterator[str]:
    """The text of the trace, piece by piece: one event a line, so that it need not fit into memory."""
    held = _opening(plan, choice)
    for lines in _Trace(plan, choice).events():
        yield held
        held = lines
    # The last event has no comma behind it.
    yield f"{held.removesuffix(_COMMA)}\n]}}\n"


def _opening(plan: Plan, choice: TraceChoice) -> str:
    passed = plan_elapsed(plan)
    facts = {
        "model": plan.graph.name,
        "target": plan.target.name,
        "clock_hz": int(plan.target.chip.clock_hz),
        "latency_cycles": passed.latency,
        "interval_cycles": passed.interval,
        "program_latency_cycles": int(plan.latency),
        "program_interval_cycles": int(plan.interval),
        "micro_batches": choice.micro_batches,
        "figures": "simulated",
    }
    return f'{{"displayTimeUnit":"ns","otherData":{json.dumps(facts, sort_keys=True)},"traceEvents":[\n'


def _event(**fields: object) -> str:
    return json.dumps(fields, separators=(",", ":")) + _COMMA


class _Trace:
    """The events of the chosen chips."""

    def __init__(self, plan: Plan, choice: TraceChoice) -> None:
        self.plan = plan
        self.chosen = np.zeros(plan.target.topology.chips, dtype=bool)
        self.chosen[list(choice.chips) or slice(None)] = True
        rhythm = user_rhythm(plan, int(plan.interval))
        self.starts = [rhythm.start(number) for number in range(choice.micro_batches)]
        self.first_thread = self._unit_threads()

    def _unit_threads(self) -> np.ndarray:
        """int64[units]: the thread of instance 0 of every unit kind."""
        counts = [unit_instances(self.plan.target.chip, unit) for unit in Unit]
        return np.cumsum([1, *counts[:-1]])

    @cached_property
    def link_thread(self) -> int:
        """The thread of link 0 on the chip that sends; those of what arrives follow after all links."""
        return 1 + sum(unit_instances(self.plan.target.chip, unit) for unit in Unit)

    @property
    def arrival_thread(self) -> int:
        return self.link_thread + len(self.plan.target.topology.links)

    @cached_property
    def names(self) -> np.ndarray:
        """The tensors' names as JSON, in the order of `tensor_names`."""
        return text_column([json.dumps(name) for name in self.plan.tensor_names])

    def events(self) -> Iterator[str]:
        for number, stage in enumerate(self.plan.stages):
            yield from self._stage(number, stage)
        yield from self._link_names()
        for batch, offset in enumerate(self.starts):
            yield from self._hops(batch, offset)
            yield from self._arrivals(batch, offset)

    def _stage(self, number: int, stage: Stage) -> Iterator[str]:
        """All chips of a group run the same tiles in the same cycles: they are formatted once."""
        chips = [int(chip) for chip in stage.chips if self.chosen[chip]]
        if not chips:
            return
        for chip in chips:
            yield self._chip_names(number, chip, stage)
        for batch, offset in enumerate(self.starts):
            for lines in self._tiles(number, stage, batch, offset):
                for chip in chips:
                    yield lines.replace('"pid":-1', f'"pid":{chip}')

    def _chip_names(self, number: int, chip: int, stage: Stage) -> str:
        lines = [_process(chip, f"chip {chip}, stage {number}")]
        tiles, units = stage.program.tiles, tuple(Unit)
        for unit, instance in np.unique(np.stack([tiles.unit, tiles.instance], axis=1), axis=0).tolist():
            thread = int(self.first_thread[unit]) + instance
            lines.append(_thread(chip, thread, f"{units[unit].value} {instance}"))
        return "".join(lines)

    def _tiles(self, number: int, stage: Stage, batch: int, offset: int) -> Iterator[str]:
        operators = [self.plan.graph.operators[index] for index in stage.program.operators]
        names = text_column([json.dumps(operator.name) for operator in operators])
        nodes = text_column([json.dumps(", ".join(operator.nodes)) for operator in operators])
        tiles = stage.program.tiles
        template = (
            '{"ph":"X","cat":"tile","name":%s,"pid":-1,"tid":%d,"ts":%d.%06d,"dur":%d.%06d,"args":{"nodes":%s,'
            f'"tile":%d,"stage":{number},"micro_batch":{batch},"start_cycle":%d,"end_cycle":%d}}}},\n'
        )
        thread = self.first_thread[tiles.unit] + tiles.instance
        start, end = tiles.start.astype(np.int64) + offset, tiles.end.astype(np.int64) + offset
        which = tiles.operator
        columns = [names[which], thread, *self._span(start, end), nodes[which], tiles.tile, start, end]
        return column_lines(template, columns)

    def _span(self, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, ...]:
        """Time stamp and duration in microseconds, each as whole ones and millionths. Both ends are rounded
        alike, so that what follows without a pause in cycles does so here."""
        begin, stop = self._stamp(start), self._stamp(end)
        length = (stop[0] - begin[0]) * _MICRO + (stop[1] - begin[1])
        return (*begin, *np.divmod(length, _MICRO))

    def _stamp(self, cycles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Microseconds and millionths of one, rounded down. No product is beyond 64 bits."""
        clock = int(self.plan.target.chip.clock_hz)
        whole, rest = np.divmod(cycles * _MICRO, clock)
        return whole, rest * _MICRO // clock

    def _link_names(self) -> Iterator[str]:
        links = self.plan.target.topology.links
        staged = {chip for stage in self.plan.stages for chip in stage.chips}
        for chip in np.unique(self._ends[0][self.plan.hops.link]).tolist():
            if self.chosen[chip] and chip not in staged:
                yield _process(chip, f"chip {chip}, passes on")
        for index in np.unique(self.plan.hops.link).tolist():
            link = links[index]
            if self.chosen[link.source]:
                title = f"link {index} to chip {link.destination}, port {link.port}"
                yield _thread(link.source, self.link_thread + index, title)
            if self.chosen[link.destination]:
                title = f"from link {index}, chip {link.source}, port {link.port}"
                yield _thread(link.destination, self.arrival_thread + index, title)

    def _hops(self, batch: int, offset: int) -> Iterator[str]:
        """What every link carries, and the step of the flow that it is."""
        hops, transfers = self.plan.hops, self.plan.transfers
        source, _ = self._ends
        rows = np.flatnonzero(self.chosen[source[hops.link]])
        transfer, link = hops.transfer[rows], hops.link[rows]
        start, end = hops.start[rows].astype(np.int64) + offset, hops.end[rows].astype(np.int64) + offset
        template = (
            '{"ph":"X","cat":"hop","name":%s,"pid":%d,"tid":%d,"ts":%d.%06d,"dur":%d.%06d,"args":{"transfer":'
            '%d,"hop":%d,"link":%d,"first":%d,"last":%d,"bytes":%d,"from_chip":%d,"to_chip":%d,'
            f'"micro_batch":{batch},"start_cycle":%d,"end_cycle":%d}}}},\n'
            '{"ph":"%s","cat":"transfer","name":%s,"id":%d,"pid":%d,"tid":%d,"ts":%d.%06d},\n'
        )
        name, process, thread = self._name_of(transfer), source[link], self.link_thread + link
        span = self._span(start, end)
        first, last = transfers.first[transfer], transfers.last[transfer]
        ends = transfers.source[transfer], transfers.destination[transfer]
        facts = (transfer, hops.hop[rows], link, first, last, self._bytes_of(transfer), *ends, start, end)
        kind = text_column(["s", "t"])[np.minimum(hops.hop[rows], 1)]
        flow = (kind, name, self._flow(transfer, batch), process, thread, *span[:2])
        yield from column_lines(template, [name, process, thread, *span, *facts, *flow])

    def _arrivals(self, batch: int, offset: int) -> Iterator[str]:
        """When a transfer comes into its destination's SRAM, and the end of its flow."""
        hops, rule = self.plan.hops, self.plan.target.link
        is_last = np.append(
            hops.transfer[1:] != hops.transfer[:-1], np.ones(min(1, len(hops.transfer)), bool)
        )
        _, destination = self._ends
        rows = np.flatnonzero(is_last & self.chosen[destination[hops.link]])
        transfer, link = hops.transfer[rows], hops.link[rows]
        first = hops.start[rows].astype(np.int64) + (offset + rule.cycles_per_flit + rule.hop_latency)
        end = hops.end[rows].astype(np.int64) + (offset + rule.hop_latency)
        template = (
            '{"ph":"X","cat":"arrival","name":%s,"pid":%d,"tid":%d,"ts":%d.%06d,"dur":%d.%06d,"args":{'
            f'"transfer":%d,"from_chip":%d,"micro_batch":{batch},"start_cycle":%d,"end_cycle":%d}}}},\n'
            '{"ph":"f","bp":"e","cat":"transfer","name":%s,"id":%d,"pid":%d,"tid":%d,"ts":%d.%06d},\n'
        )
        name, process, thread = self._name_of(transfer), destination[link], self.arrival_thread + link
        span = self._span(first, end)
        facts = (transfer, self.plan.transfers.source[transfer], first, end)
        flow = (name, self._flow(transfer, batch), process, thread, *span[:2])
        yield from column_lines(template, [name, process, thread, *span, *facts, *flow])

    @cached_property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """int64[links]: the chips that send and receive."""
        links = self.plan.target.topology.links
        return (
            np.array([link.source for link in links], dtype=np.int64),
            np.array([link.destination for link in links], dtype=np.int64),
        )

    def _name_of(self, transfer: np.ndarray) -> np.ndarray:
        return np.asarray(self.names[self.plan.transfers.tensor[transfer]])

    def _bytes_of(self, transfer: np.ndarray) -> np.ndarray:
        tensors = self.plan.graph.tensors
        sizes = np.array([tensors[name].dtype.itemsize for name in self.plan.tensor_names], dtype=np.int64)
        chosen = self.plan.transfers
        elements = chosen.last[transfer] - chosen.first[transfer]
        return np.asarray(elements * sizes[chosen.tensor[transfer]])

    def _flow(self, transfer: np.ndarray, batch: int) -> np.ndarray:
        """A number that no other transfer of any micro-batch has."""
        return np.asarray(transfer.astype(np.int64) + batch * len(self.plan.transfers.start))


def _process(chip: int, name: str) -> str:
    named = _event(ph="M", name="process_name", pid=chip, tid=0, args={"name": name})
    return named + _event(ph="M", name="process_sort_index", pid=chip, tid=0, args={"sort_index": chip})


def _thread(process: int, thread: int, name: str) -> str:
    named = _event(ph="M", name="thread_name", pid=process, tid=thread, args={"name": name})
    return named + _event(
        ph="M", name="thread_sort_index", pid=process, tid=thread, args={"sort_index": thread}
    )
