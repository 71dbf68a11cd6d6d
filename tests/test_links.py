"""The link schedule: ready before sent, fixed hop offsets, no overlap on a link modulo the interval."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.links import LinkScheduler, Router
from chiplan.compiler.modulo import NoRoom
from chiplan.compiler.ready_times import block_maximum, constant_map, grid_map
from chiplan.ir import DType, Role, Tensor
from chiplan.models import load_target

TARGETS = {name: load_target(name) for name in ("tiny-ring", "groq-node")}
ROUTERS = {name: Router(target.topology) for name, target in TARGETS.items()}

sends = st.tuples(
    st.integers(0, 7), st.integers(1, 7), st.integers(1, 40), st.integers(1, 200), st.integers(0, 5000)
)


@given(st.sampled_from(sorted(TARGETS)), st.lists(sends, min_size=1, max_size=8), st.integers(3_000, 60_000))
@settings(max_examples=60, deadline=None)
def test_slots_are_ready_connected_and_disjoint(name, cases, interval) -> None:
    target = TARGETS[name]
    scheduler = LinkScheduler(target, interval, ROUTERS[name])
    slots: dict[int, list[tuple[int, int]]] = {}
    for number, (source, step, rows, width, ready) in enumerate(cases):
        tensor = Tensor(f"t{number}", (rows, width), DType.FP16, Role.VALUE)
        cycles = ready + 10 * np.arange(rows)[:, None]
        made = grid_map(tensor.shape, (0, 0), (1, width), cycles, tensor.shape)
        try:
            sent = scheduler.send(tensor, source, (source + step) % 8, made)
        except NoRoom:
            return
        covered = np.zeros(tensor.elements, dtype=int)
        moved = sent.movement
        for leg in range(len(moved.start)):
            covered[moved.first[leg] : moved.last[leg]] += 1
            assert moved.start[leg] >= cycles[(moved.last[leg] - 1) // width, 0]
            links = [link for link in moved.links[leg].tolist() if link >= 0]
            ends = [target.topology.links[link] for link in links]
            assert [int(ends[0].source), int(ends[-1].destination)] == [source, (source + step) % 8]
            assert all(a.destination == b.source for a, b in pairwise(ends))
            for hop, link in enumerate(links):
                start = moved.start[leg] + hop * (target.link.cycles_per_flit + target.link.hop_latency)
                slots.setdefault(link, []).append((start, start + moved.slot[leg]))
        assert (covered == 1).all()
        last = block_maximum(sent.arrivals, tensor.shape)
        assert last.max() == moved.last_arrival
    for busy in slots.values():
        taken = np.zeros(interval, dtype=int)
        for start, end in busy:
            taken[np.arange(start, end) % interval] += 1
        assert taken.max() == 1


@pytest.mark.parametrize("name", ["tiny-ring", "groq-264"])
def test_chips_between_are_those_of_the_first_routes(name: str) -> None:
    topology = load_target(name).topology
    router, chips = Router(topology), list(range(1, topology.chips, 7))
    routes = [router.routes(0, chip)[0] for chip in chips]
    assert router.between(0, chips) == {int(topology.links[link].source) for r in routes for link in r}


def test_a_large_tensor_spreads_over_detours_in_a_clique() -> None:
    target = TARGETS["groq-node"]
    tensor = Tensor("t", (1024, 1024), DType.FP16, Role.VALUE)
    scheduler = LinkScheduler(target, 1 << 30, ROUTERS["groq-node"])
    sent = scheduler.send(tensor, 0, 1, constant_map(tensor.shape, 0))
    flits = tensor.nbytes / target.link.flit_bytes
    assert set(sent.movement.hops.tolist()) == {1, 2}
    assert sent.movement.last_arrival < flits * target.link.cycles_per_flit / 4


def test_full_links_are_refused() -> None:
    target = TARGETS["tiny-ring"]
    tensor = Tensor("t", (64, 64), DType.FP32, Role.VALUE)
    needed = 64 * 64 * 4 // target.link.flit_bytes * target.link.cycles_per_flit
    scheduler = LinkScheduler(target, needed // 4, ROUTERS["tiny-ring"])
    with pytest.raises(NoRoom):
        scheduler.send(tensor, 0, 1, constant_map(tensor.shape, 0))
