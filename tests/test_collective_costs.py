"""Costs of collectives: by hand on a clique, and what must hold on any topology."""

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.collective_costs import CollectiveCosts, representative_group
from chiplan.compiler.device_collectives import CollectiveRequest
from chiplan.ir import DType
from chiplan.models import load_target

NODE = load_target("groq-node")
FLIT, HOP = 27, 243
"""Cycles a flit, and cycles of a hop besides, of groq-node."""


def costs_of(name: str, size: int) -> CollectiveCosts:
    target = load_target(name)
    return CollectiveCosts(target, representative_group(target, size))


def test_all_chips_of_a_clique_have_no_detours() -> None:
    """8 chips, 8192 fp16 = 52 flits, 7 a piece (whole flits): one direct cable a pair."""
    cost = CollectiveCosts(NODE, range(8)).all_gather(8192, DType.FP16, (8,), (0,))
    assert cost.cycles == 7 * FLIT + HOP
    assert cost.link == 7 * FLIT
    assert cost.vector == 0


def test_half_a_clique_also_uses_the_links_of_the_idle_half() -> None:
    """Four chips: 3 direct cables each, and 4 two-hop routes, so 4/3 of a cable more a pair.

    122 flits a pair: 57 direct (57 x 27 + 243 = 1782); 65 on detours: ceil(65 / (4/3)) = 49 flits of
    time, and 2 x 243 + 27 of latency = 1836; 58 direct: 64 on 48 flits = 1809 = 58 x 27 + 243.
    """
    cost = CollectiveCosts(NODE, range(4)).all_gather(4 * 122 * 160, DType.FP16, (4,), (0,))
    assert cost.link == 58 * FLIT
    assert cost.cycles == 58 * FLIT + HOP == 48 * FLIT + FLIT + 2 * HOP


def test_a_single_flit_takes_the_direct_link() -> None:
    assert CollectiveCosts(NODE, range(4)).all_gather(4, DType.FP16, (4,), (0,)).cycles == FLIT + HOP


def test_two_shot_reduces_a_part_and_gathers_it() -> None:
    """8 chips, 8192 fp16: 7 flits each way; 1024 elements on 320 lanes = 4 cycles, 20 deep."""
    found = CollectiveCosts(NODE, range(8)).algorithms("all_reduce", 8192, DType.FP16, (8,), (0,))
    assert found["two-shot"].cycles == 2 * (7 * FLIT + HOP) + 4 + 20
    assert found["one-shot"].cycles == 52 * FLIT + HOP + 26 + 20
    assert found["ring"].cycles == 7 * (7 * FLIT + HOP + 4 + 20) + 7 * (7 * FLIT + HOP)
    assert found["two-shot"].vector == 4


@pytest.mark.parametrize(("elements", "algorithm"), [(160, "one-shot"), (8192, "two-shot")])
def test_few_elements_go_in_one_shot_many_in_two(elements: int, algorithm: str) -> None:
    request = CollectiveRequest("all_reduce", (0,), (8,), elements, DType.FP16)
    assert CollectiveCosts(NODE, range(8)).choose(request) == algorithm


def test_a_ring_of_chips_prefers_the_ring_for_much_data() -> None:
    request = CollectiveRequest("all_reduce", (0,), (4,), 1 << 20, DType.FP16)
    assert costs_of("generic-ring", 4).choose(request) == "ring"


def test_groups_over_nodes_sum_in_levels() -> None:
    """Two nodes have four cables between them: a flat exchange would send all of its pieces over those."""
    found = costs_of("groq-576", 16).algorithms("all_reduce", 1 << 16, DType.FP16, (2, 8), (0, 1))
    assert set(found) == {"one-shot", "two-shot", "ring", "hierarchical"}
    assert found["hierarchical"].cycles < found["one-shot"].cycles
    in_node = costs_of("groq-576", 16).all_reduce(1 << 16, DType.FP16, (2, 8), (1,))
    assert in_node.cycles < found["hierarchical"].cycles


def test_an_axis_of_one_chip_costs_nothing() -> None:
    cost = CollectiveCosts(NODE, range(4)).all_reduce(1000, DType.FP16, (1, 4), (0,))
    assert (cost.cycles, cost.link, cost.vector) == (0, 0, 0)


def test_a_move_of_one_flit_is_one_hop() -> None:
    costs = CollectiveCosts(NODE, range(4))
    assert costs.move(160, DType.FP16, 0, 5) == FLIT + HOP
    assert costs.move(0, DType.FP16, 0, 5) == 0


def test_a_move_uses_the_detours_too() -> None:
    """One direct route and six of two hops between two chips of a clique of 8."""
    costs = CollectiveCosts(NODE, range(2))
    assert costs.move(700 * 160, DType.FP16, 0, 1) < 700 * FLIT / 5


def test_groups_that_no_links_join_are_refused() -> None:
    with pytest.raises(ValueError, match="a group of 9 chips"):
        representative_group(NODE, 9)


def test_kinds_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="expected all_gather"):
        CollectiveCosts(NODE, range(2)).algorithms("broadcast", 1, DType.FP16, (2,), (0,))


@given(
    st.sampled_from([("groq-node", (4,)), ("groq-node", (2, 3)), ("groq-576", (2, 8)), ("tiny-ring", (3,))]),
    st.integers(1, 1 << 18),
    st.sampled_from([DType.INT8, DType.FP16, DType.INT32]),
)
@settings(max_examples=25, deadline=None)
def test_more_elements_never_take_less(
    group: tuple[str, tuple[int, ...]], elements: int, dtype: DType
) -> None:
    name, mesh = group
    costs, axes = costs_of(name, prod(mesh)), tuple(range(len(mesh)))
    for collective in (costs.all_gather, costs.reduce_scatter, costs.all_reduce):
        less, more = (collective(n, dtype, mesh, axes) for n in (elements, 2 * elements))
        assert 0 < less.cycles <= more.cycles
