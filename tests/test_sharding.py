"""Sharding: the solvers against brute force, and what comes out for real blocks."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import pairwise, product
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.atoms import GraphAtoms, find_atoms
from chiplan.compiler.blocks import Block, find_blocks
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.collective_costs import CollectiveCosts, representative_group
from chiplan.compiler.compile import prepare_graph
from chiplan.compiler.device_graph import GroupStage, build_device_graph
from chiplan.compiler.group_costs import carried_ends
from chiplan.compiler.importer import import_model
from chiplan.compiler.pins import check_pins
from chiplan.compiler.placements import REPLICATE, Partial, Shard
from chiplan.compiler.sharding_build import ShardingTask
from chiplan.compiler.sharding_choices import factor_names
from chiplan.compiler.sharding_problem import (
    BlockSharding,
    shard_block,
    shard_block_frontier,
)
from chiplan.ir import BadInput, Graph, Infeasible, Role, Unit
from chiplan.models import find_model, load_target
from chiplan.partitioner import Link, ShardingProblem, Variable, sharding_frontier, solve_sharding
from chiplan.partitioner.sharding_model import solve_by_model

NODE = load_target("groq-node")


# The solvers, on problems small enough to try everything.


@st.composite
def problems(draw: st.DrawFn) -> ShardingProblem:
    """Up to six variables of up to four values in a chain with a few more links."""
    numbers = st.integers(0, 6)
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=6))
    variables = tuple(
        Variable(f"v{i}", *(np.array([draw(numbers) for _ in range(size)]) for _ in range(3)))
        for i, size in enumerate(sizes)
    )
    pairs = [(i, i + 1) for i in range(len(sizes) - 1)]
    pairs += [*draw(st.lists(st.sampled_from(pairs), max_size=1)), (len(sizes) - 1, 0)]
    links = tuple(Link(a, b, _table(draw, sizes[a], sizes[b])) for a, b in pairs)
    capacity = draw(st.one_of(st.none(), st.integers(0, 20)))
    return ShardingProblem("a drawn problem", variables, links, capacity, draw(st.sampled_from([0, 1 << 20])))


def _table(draw: st.DrawFn, rows: int, columns: int) -> np.ndarray:
    allowed = st.sampled_from([True, True, True, False])
    return np.array([[draw(allowed) for _ in range(columns)] for _ in range(rows)], dtype=bool)


def _consistent(problem: ShardingProblem) -> list[tuple[int, ...]]:
    every = product(*(range(variable.values) for variable in problem.variables))
    return [values for values in every if problem.is_consistent(values)]


def _merit(problem: ShardingProblem, values: Sequence[int]) -> tuple[int, int, int]:
    _, nbytes, rank = problem.totals(values)
    return problem.cost(values), nbytes, rank


@given(problems())
@settings(max_examples=60, deadline=None)
def test_the_answer_is_the_best_of_all(problem: ShardingProblem) -> None:
    consistent, found = _consistent(problem), solve_sharding(problem)
    if not consistent:
        assert found is None
        return
    assert found is not None
    assert problem.is_consistent(found.values)
    assert (found.cycles, found.nbytes) == problem.totals(found.values)[:2]
    fitting = [v for v in consistent if problem.capacity is None or problem.totals(v)[1] <= problem.capacity]
    assert found.fits == bool(fitting)
    if fitting:
        assert _merit(problem, found.values) == min(_merit(problem, v) for v in fitting)
        assert found.certificate.status == "optimal"
        assert found.certificate.objective == found.certificate.bound == problem.cost(found.values)
    else:
        assert found.nbytes == min(problem.totals(v)[1] for v in consistent)


def test_the_fewest_bytes_are_found_where_each_choice_would_fit_alone() -> None:
    """The small value of either needs the large one of the other: 2 bytes, where 1 was to be had."""
    none = np.zeros(2, dtype=np.int64)
    either = [Variable(name, none, np.array([0, 2]), none) for name in "ab"]
    third = Variable("c", none, np.array([1, 1]), none)
    links = (Link(0, 1, ~np.eye(2, dtype=bool)), Link(1, 2, np.ones((2, 2), dtype=bool)))
    problem = ShardingProblem("tight", (*either, third), links, 2, 0)
    found = solve_sharding(problem)
    assert found is not None
    assert (found.nbytes, found.fits) == (3, False)
    assert found.next_best(0) is None
    assert sharding_frontier(problem) == (found,)


@given(problems())
@settings(max_examples=15, deadline=None)
def test_the_model_agrees_with_the_elimination(problem: ShardingProblem) -> None:
    found, (values, certificate) = solve_sharding(problem), solve_by_model(problem, None)
    if found is None or values is None:
        assert found is values is None
        return
    assert certificate.status == "optimal"
    assert _merit(problem, values) == _merit(problem, found.values) or not found.fits
    assert problem.totals(values)[1] == found.nbytes


@given(problems(), st.data())
@settings(max_examples=30, deadline=None)
def test_the_next_best_is_what_forbidding_a_choice_costs(
    problem: ShardingProblem, data: st.DataObject
) -> None:
    found = solve_sharding(problem)
    if found is None or not found.fits:
        return
    variable = data.draw(st.integers(0, len(problem.variables) - 1))
    others = [
        _merit(problem, v)
        for v in _consistent(problem)
        if v[variable] != found.values[variable]
        and (problem.capacity is None or problem.totals(v)[1] <= problem.capacity)
    ]
    following = found.next_best(variable)
    assert (following is None) == (not others)
    if following is not None and not problem.price:
        assert following[0] != found.values[variable]
        assert following[1] == min(others)[0] - found.cycles


@given(problems())
@settings(max_examples=30, deadline=None)
def test_a_frontier_trades_cycles_for_bytes(problem: ShardingProblem) -> None:
    frontier = sharding_frontier(problem)
    for one, other in pairwise(frontier):
        assert one.nbytes > other.nbytes
    if frontier:
        assert frontier[0] == solve_sharding(problem)


# What comes out for real models.


class Prepared:
    """A shipped model in planned operators."""

    def __init__(self, model: str, precision: str, **sizes: int) -> None:
        imported = import_model(find_model(model), **sizes)
        self.graph: Graph = prepare_graph(build_graph(imported), precision, NODE)
        self.atoms: GraphAtoms = find_atoms(self.graph)

    def shard(
        self,
        mesh: tuple[int, ...],
        layer: bool = False,
        target: str = "groq-node",
        users: int = 1,
        pins: dict[str, str] | None = None,
        price: int = 0,
        capacity: int | None = None,
    ) -> BlockSharding:
        """All operators as one block, or a layer in the middle of many."""
        operators: Sequence[int] = range(len(self.graph.operators))
        ends: list[tuple[str, str]] = []
        if layer:
            block, following = self.layer()
            operators = range(block.first, block.last)
            ends = carried_ends(self.graph, block, following)
        system = load_target(target)
        costs = CollectiveCosts(system, representative_group(system, prod(mesh)))
        task = ShardingTask(self.graph, self.atoms, operators, mesh, costs, system.chip, users)
        return shard_block(replace(task, pins=pins or {}, ends=ends, price=price, capacity=capacity))

    def layer(self) -> tuple[Block, Block]:
        blocks = find_blocks(self.graph)
        kinds = [block.kind for block in blocks]
        most = max(set(kinds), key=kinds.count)
        repeated = [block for block in blocks if block.kind == most]
        return repeated[1], repeated[2]

    def splits(self, found: BlockSharding, unit: Unit = Unit.MATRIX) -> list[tuple[str, ...]]:
        """What the operators of a unit split, in order."""
        operators = self.graph.operators
        return [
            factor_names(operators[index], decision)
            for index, decision in found.decisions.items()
            if operators[index].unit is unit
        ]


@cache
def prepared(model: str, precision: str = "fp16", **sizes: int) -> Prepared:
    return Prepared(model, precision, **sizes)


def reduced(found: BlockSharding) -> list[str]:
    """Values that are summed over the group."""
    return [
        name
        for name, held in found.held.items()
        if any(isinstance(p, Partial) for p in held.made) and held.made != held.used
    ]


@pytest.mark.parametrize("ways", [2, 4])
def test_a_llama_layer_is_split_by_columns_then_rows(ways: int) -> None:
    """Gate, up and down; q, k and v; attention by heads; the output projection. Two all-reduces."""
    model = prepared("llama2-7b-decode")
    found = model.shard((ways,), layer=True)
    mlp, attention = [("n",), ("n",), ("k",)], [("n",), ("n",), ("n",), ("b1",), ("b1",), ("k",)]
    assert sorted(model.splits(found)) == sorted(mlp + attention)
    assert len(reduced(found)) == 2
    assert {found.held[name].used for name in reduced(found)} == {(REPLICATE,)}
    heads = {name: placement for name, placement in found.residents.items() if "past" in name}
    assert set(heads.values()) == {(Shard((1, 0)),)}
    assert len(heads) == 2
    assert found.certificate.status == "optimal"
    assert found.certificate.gap == 0


def test_the_cycles_of_a_layer_are_its_operators_and_what_of_its_collectives_is_not_hidden() -> None:
    model = prepared("llama2-7b-decode")
    found = model.shard((4,), layer=True)
    computed = sum(piece.latency for piece in found.pieces.values())
    sent = sum(held.cost.cycles for held in found.held.values())
    hidden = sum(held.hidden for held in found.held.values())
    assert 0 < hidden < sent
    assert computed + sent - hidden == found.cycles == found.certificate.objective
    conversions = sum(held.cycles for _, held, _ in found.converted(model.graph))
    assert conversions == sent - hidden


def test_heads_of_16_chips_are_split_over_both_axes() -> None:
    """32 heads on 2 nodes of 8 chips: each axis takes a factor of them."""
    model = prepared("llama2-7b-decode")
    found = model.shard((2, 8), layer=True, target="groq-rack")
    assert set(model.splits(found)) == {("n", "n"), ("k", "k"), ("b1", "b1")}
    assert found.resident_bytes < model.shard((8,), layer=True).resident_bytes * 0.51


def test_larger_groups_take_fewer_cycles_of_work() -> None:
    model = prepared("llama2-7b-decode")
    found = [model.shard((ways,), layer=True) for ways in (1, 2, 4, 8)]
    for one, other in pairwise(found):
        assert other.cycles < one.cycles
        assert other.unit_work[0] < one.unit_work[0]
        assert other.resident_bytes < one.resident_bytes
    assert found[0].link_cycles == 0
    assert not any(any(d) for d in found[0].decisions.values())


def test_the_output_layer_is_split_by_vocabulary_and_the_embedding_too_large_for_a_chip() -> None:
    """The table of 262 MB is more than a chip's SRAM; splitting its columns gathers one row."""
    model = prepared("llama2-7b-decode")
    operators = range(len(model.graph.operators))
    costs = CollectiveCosts(NODE, range(8))
    first, last = [operators[0]], operators[-3:]
    embedding = shard_block(ShardingTask(model.graph, model.atoms, first, (8,), costs, NODE.chip))
    assert factor_names(model.graph.operators[0], embedding.decisions[0]) == ("e0",)
    output = shard_block(ShardingTask(model.graph, model.atoms, last, (8,), costs, NODE.chip))
    assert factor_names(model.graph.operators[-1], output.decisions[last[-1]]) == ("n",)


