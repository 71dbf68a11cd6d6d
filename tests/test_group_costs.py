"""Costs of groups: what blocks stand for one another, and that the tables add up to the certificates."""

from collections import Counter
from functools import cache
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.collective_costs import NOTHING, CollectiveCosts, representative_group
from chiplan.compiler.compile import prepare
from chiplan.compiler.device_collectives import Partials, reduce_partials
from chiplan.compiler.device_forms import cuts_of, partial_axes, plain_form
from chiplan.compiler.group_costs import ShapeCosts
from chiplan.compiler.group_planner import GroupPlanner
from chiplan.compiler.importer import import_model
from chiplan.compiler.options import Options, silent
from chiplan.compiler.placements import REPLICATE, Partial, Placement, Placements, Shard
from chiplan.compiler.sharding_tensors import Conversions, Held, collectives_of, is_complete
from chiplan.ir import DType, ExchangeKind, PlannedCollective, Reducer, Shape, mesh_ways
from chiplan.models import find_model, load_target

NODE = load_target("groq-node")


@cache
def planner(model: str, size: int, **sizes: int) -> GroupPlanner:
    """For one group of `size` chips."""
    imported = import_model(find_model(model), **sizes)
    prepared = prepare(imported, NODE, Options(objective="latency", groups=(size,)))
    return GroupPlanner(prepared.graph, NODE, prepared.options, silent)


def fastest(model: str, size: int, **sizes: int) -> ShapeCosts:
    return planner(model, size, **sizes).shapes[0]


@pytest.mark.parametrize(("model", "size"), [("gpt2-tiny", 7), ("llama-tiny-gqa", 4)])
def test_every_planned_operator_is_decided_and_costed(model: str, size: int) -> None:
    """The norm of the first layer is recomputed everywhere; that of the second is not."""
    made, shape = planner(model, size), fastest(model, size)
    assert made.cheap
    assert shape.decisions.keys() == set(made.planned)
    assert all(shape.latency[list(made.planned)] > 0)
    assert not any(shape.latency[list(made.cheap)])


def test_what_a_plan_gathers_is_in_its_estimate_and_its_choices() -> None:
    made, shape = planner("gpt2-tiny", 7), fastest("gpt2-tiny", 7)
    (plan,) = made.plans()
    told = collectives(shape, made)
    assert told
    assert sum(shape.latency) > sum(collective.cycles - collective.hidden for collective in told) > 0
    assert plan.latency >= sum(shape.latency)


@pytest.mark.parametrize(
    ("model", "size", "sizes"),
    [("gpt2-tiny", 7, {}), ("llama-tiny-gqa-past", 4, {}), ("bert-large", 4, {"sequence": 64})],
)
def test_a_block_costs_what_its_certificate_says(model: str, size: int, sizes: dict[str, int]) -> None:
    """Values that enter a repeated block in pieces and are gathered there are no exception: in BERT-large the
    sum before each layer is."""
    made, shape = planner(model, size, **sizes), fastest(model, size, **sizes)
    counts = [len(alike) for alike in made._costs.instances.values()]
    proved = sum(c.objective * count for c, count in zip(shape.certificates, counts, strict=True))
    assert sum(shape.latency) == proved


def collectives(shape: ShapeCosts, made: GroupPlanner) -> list[PlannedCollective]:
    """Of all choices, were the whole graph one stage."""
    choices = shape.choices({0: range(len(made.graph.operators))})
    return [collective for choice in choices for collective in choice.collectives]


Mesh = tuple[int, ...]


@st.composite
def sums(draw: st.DrawFn) -> tuple[str, Mesh, Shape, Placements, Placements]:
    """(system, mesh, extents, partial results as made, the result): sums over one axis of a mesh or both,
    the other one whole or cutting a dimension, in pieces or whole."""
    mesh = draw(st.sampled_from([(3,), (4,), (2, 2), (2, 3), (3, 2)]))
    shape = draw(st.sampled_from([1, 2, 6, 7])), draw(st.sampled_from([1, 5, 12, 20_000]))
    partial = Partial(Reducer.SUM)
    made: list[Placement] = [partial for _ in mesh]
    if len(mesh) > 1:
        made[draw(st.integers(0, 1))] = draw(st.sampled_from([partial, REPLICATE, Shard((1, 0))]))
    costs = CollectiveCosts(NODE, representative_group(NODE, prod(mesh)))
    forms = Conversions(costs, mesh).states(tuple((n,) for n in shape), DType.FP16, [tuple(made)])
    used = draw(st.sampled_from([held.used for held in forms if is_complete(held.used)]))
    return draw(st.sampled_from(["groq-node", "generic-ring"])), mesh, shape, tuple(made), used


@given(sums())
@settings(max_examples=80, deadline=None)
def test_the_sum_that_is_told_is_the_one_that_is_built(
    drawn: tuple[str, Mesh, Shape, Placements, Placements],
) -> None:
    """Rings of uneven pieces, and pieces of pieces, cannot be built: they are neither chosen nor told."""
    target, mesh, shape, made, used = drawn
    system, atoms = load_target(target), tuple((extent,) for extent in shape)
    costs = CollectiveCosts(system, representative_group(system, prod(mesh)))
    told, *_ = collectives_of(atoms, Held(made, used, NOTHING), mesh)
    cuts, axes = cuts_of(made), partial_axes(made)
    partials = Partials(
        "sum", "/", (), atoms, mesh, cuts, plain_form(atoms, mesh, cuts).body, axes,
        Reducer.SUM, DType.FP16, DType.FP16,
    )  # fmt: skip
    result = used[axes[0]]
    scatter = result.atom if isinstance(result, Shard) else None
    built = reduce_partials(partials, scatter, (), costs.choose)
    name = told.cost(costs, DType.FP16, mesh)[0]
    assert built.algorithm == name
    kinds = Counter(exchange.kind for exchange in built.exchanges)
    ways = mesh_ways(mesh, axes)
    assert kinds[ExchangeKind.SHIFT] == (ways - 1 if name == "ring" else 0)
    if name == "ring":
        cut = prod(partials.body) if scatter is None else shape[scatter[0]]
        assert cut % ways == 0
    if not partials.plain.is_even:
        assert name == "one-shot"
