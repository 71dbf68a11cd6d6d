"""Device graphs compute what the whole graph computes, whatever is split and however it is reduced."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from chiplan.compiler.atoms import Decision, GraphAtoms, find_atoms, splittable
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.compile import prepare_graph
from chiplan.compiler.device_collectives import CollectiveRequest
from chiplan.compiler.device_forms import cuts_of, partial_axes
from chiplan.compiler.device_graph import DeviceGraph, GroupStage, build_device_graph
from chiplan.compiler.graph_edit import readers_of, writers_of
from chiplan.compiler.importer import import_model
from chiplan.compiler.placements import REPLICATE, Partial, Shard, placements
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.compiler.weights import WeightReader
from chiplan.ir import (
    DType,
    ExchangeKind,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Output,
    Reducer,
    Result,
    Role,
    State,
    Tensor,
    Unit,
)
from chiplan.models import find_model, load_target
from chiplan.runtime_sim.group_interpreter import run_device_graph
from chiplan.runtime_sim.interpreter import interpret

ALGORITHMS = ("one-shot", "two-shot", "ring", "hierarchical")
MESHES = ((1,), (2,), (3,), (4,), (2, 2), (2, 3))
Item = TypeVar("Item")
MODELS = ("bert-tiny", "gpt2-tiny", "llama-tiny-gqa-past", "mixtral-tiny", "t5-tiny-encoder", "vit-tiny")


class Dice:
    """Seeded choices."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def choose(self, items: Sequence[Item]) -> Item:
        return items[int(self._generator.integers(len(items)))]

    def hits(self, share: float) -> bool:
        return float(self._generator.random()) < share

    def some_of(self, items: Sequence[Item], count: int) -> list[Item]:
        return [items[i] for i in sorted(self._generator.choice(len(items), count, replace=False).tolist())]


class Prepared:
    """A shipped model, ready to be planned, and what it computes."""

    def __init__(self, name: str) -> None:
        path: Path = find_model(name)
        self.graph = prepare_graph(build_graph(import_model(path)), "model", load_target("tiny-ring"))
        self.atoms = find_atoms(self.graph)
        self.inputs, self.weights = random_inputs(self.graph, seed=3), WeightReader(path)
        self.outputs = interpret(self.graph, self.inputs, self.weights, {})


@lru_cache
def prepared(name: str) -> Prepared:
    return Prepared(name)


def whole(mesh: tuple[int, ...]) -> Decision:
    return (None,) * len(mesh)


def draw_decisions(graph: Graph, atoms: GraphAtoms, mesh: tuple[int, ...], dice: Dice) -> dict[int, Decision]:
    """Random splits; operators that would contradict each other run whole."""
    decisions: dict[int, Decision] = {}
    share = dice.choose((0.3, 0.8))
    for index, operator in enumerate(graph.operators):
        choices = splittable(operator, atoms.operators[index])
        favourite = dice.choose(choices) if choices else None
        decisions[index] = tuple(
            (favourite if dice.hits(0.4) else dice.choose(choices)) if choices and dice.hits(share) else None
            for _ in mesh
        )
    while clash := clashing(graph, atoms, decisions):
        decisions |= dict.fromkeys(clash, whole(mesh))
    return decisions


def clashing(graph: Graph, atoms: GraphAtoms, decisions: dict[int, Decision]) -> list[int]:
    """Operators that write one tensor in different placements, or need different pieces of a state."""
    readers = readers_of(graph.operators)
    for name, writers in writers_of(graph.operators).items():
        is_state = graph.tensors[name].role is Role.STATE
        touched = sorted({*writers, *(readers.get(name, ()) if is_state else ())})
        placed = {i: placements(graph, atoms, i, decisions[i]) for i in touched}
        gives = [
            placement
            for i in writers
            for placement, result in zip(placed[i][1], graph.operators[i].results, strict=True)
            if result.tensor == name
        ]
        needs = {
            cuts_of(placement)
            for i in touched
            for placement, operand in zip(placed[i][0], graph.operators[i].operands, strict=True)
            if operand.tensor == name
        }
        given = {cuts_of(placement) for placement in gives}
        if len(set(gives)) > 1 or (
            is_state and (len(needs | given) > 1 or any(partial_axes(give) for give in gives))
        ):
            return touched
    return []