def test_an_embedding_split_by_vocabulary_gives_partial_sums() -> None:
    model = prepared("llama2-7b-decode")
    costs, pins = CollectiveCosts(NODE, range(8)), {"node_embedding": "row"}
    found = shard_block(ShardingTask(model.graph, model.atoms, [0], (8,), costs, NODE.chip, pins=pins))
    assert factor_names(model.graph.operators[0], found.decisions[0]) == ("row",)
    assert reduced(found) == ["embedding"]


def test_gpt2_splits_columns_then_rows_when_bytes_count() -> None:
    """Eight tokens: without a price the small attention is not worth splitting."""
    model = prepared("gpt2", sequence=8)
    found = model.shard((4,), layer=True, price=1000)
    assert model.splits(found) == [("n",), ("b1",), ("b1",), ("k",), ("n",), ("k",)]
    assert len(reduced(found)) == 2
    assert model.shard((4,), layer=True).cycles < found.cycles


def test_bert_trades_weights_for_cycles() -> None:
    """At 384 tokens rows of the sequence are the fastest, with whole weights; the fewest bytes are a
    quarter of the weights on each chip."""
    model = prepared("bert-large", sequence=384)
    fast, small = model.shard((4,), layer=True), model.shard((4,), layer=True, price=1 << 16)
    assert ("m",) in model.splits(fast)
    assert ("m",) not in model.splits(small)
    assert ("b1",) in model.splits(fast)
    assert ("b1",) in model.splits(small)
    assert fast.cycles < small.cycles
    whole = model.shard((1,), layer=True).resident_bytes
    assert small.resident_bytes < whole * 0.26 < fast.resident_bytes
    assert len(reduced(small)) == 2


