"""Proven lower bounds of any plan on a number of chips, however operators are split over them."""

from collections.abc import Mapping
from math import ceil, prod

from chiplan.ir import (
    Bound,
    Chip,
    Graph,
    Operator,
    Role,
    Target,
    Tensor,
    Unit,
    load_rate,
    matrix_factors,
    matrix_rules,
    unit_instances,
)

from .bounds import with_waiting
from .graph_edit import writers_of


def least_unit_cycles(operator: Operator, tensors: Mapping[str, Tensor], chip: Chip) -> float:
    """Cycles of all instances of the operator's unit on one chip that its iterations take at the least,
    in any tiling and however they are spread: multiplications at the peak rate or every stationary
    element loaded once; vector elements at all lanes; bytes written at full width."""
    extents = prod(factor.extent for factor in operator.factors if not factor.gathered)
    instances = unit_instances(chip, operator.unit)
    if operator.unit is Unit.MATRIX:
        held = {axis for axis in operator.operands[1].axes if axis is not None}
        block = prod(
            factor.extent for f, factor in enumerate(operator.factors) if f in held and not factor.gathered
        )
        loaded = block * tensors[operator.operands[1].tensor].dtype.itemsize
        streamed = _least_streaming(operator, tensors, chip)
        return max(streamed, loaded / load_rate(chip)) / instances
    if operator.unit is Unit.VECTOR:
        cycles = max(chip.vector.cycles[instruction.dtype] for instruction in operator.body)
        passes = ceil(len(operator.body) / chip.vector.chained) * cycles
        return extents * passes / chip.vector.lanes / instances
    copy = chip.switch if operator.unit is Unit.SWITCH else chip.memory
    result = operator.results[0]
    written = prod(operator.factors[axis].extent for axis in result.axes if axis is not None)
    return written * tensors[result.tensor].dtype.itemsize / copy.bytes_per_cycle / instances


def _least_streaming(operator: Operator, tensors: Mapping[str, Tensor], chip: Chip) -> float:
    """Cycles of one instance that rows take to stream past all blocks.

    Of K x N weights, blocks hold at most `rows` x `columns`. Every column needs ceil(K / rows) blocks and a
    block serves `columns` of them; every k needs ceil(N / columns) and a block serves `rows`. This holds for
    any rectangles on any number of chips. With several shapes of blocks only their area counts.
    """
    rules = matrix_rules(operator, tensors, chip)
    roles = matrix_factors(operator)
    streams, reduced, columns = (
        prod(operator.factors[f].extent for f in group)
        for group in ((*roles.batch, *roles.rows), roles.reduced, roles.columns)
    )
    if len(rules) > 1:
        area = max(rule.rows * rule.columns / rule.cycles_per_row for rule in rules)
        return streams * reduced * columns / area
    rule = rules[0]
    blocks = max(
        columns * ceil(reduced / rule.rows) / rule.columns, reduced * ceil(columns / rule.columns) / rule.rows
    )
    return streams * blocks * rule.cycles_per_row


def group_bounds(graph: Graph, target: Target, chips: int, users: int) -> tuple[Bound, ...]:
    """interval and latency >= work of the busiest unit kind / chips; latency >= longest chain of unit
    depths; interval >= latency / users where there is state; chips >= resident bytes / SRAM. `graph` is the
    whole prepared graph; `chips` are those used."""
    total = dict.fromkeys(Unit, 0.0)
    for operator in graph.operators:
        total[operator.unit] += least_unit_cycles(operator, graph.tensors, target.chip)
    unit = max(Unit, key=lambda kind: total[kind])
    even = ceil(total[unit] / chips)
    where = f"all work of the {unit.value} unit, evenly on the {chips} chip{'s' if chips > 1 else ''} used"
    resident = sum(
        tensor.nbytes * (users if tensor.role is Role.STATE else 1)
        for tensor in graph.tensors.values()
        if tensor.role in (Role.WEIGHT, Role.STATE)
    )
    fewest = max(1, ceil(resident / target.chip.usable_bytes))
    bounds = (
        Bound("interval", max(1, even), where),
        Bound("latency", max(1, even), where),
        Bound("latency", _longest_chain(graph, target.chip), "the longest chain of unit latencies"),
        Bound("chips", fewest, "weights and states over the SRAM of a chip"),
    )
    return with_waiting(bounds, graph, users)


def _longest_chain(graph: Graph, chip: Chip) -> int:
    """Every operator takes a cycle and its unit's depth after the last of what it reads first."""
    depth = {
        Unit.MATRIX: int(chip.matrix.depth),
        Unit.VECTOR: int(chip.vector.depth),
        Unit.SWITCH: int(chip.switch.depth),
        Unit.MEMORY: int(chip.memory.depth),
    }
    writers = writers_of(graph.operators)
    finish: list[int] = []
    for operator in graph.operators:
        before = (finish[w] for o in operator.operands for w in writers.get(o.tensor, ()) if w < len(finish))
        finish.append(max(before, default=0) + 1 + depth[operator.unit])
    return max(finish, default=0)
