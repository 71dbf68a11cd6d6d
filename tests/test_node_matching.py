"""Nodes of two plans are the same by what they compute and where they stand, whatever their names."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiplan.compiler.node_matching import match_nodes
from chiplan.compiler.node_runs import NodeRun, fold_nodes, unfold_nodes
from chiplan.compiler.plan_profile import NodeCost

LAYER = ("matmul", "add", "relu")


def row(name: str, kind: str, place: str = "") -> NodeCost:
    return NodeCost((name,), kind, place or kind, 10, 0)


def placed(kinds: list[str], names: list[str]) -> list[NodeCost]:
    """A chain: the place of a node is its kind and its neighbours'."""
    around = ["", *kinds, ""]
    places = ["/".join(around[number : number + 3]) for number in range(len(kinds))]
    return [row(*parts) for parts in zip(names, kinds, places, strict=True)]


kinds = st.lists(st.sampled_from(LAYER), max_size=40)


@given(kinds)
def test_renamed_nodes_are_the_same_in_order(chain: list[str]) -> None:
    before = placed(chain, [f"old_{number}" for number in range(len(chain))])
    after = placed(chain, [f"new_{number}" for number in range(len(chain))])
    assert match_nodes(before, after) == [(number, number) for number in range(len(chain))]


@given(kinds, st.integers(0, 40), st.sampled_from([*LAYER, "gelu"]))
def test_an_added_node_is_the_only_one_left(chain: list[str], at: int, kind: str) -> None:
    """By its name, even where its neighbours compute the same."""
    names = [f"node_{number}" for number in range(len(chain))]
    at = min(at, len(chain))
    before = placed(chain, names)
    after = placed([*chain[:at], kind, *chain[at:]], [*names[:at], "added", *names[at:]])
    pairs = match_nodes(before, after)
    assert len(pairs) == len(chain)
    (left,) = set(range(len(after))) - {pair[1] for pair in pairs}
    assert after[left].kind == kind
    assert after[left].nodes == ("added",)


def test_a_number_in_every_name_does_not_shift_the_blame() -> None:
    """One more `add` in the first layer renumbers all that follow."""
    chain = list(LAYER * 3)
    numbers = ("", "_1", "_2")
    before = placed(chain, [f"{kind}{number}" for number in numbers for kind in LAYER])
    chain.insert(3, "add")
    names = ["matmul", "add", "relu", "add_1", "matmul_1", "add_2", "relu_1", "matmul_2", "add_3", "relu_2"]
    pairs = match_nodes(before, placed(chain, names))
    assert {3} == set(range(10)) - {pair[1] for pair in pairs}


def test_what_moved_is_found_by_name_and_what_changed_by_its_place() -> None:
    before = [row("a", "x"), row("b", "y"), row("c", "z")]
    assert match_nodes(before, [before[2], before[0], before[1]]) == [(2, 0), (0, 1), (1, 2)]
    assert match_nodes(before, [row("a", "x"), row("new", "other"), row("c", "z")]) == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]
    fused = replace(row("b", "other"), nodes=("b", "relu"))
    assert match_nodes(before[:2], [row("a", "x"), fused, row("d", "x")]) == [(0, 0), (1, 1)]


names = st.lists(
    st.sampled_from(["node", "node_0", "a1/b2", "007", "x_10", "1\u0663", "-1"]), min_size=1, max_size=3
)
costs = st.builds(
    NodeCost,
    nodes=names.map(tuple),
    kind=st.sampled_from(["k", "l"]),
    place=st.just("p"),
    unit_cycles=st.integers(0, 2),
    link_cycles=st.just(0),
)


@given(st.lists(costs, max_size=60))
def test_folding_loses_nothing(rows: list[NodeCost]) -> None:
    assert unfold_nodes(fold_nodes(rows)) == tuple(rows)


@given(st.integers(3, 80), st.integers(1, 3))
def test_equal_layers_take_as_many_lines_however_many_they_are(layers: int, heads: int) -> None:
    parts = [f"layer{{layer}}/head{head}" for head in range(heads)]
    rows = [row(part.format(layer=layer), "k") for layer in range(layers) for part in parts]
    assert len(fold_nodes(rows)) == heads
    assert unfold_nodes(fold_nodes(rows)) == tuple(rows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": (1, 1, 0)},
        {"at": (0, 2, 0)},
        {"at": (0, 10**12, 1)},
        {"at": (0, -1, 1)},
        {"steps": ()},
        {"steps": (1, 1)},
    ],
)
def test_runs_that_no_rows_fold_to_are_refused(wrong: dict[str, object]) -> None:
    run = NodeRun((0, 1, 0), 1, 0, "k", "p", ("node_1",), (0,))
    assert len(unfold_nodes([run])) == 1
    with pytest.raises(ValueError, match="nodes: "):
        unfold_nodes([replace(run, **wrong)])
