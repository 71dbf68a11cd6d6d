"""Groups on chips: whole nodes, linked nodes, no gap inside a group where one can be avoided."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import ceil, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.ir import ChipId, Infeasible, Topology
from chiplan.models import build_topology, load_target
from chiplan.partitioner import group_shapes, place_groups

Groups = list[tuple[ChipId, ...]]
SYSTEMS = ("groq-576", "groq-264", "groq-rack", "groq-node", "tiny-ring")


@cache
def system(name: str) -> Topology:
    return load_target(name).topology


def place(meshes: Sequence[tuple[int, ...]], topology: Topology, failed: tuple[int, ...] = ()) -> Groups:
    traffic = {(a, a + 1): 100 for a in range(len(meshes) - 1)}
    return place_groups(meshes, traffic, topology, failed)[0]


def nodes_of(groups: Groups, topology: Topology) -> list[set[int]]:
    return [{topology.node_of[chip] for chip in chips} for chips in groups]


@given(
    st.sampled_from(SYSTEMS),
    st.lists(st.integers(1, 20), min_size=1, max_size=30),
    st.sets(st.integers(0, 7)),
)
@settings(max_examples=40, deadline=None)
def test_every_group_has_its_own_working_chips(name: str, sizes: list[int], failed: set[int]) -> None:
    topology = system(name)
    meshes = [(size,) for size in sizes]
    if sum(sizes) > topology.chips - len(failed):
        with pytest.raises(Infeasible, match="allow fewer chips"):
            place(meshes, topology, tuple(failed))
        return
    groups = place(meshes, topology, tuple(failed))
    used = [chip for chips in groups for chip in chips]
    assert [len(chips) for chips in groups] == sizes
    assert len(set(used)) == len(used)
    assert not failed.intersection(used)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=18))
@settings(max_examples=30, deadline=None)
def test_groups_with_room_to_spare_are_never_broken(sizes: list[int]) -> None:
    topology = system("groq-576")
    for size, nodes in zip(
        sizes, nodes_of(place([(size,) for size in sizes], topology), topology), strict=True
    ):
        assert len(nodes) == ceil(size / 8) == max(nodes) - min(nodes) + 1


@pytest.mark.parametrize(
    "sizes",
    [[5, 3] * 9, [3, 3, 5, 5] * 4 + [8], [8] * 9, [4, 2, 2, 1, 1, 6] * 4 + [8], [6, 2, 3, 3, 2] * 4 + [8]],
)
def test_groups_that_just_fit_are_never_broken(sizes: list[int]) -> None:
    topology = system("groq-rack")
    assert sum(sizes) == 72
    assert all(len(nodes) == 1 for nodes in nodes_of(place([(size,) for size in sizes], topology), topology))


def test_groups_of_six_on_a_full_rack_are_broken_as_they_must_be() -> None:
    topology = system("groq-rack")
    nodes = nodes_of(place([(6,)] * 12, topology), topology)
    assert max(map(len, nodes)) == 2
    assert sum(len(group) == 1 for group in nodes) == 6


def test_ranks_of_two_axes_run_over_nodes_and_inside_them() -> None:
    topology = system("groq-576")
    groups = place([(2, 8), (3,), (2, 6), (2, 4)], topology)
    assert groups[0] == tuple(range(16))
    assert len({topology.node_of[chip] for chip in groups[1]}) == 1
    first, second = groups[2][:6], groups[2][6:]
    assert (
        len({topology.node_of[chip] for chip in first})
        == len({topology.node_of[chip] for chip in second})
        == 1
    )
    assert topology.node_of[second[0]] == topology.node_of[first[0]] + 1
    assert len({topology.node_of[chip] for chip in groups[3]}) == 1


def test_a_group_stays_in_a_rack_of_the_dragonfly() -> None:
    topology = system("groq-10440")
    groups = place([(2, 8)] * 580, topology)
    assert all(len({topology.rack_of[chip] for chip in chips}) == 1 for chips in groups)
    tight = place([(2, 8)] * 600, topology)
    assert sum(len({topology.rack_of[chip] for chip in chips}) > 1 for chips in tight) <= 100
    assert set(place([(9, 8)] * 145, topology)[7]) == set(range(504, 576))


def test_single_chips_follow_links() -> None:
    for name in ("groq-576", "groq-264", "groq-10440", "tiny-ring"):
        topology = system(name)
        linked = {(link.source, link.destination) for link in topology.links}
        chips = [chips[0] for chips in place([(1,)] * topology.chips, topology)]
        assert all(pair in linked for pair in pairwise(chips))


def test_stages_of_whole_nodes_are_two_hops_apart_at_most() -> None:
    topology = system("groq-576")
    traffic = {(a, a + 1): 10 for a in range(71)}
    proof = place_groups([(8,)] * 72, traffic, topology)[1]
    assert proof.bound == 710
    assert proof.objective == 1065


def test_dead_nodes_are_walked_around() -> None:
    topology = system("groq-576")
    nodes = nodes_of(place([(2, 8)] * 34, topology, tuple(range(40, 64))), topology)
    assert all(max(group) - min(group) == 1 for group in nodes)


def test_on_a_grid_of_chips_a_group_is_a_run_of_neighbours() -> None:
    topology = build_topology("mesh", {"dims": [8, 8]}, 8, 9)
    linked = {(link.source, link.destination) for link in topology.links}
    for chips in place([(8,)] * 4, topology):
        assert all(pair in linked for pair in pairwise(chips)) or sorted(chips) == list(
            range(min(chips), max(chips) + 1)
        )


def test_shapes_fill_nodes_and_then_count_them() -> None:
    shapes = group_shapes(load_target("groq-576"), 576)
    assert [size for size, _ in shapes] == [1, 2, 3, 4, 6, 8, 16, 24, 32, 48, 64, 72]
    assert all(size == prod(mesh) and mesh[-1] <= 8 for size, mesh in shapes)
    assert [size for size, _ in group_shapes(load_target("groq-node"), 8)] == list(range(1, 9))
    assert (104, (13, 8)) in group_shapes(load_target("groq-264"), 104)
    assert [size for size, _ in group_shapes(load_target("groq-rack"), 4)] == [1, 2, 3, 4]
    assert group_shapes(load_target("tiny-ring"), 3) == [(1, (1,)), (2, (2,)), (3, (3,))]
