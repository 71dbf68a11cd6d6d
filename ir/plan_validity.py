"""Whether everything that a plan refers to exists, so that whoever reads it never runs off an array.

Only references and shapes are checked here: a file that passes describes *some* plan. Whether that
plan is right is the simulator's verdict, fault by fault.
"""

from collections.abc import Iterator
from itertools import chain
from math import isfinite, prod

import numpy as np

from .graph import Unit
from .plan import Plan, Stage
from .target import Target
from .verify_graph import broken_shapes
from .verify_tensors import MOST_AXES, MOST_ELEMENTS

MOST_FIGURE = 2**50
"""Of a target: bytes, bandwidths, a clock."""
MOST_CYCLES = 2**20
"""Of a target: cycles that a row, a vector, a flit, a hop or a pipeline takes."""
LAST_CYCLE = 2**60
"""Cycles and addresses stay below this, so that sums of a few of them fit 64 bits."""


def first_problem(plan: Plan) -> str | None:
    """What is wrong with the plan's references, in words; None when all exist."""
    problems = chain(
        _target(plan.target), map(str, broken_shapes(plan.graph)), _durations(plan), _figures(plan)
    )
    found = next(problems, None)
    # Columns refer into graph and topology: they are looked at only when those hold.
    return found if found is not None else next(_columns(plan), None)


def _figures(plan: Plan) -> Iterator[str]:
    if list(plan.tensor_names) != sorted(plan.graph.tensors):
        yield "tensor_names are not the sorted names of the graph's tensors"
    for name, value in (("users", plan.users), ("batch", plan.batch), ("sequence", plan.sequence)):
        if not 1 <= value < 2**31:
            yield f"{name} must be at least 1, found {value}"
    for option, text in plan.options:
        if (option == "context" or option.startswith("bind ")) and not _is_count(text):
            yield f"the option {option} is the number {text!r:.40}"
    numbers = [number for c in plan.certificates for number in (c.gap, c.deterministic_time)]
    if not all(map(isfinite, numbers)):
        yield "a certificate's numbers are not finite"
    for name, value in (("latency", plan.latency), ("interval", plan.interval)):
        if not 1 <= value < LAST_CYCLE:
            yield f"{name} must be at least 1 cycle, found {value}"


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12


def _target(target: Target) -> Iterator[str]:
    chip, link = target.chip, target.link
    rules = [rule for rules in chip.matrix.rules.values() for rule in rules]
    positive = {
        "clock_hz": chip.clock_hz,
        "alignment": chip.alignment,
        "usable bytes": chip.usable_bytes,
        "flit_bytes": link.flit_bytes,
        "cycles_per_flit": link.cycles_per_flit,
        "matrix.load_bytes_per_cycle": chip.matrix.load_bytes_per_cycle,
        "vector.lanes": chip.vector.lanes,
        "vector.chained": chip.vector.chained,
        "switch.bytes_per_cycle": chip.switch.bytes_per_cycle,
        "memory.bytes_per_cycle": chip.memory.bytes_per_cycle,
        "matrix rules": min((min(r.rows, r.columns, r.cycles_per_row) for r in rules), default=1),
        "vector.cycles": min(chip.vector.cycles.values(), default=1),
        "chips": target.topology.chips,
    }
    counts = {
        "streams.count": chip.streams.count,
        "streams.bytes": chip.streams.nbytes,
        "streams.links": chip.streams.links,
        "matrix.streams": chip.matrix.streams,
        "vector.streams": chip.vector.streams,
        "switch.streams": chip.switch.streams,
        "memory.streams": chip.memory.streams,
        "sram_bytes_per_cycle": chip.sram_bytes_per_cycle,
        "deskew_cycles": target.deskew_cycles,
        "host.latency_ns": target.host.latency_ns,
        "host.bytes_per_second": target.host.bytes_per_second,
    }
    for least, named in ((1, positive), (0, counts)):
        for name, value in named.items():
            if not least <= value <= MOST_FIGURE:
                yield f"the target's {name} must be from {least} to 2^50, found {value}"
    if any(not 0 <= cycles <= MOST_CYCLES for cycles in (*_delays(target), _slowest(target))):
        yield "a unit or a link of the target takes less than 0 or more than 2^20 cycles"
    topology = target.topology
    if topology.chips * chip.usable_bytes > LAST_CYCLE:
        yield f"the target has {topology.chips} chips of {chip.usable_bytes} bytes"
    ends = np.array([(end.source, end.destination) for end in topology.links], dtype=np.int64)
    if _outside(ends, topology.chips):
        yield "a link of the topology joins a chip that does not exist"
    if not len(topology.node_of) == len(topology.rack_of) == topology.chips:
        yield "the topology does not give one node and one rack a chip"


