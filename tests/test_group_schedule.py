"""Schedules of groups: what chips exchange leaves when it is made, has links to itself, and is there on
every chip when the maps say so."""

from dataclasses import replace
from math import ceil, prod

import numpy as np
import pytest

from chiplan.compiler.exchanges import exchange_by_pattern, run_exchange
from chiplan.compiler.group_sends import Sender, send_to_group
from chiplan.compiler.interval_search import IntervalSearch
from chiplan.compiler.link_patterns import LinkPatterns
from chiplan.compiler.links import LinkScheduler, Router
from chiplan.compiler.modulo import NoRoom
from chiplan.compiler.movements import Leg
from chiplan.compiler.plan_build import build_buffers, build_stages, build_transfers
from chiplan.compiler.ready_times import ReadyMap, grid_map
from chiplan.compiler.scheduling import Schedule, Scheduler, StageWork
from chiplan.compiler.tile_choice import tile_graph
from chiplan.ir import (
    Cycle,
    DType,
    Exchange,
    ExchangeKind,
    Graph,
    Plan,
    Role,
    Target,
    Tensor,
    mesh_peers,
)
from chiplan.models import load_target
from chiplan.runtime_sim import simulate

from .group_graphs import products

RING, NODE, QUAD = (load_target(name) for name in ("tiny-ring", "groq-node", "groq-576"))
ROUTERS = {target.name: Router(target.topology) for target in (RING, NODE, QUAD)}


def plan_of(graph: Graph, target: Target, stages: tuple[StageWork, ...], schedule: Schedule) -> Plan:
    names = {name: number for number, name in enumerate(sorted(graph.tensors))}
    transfers, hops = build_transfers(schedule.sent, names)
    return Plan(
        target,
        graph,
        build_stages(stages, schedule),
        transfers,
        hops,
        build_buffers(graph, stages, schedule, target, 1, names).columns,
        Cycle(schedule.latency),
        Cycle(schedule.interval),
        users=1,
        batch=1,
        sequence=1,
        precision="model",
        objective="latency",
        model_fingerprint="none",
        tensor_names=tuple(names),
    )


def dense(ready: ReadyMap) -> np.ndarray:
    """The cycle of every element, flat."""
    cells = [np.diff([*breaks, extent]) for breaks, extent in zip(ready.breaks, ready.shape, strict=True)]
    cycles = ready.cycles
    for axis, lengths in enumerate(cells):
        cycles = np.repeat(cycles, lengths, axis=axis)
    return cycles.ravel()


