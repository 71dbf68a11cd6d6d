"""What a sharding spec says of each chip, and which factor runs along an axis."""

from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from chiplan.compiler.axis_factors import node_axes
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.file_nodes import file_nodes
from chiplan.compiler.importer import import_model, value_types
from chiplan.compiler.onnx_annotate import AxisCut, sharding_spec
from chiplan.ir import ChipId, Stage, TileColumns, TileProgram, mesh_places


def _stage(mesh: tuple[int, ...]) -> Stage:
    """Chips 10, 11, ... that execute nothing."""
    none = TileColumns(*[np.zeros(0, dtype=np.int64)] * 6)
    chips = tuple(ChipId(10 + rank) for rank in range(prod(mesh)))
    return Stage(chips, mesh, TileProgram((), (), none))


@st.composite
def cuts_of_a_mesh(draw: st.DrawFn) -> tuple[tuple[int, ...], list[AxisCut]]:
    """A mesh, and tensor axes cut over distinct ones of its axes."""
    mesh = draw(st.sampled_from([(1,), (4,), (2, 3), (4, 2)]))
    over = draw(st.sampled_from([(), *[((a,),) for a in range(len(mesh))], (tuple(range(len(mesh))),)]))
    if len(mesh) == 2 and draw(st.booleans()):
        over = draw(st.sampled_from([((0,), (1,)), ((1,), (0,))]))
    return mesh, [
        AxisCut(axis, ((3, 1), (24, prod(mesh[a] for a in axes))), axes) for axis, axes in enumerate(over)
    ]


@given(cuts_of_a_mesh())
def test_a_spec_gives_every_chip_its_own_piece(drawn: tuple[tuple[int, ...], list[AxisCut]]) -> None:
    mesh, cuts = drawn
    stage = _stage(mesh)
    spec = sharding_spec("t", cuts, stage)
    groups = {entry.key: list(entry.value) for entry in spec.index_to_device_group_map}
    ways = [prod(part.num_shards for part in d.simple_sharding) for d in spec.sharded_dim]
    found = {
        chip: piece
        for place, piece in zip(spec.device, product(*map(range, ways)), strict=True)
        for chip in groups.get(place, [place])
    }
    assert found == {
        int(chip): tuple(place.piece(cut.axes) for cut in cuts)
        for chip, place in zip(stage.chips, mesh_places(mesh), strict=True)
    }
    assert [prod(p.dim_value for p in d.simple_sharding) for d in spec.sharded_dim] == [72] * len(cuts)


def test_factors_along_the_axes_of_a_transposed_weight(tmp_path: Path) -> None:
    """Gemm with transB: the weight's first axis is the result's second."""
    weight = numpy_helper.from_array(np.ones((6, 4), np.float32), "w")
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["y"], "product", transB=1),
        helper.make_node("Relu", ["y"], ["z"], "bend"),
        helper.make_node("Transpose", ["z"], ["t"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["t", "x"], ["o"], "second"),
    ]
    made = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", (5, 4)), ("o", (6, 4)))]
    graph = helper.make_graph(nodes, "g", made[:1], made[1:], [weight])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    whole, file = build_graph(import_model(path)), file_nodes(graph)
    axes = node_axes(whole, file, value_types(path, {}))

    def named(node: int, value: str) -> list[str]:
        found = axes[node]
        factors = whole.operators[found.operator].factors
        return [factors[f].name if f is not None else "" for f in found.values[value]]

    assert (named(0, "y"), named(0, "x"), named(0, "w")) == (["m", "n"], ["m", "k"], ["n", "k"])
    assert named(1, "z") == named(1, "y")
    assert 2 not in axes
    assert (named(3, "o"), named(3, "t"), named(3, "x")) == (["m", "n"], ["m", "k"], ["k", "n"])
