"""Weights are stored as their readers need them, and computed values stay the same."""

from pathlib import Path

import numpy as np
import pytest

from chiplan.compiler.atoms import find_atoms
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.compile import prepare_graph
from chiplan.compiler.fusion import fuse_vector_chains
from chiplan.compiler.importer import import_model
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.compiler.rewrites import REWRITES
from chiplan.compiler.weight_storage import arrange_weights, separate_weights, trim_weights
from chiplan.compiler.weights import WeightReader
from chiplan.ir import Graph, Role, Slice
from chiplan.models import find_model, load_target
from chiplan.runtime_sim.interpreter import interpret


def prepared(name: str) -> tuple[Graph, Path]:
    path = find_model(name)
    return prepare_graph(build_graph(import_model(path)), "model", load_target("tiny-ring")), path


@pytest.mark.parametrize("name", ["bert-tiny", "gpt2-tiny", "mixtral-tiny", "vit-tiny"])
def test_outputs_stay_the_same(name: str) -> None:
    graph, path = prepared(name)
    arranged, inputs = arrange_weights(graph), random_inputs(graph, seed=3)
    before = interpret(graph, inputs, WeightReader(path), {})
    after = interpret(arranged, inputs, WeightReader(path), {})
    for output in graph.outputs:
        np.testing.assert_array_equal(after[output.name], before[output.name])


@pytest.mark.parametrize("name", ["bert-tiny", "gpt2-tiny"])
def test_only_the_positions_that_are_read_are_stored(name: str) -> None:
    trimmed = trim_weights(prepared(name)[0])
    reads = [
        operand
        for operator in trimmed.operators
        for operand in operator.operands
        if trimmed.tensors[operand.tensor].role is Role.WEIGHT
    ]
    assert not any(isinstance(operand.view[0], Slice) for operand in reads if operand.view)


def norm_columns(graph: Graph) -> set[tuple[int, ...]]:
    """How the columns that layer norms sum over are taken apart."""
    return {
        found.factors[index]
        for operator, found in zip(graph.operators, find_atoms(graph).operators, strict=True)
        for index, factor in enumerate(operator.factors)
        if factor.reducer is not None and "norm" in operator.name
    }


def test_one_bias_of_zeros_does_not_make_heads_of_everything() -> None:
    graph = build_graph(import_model(find_model("bert-tiny")))
    for rewrite in REWRITES:
        graph = rewrite(graph)
    graph = fuse_vector_chains(graph, 16)
    assert norm_columns(graph) == {(4, 16)}
    assert norm_columns(separate_weights(graph)) == {(64,)}


def test_what_readers_take_apart_alike_is_stored_once() -> None:
    graph, _ = prepared("mixtral-tiny")
    assert separate_weights(graph).tensors.keys() == graph.tensors.keys()