def test_bert_s_frontier_ends_at_both() -> None:
    model = prepared("bert-large", sequence=384)
    block, following = model.layer()
    ends = carried_ends(model.graph, block, following)
    costs, operators = CollectiveCosts(NODE, range(4)), range(block.first, block.last)
    task = ShardingTask(model.graph, model.atoms, operators, (4,), costs, NODE.chip, ends=ends)
    found = shard_block_frontier(task)
    assert len(found) >= 2
    assert found[0].cycles == model.shard((4,), layer=True).cycles
    for one, other in pairwise(found):
        assert one.cycles < other.cycles
        assert one.resident_bytes > other.resident_bytes


def test_a_cache_is_split_by_rows_when_heads_run_out() -> None:
    """Two key-value heads on four chips, and more users than a chip has room for: the rows of the cache are
    split, and the softmax is put together from partial maxima and sums."""
    model = prepared("llama-tiny-gqa-past")
    found = model.shard((4,), users=1500)
    states = [name for name, tensor in model.graph.tensors.items() if tensor.role is Role.STATE]
    assert found.fits
    assert found.certificate.status == "optimal"
    assert {found.residents[name] for name in states} == {(Shard((2, 0)),)}
    assert [name for name in reduced(found) if "ReduceMax" in name or "ReduceSum" in name]
    assert model.shard((4,)).residents[states[0]] == (REPLICATE,)


