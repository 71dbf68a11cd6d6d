"""Whether everything that a plan refers to exists, so that whoever reads it never runs off an array.

Only references and shapes are checked here: a file that passes describes *some* plan. Whether that
plan is right is the simulator's verdict, fault by fault.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from math import isfinite, prod

import numpy as np

from .graph import Graph, Operand, Operator, Output, Result, Role, Tensor, Unit
from .mesh import Exchange, ExchangeKind
from .plan import Plan, Stage
from .target import Target
from .types import Shape
from .views import Own, Slice, ViewStep, Window, step_shape, view_shape

MOST_ELEMENTS = 2**48
"""More elements than any tensor has; a file that claims more is refused."""
MOST_COMPUTED = 2**30
"""Elements of a tensor that is computed, or of what a view shows of one: each must lie in a chip's SRAM,
and the simulator holds a cycle for every one of them."""
MOST_FIGURE = 2**50
"""Of a target: bytes, bandwidths, a clock."""
MOST_CYCLES = 2**20
"""Of a target: cycles that a row, a vector, a flit, a hop or a pipeline takes."""
MOST_AXES = 16
"""Fewer than numpy's limit on dimensions, with room for the axes that a view splits off."""
LAST_CYCLE = 2**60
"""Cycles and addresses stay below this, so that sums of a few of them fit 64 bits."""


def first_problem(plan: Plan) -> str | None:
    """What is wrong with the plan's references, in words; None when all exist."""
    problems = chain(_target(plan.target), _graph(plan.graph), _durations(plan), _figures(plan))
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
    for name, value in positive.items():
        if not 1 <= value <= MOST_FIGURE:
            yield f"the target's {name} must be from 1 to 2^50, found {value}"
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


def _graph(graph: Graph) -> Iterator[str]:
    for name, tensor in graph.tensors.items():
        if tensor.name != name:
            yield f"tensor {name} is named {tensor.name}"
        if len(tensor.shape) > MOST_AXES or min(tensor.shape, default=1) < 1:
            yield f"tensor {name} has the shape {tensor.shape}"
        elif prod(tensor.shape) > _most_elements(tensor):
            yield f"tensor {name} has {prod(tensor.shape)} elements"
        elif (rows := tensor.resident_rows) is not None and not (
            0 <= rows[0] < len(tensor.shape) and 0 <= rows[1] <= tensor.shape[rows[0]]
        ):
            yield f"tensor {name} has resident rows {rows} outside its shape {tensor.shape}"
        yield from (f"tensor {name}: {problem}" for problem in _sharding(tensor))
    named = chain(graph.inputs, (o.tensor for o in graph.outputs), (s.tensor for s in graph.states))
    for name in named:
        if name not in graph.tensors:
            yield f"tensor {name} does not exist"
    for operator in graph.operators:
        yield from _operator(operator, graph)
    yield from _exchanges(graph)
    for output in graph.outputs:
        yield from _view_of(output, graph)


def _most_elements(tensor: Tensor) -> int:
    """Of a tensor, and of what is seen of it: a weight is there from the start, however large."""
    return MOST_ELEMENTS if tensor.role is Role.WEIGHT else MOST_COMPUTED


def _sharding(tensor: Tensor) -> Iterator[str]:
    """Whole, atoms and cuts of a sharded tensor must be about the same elements."""
    sharding = tensor.sharding
    if sharding is None:
        return
    shapes = (sharding.shape, sharding.atoms)
    if any(len(shape) > MOST_AXES or min(shape, default=1) < 1 for shape in shapes):
        yield f"its sharding has the shape {sharding.shape} in the atoms {sharding.atoms}"
    elif prod(sharding.shape) != prod(sharding.atoms) or prod(sharding.shape) > MOST_ELEMENTS:
        yield f"the atoms {sharding.atoms} are not the elements of the shape {sharding.shape}"
    dimensions = [cut.dimension for cut in sharding.cuts]
    if len(set(dimensions)) != len(dimensions) or any(not 0 <= d < len(sharding.atoms) for d in dimensions):
        yield f"its cuts of the dimensions {dimensions} are not those of the atoms {sharding.atoms}"
    if not all(cut.axes for cut in sharding.cuts) or not _distinct(
        [a for c in sharding.cuts for a in c.axes]
    ):
        yield "its cuts do not have distinct mesh axes"


