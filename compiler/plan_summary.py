"""What a plan amounts to, stage by stage and link by link, counted from its columns alone.

Every figure here is a count of what the plan states; the simulator says whether it is true.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chiplan.ir import (
    Bound,
    ChipId,
    Exchange,
    ExchangeKind,
    Graph,
    Link,
    LinkId,
    MemoryPeak,
    Operator,
    Plan,
    Reducer,
    Result,
    Role,
    Stage,
    Unit,
    plan_elapsed,
    tile_timing,
)
from chiplan.runtime_sim import covered_bytes

from .addresses import BufferNeed
from .memory_kinds import kinds_of_stage, peak_of_chip
from .quantities import counted, grouped

UNITS = tuple(Unit)


@dataclass(frozen=True)
class StageSummary:
    """One stage. `busy[unit]` is the cycles that the busiest instance is held by one micro-batch.

    first_node, last_node: ONNX nodes of which no other stage has a part, where there are such.
    sram_bytes: the address space that its fullest chip's buffers cover, all copies counted. memory: the
    fullest cycle of the interval, whose bytes no addresses can do without; `needed` is the addresses' top.
    """

    index: int
    chips: tuple[ChipId, ...]
    mesh: tuple[int, ...]
    first_node: str
    last_node: str
    operators: int
    recomputed: int
    tiles: int
    busy: dict[Unit, int]
    sram_bytes: int
    weight_bytes: int
    state_bytes: int
    memory: MemoryPeak


@dataclass(frozen=True)
class EdgeSummary:
    """All that one stage sends another, or the chips of one stage each other, in one micro-batch. cycles: the
    busiest link's share; [start, end) spans the first flit's entry and the last one's arrival. exchanges:
    (kind, how many) of the graph's exchanges that it carries out."""

    source: int
    destination: int
    tensors: tuple[str, ...]
    exchanges: tuple[tuple[str, int], ...]
    nbytes: int
    transfers: int
    routes: int
    links: int
    hops: int
    cycles: int
    start: int
    end: int


@dataclass(frozen=True)
class LinkSummary:
    """A link and the cycles that it carries flits in one micro-batch."""

    index: LinkId
    link: Link
    busy: int
    transfers: int


@dataclass(frozen=True)
class RecomputedValue:
    """An operator that several stages execute, since that is cheaper than carrying its value."""

    operator: str
    node: str
    stages: tuple[int, ...]


def reached(plan: Plan) -> dict[str, int]:
    """What a plan achieves of each quantity that is bounded; interval: cycles a micro-batch in the long run,
    which with state is the pace."""
    passed = plan_elapsed(plan)
    return {
        "interval": passed.pace(plan.users, bool(plan.graph.states)),
        "latency": passed.latency,
        "chips": sum(len(stage.chips) for stage in plan.stages),
    }


def binding_bounds(plan: Plan) -> tuple[Bound, ...]:
    """The largest proven bound of each quantity, in the order of the plan; of equals the first."""
    largest: dict[str, Bound] = {}
    for bound in plan.bounds:
        if bound.quantity not in largest or bound.value > largest[bound.quantity].value:
            largest[bound.quantity] = bound
    return tuple(largest.values())


def precision_types(plan: Plan) -> tuple[str, ...]:
    """The types that the matrix units stream, sorted; empty for a plan without a matrix operator."""
    graph = plan.graph
    streamed = (o.operands[0].tensor for o in graph.operators if o.unit is Unit.MATRIX)
    return tuple(sorted({graph.tensors[name].dtype.value for name in streamed}))


def wire_types(plan: Plan) -> tuple[str, ...]:
    """The types in which partial sums travel between the chips of a group, sorted; empty where none do."""
    return partial_types(plan.graph)


def partial_types(graph: Graph) -> tuple[str, ...]:
    """The same of a device graph."""
    sent = {exchange.source for exchange in graph.exchanges}
    partial = (
        result.tensor
        for operator in graph.operators
        for result in operator.results
        if _sums(operator, result)
    )
    return tuple(sorted({graph.tensors[name].dtype.value for name in partial if name in sent}))


def _sums(operator: Operator, result: Result) -> bool:
    """Whether a result on one chip is a part of a sum: a factor that the chips split is summed over, or
    selects rows of which others have zeros."""
    split = (operator.factors[part.factor] for part in operator.splits if part.factor not in result.axes)
    return any(factor.gathered or factor.reducer is Reducer.SUM for factor in split)


def context_of(plan: Plan) -> int | None:
    """Cached tokens and new ones together; None for a model without state."""
    context = dict(plan.options).get("context")
    return int(context) if context and plan.graph.states else None