def rising(tensor: Tensor, rows: int) -> ReadyMap:
    """Rows of a tensor of two axes are made one after the other."""
    width = tensor.shape[1]
    cycles = 50 + 13 * np.arange(rows)[:, None]
    return grid_map(tensor.shape, (0, 0), (tensor.shape[0] // rows, width), cycles, tensor.shape)


def check_links(links: LinkScheduler, interval: int, target: Target) -> None:
    """Routes are connected, and no link carries two things modulo the interval."""
    busy = {}
    for moved in links.sent:
        for leg in range(len(moved.start)):
            here = moved.source[leg]
            for hop, link in enumerate(link for link in moved.links[leg].tolist() if link >= 0):
                ends = target.topology.links[link]
                assert ends.source == here
                here = int(ends.destination)
                low = moved.start[leg] + hop * moved.stride
                taken = busy.setdefault(link, np.zeros(interval, dtype=int))
                taken[np.arange(low, low + moved.slot[leg]) % interval] += 1
            assert here == moved.destination[leg]
    assert max(taken.max() for taken in busy.values()) == 1


def replay(
    moved, made: np.ndarray, owners: list[int], chips: list[int], elements: int
) -> dict[int, np.ndarray]:
    """Cycle in which each chip has each element of the target, or -1; legs leave when they may."""
    has = {chip: np.full(elements, -1) for chip in chips}
    there = dict.fromkeys(owners, made)
    for leg in np.argsort(moved.start, kind="stable").tolist():
        source, low, high = int(moved.source[leg]), moved.first[leg], moved.last[leg]
        own = there.get(source, np.full(len(made), -1))[low:high]
        have = np.maximum(own, has[source][low:high]) if moved.tensor == moved.into else own
        assert (have >= 0).all()
        assert have.max() <= moved.start[leg]
        at = slice(moved.at[leg], moved.at[leg] + high - low)
        assert (has[int(moved.destination[leg])][at] == -1).all(), "sent twice"
        has[int(moved.destination[leg])][at] = moved.arrival[leg]
    return has


@pytest.mark.parametrize("target", [RING, NODE], ids=lambda target: target.name)
@pytest.mark.parametrize(("mesh", "axes"), [((2,), (0,)), ((5,), (0,)), ((2, 2), (1,)), ((2, 3), (0, 1))])
def test_scattered_pieces_arrive_in_their_rows(target, mesh, axes) -> None:
    chips = list(range(prod(mesh)))
    ways = len(mesh_peers(mesh, axes)[0])
    elements, part = 12 * 70, ceil(12 * 70 / ways)
    tensors = {
        "p": Tensor("p", (12, 70), DType.FP16, Role.VALUE),
        "r": Tensor("r", (ways - 1, part), DType.FP16, Role.VALUE),
    }
    links = LinkScheduler(target, 20_000, ROUTERS[target.name])
    made = rising(tensors["p"], 12)
    exchange = Exchange("p", "r", ExchangeKind.SCATTER, axes)
    done = run_exchange(exchange, tensors, (chips, mesh), made, links)
    check_links(links, 20_000, target)
    has = replay(done.movement, dense(made), chips, chips, (ways - 1) * part)
    for peers in mesh_peers(mesh, axes):
        for piece, rank in enumerate(peers):
            length = min(part, elements - piece * part)
            rows = has[chips[rank]].reshape(ways - 1, part)
            assert (rows[:, :length] >= 0).all()
            assert (rows[:, length:] == -1).all()
    assert np.array_equal(dense(done.arrivals), np.max(list(has.values()), axis=0))


@pytest.mark.parametrize(
    ("target", "mesh", "axes"),
    [
        (RING, (5,), (0,)),
        (NODE, (4,), (0,)),
        (NODE, (2, 2), (0,)),
        (QUAD, (16,), (0,)),
        (QUAD, (2, 8), (0, 1)),
    ],
    ids=lambda case: getattr(case, "name", None),
)
def test_gathered_pieces_reach_every_chip(target, mesh, axes) -> None:
    chips = list(range(prod(mesh)))
    ways = len(mesh_peers(mesh, axes)[0])
    tensor = Tensor("g", (ways, 2_000), DType.FP16, Role.VALUE)
    links = LinkScheduler(target, 1 << 20, ROUTERS[target.name])
    cycles = np.arange(20)[None, :] * 30
    made = grid_map(tensor.shape, (0, 0), (ways, 100), cycles, tensor.shape)
    exchange = Exchange("g", "g", ExchangeKind.GATHER, axes)
    done = run_exchange(exchange, {"g": tensor}, (chips, mesh), made, links)
    check_links(links, 1 << 20, target)
    pieces = np.arange(tensor.elements) // 2_000
    all_has = []
    for peers in mesh_peers(mesh, axes):
        for piece, rank in enumerate(peers):
            sent_to_itself = done.movement.destination == chips[rank]
            assert not (done.movement.first[sent_to_itself] // 2_000 == piece).any()
    moved = done.movement
    for chip in chips:
        has = np.full(tensor.elements, -1)
        for leg in np.flatnonzero(moved.destination == chip).tolist():
            has[moved.first[leg] : moved.last[leg]] = moved.arrival[leg]
        mine = next(p for peers in mesh_peers(mesh, axes) for p, r in enumerate(peers) if chips[r] == chip)
        assert ((has >= 0) == (pieces != mine)).all()
        all_has.append(has)
    assert np.array_equal(dense(done.arrivals), np.max(all_has, axis=0))


def test_a_ring_passes_pieces_on_instead_of_sending_them_round() -> None:
    tensor = Tensor("g", (16, 4_000), DType.FP16, Role.VALUE)
    links = LinkScheduler(RING, 1 << 30, ROUTERS[RING.name])
    made = grid_map(tensor.shape, (0, 0), (16, 4_000), np.zeros((1, 1), dtype=np.int64), tensor.shape)
    exchange = Exchange("g", "g", ExchangeKind.GATHER, (0,))
    done = run_exchange(exchange, {"g": tensor}, (range(16), (16,)), made, links)
    assert done.movement is not None
    assert set(done.movement.hops.tolist()) == {1}
    # Fifteen pieces of sixteen come in over two links.
    least = 15 * 4_000 * 2 / 2 / RING.link.flit_bytes * RING.link.cycles_per_flit
    assert done.movement.last_arrival < 1.3 * least


def test_a_shift_goes_to_the_neighbour() -> None:
    tensors = {name: Tensor(name, (3, 100), DType.FP16, Role.VALUE) for name in ("s", "t")}
    links = LinkScheduler(RING, 10_000, ROUTERS[RING.name])
    made = rising(tensors["s"], 3)
    exchange = Exchange("s", "t", ExchangeKind.SHIFT, (0,), 1)
    done = run_exchange(exchange, tensors, ([2, 3, 4], (3,)), made, links)
    has = replay(done.movement, dense(made), [2, 3, 4], [2, 3, 4], 300)
    assert all((cycles >= 0).all() for cycles in has.values())
    pairs = set(zip(done.movement.source.tolist(), done.movement.destination.tolist(), strict=True))
    assert pairs == {(2, 3), (3, 4), (4, 2)}


@pytest.mark.parametrize("owned", [(), (0,)])
@pytest.mark.parametrize(
    ("source", "destination"), [((0, 1), (4, 5, 6)), ((0, 1, 2, 3), (7,)), ((3,), (0, 1))]
)
@pytest.mark.parametrize("target", [RING, NODE], ids=lambda target: target.name)
def test_every_chip_of_the_reading_group_gets_all(target, source, destination, owned) -> None:
    tensor = Tensor("t", (12, 500), DType.FP16, Role.VALUE)
    links = LinkScheduler(target, 1 << 20, ROUTERS[target.name])
    made = rising(tensor, 12)
    sender = Sender(source, (len(source),), owned)
    done = send_to_group(tensor, sender, destination, made, links)
    moved = done.movement
    check_links(links, 1 << 20, target)
    has = replay(moved, dense(made), list(source), [*source, *destination], tensor.elements)
    assert all((has[chip] >= 0).all() for chip in destination)
    assert np.array_equal(dense(done.arrivals), np.max([has[chip] for chip in destination], axis=0))
    if owned:
        outside = np.isin(moved.source, source)
        owner = np.array(source)[moved.first[outside] // (tensor.elements // len(source))]
        assert np.array_equal(moved.source[outside], owner)


@pytest.mark.parametrize("shots", ["one", "two"])
@pytest.mark.parametrize(("mesh", "axes"), [((2,), (0,)), ((4,), (0,)), ((2, 2), (0,)), ((2, 2), (0, 1))])
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_products_on_a_group_are_planned_without_fault(mesh, axes, shots, objective) -> None:
    case = products(mesh, axes, 8, shots)
    tiled = tile_graph(case.device, RING.chip)
    stages = (StageWork(tuple(range(prod(mesh))), mesh, tuple(range(len(case.device.operators)))),)
    search = IntervalSearch(case.device, RING, tiled, objective, 1, lambda _: None)
    found = search.run(stages)
    report = simulate(plan_of(case.device, RING, stages, found.schedule))
    assert report.ok, report.faults
    assert found.schedule.interval >= search.least(stages)
    if objective == "throughput":
        assert found.schedule.interval < found.schedule.latency


@pytest.mark.parametrize("interval", [1 << 40, 900])
def test_pieces_go_from_group_to_group(interval) -> None:
    """Partial sums are made on one group and added on another, which gets each from its owner."""
    case = products((2, 2), (0, 1), 8, "one")
    graph = case.device
    tiled = tile_graph(graph, RING.chip)
    stages = (StageWork((0, 1, 2, 3), (2, 2), (0, 1, 2)), StageWork((5, 4), (2,), (3,)))
    schedule = Scheduler(graph, RING, stages, tiled, interval).run()
    schedule = replace(schedule, interval=min(interval, schedule.span))
    (moved,) = schedule.sent
    assert set(moved.destination.tolist()) == {4, 5}
    report = simulate(plan_of(graph, RING, stages, schedule))
    assert report.ok, report.faults


def test_groups_wired_alike_get_the_same_schedule_shifted() -> None:
    """Two layers in a row on two nodes: what the second does is what the first did, later."""
    tensor = Tensor("g", (8, 2_000), DType.FP16, Role.VALUE)
    exchange = Exchange("g", "g", ExchangeKind.GATHER, (0,))
    patterns = LinkPatterns(QUAD, ROUTERS[QUAD.name])
    links = LinkScheduler(QUAD, 1 << 20, patterns.router)
    cycles = 100 + np.arange(20)[None, :] * 54
    moved = []
    for chips, later in (range(8), 0), (range(8, 16), 7_000):
        made = grid_map(tensor.shape, (0, 0), (8, 100), cycles + later, tensor.shape)
        group = (tuple(chips), (8,))
        moved.append(exchange_by_pattern(exchange, {"g": tensor}, group, made, links, patterns))
    first, second = (done.movement for done in moved)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.start + 7_000, second.start)
    assert np.array_equal(first.source + 8, second.source)
    assert np.array_equal(moved[0].arrivals.cycles + 7_000, moved[1].arrivals.cycles)
    check_links(links, 1 << 20, QUAD)


def test_a_pattern_whose_links_are_taken_is_scheduled_anew() -> None:
    tensor = Tensor("g", (4, 20_000), DType.FP16, Role.VALUE)
    exchange = Exchange("g", "g", ExchangeKind.GATHER, (0,))
    patterns = LinkPatterns(NODE, ROUTERS[NODE.name])
    links = LinkScheduler(NODE, 1 << 20, patterns.router)
    made = grid_map(tensor.shape, (0, 0), (4, 20_000), np.full((1, 1), 50), tensor.shape)
    for chips in ((0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 2, 3)):
        exchange_by_pattern(exchange, {"g": tensor}, (chips, (4,)), made, links, patterns)
    check_links(links, 1 << 20, NODE)
    ends = [moved.last_arrival for moved in links.sent]
    assert ends == sorted(set(ends))


def test_what_finds_no_gap_is_cut() -> None:
    """A link that is taken but for gaps of two flits still carries a longer leg, in parts."""
    tensor = Tensor("t", (64, 64), DType.FP32, Role.VALUE)
    flit = RING.link.cycles_per_flit
    links = LinkScheduler(RING, 20_000, ROUTERS[RING.name])
    for link in range(len(RING.topology.links)):
        for cycle in range(0, 20_000 - 4 * flit, 4 * flit):
            links.table(link).reserve(cycle, cycle + 2 * flit)
    leg = Leg(0, 1, 0, tensor.elements, 0, 0)
    with pytest.raises(NoRoom):
        links.carry([leg], tensor, "t")
    moved = links.carry([leg], tensor, "t", divide=True)
    assert moved.first.min() == 0
    assert sum((moved.last - moved.first).tolist()) == tensor.elements
    check_links(links, 20_000, RING)