def _delays(target: Target) -> tuple[int, ...]:
    chip, link = target.chip, target.link
    units = (chip.matrix, chip.vector, chip.switch, chip.memory)
    return (link.cycles_per_flit, link.hop_latency, *[unit.depth for unit in units])


def _slowest(target: Target) -> int:
    """Cycles of the slowest rule of a chip: for a row or for a vector."""
    rules = [rule.cycles_per_row for rules in target.chip.matrix.rules.values() for rule in rules]
    return max([1, *rules, *target.chip.vector.cycles.values()])


def _durations(plan: Plan) -> Iterator[str]:
    """Every tile's duration must fit 64 bits."""
    slowest = _slowest(plan.target)
    for operator in plan.graph.operators:
        iterations = prod(factor.extent for factor in operator.factors)
        if iterations * len(operator.body) * slowest > LAST_CYCLE:
            yield f"operator {operator.name} has {iterations} iterations"


def _columns(plan: Plan) -> Iterator[str]:
    chips, tensors = plan.target.topology.chips, len(plan.tensor_names)
    limits = (
        ("transfers/tensor", plan.transfers.tensor, tensors),
        ("transfers/source", plan.transfers.source, chips),
        ("transfers/destination", plan.transfers.destination, chips),
        ("transfers/first", plan.transfers.first, MOST_ELEMENTS),
        ("transfers/last", plan.transfers.last, MOST_ELEMENTS),
        ("transfers/into", plan.transfers.into, tensors),
        ("transfers/at", plan.transfers.at, MOST_ELEMENTS),
        ("hops/transfer", plan.hops.transfer, len(plan.transfers.tensor)),
        ("hops/link", plan.hops.link, len(plan.target.topology.links)),
        ("buffers/tensor", plan.buffers.tensor, tensors),
        ("buffers/chip", plan.buffers.chip, chips),
    )
    for name, column, limit in limits:
        if _outside(column, limit):
            yield f"{name} refers to something that does not exist (it must lie in 0..{limit - 1})"
    times = (
        plan.transfers.start, plan.hops.start, plan.hops.end, plan.buffers.address, plan.buffers.nbytes,
        plan.buffers.birth, plan.buffers.death,
    )  # fmt: skip
    if any(_outside(np.abs(column), LAST_CYCLE) for column in times):
        yield "a cycle or an address is beyond what any chip has"
    buffers, alignment = plan.buffers, float(plan.target.chip.alignment)
    # As floating-point numbers: the product of two columns may not fit 64 bits.
    ends = buffers.copies.astype(np.float64) * (np.abs(buffers.nbytes) + alignment) + buffers.address
    if len(ends) and ends.max() > LAST_CYCLE:
        yield "the copies of a buffer end beyond what any chip has"
    for number, stage in enumerate(plan.stages):
        yield from (f"stage {number}: {problem}" for problem in _stage(stage, plan))


def _stage(stage: Stage, plan: Plan) -> Iterator[str]:
    program = stage.program
    if _outside(np.array(stage.chips, dtype=np.int64), plan.target.topology.chips) or not stage.chips:
        yield "a chip does not exist"
    if prod(stage.mesh) != len(stage.chips):
        yield f"the mesh {stage.mesh} does not hold {len(stage.chips)} chips"
    if not stage.mesh or min(stage.mesh) < 1 or len(stage.mesh) > MOST_AXES:
        yield f"the mesh {stage.mesh} has no extents of at least 1"
    if _outside(np.array(program.operators, dtype=np.int64), len(plan.graph.operators)):
        yield "an operator does not exist"
    if len(program.tilings) != len(program.operators):
        yield f"{len(program.tilings)} tilings for {len(program.operators)} operators"
    if _outside(program.tiles.operator, len(program.operators)):
        yield "a tile belongs to an operator that does not exist"
    if _outside(program.tiles.unit, len(Unit)):
        yield "a tile runs on a unit that does not exist"
    if _outside(program.tiles.instance, 2**15) or _outside(program.tiles.tile, 2**31):
        yield "a tile has a negative number or instance"
    if any(_outside(np.abs(column), LAST_CYCLE) for column in (program.tiles.start, program.tiles.end)):
        yield "a tile runs in a cycle that no plan reaches"


def _outside(column: np.ndarray, limit: int) -> bool:
    """Whether an entry is not in 0..limit-1."""
    return bool(column.size) and bool(column.min() < 0 or column.max() >= limit)