def state_words(plan: Plan) -> str:
    """What a model with state holds, to follow the sequence: `, context 2,048, 1 user resident`."""
    if not plan.graph.states:
        return ""
    context = context_of(plan)
    held = f", context {grouped(context)}" if context is not None else ""
    return f"{held}, {counted(plan.users, 'user')} resident"


def precision_words(plan: Plan) -> str:
    """The precision, and what it means where it is the model's own: `model (fp32)`."""
    types = precision_types(plan)
    if plan.precision != "model" or not types:
        return plan.precision
    return f"{plan.precision} ({', '.join(types)})"


def node_name(plan: Plan, operator: int) -> str:
    """The ONNX node that an operator came from, or the operator's own name where there is none."""
    described = plan.graph.operators[operator]
    return described.nodes[0] if described.nodes else described.name


def busy_cycles(plan: Plan, stage: Stage) -> dict[Unit, int]:
    """Cycles that the busiest instance of every unit kind is held: a tile's own, or those of loading its
    block where that takes longer."""
    tiles, occupied = stage.program.tiles, held_cycles(plan, stage)
    busy = {}
    for position, unit in enumerate(UNITS):
        mine = tiles.unit == position
        sums = np.bincount(tiles.instance[mine], weights=occupied[mine], minlength=1)
        busy[unit] = int(sums.max())
    return busy


def held_cycles(plan: Plan, stage: Stage) -> np.ndarray:
    """Cycles that every tile of a stage holds its instance: its own, or those of loading its block."""
    program, graph = stage.program, plan.graph
    loads = [
        tile_timing(graph.operators[index], tiling, graph.tensors, plan.target.chip).load
        for index, tiling in zip(program.operators, program.tilings, strict=True)
    ]
    return np.asarray(np.maximum(program.tiles.end - program.tiles.start, np.concatenate(loads)))


def _role_bytes(plan: Plan, chip: ChipId, role: Role) -> int:
    wanted = np.array([plan.graph.tensors[name].role is role for name in plan.tensor_names], dtype=bool)
    mine = (plan.buffers.chip == chip) & wanted[plan.buffers.tensor]
    return int((plan.buffers.nbytes[mine] * plan.buffers.copies[mine]).sum())


def _own_nodes(plan: Plan) -> list[list[str]]:
    """Of every stage, the nodes that are its own: what all need (masks, tables) is computed in many."""
    names = [[node_name(plan, index) for index in stage.program.operators] for stage in plan.stages]
    stages = Counter(name for inside in names for name in set(inside))
    own = ([name for name in inside if stages[name] == 1] for inside in names)
    return [found or inside or [""] for found, inside in zip(own, names, strict=True)]


def _summarise_stage(
    plan: Plan, index: int, nodes: Sequence[str], covered: Mapping[int, int]
) -> StageSummary:
    """Counts of stage `index`; all chips of a group hold the same."""
    stage = plan.stages[index]
    operators, first = stage.program.operators, stage.chips[0]
    return StageSummary(
        index=index,
        chips=stage.chips,
        mesh=stage.mesh,
        first_node=nodes[0],
        last_node=nodes[-1],
        operators=len(operators),
        recomputed=len(stage.recomputed),
        tiles=len(stage.program.tiles.start),
        busy=busy_cycles(plan, stage),
        sram_bytes=covered.get(int(first), 0),
        weight_bytes=_role_bytes(plan, first, Role.WEIGHT),
        state_bytes=_role_bytes(plan, first, Role.STATE),
        memory=_memory(plan, stage),
    )


