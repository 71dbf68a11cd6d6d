"""A gather of a weight that a product loads becomes an indexed load, and computes what it computed."""

from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from chiplan.compiler import Compiled, check_numerics, compile_model
from chiplan.compiler.axis_atoms import seen_axes
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.importer import import_model
from chiplan.compiler.indexed_loads import index_weight_loads
from chiplan.compiler.reference import run_exported
from chiplan.compiler.reference_export import export_graph
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.compiler.scheduling import Scheduler, one_chip
from chiplan.compiler.sram_room import SramRoom
from chiplan.compiler.tile_choice import choose_tiling, tile_graph
from chiplan.compiler.weights import WeightReader
from chiplan.ir import (
    BadInput,
    Graph,
    Instruction,
    Operator,
    Reshape,
    Slice,
    Transpose,
    Unit,
    apply_view,
    load_index,
    matrix_factors,
    plan_bytes,
    read_plan,
    simplify_view,
    tile_timing,
)
from chiplan.models import find_model, load_target
from chiplan.runtime_sim import interpret, simulate

TINY = load_target("tiny-ring")

EXPERTS = """
    <ir_version: 8, opset_import: ["" : 18]>
    experts (float[7, 24] x, float[7, 5] scores) => (float[7, 1, 60] up, float[14, 11] down)
    <int64[1] two = {2}, int64[1] flat = {14},
     int64[4] shape = {7, 2, 30, 24}, int64[3] merged = {7, 24, 60}, int64[2] pairs = {14, 11},
     int64[1] one = {1}, int64[1] last = {2}>
    {
        chosen, index = TopK (scores, two)
        flat_index = Reshape (index, flat)
        rows = Gather <axis = 0> (table, flat_index)
        split = Reshape (rows, shape)
        turned = Transpose <perm = [0, 3, 1, 2]> (split)
        loaded = Reshape (turned, merged)
        x3 = Unsqueeze (x, one)
        product = MatMul (x3, loaded)
        up = Relu (product)
        twice = Concat <axis = 0> (x, x)
        blocks = Gather <axis = 0> (other, flat_index)
        column = Unsqueeze (twice, last)
        sums = MatMul (blocks, column)
        down = Reshape (sums, pairs)
    }
"""
"""Two experts a token. `up` merges the two with the columns of each; `down` loads one block a pair."""


def save(text: str, path: Path, **weights: tuple[int, ...]) -> Path:
    """A model with random weights of the shapes given."""
    model, generator = parser.parse_model(text), np.random.default_rng(7)
    for name, shape in weights.items():
        values = generator.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts")
    return save(EXPERTS, folder / "experts.onnx", table=(5, 30, 24), other=(5, 11, 24))


def graph_of(path: Path) -> Graph:
    return build_graph(import_model(path))


def indexed(graph: Graph) -> list[Operator]:
    return [operator for operator in graph.operators if load_index(operator) is not None]


def gathers(graph: Graph) -> int:
    return sum(operator.unit is Unit.MEMORY for operator in graph.operators)


def agree(before: Graph, after: Graph, path: Path) -> None:
    given, weights = random_inputs(before, seed=3), WeightReader(path)
    wanted, found = (interpret(graph, given, weights, {}) for graph in (before, after))
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, atol=1e-5 * np.abs(value).max())


@st.composite
def seen_tensors(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Any]]:
    """A shape and a chain of reshapes and transposes of it."""
    atoms = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))

    def grouped(extents: list[int]) -> tuple[int, ...]:
        cuts = sorted(draw(st.sets(st.integers(0, len(extents)), max_size=3)))
        return tuple(
            prod(extents[low:high]) for low, high in zip([0, *cuts], [*cuts, len(extents)], strict=True)
        )

    shape, steps, axes = grouped(atoms), [], atoms
    for _ in range(draw(st.integers(0, 3))):
        order = draw(st.permutations(range(len(axes))))
        steps += [Reshape(tuple(axes)), Transpose(tuple(order))]
        axes = [axes[axis] for axis in order]
        steps.append(Reshape(grouped(axes)))
    return shape, steps


@given(seen_tensors())
@settings(max_examples=60, deadline=None)
def test_atoms_rebuild_the_view(case: tuple[tuple[int, ...], list[Any]]) -> None:
    shape, steps = case
    array = np.arange(prod(shape)).reshape(shape)
    wanted = apply_view(tuple(steps), array)
    found = seen_axes(simplify_view(tuple(steps), shape), shape)
    assert found is not None
    stored = [atom for axis in found.stored for atom in axis]
    seen = [atom for axis in found.seen for atom in axis]
    apart = array.reshape([found.extents[atom] for atom in stored])
    turned = apart.transpose([stored.index(atom) for atom in seen])
    np.testing.assert_array_equal(turned.reshape(wanted.shape), wanted)


