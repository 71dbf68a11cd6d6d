"""Repeated layers are found by structure, whatever their names, order and neighbours."""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.blocks import Block, cut_positions, find_blocks
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.compile import prepare_graph
from chiplan.compiler.importer import import_model
from chiplan.compiler.layer_order import layer_order
from chiplan.compiler.partitioning import recomputable
from chiplan.compiler.tile_choice import tile_graph
from chiplan.ir import (
    DType,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Output,
    Reducer,
    Result,
    Role,
    Tensor,
    Unit,
)
from chiplan.models import find_model, load_target

HIDDEN = 64


class Sketch:
    """A graph of layers of random names: "a" attends with a table, "m" is two products, "p" is pointwise."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.stream = self.pointwise("Abs", self.tensor((4, HIDDEN), Role.INPUT))

    def tensor(self, shape: tuple[int, ...], role: Role = Role.VALUE) -> str:
        name = f"t{self._random.integers(2**62)}"
        self.tensors[name] = Tensor(name, shape, DType.FP16, role)
        return name

    def product(self, left: str, width: int) -> str:
        rows, depth = self.tensors[left].shape
        weight, result = self.tensor((depth, width), Role.WEIGHT), self.tensor((rows, width))
        factors = (Factor("m", rows), Factor("n", width), Factor("k", depth, Reducer.SUM))
        operands = (Operand(left, (), (0, 2)), Operand(weight, (), (2, 1)))
        self._add(Unit.MATRIX, factors, operands, result, "MatMul")
        return result

    def pointwise(self, opcode: str, *read: str) -> str:
        shape = self.tensors[read[0]].shape
        result = self.tensor(shape)
        factors = tuple(Factor("i", extent) for extent in shape)
        self._add(Unit.VECTOR, factors, tuple(Operand(name, (), (0, 1)) for name in read), result, opcode)
        return result

    def _add(
        self, unit: Unit, factors: tuple[Factor, ...], read: tuple[Operand, ...], to: str, code: str
    ) -> None:
        body = (Instruction(code, tuple(range(len(read))), DType.FP16),)
        name = f"o{self._random.integers(2**62)}"
        self.operators.append(Operator(name, unit, factors, read, (Result(to, (0, 1), (0, 0), 0),), body))

    def layers(self, kinds: str) -> None:
        for kind in kinds:
            read = self.stream
            if kind == "a":
                made = [self.product(read, HIDDEN) for _ in range(3)]
                made = [self.product(self.pointwise("Add", *made), HIDDEN)]
            elif kind == "m":
                made = [self.product(self.pointwise("Relu", self.product(read, 4 * HIDDEN)), HIDDEN)]
            else:
                made = [self.pointwise("Neg", read)]
            self.stream = self.pointwise("Add", read, *made)

    def graph(self) -> Graph:
        outputs = (Output("out", self.stream, ()),)
        inputs = tuple(name for name, tensor in self.tensors.items() if tensor.role is Role.INPUT)
        return Graph("sketch", self.tensors, tuple(self.operators), inputs, outputs)


def sketch(kinds: str, seed: int = 0) -> Graph:
    made = Sketch(seed)
    made.layers(kinds)
    return made.graph()


def lengths(blocks: tuple[Block, ...]) -> list[tuple[int, int]]:
    """(kind, operators) of every block; they cover the graph in order."""
    assert [block.first for block in blocks] == [0, *(block.last for block in blocks[:-1])]
    return [(block.kind, block.last - block.first) for block in blocks]


def repeated(blocks: tuple[Block, ...]) -> int:
    """How often the commonest block stands in the graph."""
    return max(Counter(block.kind for block in blocks).values())


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("aaaa", [(0, 1), *[(1, 6)] * 4]),
        ("amamam", [(0, 1), *[(1, 10)] * 3]),
        ("paaaap", [(0, 3), *[(1, 6)] * 4, (2, 2)]),
        ("aaaammmmm", [(0, 1), *[(1, 6)] * 4, *[(2, 4)] * 5]),
        ("ppaaapmmmm", [(0, 5), *[(1, 6)] * 3, (2, 2), *[(3, 4)] * 4]),
        ("mmmpmmm", [(0, 1), *[(1, 4)] * 3, (2, 2), *[(1, 4)] * 3]),
        ("a", [(0, 7)]),
        ("p", [(0, 3)]),
    ],
)
def test_layers_are_blocks(kinds: str, expected: list[tuple[int, int]]) -> None:
    assert lengths(find_blocks(sketch(kinds))) == expected


def test_three_projections_of_one_value_are_no_layers() -> None:
    made = Sketch()
    made.product(made.stream, HIDDEN)
    made.product(made.stream, HIDDEN)
    made.stream = made.product(made.stream, HIDDEN)
    assert lengths(find_blocks(made.graph())) == [(0, 4)]


@given(st.integers(0, 3), st.integers(2, 6), st.sampled_from(["a", "m", "am", "amm"]), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_names_play_no_role(before: int, times: int, layer: str, seed: int) -> None:
    kinds = "p" * before + layer * times
    assert find_blocks(sketch(kinds, seed)) == find_blocks(sketch(kinds, seed + 1))


def test_another_wiring_is_another_kind() -> None:
    made = Sketch()
    for crossed in (False, False, True, False, False):
        left, right = made.product(made.stream, HIDDEN), made.product(made.stream, HIDDEN)
        made.stream = made.pointwise("Sub", right, left) if crossed else made.pointwise("Sub", left, right)
    assert lengths(find_blocks(made.graph())) == [(0, 1), (1, 3), (1, 3), (2, 3), (1, 3), (1, 3)]


def test_what_crosses_a_cut_is_listed() -> None:
    graph = sketch("am")
    cuts = cut_positions(graph, find_blocks(graph))
    assert [cut.position for cut in cuts] == list(range(1, 11))
    between = cuts[6]
    assert [value.name for value in between.values] == [graph.operators[6].results[0].tensor]
    assert between.nbytes == 4 * HIDDEN * 2
    assert between.allowed
    assert not any(value.cheap for cut in cuts for value in cut.values)
    marked = cut_positions(graph, find_blocks(graph), recomputed=(6,))
    assert marked[6].values[0].cheap
    assert marked[6].nbytes == 0


@cache
def model_graph(name: str) -> Graph:
    target = load_target("groq-rack")
    graph = build_graph(import_model(find_model(name)))
    prepared: Graph = prepare_graph(graph, "fp16", target)
    return prepared


@pytest.mark.parametrize(
    ("name", "layers", "kinds"),
    [
        ("gpt2", 12, 3),
        ("bert-large", 24, 2),
        ("llama2-7b-decode", 32, 3),
        ("vit-tiny", 2, 3),
        ("mixtral-tiny", 2, 3),
    ],
)
def test_layers_of_real_models_are_found(name: str, layers: int, kinds: int) -> None:
    blocks = find_blocks(layer_order(model_graph(name)))
    assert repeated(blocks) == layers
    assert len({block.kind for block in blocks}) == kinds


@pytest.mark.parametrize("name", ["gpt2", "llama2-7b-decode"])
def test_a_shuffled_graph_has_its_layers_put_together(name: str) -> None:
    graph = model_graph(name)
    shuffled = shuffle(graph)
    ordered = layer_order(shuffled)
    assert repeated(find_blocks(ordered)) == repeated(find_blocks(graph))
    check_order(ordered)
    assert sorted(o.name for o in ordered.operators) == sorted(o.name for o in graph.operators)


def shuffle(graph: Graph) -> Graph:
    """The operators in a random topological order."""
    writers: dict[str, set[int]] = {}
    for index, operator in enumerate(graph.operators):
        for result in operator.results:
            writers.setdefault(result.tensor, set()).add(index)
    needs = [
        set().union(*(writers.get(o.tensor, set()) for o in operator.operands)) - {index}
        for index, operator in enumerate(graph.operators)
    ]
    random, order, done = np.random.default_rng(3), list[int](), set[int]()
    while len(order) < len(needs):
        ready = [index for index in range(len(needs)) if index not in done and needs[index] <= done]
        order.append(ready[random.integers(len(ready))])
        done.add(order[-1])
    return replace(graph, operators=tuple(graph.operators[index] for index in order))


def check_order(graph: Graph) -> None:
    """Everything is written before it is read."""
    last_write = {r.tensor: index for index, o in enumerate(graph.operators) for r in o.results}
    for index, operator in enumerate(graph.operators):
        assert all(last_write.get(operand.tensor, -1) < index for operand in operator.operands)


def test_masks_are_cheap_and_a_state_is_not_cut() -> None:
    target = load_target("groq-rack")
    graph = layer_order(model_graph("llama2-7b-decode"))
    blocks = find_blocks(graph)
    cheap = recomputable(graph, tile_graph(graph, target.chip), target)
    cuts = cut_positions(graph, blocks, cheap)
    layers = [block for block in blocks if block.kind == blocks[1].kind]
    for block in layers:
        cut = cuts[block.first - 1]
        assert cut.position == block.first
        assert cut.allowed
        assert cut.nbytes < 2 * 4096 * 2
        assert {value.name for value in cut.values if value.cheap}
        inside = cuts[block.first : block.last - 1]
        assert not all(position.allowed for position in inside)
        assert sum(position.allowed for position in inside) >= 8
