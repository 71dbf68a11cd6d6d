"""What passes outside a schedule: aligning the chips' clocks, and transfers from and to the host.

A plan's cycles are those of its chips' programs. Where the target has rules for it, every interval begins
with a deskew, during which all chips stand still alike, so that nothing in the plan moves against anything
else; and a micro-batch begins when the host sends its inputs and ends when the host has its outputs.
"""

from dataclasses import dataclass
from math import ceil

from .graph import Graph, Role
from .plan import Plan
from .target import Target


@dataclass(frozen=True)
class Elapsed:
    """Cycles that pass in all. deskew_latency, host_latency: of the latency; deskew_interval: of the
    interval; host_interval: of the interval, what a micro-batch's bytes take more than the chips."""

    latency: int
    interval: int
    deskew_latency: int = 0
    deskew_interval: int = 0
    host_latency: int = 0
    host_interval: int = 0

    def parts(self) -> dict[str, int]:
        """The parts by the names that they have under `--json`."""
        return {
            "deskew_latency_cycles": self.deskew_latency,
            "deskew_interval_cycles": self.deskew_interval,
            "host_latency_cycles": self.host_latency,
            "host_interval_cycles": self.host_interval,
        }

    def pace(self, users: int, has_states: bool) -> int:
        """Cycles a micro-batch in the long run: a user's next one waits for the last one's end."""
        return max(self.interval, ceil(self.latency / users)) if has_states else self.interval


def elapsed_cycles(target: Target, graph: Graph, chips: int, latency: int, interval: int) -> Elapsed:
    """Of a plan of these program cycles on so many chips.

    deskew: a latency meets ceil(latency / interval) of them; a chip on its own needs none. host: `latency_ns`
    and the bytes each way; a chip has a link of its own, so pieces go at once, but those of several tensors
    one behind the other. States stay where they are.
    """
    rules, clock = target.chip.rules, target.chip.clock_hz
    deskew = int(target.deskew_cycles) if rules.deskew and chips > 1 else 0
    waits = deskew * ceil(latency / max(1, interval))
    calls, busy = 0, 0
    if rules.host:
        given = [graph.tensors[name] for name in graph.inputs if name in graph.tensors]
        inputs = sum(tensor.nbytes for tensor in given if tensor.role is Role.INPUT)
        taken = {output.tensor for output in graph.outputs}
        outputs = sum(graph.tensors[name].nbytes for name in taken if _is_sent(graph, name))
        ways = [ceil(nbytes * clock / max(1, target.host.bytes_per_second)) for nbytes in (inputs, outputs)]
        calls = 2 * ceil(target.host.latency_ns * clock / 10**9) + sum(ways)
        busy = max(ways)
    paused = interval + deskew
    return Elapsed(
        latency=latency + waits + calls,
        interval=max(paused, busy),
        deskew_latency=waits,
        deskew_interval=deskew,
        host_latency=calls,
        host_interval=max(0, busy - paused),
    )


def _is_sent(graph: Graph, name: str) -> bool:
    return graph.tensors[name].role not in (Role.STATE, Role.WEIGHT)


def plan_elapsed(plan: Plan, latency: int | None = None) -> Elapsed:
    """Of a plan as it states its cycles, or of another latency that was measured."""
    chips = sum(len(stage.chips) for stage in plan.stages)
    program = int(plan.latency) if latency is None else latency
    return elapsed_cycles(plan.target, plan.graph, chips, program, int(plan.interval))
