"""Graph passes keep what the graph computes, and remove the work that they say they remove."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from chiplan.compiler.canonical import build_graph
from chiplan.compiler.compile import prepare_graph
from chiplan.compiler.importer import import_model
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.compiler.weights import WeightReader
from chiplan.ir import Graph
from chiplan.models import find_model, load_target
from chiplan.runtime_sim.interpreter import interpret

TINY = load_target("tiny-ring")
MODELS = ("bert-tiny", "gpt2-tiny", "llama-tiny-gqa-past", "mixtral-tiny", "t5-tiny-encoder", "vit-tiny")


def run(graph: Graph, path: Path) -> dict[str, np.ndarray]:
    return interpret(graph, random_inputs(graph, seed=3), WeightReader(path), {})


@pytest.mark.parametrize("name", MODELS)
def test_the_planned_operators_compute_what_the_graph_computes(name: str) -> None:
    path = find_model(name)
    graph = build_graph(import_model(path))
    planned = prepare_graph(graph, "model", TINY)
    before, after = run(graph, path), run(planned, path)
    assert len(planned.operators) < len(graph.operators)
    for output in graph.outputs:
        scale = np.abs(before[output.name]).max()
        np.testing.assert_allclose(after[output.name], before[output.name], atol=1e-5 * scale)


def small_graph(text: str, tmp_path: Path) -> tuple[Graph, Path]:
    path = tmp_path / "small.onnx"
    header = '<ir_version: 10, opset_import: ["" : 20]>\n'
    onnx.save(onnx.parser.parse_model(header + text), str(path))
    return build_graph(import_model(path)), path


MAX_THEN_EXPAND = """
g (float[4,6] x, float[6,3] w) => (float[4,3] z)
    <int64[1] axis = {1}, int64[2] wide = {4, 6}> {
  m = ReduceMax <keepdims = 1> (x, axis)
  e = Expand (m, wide)
  c = Concat <axis = 0> (e, e)
  s = Slice (c, zero, four)
  z = MatMul (s, w)
}
"""


def test_a_copy_that_repeats_is_not_written_in_place(tmp_path: Path) -> None:
    text = MAX_THEN_EXPAND.replace("{4, 6}>", "{4, 6}, int64[1] zero = {0}, int64[1] four = {4}>")
    graph, path = small_graph(text, tmp_path)
    before, after = run(graph, path), run(prepare_graph(graph, "model", TINY), path)
    np.testing.assert_allclose(after["z"], before["z"], rtol=1e-6)


SCALED = """
g (float[8,4] x, float[4,2] y) => (float[8,2] z) <float s = {SCALE}> {
  t = Tanh (x)
  b = Mul (t, s)
  z = MatMul (b, y)
}
"""


@pytest.mark.parametrize(("scale", "moves"), [("0.125", True), ("6000.0", False), ("0.00001", False)])
def test_a_scale_moves_to_the_smaller_operand_if_it_cannot_leave_the_range(
    scale: str, moves: bool, tmp_path: Path
) -> None:
    graph, path = small_graph(SCALED.replace("SCALE", scale), tmp_path)
    planned = prepare_graph(graph, "model", TINY)
    assert any(operator.name.endswith("/scaled") for operator in planned.operators) is moves
    np.testing.assert_allclose(run(planned, path)["z"], run(graph, path)["z"], rtol=1e-5)


def test_a_weight_is_not_scaled_in_every_run(tmp_path: Path) -> None:
    text = (
        SCALED.replace(", float[4,2] y", "")
        .replace("<float", "<float[4,1] y = {1, 2, 3, 4}, float")
        .replace("8,2", "8,1")
    )
    graph, _ = small_graph(text.replace("SCALE", "0.5"), tmp_path)
    planned = prepare_graph(graph, "model", TINY)
    assert not any(operator.name.endswith("/scaled") for operator in planned.operators)
