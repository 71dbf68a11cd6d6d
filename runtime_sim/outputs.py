"""Is every output whole on some stage by the stated latency, and still there when the host reads it?

The host reads the outputs of a micro-batch in the last cycle of it, at the latency that the plan
states, from one group of chips for each output: from any chip of it, or, where each holds a piece,
from all. So these chips must have all of the output by then, and its buffers may not die before.
"""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from chiplan.ir import Output, Role, Slice, apply_view, assemble

from .faults import Fault
from .memory_map import MemoryUse
from .readiness import Readiness
from .ready_times import constant_axes_dropped
from .timeline import Timeline


class OutputPlaces(NamedTuple):
    """A model output, or the rows that the run appends to a state. `whole`: by the first chip of each
    group, the cycle in which the last element is in the SRAM of all its chips; groups that never have
    all of it are left out."""

    output: Output
    role: Role
    whole: dict[int, int]

    @property
    def finish(self) -> int | None:
        """First cycle in which a group has all of it; None when none ever does. A constant is not
        read from a chip."""
        return 0 if self.role is Role.WEIGHT else min(self.whole.values(), default=None)


def output_places(timeline: Timeline, readiness: Readiness) -> tuple[OutputPlaces, ...]:
    """Where and when every output and every state's new rows are whole."""
    outputs = [*timeline.graph.outputs, *_appended(timeline)]
    return tuple(_places(timeline, readiness, output) for output in outputs)


def _appended(timeline: Timeline) -> Iterator[Output]:
    """The rows of the states that the run appends, as outputs."""
    for state in timeline.graph.states:
        tensor = timeline.graph.tensors[state.tensor]
        axis, rows = tensor.resident_rows or (0, 0)
        if rows < tensor.shape[axis]:
            starts = tuple(rows if d == axis else 0 for d in range(len(tensor.shape)))
            view = Slice(starts, tensor.shape, (1,) * len(tensor.shape))
            yield Output(state.present, state.tensor, (view,))


def _places(timeline: Timeline, readiness: Readiness, output: Output) -> OutputPlaces:
    tensor = timeline.graph.tensors[output.tensor]
    whole: dict[int, int] = {}
    if tensor.role is not Role.WEIGHT:
        for chip in timeline.holders.get(timeline.tensor_numbers[output.tensor], ()):
            last = _finish(timeline, readiness, output, int(timeline.groups.stage[chip]))
            if last != readiness.never:
                whole[chip] = last
    return OutputPlaces(output, tensor.role, whole)


def _finish(timeline: Timeline, readiness: Readiness, output: Output, stage: int) -> int:
    """Cycle in which all chips of a stage have all of an output, or all of their pieces."""
    cycles = readiness.at((stage, output.tensor)).latest
    sharding = timeline.graph.tensors[output.tensor].sharding
    # The rows appended to a state are seen on each chip's piece; what the model gives is seen whole.
    if sharding is not None and output in timeline.graph.outputs:
        mesh = timeline.groups.mesh(stage)
        cycles = assemble([cycles] * prod(mesh), sharding, mesh)
    return int(constant_axes_dropped(apply_view(output.view, cycles)).max())


def check_outputs(places: tuple[OutputPlaces, ...], stated: int) -> Iterator[Fault]:
    """missing_output, wrong_latency: a group has all of every output by the cycle that the plan states."""
    for place in places:
        name, cycle = place.output.name, place.finish
        if cycle is None:
            message = f"no chip ever has all of output {name}: a part is not computed, or not brought there"
            yield Fault("missing_output", message, tensor=name)
        elif cycle > stated:
            message = f"the plan states a latency of {stated} cycles, but output {name} is there at {cycle}"
            yield Fault("wrong_latency", message, cycle=cycle, tensor=name, expected=stated, found=cycle)


def check_holds(places: tuple[OutputPlaces, ...], use: MemoryUse, stated: int) -> Iterator[Fault]:
    """output_not_held: a chip that has all of an output by the stated latency keeps it until then."""
    buffers = use.timeline.plan.buffers
    for place in places:
        tensor = use.positions[place.output.tensor]
        chips = [chip for chip, cycle in place.whole.items() if cycle <= stated]
        rows = [use.rows[chip * len(use.positions) + tensor] for chip in chips]
        if not rows or any(buffers.death[row] == -1 for row in rows):
            continue
        row = max(rows, key=lambda row: int(buffers.death[row]))
        death = int(buffers.death[row])
        # A buffer that dies before its last use is a fault of its own.
        last = use.last_use_of(row)
        if death < stated and (last is None or last <= death):
            problem = (
                f"dies at cycle {death}, but the host reads output {place.output.name} at {stated}, and no "
                "other chip that has all of it keeps it longer"
            )
            yield use.fault("output_not_held", row, problem, stated, death, cycle=death)