def test_the_atoms_of_the_documented_view() -> None:
    view = (Reshape((128, 2, 352, 64)), Transpose((0, 3, 1, 2)), Reshape((128, 64, 704)))
    found = seen_axes(view, (256, 352, 64))
    assert found is not None
    assert [[found.extents[a] for a in axis] for axis in found.stored] == [[128, 2], [352], [64]]
    assert [[found.extents[a] for a in axis] for axis in found.seen] == [[128], [64], [2, 352]]
    assert seen_axes((Slice((0,), (2,), (1,)),), (4,)) is None
    assert seen_axes((Reshape((4, 6)), Reshape((3, 8))), (24,)) is None


def test_products_load_from_the_tables(experts: Path) -> None:
    before = graph_of(experts)
    after = index_weight_loads(before)
    up, down = indexed(after)
    assert gathers(before) - gathers(after) == 2
    assert [[f.extent for f in operator.factors] for operator in (up, down)] == [
        [7, 2, 30, 24, 5],
        [14, 11, 24, 5],
    ]
    assert matrix_factors(up) == ((0, 1), (), (2,), (3,))
    assert matrix_factors(down) == ((0,), (), (1,), (2,))
    assert [i.opcode for i in up.body] == ["Gather", "MatMul"]
    assert {operand.tensor for operand in (up.operands[1], down.operands[1])} == {"table", "other"}
    assert not {"rows", "blocks"} & set(after.tensors)
    assert after.tensors[up.results[0].tensor].elements == 7 * 60
    agree(before, after, experts)


def test_mixtral_keeps_no_copy_of_its_experts() -> None:
    path = find_model("mixtral-tiny")
    before = graph_of(path)
    after = index_weight_loads(before)
    assert len(indexed(after)) == 4
    assert max(t.nbytes for t in before.tensors.values()) > 16 * max(t.nbytes for t in after.tensors.values())