def _distinct(axes: Sequence[int]) -> bool:
    """Whether `axes` could be axes of a mesh; which mesh it is depends on the stage."""
    return len(set(axes)) == len(axes) and min(axes, default=0) >= 0


def _exchanges(graph: Graph) -> Iterator[str]:
    moves = {e.target: e.source for e in graph.exchanges if e.kind is not ExchangeKind.GATHER}
    if len({exchange.target for exchange in graph.exchanges}) < len(graph.exchanges):
        yield "two exchanges have one target"
    for exchange in graph.exchanges:
        if (problem := _exchange_problem(exchange, graph)) is not None:
            yield f"the {exchange.kind.value} into {exchange.target}: {problem}"
    for target in moves:
        source, steps = target, 0
        while source in moves and steps <= len(moves):
            source, steps = moves[source], steps + 1
        if steps > len(moves):
            yield f"the exchange into {target} moves in a circle"


def _exchange_problem(exchange: Exchange, graph: Graph) -> str | None:
    needed = [exchange.target]
    if exchange.kind is not ExchangeKind.GATHER:
        needed.append(exchange.source)
    for name in needed:
        if name not in graph.tensors:
            return f"tensor {name} does not exist"
    return None if exchange.axes and _distinct(exchange.axes) else f"it has the mesh axes {exchange.axes}"


def _operator(operator: Operator, graph: Graph) -> Iterator[str]:
    where = f"operator {operator.name}"
    if not operator.body or not operator.results:
        yield f"{where} has no instruction or no result"
    if len(operator.factors) > MOST_AXES or any(not 1 <= f.extent <= MOST_ELEMENTS for f in operator.factors):
        yield f"{where} has a factor without iterations"
    if operator.unit is Unit.MATRIX and (problem := _product_problem(operator)):
        yield f"{where} is on the matrix unit {problem}"
    for split in operator.splits:
        if not (0 <= split.factor < len(operator.factors) and 1 <= split.extent <= MOST_ELEMENTS):
            yield f"{where} splits {split.extent} iterations of factor {split.factor}"
        elif not split.axes or not _distinct(split.axes):
            yield f"{where} splits a factor over the mesh axes {split.axes}"
    if not _distinct([split.factor for split in operator.splits]):
        yield f"{where} splits a factor twice"
    for position, instruction in enumerate(operator.body):
        known = len(operator.operands) + position
        if any(not 0 <= value < known for value in instruction.inputs):
            yield f"{where}: instruction {position} reads a value that does not exist"
    for operand in operator.operands:
        yield from (f"{where}: {problem}" for problem in _operand(operand, operator, graph))
    for result in operator.results:
        yield from (f"{where}: {problem}" for problem in _result(result, operator, graph))


def _product_problem(operator: Operator) -> str | None:
    """What keeps a matrix operator's body from being a product, perhaps of an indexed load."""
    count, body = len(operator.operands), operator.body
    if count < 2:
        return f"with {count} operands"
    if not body or body[0].opcode != "Gather":
        return None
    held = set(operator.operands[1].axes)
    if [f in held for f, factor in enumerate(operator.factors) if factor.gathered] != [True]:
        return "and gathers from a table without exactly one gathered factor"
    pairs = [instruction.inputs for instruction in body[:-1]]
    if any(len(pair) != 2 or not 2 <= pair[1] < count or pair[1] != pairs[0][1] for pair in pairs):
        return "and its gathers do not share one index operand"
    return None


