"""Why a model does not fit, said before or after the solver: where it is fullest, and the cures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from chiplan.ir import Graph, HeldBuffer, Infeasible, MemoryPeak, Problem, Role, Target
from chiplan.partitioner import FewestStages, PartitionProblem

from .addresses import OutOfSram
from .graph_edit import readers_of
from .memory_kinds import Kind, kinds_of_stage, peak_by_estimate, peak_of_chip
from .options import Options
from .quantities import counted, size

_WORDS = {
    Kind.WEIGHT: "weights",
    Kind.STATE: "states",
    Kind.ACTIVATION: "activations",
    Kind.RECEIVED: "received",
    Kind.COLLECTIVE: "collectives",
    Kind.IN_FLIGHT: "further micro-batches in flight",
}


def check_tables(graph: Graph, target: Target) -> None:
    """Refuse weights and states that no single chip can hold, all at once."""
    usable = target.chip.usable_bytes
    readers = readers_of(graph.operators)
    cure = "use a smaller --precision or a target with more SRAM a chip"
    problems = [
        Problem(
            "tensor_too_large",
            f"{tensor.role.value} {name} needs {size(tensor.nbytes)}, one chip of {target.name} holds "
            f"{size(usable)}: no pipeline of single chips can hold it; {cure}.",
            node=_reader(graph, readers.get(name, ())),
            needed=tensor.nbytes,
            available=usable,
            cures=(cure,),
        )
        for name, tensor in graph.tensors.items()
        if tensor.role in (Role.WEIGHT, Role.STATE) and tensor.nbytes > usable
    ]
    if problems:
        raise Infeasible(problems)


def _reader(graph: Graph, readers: Sequence[int]) -> str | None:
    """The node of the first of `readers`, if there is one."""
    if not readers:
        return None
    operator = graph.operators[readers[0]]
    return operator.nodes[0] if operator.nodes else operator.name


@dataclass(frozen=True)
class Shortage:
    """What is known where nothing fits. scheduled: the last refusal of a chip's addresses; None where nothing
    came so far."""

    graph: Graph
    target: Target
    options: Options
    chips: int
    scheduled: OutOfSram | None = None

    def peak(self) -> MemoryPeak:
        """The fullest chip and cycle as scheduled, or one chip with the whole model."""
        found, chip = self.scheduled, self.target.chip
        if found is None or found.graph is None:
            return peak_by_estimate(self.graph, chip, self.options.users)
        kinds, period = kinds_of_stage(found.graph, found.operators), found.problem.period
        peak = peak_of_chip(found.needs, kinds, chip, period, chip_id=found.chip)
        return replace(peak, needed=max(peak.alive, found.needed))

    def fewest_words(self, smallest: int, how: str = "") -> str:
        """The smallest number of chips that would do, unless so many were tried."""
        there = self.target.topology.chips
        if smallest <= self.chips:
            return (
                f"By bytes alone {counted(smallest, 'chip')} would do{how}, but no schedule that was tried "
                f"fits on {self.chips}"
                + ("; larger counts were not searched, allow more" if self.chips < there else "")
            )
        missing = f", but {self.target.name} has {there}" if smallest > there else ""
        return f"The smallest number of chips that fits is {smallest}{how}{missing}"

    def refusal(self, why: str, fewest: str, needed: int, available: int, smallest: int | None) -> Infeasible:
        """why: what is asked for, and there. fewest: the cure in chips."""
        peak = self.peak()
        cures = (fewest, *self._cures(peak))
        message = f"{why} {peak_words(peak)} {fewest}. Other cures: {'; '.join(cures[1:])}."
        return Infeasible(
            Problem(
                "sram_too_small",
                message,
                node=peak.node or next((held.node for held in peak.largest if held.node), None),
                needed=needed,
                available=available,
                smallest_chips=smallest if smallest is not None and smallest > self.chips else None,
                memory=peak,
                cures=cures,
            )
        )

    def _cures(self, peak: MemoryPeak) -> Iterator[str]:
        """What else would make it smaller, by what takes the room."""
        kinds, options = peak.kinds, self.options
        if kinds[Kind.STATE.value]:
            if options.users > 1:
                yield f"fewer --users than {options.users}"
            yield "a shorter --context"
        if kinds[Kind.IN_FLIGHT.value] and options.objective != "latency":
            yield "--objective latency, which has fewer micro-batches in flight"
        if kinds[Kind.WEIGHT.value] and options.precision not in ("int8", "w8a16"):
            yield "--precision w8a16 or int8"
        yield "a smaller --batch or --sequence"
        yield "a target with more SRAM a chip"


def peak_words(peak: MemoryPeak) -> str:
    """Where it is fullest, with what, and what is missing, in two sentences."""
    if peak.chip is None:
        where = f"On one chip, while node {peak.node} runs,"
    else:
        where = f"Fullest is chip {peak.chip} at cycle {peak.cycle:,} of the interval:"
    kinds = [(peak.kinds[kind.value], words) for kind, words in _WORDS.items() if peak.kinds[kind.value]]
    shares = ", ".join(f"{words} {size(nbytes)}" for nbytes, words in kinds)
    alive = f"{where} {size(peak.alive)} are alive ({shares}) of {size(peak.available)}"
    if peak.alive > peak.available:
        alive += f", {size(peak.alive - peak.available)} short."
    elif peak.needed > peak.available:
        alive += f"; the holes between buffers make it {size(peak.needed - peak.available)} short."
    else:
        alive += "."
    return f"{alive} Largest: {'; '.join(map(_held_words, peak.largest))}."


def _held_words(held: HeldBuffer) -> str:
    node = f" of node {held.node}" if held.node else ""
    copies = f" in {held.copies} copies" if held.copies > 1 else ""
    return f"{held.kind} {held.tensor}{node}, {size(held.nbytes)}{copies}"


def refuse_memory(problem: PartitionProblem, fewest: FewestStages | None, shortage: Shortage) -> Infeasible:
    """The refusal when no cut into the chips asked for fits into SRAM."""
    target, chips = shortage.target, shortage.chips
    total = sum(resident.nbytes for resident in problem.resident)
    active = int(problem.activations.max(initial=0))
    needed, available = total + active, target.chip.usable_bytes * chips
    why = (
        f"{counted(chips, 'chip')} of {target.name} hold{'' if chips > 1 else 's'} {size(available)}; "
        f"weights and states take {size(total)}, the activations of the largest operator {size(active)}: "
        + (f"{size(needed - available)} short." if needed > available else "no cut fits.")
    )
    if fewest is None:
        return shortage.refusal(why, "No number of chips fits, one chip a stage", needed, available, None)
    return shortage.refusal(why, shortage.fewest_words(fewest.count), needed, available, fewest.count)