LEFT_ALONE = {
    "the gathered rows are an output": (
        "float[4, 6, 5] y, float[4, 8, 5] rows",
        "rows = Gather (table, i)  y = MatMul (x, rows)",
    ),
    "something else reads the rows": (
        "float[4, 6, 5] y, float[4, 8, 5] z",
        "rows = Gather (table, i)  y = MatMul (x, rows)  z = Relu (rows)",
    ),
    "a part of the rows is read": (
        "float[3, 6, 5] y",
        "rows = Gather (table, i)  part = Slice (rows, one, four, zero)  y = MatMul (x3, part)",
    ),
    "the index is summed over": (
        "float[6, 5] y",
        "rows = Gather (table, i)  flat = Reshape (rows, summed)  y = MatMul (wide, flat)",
    ),
    "every index is one column": (
        "float[6, 4] y",
        "rows = Gather (vectors, i)  turned = Transpose <perm = [1, 0]> (rows)  y = MatMul (row, turned)",
    ),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_does_not_load_whole_blocks_is_left_alone(case: str, tmp_path: Path) -> None:
    outputs, body = LEFT_ALONE[case]
    text = f"""
        <ir_version: 8, opset_import: ["" : 18]>
        kept (float[4, 6, 8] x, float[3, 6, 8] x3, float[6, 32] wide, float[6, 8] row, int64[4] scores)
            => ({outputs})
        <int64[1] one = {{1}}, int64[1] four = {{4}},
         int64[1] zero = {{0}}, int64[2] summed = {{32, 5}}, int64[1] three = {{3}}>
        {{ i = Mod (scores, three)  {body} }}
    """
    before = graph_of(save(text, tmp_path / "kept.onnx", table=(3, 8, 5), vectors=(3, 8)))
    after = index_weight_loads(before)
    assert not indexed(after)
    assert after.operators == before.operators


def test_negative_indices_and_an_index_without_axes(tmp_path: Path) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 18]>
        single (float[6, 8] x, int64[1] given) => (float[1, 6, 5] y)
        <int64[1] minus = {-2}, int64[1] one = {1}>
        {
            small = Mod (given, one)
            i = Add (small, minus)
            rows = Gather <axis = 1> (table, i)
            turned = Transpose <perm = [1, 0, 2]> (rows)
            y = MatMul (x, turned)
        }
    """
    path = save(text, tmp_path / "single.onnx", table=(8, 3, 5))
    before = graph_of(path)
    after = index_weight_loads(before)
    assert [matrix_factors(operator).batch for operator in indexed(after)] == [()]
    agree(before, after, path)


def test_the_export_selects_the_same_blocks(experts: Path) -> None:
    graph = index_weight_loads(graph_of(experts))
    weights, given = WeightReader(experts), random_inputs(graph, seed=5)
    wanted = interpret(graph, given, weights, {})
    found = run_exported(export_graph(graph, weights), given)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_a_load_is_one_block_whatever_the_table(experts: Path) -> None:
    """up: 7 x 2 indices, blocks of 12 x 20 and 12 x 10 fp32: 960 and 480 bytes at 48 a cycle."""
    graph = index_weight_loads(graph_of(experts))
    up = indexed(graph)[0]
    tiling = choose_tiling(up, graph.tensors, TINY.chip)
    assert tiling.blocks == (1, 1, 20, 12, 5)
    assert tiling.tiles(up) == 7 * 2 * 2 * 2
    timing = tile_timing(up, tiling, graph.tensors, TINY.chip)
    assert timing.load.tolist() == [20, 20, 10, 10] * 14
    # 12 elements in and 20 or 10 out are 128 or 88 bytes a row, and 9 streams carry 72 a cycle.
    assert timing.occupancy.tolist() == [2] * 56


@cache
def compiled(path: Path, target: str, chips: int, precision: str) -> Compiled:
    return compile_model(path, target=load_target(target), chips=chips, precision=precision)


@pytest.mark.parametrize("chips", [1, 2, 4])
@pytest.mark.parametrize(
    ("target", "precision"),
    [("tiny-ring", "model"), ("groq-node", "fp16"), ("groq-node", "int8"), ("groq-node", "w8a16")],
)
def test_numerics_agree(experts: Path, target: str, precision: str, chips: int) -> None:
    found = compiled(experts, target, chips, precision)
    assert len(indexed(found.plan.graph)) == 2
    report = check_numerics(found.plan, experts)
    assert report.ok, report.first_divergence


def test_the_index_must_be_there_before_the_load(experts: Path) -> None:
    """The index is ready when the first load begins; a cycle later is a cycle too late."""
    plan = compiled(experts, "tiny-ring", 1, "model").plan
    operators, (stage,) = plan.graph.operators, plan.stages
    program, tiles = stage.program, stage.program.tiles
    up = next(i for i, operator in enumerate(operators) if load_index(operator) is not None)
    index = operators[up].operands[2].tensor
    maker = next(i for i, o in enumerate(operators) if index in {r.tensor for r in o.results})
    loading, making = (tiles.operator == program.operators.index(number) for number in (up, maker))
    tiling = program.tilings[program.operators.index(up)]
    loads = tile_timing(operators[up], tiling, plan.graph.tensors, TINY.chip).load
    begin = int((tiles.start[loading] - loads).min())
    assert operators[maker].unit is Unit.VECTOR
    assert int(tiles.end[making].max()) + TINY.chip.vector.depth == begin
    later = replace(tiles, start=tiles.start + making, end=tiles.end + making)
    broken = replace(plan, stages=(replace(stage, program=replace(program, tiles=later)),))
    faults = [f for f in simulate(broken).faults if f.tensor == index]
    assert {(f.name, f.operator, f.expected, f.found) for f in faults} == {
        ("read_before_ready", operators[up].name, begin + 1, begin)
    }


def test_a_plan_whose_load_has_no_index_is_refused(experts: Path, tmp_path: Path) -> None:
    plan = compiled(experts, "tiny-ring", 1, "model").plan
    up = next(i for i, operator in enumerate(plan.graph.operators) if load_index(operator) is not None)
    good = plan.graph.operators[up]
    no_index = replace(good, body=(Instruction("Gather", (1, 1), good.body[0].dtype), good.body[1]))
    no_table = replace(good, factors=tuple(replace(f, gathered=False) for f in good.factors))
    for number, bad in enumerate((no_index, no_table)):
        operators = tuple(bad if i == up else o for i, o in enumerate(plan.graph.operators))
        file = tmp_path / f"{number}.chiplan"
        file.write_bytes(plan_bytes(replace(plan, graph=replace(plan.graph, operators=operators))))
        with pytest.raises(BadInput, match=r"\(products\)"):
            read_plan(file)


def test_mixtral_fits_one_tiny_chip_because_operators_wait_for_room() -> None:
    path = find_model("mixtral-tiny")
    found = compiled(path, "tiny-ring", 1, "model")
    assert found.report.ok
    graph = found.plan.graph
    everything = tuple(range(len(graph.operators)))
    tiled = tile_graph(graph, TINY.chip)
    usable = TINY.chip.usable_bytes
    peaks = []
    for room in (None, SramRoom(graph, {0: everything}, TINY.chip, 1)):
        scheduler = Scheduler(graph, TINY, [one_chip(0, everything)], tiled, 1 << 40, room=room)
        spans = scheduler.run().lifetimes
        weights = sum(t.nbytes for t in graph.tensors.values() if t.role.value == "weight")
        alive = [
            sum(graph.tensors[n].nbytes for (_, n), s in spans.items() if s.birth <= span.birth < s.death)
            for span in spans.values()
        ]
        peaks.append(weights + max(alive))
    assert peaks[1] <= usable < peaks[0]