def _operand(operand: Operand, operator: Operator, graph: Graph) -> Iterator[str]:
    problem = next(_view_of(operand, graph), None)
    if problem is not None:
        yield problem
        return
    shape = view_shape(operand.view, graph.tensors[operand.tensor].shape)
    if not _axes_fit(operand.axes, shape, operator):
        yield f"operand {operand.tensor} of shape {shape} has the axes {operand.axes}"


def _view_of(item: Operand | Output, graph: Graph) -> Iterator[str]:
    """The view of an operand or output must fit its tensor."""
    if item.tensor not in graph.tensors:
        yield f"tensor {item.tensor} does not exist"
        return
    tensor = graph.tensors[item.tensor]
    most = _most_elements(tensor)
    shape = tensor.whole_shape if isinstance(item, Output) else tensor.shape
    for step in item.view:
        fits = _arguments_fit(step, shape)
        try:
            shape = step_shape(step, shape) if fits else ()
        except ValueError:
            fits = False
        if not fits or min(shape, default=1) < 1 or len(shape) > MOST_AXES or prod(shape) > most:
            yield f"a {type(step).__name__.lower()} does not fit tensor {item.tensor}"
            return


def _arguments_fit(step: ViewStep, shape: Shape) -> bool:
    """Whether a step keeps to the promises of its docstring, which `step_shape` takes for granted."""
    match step:
        case Slice(starts=starts, stops=stops, steps=steps):
            same_rank = len(starts) == len(stops) == len(steps) == len(shape)
            bounds = zip(starts, stops, steps, shape, strict=False)
            return same_rank and all(0 <= a < b <= extent and by >= 1 for a, b, by, extent in bounds)
        case Window(axis=axis, size=size, stride=stride, dilation=dilation):
            if not 0 <= axis < len(shape) or min(size, stride, dilation) < 1:
                return False
            return (size - 1) * dilation < shape[axis]
        case Own(axis=axis, ways=ways, axes=axes):
            return 0 <= axis < len(shape) and ways >= 1 and bool(axes) and _distinct(axes)
    return True


def _axes_fit(axes: tuple[int | None, ...], shape: tuple[int, ...], operator: Operator) -> bool:
    used = [axis for axis in axes if axis is not None]
    return (
        len(axes) == len(shape)
        and len(set(used)) == len(used)
        and all(0 <= axis < len(operator.factors) for axis in used)
        and all(
            extent == (1 if axis is None else operator.factors[axis].extent)
            for axis, extent in zip(axes, shape, strict=True)
        )
    )


def _result(result: Result, operator: Operator, graph: Graph) -> Iterator[str]:
    if result.tensor not in graph.tensors:
        yield f"tensor {result.tensor} does not exist"
        return
    used = [axis for axis in result.axes if axis is not None]
    shape = graph.tensors[result.tensor].shape
    if not (
        len(result.axes) == len(result.offsets) == len(shape)
        and len(set(used)) == len(used)
        and all(0 <= axis < len(operator.factors) for axis in used)
        and 0 <= result.value < len(operator.body)
    ):
        yield f"result {result.tensor} of shape {shape} has the axes {result.axes}"
        return
    if result.own and not (_distinct(result.own) and result.axes and result.axes[0] is None):
        yield f"result {result.tensor}: its dimension 0 is no piece of the mesh axes {result.own}"
    if result.own and result.offsets[:1] != (0,):
        yield f"result {result.tensor}: a chip's own piece has an offset"
    if any(axis < 0 or coordinate < 0 for axis, coordinate in result.only):
        yield f"result {result.tensor} is written by the chips {result.only}"
    box = [1 if axis is None else operator.factors[axis].extent for axis in result.axes]
    if any(o < 0 or o + b > e for o, b, e in zip(result.offsets, box, shape, strict=True)):
        yield f"result {result.tensor}: a box of {box} at {result.offsets} is outside {shape}"


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
