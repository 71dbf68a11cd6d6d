"""What the ONNX nodes of a plan cost: cycles on units and on links, counted from its columns.

An operator comes from one node, or from several that were fused; a node may be several operators. Operators
that come from the same nodes are one row here, so all cycles are counted, each once.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from chiplan.ir import ChipId, Operator, Plan, Stage, printable

from .plan_summary import held_cycles

HASH_DIGITS = 8


@dataclass(frozen=True)
class NodeCost:
    """ONNX nodes that became the same operators, and what they cost in one micro-batch.

    nodes: their names, in graph order, fit to print; an operator's own name where it has no node.
    unit_cycles: of the busiest instance that each of their operators holds, on every stage that runs it.
    link_cycles: that their results hold the busiest of the links they travel over.
    kind: fingerprint of what is computed, without a name. place: that with its neighbours' in the graph.
    stages, chips: where they run.
    """

    nodes: tuple[str, ...]
    kind: str
    place: str
    unit_cycles: int
    link_cycles: int
    stages: tuple[int, ...] = ()
    chips: tuple[ChipId, ...] = ()

    @property
    def cycles(self) -> int:
        """What the nodes cost in all."""
        return self.unit_cycles + self.link_cycles

    @property
    def label(self) -> str:
        """The first node, and how many others were fused with it."""
        return label_of(self.nodes)


def label_of(nodes: Sequence[str]) -> str:
    """`node_add +2`: the first of some nodes, and how many there are besides."""
    more = f" +{len(nodes) - 1}" if len(nodes) > 1 else ""
    return f"{nodes[0] if nodes else ''}{more}"


def profile_nodes(plan: Plan) -> tuple[NodeCost, ...]:
    """The rows of a plan, in graph order."""
    operators = plan.graph.operators
    row_of, names = _rows(operators)
    units, stages = _unit_cycles(plan)
    count = len(names)
    cycles = np.bincount(row_of, weights=units, minlength=count)
    links = _link_cycles(plan, row_of, count)
    where: list[set[int]] = [set() for _ in names]
    for row, found in zip(row_of.tolist(), stages, strict=True):
        where[row] |= found
    kinds = _kinds(operators, row_of, count)
    places = _places(plan, row_of, kinds)
    return tuple(
        NodeCost(
            names[row],
            kinds[row],
            places[row],
            int(cycles[row]),
            int(links[row]),
            tuple(sorted(where[row])),
            tuple(chip for stage in sorted(where[row]) for chip in plan.stages[stage].chips),
        )
        for row in range(count)
    )


def _rows(operators: Sequence[Operator]) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """The row of every operator, and the nodes of every row; rows in order of their first operator."""
    rows: dict[tuple[str, ...], int] = {}
    row_of = [rows.setdefault(operator.nodes or (operator.name,), len(rows)) for operator in operators]
    return np.array(row_of, dtype=np.int64), [tuple(map(printable, nodes)) for nodes in rows]


def _unit_cycles(plan: Plan) -> tuple[np.ndarray, list[set[int]]]:
    """Of every operator of the graph: held cycles of its busiest instance, summed over the stages that run
    it, and those stages."""
    cycles = np.zeros(len(plan.graph.operators), dtype=np.int64)
    stages: list[set[int]] = [set() for _ in plan.graph.operators]
    for number, stage in enumerate(plan.stages):
        np.add.at(cycles, list(stage.program.operators), _held(plan, stage))
        for operator in stage.program.operators:
            stages[operator].add(number)
    return cycles, stages


def _held(plan: Plan, stage: Stage) -> np.ndarray:
    """Of every operator of a stage: cycles that its busiest instance is held, by tiles or their loads."""
    tiles, program = stage.program.tiles, stage.program
    occupied = held_cycles(plan, stage)
    instances = int(tiles.instance.max(initial=0)) + 1
    key = tiles.operator.astype(np.int64) * instances + tiles.instance
    sums = np.bincount(key, weights=occupied, minlength=len(program.operators) * instances)
    return np.asarray(sums.reshape(-1, instances).max(axis=1), dtype=np.int64)


def _link_cycles(plan: Plan, row_of: np.ndarray, count: int) -> np.ndarray:
    """Of every row: cycles of the busiest link under what the row's operators made."""
    tensor_row = _makers(plan, row_of)[plan.transfers.tensor[plan.hops.transfer]]
    made = tensor_row >= 0
    links = len(plan.target.topology.links)
    key = tensor_row[made] * links + plan.hops.link[made]
    pairs, position = np.unique(key, return_inverse=True)
    sums = np.bincount(position, weights=(plan.hops.end - plan.hops.start)[made], minlength=len(pairs))
    busiest = np.zeros(count, dtype=np.int64)
    np.maximum.at(busiest, pairs // max(1, links), sums.astype(np.int64))
    return busiest


def _makers(plan: Plan, row_of: np.ndarray) -> np.ndarray:
    """int64[tensor_names]: the row that makes each tensor, itself or by an exchange; -1 for none."""
    maker: dict[str, int] = {}
    for operator, row in zip(plan.graph.operators, row_of.tolist(), strict=True):
        maker |= {result.tensor: row for result in operator.results}
    for exchange in plan.graph.exchanges:
        if exchange.source in maker:
            maker.setdefault(exchange.target, maker[exchange.source])
    return np.array([maker.get(name, -1) for name in plan.tensor_names], dtype=np.int64)


def _kinds(operators: Sequence[Operator], row_of: np.ndarray, count: int) -> list[str]:
    parts: list[set[str]] = [set() for _ in range(count)]
    for operator, row in zip(operators, row_of.tolist(), strict=True):
        parts[row].add(_structure(operator))
    return [_fingerprint(sorted(found)) for found in parts]


def _structure(operator: Operator) -> str:
    """What an operator computes on whole tensors, without a name."""
    whole = {split.factor: split.extent for split in operator.splits}
    factors = [
        (whole.get(index, factor.extent), factor.reducer and factor.reducer.value)
        for index, factor in enumerate(operator.factors)
    ]
    body = [(step.opcode, step.inputs, step.dtype.value) for step in operator.body]
    axes = [operand.axes for operand in operator.operands]
    return repr((operator.unit.value, factors, body, axes))


def _places(plan: Plan, row_of: np.ndarray, kinds: Sequence[str]) -> list[str]:
    """Fingerprints of every row with the kinds that it reads from and is read by."""
    makers = dict(zip(plan.tensor_names, _makers(plan, row_of).tolist(), strict=True))
    before: dict[int, set[int]] = defaultdict(set)
    after: dict[int, set[int]] = defaultdict(set)
    for operator, row in zip(plan.graph.operators, row_of.tolist(), strict=True):
        for operand in operator.operands:
            source = makers[operand.tensor]
            if source not in (-1, row):
                before[row].add(source)
                after[source].add(row)
    sides = (
        [sorted(kinds[other] for other in side[row]) for side in (before, after)] for row in range(len(kinds))
    )
    return [_fingerprint([kind, *map(repr, side)]) for kind, side in zip(kinds, sides, strict=True)]


def _fingerprint(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:HASH_DIGITS]
