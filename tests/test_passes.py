"""Graph passes keep what the graph computes, and remove the work that they say they remove."""

from pathlib import Path

import numpy as np
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