def draw_stages(graph: Graph, count: int, dice: Dice) -> list[tuple[int, ...]]:
    """Ranges of operators that keep the writers of a tensor, and the users of a state, together."""
    readers, held = readers_of(graph.operators), set()
    for name, writers in writers_of(graph.operators).items():
        touched = [*writers, *(readers.get(name, ()) if graph.tensors[name].role is Role.STATE else ())]
        held |= set(range(min(touched) + 1, max(touched) + 1))
    free = [index for index in range(1, len(graph.operators)) if index not in held]
    ends = [0, *dice.some_of(free, count - 1), len(graph.operators)]
    return [tuple(range(low, high)) for low, high in pairwise(ends)]


def check_law(model: Prepared, stages: list[GroupStage], device: DeviceGraph) -> None:
    groups = [(operators, stage.mesh) for operators, stage in zip(device.stages, stages, strict=True)]
    found = run_device_graph(device.graph, groups, model.inputs, model.weights)
    for name, wanted in model.outputs.items():
        np.testing.assert_allclose(found[name], wanted, atol=2e-5 * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", MODELS)
def test_groups_compute_what_one_chip_computes(name: str, seed: int) -> None:
    model, dice = prepared(name), Dice(seed)
    stages = []
    for operators in draw_stages(model.graph, 1 + seed % 2, dice):
        mesh = dice.choose(MESHES[1:])
        decisions = draw_decisions(model.graph, model.atoms, mesh, dice)
        stages.append(GroupStage(operators, mesh, {index: decisions[index] for index in operators}))
    device = build_device_graph(
        model.graph, model.atoms, stages, lambda _: dice.choose(ALGORITHMS), wire=None
    )
    assert [i for i in device.source if i is not None] == list(range(len(model.graph.operators)))
    check_law(model, stages, device)


@pytest.mark.parametrize("name", MODELS)
def test_one_chip_executes_the_whole_graph(name: str) -> None:
    model = prepared(name)
    everything = tuple(range(len(model.graph.operators)))
    stage = GroupStage(everything, (1,), dict.fromkeys(everything, (None,)))
    device = build_device_graph(model.graph, model.atoms, [stage], lambda _: "ring", None)
    assert device == DeviceGraph(model.graph, (everything,), everything)
    assert list(device.graph.tensors) == list(model.graph.tensors)


def product(name: str, left: str, right: str, made: str, extents: tuple[int, int, int]) -> Operator:
    m, n, k = extents
    return Operator(
        name,
        Unit.MATRIX,
        (Factor("m", m), Factor("n", n), Factor("k", k, Reducer.SUM)),
        (Operand(left, (), (0, 2)), Operand(right, (), (2, 1))),
        (Result(made, (0, 1), (0, 0), 0),),
        (Instruction("MatMul", (0, 1), DType.FP32),),
    )


def relu(source: str, made: str, rows: int, columns: int) -> Operator:
    return Operator(
        made,
        Unit.VECTOR,
        (Factor("r", rows), Factor("c", columns)),
        (Operand(source, (), (0, 1)),),
        (Result(made, (0, 1), (0, 0), 0),),
        (Instruction("Relu", (0,), DType.FP32),),
    )


def two_products(rows: int, columns: int, inner: int = 10) -> Graph:
    """y = relu(relu(x @ a) @ b), x [rows, 6], a [6, inner], b [inner, columns]."""
    shapes = {
        "x": (rows, 6), "a": (6, inner), "h": (rows, inner), "r": (rows, inner), "b": (inner, columns),
        "p": (rows, columns), "y": (rows, columns),
    }  # fmt: skip
    roles = {"x": Role.INPUT, "a": Role.WEIGHT, "b": Role.WEIGHT}
    tensors = {n: Tensor(n, shape, DType.FP32, roles.get(n, Role.VALUE)) for n, shape in shapes.items()}
    operators = (
        product("first", "x", "a", "h", (rows, inner, 6)),
        relu("h", "r", rows, inner),
        product("second", "r", "b", "p", (rows, columns, inner)),
        relu("p", "y", rows, columns),
    )
    return Graph("two", tensors, operators, ("x",), (Output("y", "y", ()),))


def values(tensor: Tensor) -> np.ndarray:
    name = tensor.name.split("@")[0]
    return np.random.default_rng(len(name) + tensor.elements).normal(size=tensor.shape).astype("f4")


def check_two(graph: Graph, device: DeviceGraph, stages: list[GroupStage], scale: float = 1e-5) -> None:
    given = {"x": values(graph.tensors["x"])}
    groups = [(operators, stage.mesh) for operators, stage in zip(device.stages, stages, strict=True)]
    wanted = interpret(graph, given, values, {})["y"]
    found = run_device_graph(device.graph, groups, given, values)["y"]
    np.testing.assert_allclose(found, wanted, atol=scale * np.abs(wanted).max())


def build_two(
    graph: Graph, mesh: tuple[int, ...], decisions: list[Decision], algorithm: str, wire: DType | None = None
) -> tuple[DeviceGraph, list[CollectiveRequest]]:
    """One stage; the device graph computes what the graph computes."""
    asked: list[CollectiveRequest] = []

    def choose(request: CollectiveRequest) -> str:
        asked.append(request)
        return algorithm

    stage = GroupStage(tuple(range(len(decisions))), mesh, dict(enumerate(decisions)))
    device = build_device_graph(graph, find_atoms(graph), [stage], choose, wire)
    check_two(graph, device, [stage], 1e-5 if wire is None else 5e-3)
    return device, asked


def column_then_row(mesh: tuple[int, ...]) -> list[Decision]:
    ways = len(mesh)
    return [((1, 0),) * ways, ((1, 0),) * ways, ((2, 0),) * ways, (None,) * ways]


@pytest.mark.parametrize("mesh", [(2,), (3,), (4,), (2, 2), (2, 3)])
@pytest.mark.parametrize("rows", [1, 5, 12])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_partial_sums_are_reduced(algorithm: str, rows: int, mesh: tuple[int, ...]) -> None:
    device, asked = build_two(two_products(rows, 8), mesh, column_then_row(mesh), algorithm)
    axes = tuple(range(len(mesh)))
    uneven = frozenset({"ring"} if rows * 8 % prod(mesh) else ())
    assert asked[0] == CollectiveRequest("all_reduce", axes, mesh, rows * 8, DType.FP32, uneven)
    weights = [device.graph.tensors[name] for name in "ab"]
    assert all(weight.sharding is not None for weight in weights)
    assert not [e for e in device.graph.exchanges if e.source in ("h", "r")]


def kinds(device: DeviceGraph) -> list[ExchangeKind]:
    return [exchange.kind for exchange in device.graph.exchanges]


def test_algorithms_move_data_their_own_way() -> None:
    graph, gather = two_products(12, 8), ExchangeKind.GATHER
    found = {
        algorithm: kinds(build_two(graph, (2, 2), column_then_row((2, 2)), algorithm)[0])
        for algorithm in ALGORITHMS
    }
    assert found["one-shot"] == [gather]
    assert found["two-shot"] == [ExchangeKind.SCATTER, gather]
    assert found["ring"] == [*[ExchangeKind.SHIFT] * 3, gather]
    assert found["hierarchical"] == [ExchangeKind.SCATTER, ExchangeKind.SCATTER, gather]


def test_sums_stay_scattered_for_readers_of_rows() -> None:
    decisions = [*column_then_row((3,))[:3], ((0, 0),)]
    for algorithm in ("two-shot", "ring"):
        device, asked = build_two(two_products(6, 8), (3,), decisions, algorithm)
        assert asked[0].kind == "reduce_scatter"
        assert ExchangeKind.GATHER not in kinds(device)
        assert device.graph.tensors["y"].shape == (2, 8)
        assert device.graph.tensors["y"].whole_shape == (6, 8)


def test_scattered_rows_may_be_uneven() -> None:
    decisions = [*column_then_row((4,))[:3], ((0, 0),)]
    device, _ = build_two(two_products(6, 8), (4,), decisions, "ring")
    assert ExchangeKind.SCATTER in kinds(device)
    assert device.graph.operators[-1].splits[0].extent == 6


def test_partial_sums_travel_in_the_wire_type() -> None:
    for algorithm in ALGORITHMS:
        graph = two_products(12, 8)
        device, asked = build_two(graph, (2,), column_then_row((2,)), algorithm, DType.FP16)
        assert asked[0].dtype is DType.FP16
        sent = {device.graph.tensors[e.source].dtype for e in device.graph.exchanges if e.source != "p"}
        assert sent == {DType.FP16}
        assert device.graph.tensors["p"].dtype is DType.FP32
        second = device.graph.operators[device.source.index(2)]
        assert second.body[0].dtype is DType.FP16


@pytest.mark.parametrize(("inner", "gathers"), [(8, 0), (10, 1)])
def test_a_piece_of_ones_own_piece_is_there(inner: int, gathers: int) -> None:
    """h is cut over one mesh axis, the product of it over both; where pieces are uneven, they straddle."""
    first: list[Decision] = [((1, 0), None), ((1, 0), None)]
    decisions: list[Decision] = [*first, ((2, 0), (2, 0)), (None, None)]
    device, _ = build_two(two_products(6, 8, inner), (2, 2), decisions, "one-shot")
    assert len([e for e in device.graph.exchanges if e.source == "r"]) == gathers


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of one-shot"):
        build_two(two_products(12, 8), (2,), column_then_row((2,)), "telepathy")


def test_an_uneven_split_within_a_factor_makes_it_a_factor_of_its_own() -> None:
    """4 heads over 3 chips, in each third of a fused projection."""
    model = prepared("gpt2-tiny")
    index = next(i for i, found in enumerate(model.atoms.operators) if (3, 4, 16) in found.factors)
    factor = model.atoms.operators[index].factors.index((3, 4, 16))
    everything = tuple(range(len(model.graph.operators)))
    stage = GroupStage(everything, (3,), {i: ((factor, 1) if i == index else None,) for i in everything})
    device = build_device_graph(model.graph, model.atoms, [stage], lambda _: "ring", None)
    local = device.graph.operators[index]
    names = [f.name for f in local.factors]
    assert [f.extent for f in local.factors][names.index("n/0") :][:2] == [3, 2 * 16]
    assert local.splits[0].extent == 4 * 16
    check_law(model, [stage], device)


def appended(rows: int, count: int) -> Graph:
    """A state of `rows` rows of 4, the last `count` of which x gives; y is the sum of all."""
    append = Operator(
        "append",
        Unit.MEMORY,
        (Factor("new", count), Factor("d", 4)),
        (Operand("x", (), (0, 1)),),
        (Result("cache", (0, 1), (rows - count, 0), 0),),
        (Instruction("Copy", (0,), DType.FP32),),
    )
    total = Operator(
        "total",
        Unit.VECTOR,
        (Factor("row", rows, Reducer.SUM), Factor("d", 4)),
        (Operand("cache", (), (0, 1)),),
        (Result("y", (None, 1), (0, 0), 0),),
        (Instruction("ReduceSum", (0,), DType.FP32, (("factors", (0,)),)),),
    )
    tensors = {
        "x": Tensor("x", (count, 4), DType.FP32, Role.INPUT),
        "cache": Tensor("cache", (rows, 4), DType.FP32, Role.STATE, resident_rows=(0, rows - count)),
        "y": Tensor("y", (1, 4), DType.FP32, Role.VALUE),
    }
    states = (State("past", "present", "cache", 0),)
    return Graph("append", tensors, (append, total), ("x",), (Output("y", "y", ()),), states)


def test_the_owner_of_a_row_appends_it() -> None:
    graph, stage = appended(10, 1), GroupStage((0, 1), (4,), {0: (None,), 1: ((0, 0),)})
    device = build_device_graph(graph, find_atoms(graph), [stage], lambda _: "one-shot", None)
    result = device.graph.operators[0].results[0]
    assert (result.offsets, result.only) == ((0, 0), ((0, 3),))
    assert device.graph.tensors["cache"].shape == (3, 4)
    assert device.graph.tensors["cache"].resident_rows == (0, 0)
    given = {"x": np.ones((1, 4), "f4"), "past": np.arange(36, dtype="f4").reshape(9, 4)}
    found = run_device_graph(device.graph, [(device.stages[0], (4,))], given, values)
    np.testing.assert_array_equal(found["present"], np.concatenate([given["past"], given["x"]]))
    np.testing.assert_allclose(found["y"], found["present"].sum(axis=0, keepdims=True))


def test_a_state_may_be_cut_unevenly_within_a_dimension() -> None:
    """Halves of 8 over 3 chips: all that touch the keys of the first layer."""
    model, name = prepared("llama-tiny-gqa-past"), "past_key_values.0.key"
    decisions: dict[int, Decision] = {}
    for index, operator in enumerate(model.graph.operators):
        found = model.atoms.operators[index]
        seen = [
            *zip(operator.operands, found.operands, strict=True),
            *zip(operator.results, found.results, strict=True),
        ]
        decisions[index] = (next((e.along[3, 1] for a, e in seen if a.tensor == name), None),)
    stage = GroupStage(tuple(decisions), (3,), decisions)
    device = build_device_graph(model.graph, model.atoms, [stage], lambda _: "ring", None)
    state = device.graph.tensors[name]
    assert (state.shape, state.resident_rows) == ((1, 2, 2048, 2, 3), (2, 2047))
    check_law(model, [stage], device)


def test_rows_appended_to_several_pieces_are_refused() -> None:
    graph, stage = appended(10, 3), GroupStage((0, 1), (4,), {0: (None,), 1: ((0, 0),)})
    with pytest.raises(ValueError, match="several pieces"):
        build_device_graph(graph, find_atoms(graph), [stage], lambda _: "one-shot", None)


def test_users_of_a_state_must_agree() -> None:
    graph, stage = appended(10, 1), GroupStage((0, 1), (2,), {0: ((1, 0),), 1: ((0, 0),)})
    with pytest.raises(ValueError, match="different pieces"):
        build_device_graph(graph, find_atoms(graph), [stage], lambda _: "one-shot", None)


def test_a_stage_reads_pieces_of_another_group() -> None:
    """h crosses as the pieces of 3 chips; nobody in the first stage needs more than its own."""
    graph = two_products(6, 8)
    stages = [
        GroupStage((0, 1), (3,), {0: ((1, 0),), 1: ((1, 0),)}),
        GroupStage((2, 3), (2,), {2: ((2, 0),), 3: (None,)}),
    ]
    device = build_device_graph(graph, find_atoms(graph), stages, lambda _: "one-shot", None)
    assert device.graph.tensors["r"].shape == (3, 6, 4)
    assert device.graph.operators[1].results[0].own == (0,)
    assert {exchange.source for exchange in device.graph.exchanges} == {"p@partial"}
    check_two(graph, device, stages)


def test_recomputed_operators_are_copied() -> None:
    graph = two_products(6, 8)
    stages = [
        GroupStage((0, 1), (3,), {0: ((1, 0),), 1: ((1, 0),)}),
        GroupStage((1, 2, 3), (2,), {1: ((1, 0),), 2: ((2, 0),), 3: (None,)}),
    ]
    device = build_device_graph(graph, find_atoms(graph), stages, lambda _: "two-shot", None)
    assert device.source[:4] == (0, 1, 1, 2)
    assert [operator.name for operator in device.graph.operators[1:3]] == ["r", "r@1"]
    assert [operator.results[0].tensor for operator in device.graph.operators[1:3]] == ["r", "r@1"]
    assert device.graph.operators[3].operands[0].tensor == "r@1"
    check_two(graph, device, stages)


def test_stages_have_their_own_pieces_of_a_weight() -> None:
    graph = two_products(6, 10)
    again = replace(graph.operators[2], operands=(graph.operators[2].operands[0], Operand("b", (), (2, 1))))
    again = replace(again, operands=(Operand("y", (), (0, 2)), again.operands[1]))
    again = replace(again, name="again", results=(Result("z", (0, 1), (0, 0), 0),))
    tensors = {**graph.tensors, "z": replace(graph.tensors["y"], name="z")}
    graph = replace(
        graph, tensors=tensors, operators=(*graph.operators, again), outputs=(Output("y", "z", ()),)
    )
    first = GroupStage((0, 1, 2, 3), (2,), dict(enumerate(column_then_row((2,)))))
    stages = [first, GroupStage((4,), (5,), {4: ((1, 0),)})]
    device = build_device_graph(graph, find_atoms(graph), stages, lambda _: "two-shot", None)
    assert device.graph.tensors["b"].shape == (5, 10)
    assert device.graph.tensors["b@1"].shape == (10, 2)
    check_two(graph, device, stages)


def test_placements_follow_from_what_runs_along_a_tensor() -> None:
    graph = two_products(6, 8)
    needs, gives = placements(graph, find_atoms(graph), 2, ((2, 0), (0, 0)))
    assert needs == ((Shard((1, 0)), Shard((0, 0))), (Shard((0, 0)), REPLICATE))
    assert gives == ((Partial(Reducer.SUM), Shard((0, 0))),)