def _memory(plan: Plan, stage: Stage) -> MemoryPeak:
    buffers, first = plan.buffers, int(stage.chips[0])
    rows = np.flatnonzero(buffers.chip == first)
    columns = (buffers.tensor, buffers.nbytes, buffers.copies, buffers.birth, buffers.death)
    needs = [
        BufferNeed(plan.tensor_names[tensor], *figures)
        for tensor, *figures in zip(*(column[rows].tolist() for column in columns), strict=True)
    ]
    kinds = kinds_of_stage(plan.graph, stage.program.operators)
    peak = peak_of_chip(needs, kinds, plan.target.chip, int(plan.interval), chip_id=first, shown=0)
    alignment = plan.target.chip.alignment
    extents = -(-buffers.nbytes[rows] // alignment) * alignment * buffers.copies[rows]
    return replace(peak, needed=int((buffers.address[rows] + extents).max(initial=0)))


def summarise_stages(plan: Plan) -> tuple[StageSummary, ...]:
    """One summary a stage, in pipeline order."""
    nodes, covered = _own_nodes(plan), covered_bytes(plan)
    return tuple(_summarise_stage(plan, index, own, covered) for index, own in enumerate(nodes))


def _stage_of_chip(plan: Plan) -> np.ndarray:
    """int64[chips of the target]: the stage that a chip belongs to, -1 for none."""
    stage_of = np.full(plan.target.topology.chips, -1, dtype=np.int64)
    for index, stage in enumerate(plan.stages):
        stage_of[list(stage.chips)] = index
    return stage_of


def _distinct_routes(plan: Plan, hops: np.ndarray) -> int:
    """How many different sequences of links the transfers of `hops` (positions) take."""
    transfer, first = np.unique(plan.hops.transfer[hops], return_inverse=True)
    number = plan.hops.hop[hops]
    routes = np.full((len(transfer), int(number.max()) + 1), -1, dtype=np.int64)
    routes[first, number] = plan.hops.link[hops]
    return len(np.unique(routes, axis=0))


def summarise_edges(plan: Plan) -> tuple[EdgeSummary, ...]:
    """One summary for each pair of stages that exchange data, sorted by (source, destination)."""
    transfers, stage_of = plan.transfers, _stage_of_chip(plan)
    pairs = np.stack([stage_of[transfers.source], stage_of[transfers.destination]], axis=1)
    distinct, which = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
    itemsizes = np.array([plan.graph.tensors[name].dtype.itemsize for name in plan.tensor_names])
    return tuple(
        _summarise_edge(
            plan, (int(source), int(destination)), np.flatnonzero(which.ravel() == pair), itemsizes
        )
        for pair, (source, destination) in enumerate(distinct)
    )


def _summarise_edge(
    plan: Plan, stages: tuple[int, int], chosen: np.ndarray, itemsizes: np.ndarray
) -> EdgeSummary:
    transfers = plan.transfers
    hops = np.flatnonzero(np.isin(plan.hops.transfer, chosen))
    links, position = np.unique(plan.hops.link[hops], return_inverse=True)
    busy = np.bincount(position, weights=(plan.hops.end - plan.hops.start)[hops], minlength=1)
    tensor = transfers.tensor[chosen]
    return EdgeSummary(
        source=stages[0],
        destination=stages[1],
        tensors=tuple(plan.tensor_names[name] for name in np.unique(tensor)),
        exchanges=_exchanges(plan, chosen) if stages[0] == stages[1] else (),
        nbytes=int(((transfers.last - transfers.first)[chosen] * itemsizes[tensor]).sum()),
        transfers=len(chosen),
        routes=_distinct_routes(plan, hops) if len(hops) else 0,
        links=len(links),
        hops=int(plan.hops.hop[hops].max()) + 1 if len(hops) else 0,
        cycles=int(busy.max()),
        start=int(transfers.start[chosen].min()),
        end=int(plan.hops.end[hops].max()) + plan.target.link.hop_latency if len(hops) else 0,
    )


def _exchanges(plan: Plan, chosen: np.ndarray) -> tuple[tuple[str, int], ...]:
    """Exchanges that the transfers `chosen` (positions) carry out, by kind."""
    moved = np.unique(np.stack([plan.transfers.tensor[chosen], plan.transfers.into[chosen]], axis=1), axis=0)
    names = plan.tensor_names
    pairs = {(names[source], names[target]) for source, target in moved.tolist()}
    kinds = Counter(e.kind.value for e in plan.graph.exchanges if _pair(e) in pairs)
    return tuple(sorted(kinds.items()))


def _pair(exchange: Exchange) -> tuple[str, str]:
    """(tensor that leaves, tensor that is written) of an exchange's transfers."""
    gathers = exchange.kind is ExchangeKind.GATHER
    return (exchange.target if gathers else exchange.source), exchange.target


def summarise_links(plan: Plan) -> tuple[LinkSummary, ...]:
    """Links that carry anything, busiest first, then by index."""
    links = plan.target.topology.links
    busy = np.bincount(plan.hops.link, weights=plan.hops.end - plan.hops.start, minlength=len(links))
    carried = np.bincount(plan.hops.link, minlength=len(links))
    order = np.lexsort((np.arange(len(links)), -busy))
    return tuple(
        LinkSummary(LinkId(int(index)), links[index], int(busy[index]), int(carried[index]))
        for index in order[: np.count_nonzero(carried)]
    )


def recomputed_values(plan: Plan) -> tuple[RecomputedValue, ...]:
    """Operators that run on several stages, in graph order."""
    stages: dict[int, list[int]] = {}
    for index, stage in enumerate(plan.stages):
        for operator in stage.recomputed:
            stages.setdefault(operator, []).append(index)
    return tuple(
        RecomputedValue(plan.graph.operators[operator].name, node_name(plan, operator), tuple(where))
        for operator, where in sorted(stages.items())
    )
