"""Costs of groups: what blocks stand for one another, and that the tables add up to the certificates."""

from functools import cache
from math import prod

import pytest

from chiplan.compiler.collective_costs import CollectiveCosts, representative_group
from chiplan.compiler.compile import prepare
from chiplan.compiler.device_collectives import CollectiveRequest
from chiplan.compiler.device_graph import GroupStage, build_device_graph
from chiplan.compiler.group_costs import ShapeCosts
from chiplan.compiler.group_planner import GroupPlanner
from chiplan.compiler.importer import import_model
from chiplan.compiler.options import Options, silent
from chiplan.ir import PlannedCollective
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


@pytest.mark.parametrize("model", ["gpt2-tiny", "llama-tiny-gqa-past", "mixtral-tiny"])
@pytest.mark.parametrize("mesh", [(3,), (7,), (8,), (2, 3)])
def test_the_sums_that_are_told_are_those_that_are_built(model: str, mesh: tuple[int, ...]) -> None:
    """Rings of uneven pieces and pieces of pieces cannot be built, so they are neither chosen nor told."""
    made = planner(model, prod(mesh))
    (shape, *_) = made._costs.shapes(mesh)
    costs = CollectiveCosts(NODE, representative_group(NODE, prod(mesh)), made.wire)
    asked: list[tuple[str, int, str]] = []

    def choose(request: CollectiveRequest) -> str:
        found = costs.choose(request)
        assert request.buildable(found) == found
        asked.append((request.kind, request.elements * request.dtype.itemsize, found))
        return found

    none = (None,) * len(mesh)
    everything = tuple(range(len(made.graph.operators)))
    decisions = {index: shape.decisions.get(index, none) for index in everything}
    build_device_graph(made.graph, made.atoms, [GroupStage(everything, mesh, decisions)], choose, made.wire)
    told = {(c.kind, c.nbytes, c.algorithm) for c in collectives(shape, made) if c.kind != "all_gather"}
    assert told <= set(asked)