def test_expert_weights_are_split() -> None:
    model = prepared("mixtral-tiny")
    found = model.shard((4,), price=1 << 20)
    experts = [
        factor_names(model.graph.operators[index], decision)
        for index, decision in found.decisions.items()
        if "Gather" in [step.opcode for step in model.graph.operators[index].body]
        and model.graph.operators[index].unit is Unit.MATRIX
    ]
    assert experts == [("n.1",), ("k",)] * 2
    assert found.resident_bytes < model.shard((1,)).resident_bytes * 0.27


def test_a_capacity_that_binds_is_kept() -> None:
    model = prepared("gpt2", sequence=8)
    free = model.shard((4,), layer=True)
    found = model.shard((4,), layer=True, capacity=free.resident_bytes - 1)
    assert found.fits
    assert found.resident_bytes < free.resident_bytes
    assert found.cycles >= free.cycles
    assert found.certificate.status == "optimal"
    assert not model.shard((4,), layer=True, capacity=1000).fits


def test_a_pin_is_kept_and_costs_what_the_next_best_said() -> None:
    model = prepared("llama2-7b-decode")
    free = model.shard((4,), layer=True)
    index = next(i for i, d in free.decisions.items() if factor_names(model.graph.operators[i], d) == ("k",))
    operator = model.graph.operators[index]
    other = free.alternatives(index)
    assert other is not None
    assert other[1] >= 0
    factor = factor_names(operator, other[0])[0]
    pinned = model.shard((4,), layer=True, pins={operator.nodes[0]: factor})
    assert pinned.decisions[index] == other[0]
    assert pinned.cycles == free.cycles + other[1]


def test_a_pin_to_none_keeps_an_operator_whole() -> None:
    model = prepared("llama2-7b-decode")
    index = model.layer()[0].first + 2
    node = model.graph.operators[index].nodes[0]
    found = model.shard((4,), layer=True, pins={node: "none"}, capacity=1 << 40)
    assert found.decisions[index] == (None,)


def test_unknown_pins_are_refused_with_what_there_is() -> None:
    model = prepared("llama-tiny-gqa-past")
    with pytest.raises(BadInput) as refused:
        check_pins(model.graph, model.atoms, {"node_linear": "q", "node_linera": "n"})
    messages = [problem.message for problem in refused.value.problems]
    assert [problem.code for problem in refused.value.problems] == ["unknown_pin_factor", "unknown_pin_node"]
    assert "k, n, none" in messages[0]
    assert "did you mean node_linear" in messages[1]
    check_pins(model.graph, model.atoms, {"node_linear": "n", "node_linear_1": "none"})


def test_pins_that_contradict_each_other_are_infeasible() -> None:
    """Both writers of a rotated half must agree; only one of them may be split by heads here."""
    model = prepared("llama-tiny-gqa-past")
    with pytest.raises(Infeasible, match="contradict each other"):
        model.shard((2,), pins={"node_neg": "d1", "node_cat_5": "none"})


@pytest.mark.parametrize("model", ["llama-tiny-gqa-past", "gpt2-tiny", "mixtral-tiny", "llama-tiny-gqa-op23"])
@pytest.mark.parametrize("mesh", [(3,), (2, 2)])
@pytest.mark.parametrize("price", [0, 1 << 16])
def test_what_is_decided_can_be_built(model: str, mesh: tuple[int, ...], price: int) -> None:
    """The device graph refuses decisions that contradict each other."""
    graph, found = prepared(model).graph, prepared(model).shard(mesh, price=price)
    costs = CollectiveCosts(NODE, representative_group(NODE, prod(mesh)))
    stage = GroupStage(tuple(range(len(graph.operators))), mesh, found.decisions)
    built = build_device_graph(graph, prepared(model).atoms, [stage], costs.choose, None)
    summed = [source for source in built.source if source is None]
    assert bool(summed) == bool(reduced(found))


def test_the_same_block_gives_the_same_answer() -> None:
    one, other = (Prepared("gpt2-tiny", "fp16").shard((4,)) for _ in range(2))
    assert one.decisions == other.decisions
    assert one.certificate == other.certificate


def test_the_page_of_shardings_is_what_its_script_says(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row stands for all: the table is made again with `python -m benchmarks.shardings --write`."""
    monkeypatch.syspath_prepend(str(repository))
    script = import_module("benchmarks.shardings")
    case = next(case for case in script.CASES if case.model == "llama2-7b-decode")
    (row,) = script.rows(replace(case, meshes=((8,),)), None)
    assert row in (repository / "docs" / "sharding.md").read_text(encoding="utf-8")
