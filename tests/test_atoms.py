"""Atoms: the refinement that real models come to, and the factor law at the level of atoms."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from chiplan.compiler.atom_links import link_view
from chiplan.compiler.atoms import (
    FactorAtom,
    GraphAtoms,
    OperatorAtoms,
    TensorAtom,
    find_atoms,
    splittable,
)
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.compile import prepare_graph
from chiplan.compiler.importer import import_model
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.compiler.weights import WeightReader
from chiplan.ir import (
    DType,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Output,
    Reducer,
    Reshape,
    Result,
    Role,
    Shape,
    Slice,
    Tensor,
    Unit,
    View,
    apply_view,
)
from chiplan.models import find_model, load_target
from chiplan.runtime_sim.interpreter import Interpreter
from chiplan.runtime_sim.kernels import run_body

from .atom_graphs import copy_through, piece_of, pieces, real_part, seen_dimensions, seen_shapes


@cache
def prepared(name: str, precision: str = "model") -> Graph:
    return prepare_graph(build_graph(import_model(find_model(name))), precision, load_target("groq-node"))


@cache
def atoms_of(name: str) -> GraphAtoms:
    return find_atoms(prepared(name))


# ---- links: digits of a tensor's index are digits of what a view shows


@settings(max_examples=100, deadline=None)
@given(seen_shapes())
def test_digits_run_through(case: tuple[View, Shape]) -> None:
    view, shape = case
    shown = apply_view(view, np.arange(np.prod(shape, dtype=int)).reshape(shape))
    for segment in link_view(view, shape).segments:
        stride = int(np.prod(shape[segment.dimension + 1 :], dtype=int)) * segment.low
        extent = segment.high // segment.low
        count = shown.shape[segment.seen]
        index = np.arange(count).reshape((-1,) + (1,) * (shown.ndim - segment.seen - 1))
        digit = np.broadcast_to(index // segment.seen_low % extent, shown.shape)
        np.testing.assert_array_equal(shown // stride % extent, digit)
        # And nothing else changes with it.
        apart = (*shown.shape[: segment.seen], count // (segment.seen_low * extent), extent, segment.seen_low)
        others = (shown - digit * stride).reshape((*apart, *shown.shape[segment.seen + 1 :]))
        assert (others == others.take([0], axis=segment.seen + 1)).all()


def test_a_slice_that_covers_no_equal_piece_is_opaque() -> None:
    links = link_view((Slice((1, 0), (8, 6), (1, 1)),), (8, 6))
    assert [segment.dimension for segment in links.segments] == [1]
    assert set(links.bounds) <= {(1, 1), (1, 6)}


# ---- refinement of small graphs


def test_contradicting_views_leave_the_later_one_without_atoms() -> None:
    """6 and 4 of 12: two readers reshape one dimension."""
    first, second = copy_through((Reshape((2, 6)),), (12,)), copy_through((Reshape((3, 4)),), (12,))
    tensors = first.tensors | {"z": Tensor("z", (3, 4), DType.FP32, Role.VALUE)}
    other = Operator(
        "other", Unit.SWITCH, second.operators[0].factors, second.operators[0].operands,
        (Result("z", (0, 1), (0, 0), 0),), second.operators[0].body,
    )  # fmt: skip
    graph = Graph("two", tensors, (*first.operators, other), ("x",), (Output("z", "z", ()),))
    atoms = find_atoms(graph)
    assert atoms.tensors["x"] == ((2, 6),)
    assert splittable(graph.operators[0], atoms.operators[0]) == [(0, 0), (1, 0)]
    assert splittable(graph.operators[1], atoms.operators[1]) == []
    assert atoms.operators[1].operands[0].along == {(0, 0): None, (0, 1): None}


# ---- refinement of real models


def factor_chains(name: str, unit: Unit = Unit.MATRIX) -> set[tuple[int, ...]]:
    """How the factors of a model's operators are taken apart."""
    operators = zip(prepared(name).operators, atoms_of(name).operators, strict=True)
    return {atoms for operator, found in operators if operator.unit is unit for atoms in found.factors}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # fused q, k, v: thirds, heads, width; merged heads; hidden, inner, tokens, vocabulary whole
        ("gpt2", {(3, 12, 64), (12, 64), (12,), (64,), (768,), (3072,), (128,), (50257,)}),
        # rotary embedding: halves of the width of queries and keys
        (
            "llama2-7b-decode",
            {(32, 2, 64), (32, 128), (32,), (2, 64), (128,), (2048,), (4096,), (11008,), (32000,)},
        ),
        # 4 heads over 2 key heads: key head, query head of it, half, quarter
        (
            "llama-tiny-gqa-past",
            {
                (2, 2, 2, 8),
                (2, 2, 8),
                (2, 16),
                (2, 2, 16),
                (2,),
                (2, 8),
                (16,),
                (2048,),
                (64,),
                (176,),
                (256,),
            },
        ),
    ],
)
def test_models_come_apart_as_they_should(name: str, expected: set[tuple[int, ...]]) -> None:
    assert factor_chains(name) == expected


def test_experts_are_two_halves_of_a_product() -> None:
    assert {(128,), (2,), (2, 176), (4,), (128, 2), (176,)} <= factor_chains("mixtral-tiny")


def reached(graph: Graph, atoms: GraphAtoms, tensor: str, atom: TensorAtom) -> dict[str, FactorAtom]:
    """The operators that a cut of a tensor goes through up to sums over it, each with what it splits."""
    found: dict[str, FactorAtom] = {}
    waiting = [(tensor, atom)]
    seen = set(waiting)
    while waiting:
        name, cut = waiting.pop()
        for operator, known in zip(graph.operators, atoms.operators, strict=True):
            for operand, reads in zip(operator.operands, known.operands, strict=True):
                if operand.tensor != name:
                    continue
                split = reads.along[cut]
                assert split in splittable(operator, known), (operator.name, cut)
                found[operator.name] = split
                for result, writes in zip(operator.results, known.results, strict=True):
                    new = {(result.tensor, a) for a, along in writes.along.items() if along == split} - seen
                    seen |= new
                    waiting += sorted(new)
    return found


@pytest.mark.parametrize(
    ("name", "tensor", "atom", "least"),
    [("gpt2", "addmm", (1, 1), 7), ("llama-tiny-gqa-past", "linear", (2, 0), 10),
     ("llama-tiny-gqa-past", "linear_1", (2, 0), 10), ("llama-tiny-gqa-past", "linear_2", (2, 0), 3),
     ("llama2-7b-decode", "linear_1", (2, 0), 10), ("mixtral-tiny", "linear", (2, 0), 9)],
)  # fmt: skip
def test_heads_split_all_of_attention(name: str, tensor: str, atom: TensorAtom, least: int) -> None:
    """From the projections through rotation, states and softmax to the one product that sums over heads."""
    graph, atoms = prepared(name), atoms_of(name)
    found = reached(graph, atoms, tensor, atom)
    operators = {operator.name: operator for operator in graph.operators}
    sums = [n for n, split in found.items() if operators[n].factors[split[0]].reducer is not None]
    assert [operators[n].unit for n in sums] == [Unit.MATRIX]
    assert len(found) >= least


@pytest.mark.parametrize("name", ["gpt2", "llama2-7b-decode", "bert-tiny", "mixtral-tiny", "t5-tiny-encoder"])
def test_every_product_may_be_split_along_all_its_factors(name: str) -> None:
    for operator, atoms in zip(prepared(name).operators, atoms_of(name).operators, strict=True):
        if operator.unit is Unit.MATRIX:
            split = {factor for factor, _ in splittable(operator, atoms)}
            assert split == {f for f, factor in enumerate(operator.factors) if not factor.gathered}


@pytest.mark.parametrize("name", ["gpt2", "llama2-7b-decode"])
def test_the_vocabulary_may_be_split(name: str) -> None:
    graph, atoms = prepared(name), atoms_of(name)
    table, product = graph.operators[0], graph.operators[-1]
    assert table.factors[0].gathered
    assert (0, 0) in splittable(table, atoms.operators[0])
    columns = next(f for f, n in enumerate(product.factors) if n.extent == table.factors[0].extent)
    assert (columns, 0) in splittable(product, atoms.operators[-1])


# ---- what may not be split


def row_operator(body: tuple[Instruction, ...], *results: Result, reducer: Reducer | None) -> Operator:
    """A vector operator over x [4, 6]."""
    factors = (Factor("row", 4), Factor("along", 6, reducer))
    return Operator("rows", Unit.VECTOR, factors, (Operand("x", (), (0, 1)),), results, body)


def split_factors(operator: Operator) -> set[int]:
    shapes: dict[str, Shape] = {"x": (4, 6), "wide": (4, 6), "thin": (4, 1)}
    tensors = {name: Tensor(name, shape, DType.FP32, Role.VALUE) for name, shape in shapes.items()}
    atoms = find_atoms(Graph("g", tensors, (operator,), ("x",), ()))
    return {factor for factor, _ in splittable(operator, atoms.operators[0])}


MAXIMUM = Instruction("ReduceMax", (0,), DType.FP32, (("factors", (1,)),))


def test_a_reduction_at_the_end_is_a_partial_result() -> None:
    thin = Result("thin", (0, None), (0, 0), 0)
    assert split_factors(row_operator((MAXIMUM,), thin, reducer=Reducer.MAX)) == {0, 1}


def test_a_reduction_that_the_reducer_does_not_combine() -> None:
    thin = Result("thin", (0, None), (0, 0), 0)
    assert split_factors(row_operator((MAXIMUM,), thin, reducer=Reducer.SUM)) == {0}


@pytest.mark.parametrize("axes", [(0, 1), (0, None)])
def test_a_body_that_goes_on_after_its_reduction_is_not_split_along_it(axes: tuple[int | None, ...]) -> None:
    body = (MAXIMUM, Instruction("Div", (0, 1) if axes[1] else (1, 1), DType.FP32))
    result = Result("wide" if axes[1] else "thin", axes, (0, 0), 1)
    assert split_factors(row_operator(body, result, reducer=Reducer.MAX)) == {0}


# ---- the factor law: pieces of the operands give pieces, or partial results, of the results

COMBINE = {Reducer.SUM: np.add, Reducer.MAX: np.maximum, Reducer.MIN: np.minimum}
TOLERANCE = 2e-5


def close(got: np.ndarray, expected: np.ndarray, name: str) -> None:
    scale = max(1.0, float(np.abs(expected.astype(np.float64)).max(initial=0)))
    coarse = 1e-2 if expected.dtype == np.float16 else TOLERANCE
    np.testing.assert_allclose(
        got.astype(np.float64), expected.astype(np.float64), atol=coarse * scale, rtol=0, err_msg=name
    )


def operand_piece(
    operand: Operand, block: np.ndarray, atoms: OperatorAtoms, split: FactorAtom, part: int, number: int
) -> np.ndarray:
    """The part of a viewed operand that a chip with one piece of a factor atom sees."""
    if split[0] not in operand.axes:
        return block
    dims, at = seen_dimensions(operand, atoms.factors), (operand.axes.index(split[0]), split[1])
    real = real_part(dims, at, part, number)
    piece = piece_of(block, dims, at, part, number)
    return piece_of(piece, cut_to(dims, at, part), at, real, 0)


def cut_to(dims: tuple[tuple[int, ...], ...], at: TensorAtom, part: int) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(part if (d, i) == at else extent for i, extent in enumerate(extents))
        for d, extents in enumerate(dims)
    )


def foreign_rows_zero(
    operator: Operator, blocks: list[np.ndarray], split: FactorAtom, part: int, number: int
) -> list[np.ndarray]:
    """A table of which only a piece of the rows is there."""
    table = np.zeros_like(blocks[0])
    axis = operator.operands[0].axes.index(split[0])
    rows = (slice(None),) * axis + (slice(number * part, (number + 1) * part),)
    table[rows] = blocks[0][rows]
    return [table, *blocks[1:]]


def check_factor_law(
    operator: Operator, atoms: OperatorAtoms, blocks: list[np.ndarray], graph: Graph, split: FactorAtom
) -> None:
    extents = tuple(factor.extent for factor in operator.factors)
    whole = run_body(operator, blocks, extents, graph.tensors)
    factor, extent = operator.factors[split[0]], atoms.factors[split[0]][split[1]]
    combined: dict[int, np.ndarray] = {}
    for part, number in pieces(extent, 2):
        if factor.gathered:
            own, sizes = foreign_rows_zero(operator, blocks, split, part, number), extents
        else:
            pairs = zip(operator.operands, blocks, strict=True)
            own = [operand_piece(o, block, atoms, split, part, number) for o, block in pairs]
            real = min(part, extent - number * part)
            sizes = tuple(n // extent * real if f == split[0] else n for f, n in enumerate(extents))
        results = run_body(operator, own, sizes, graph.tensors)
        for index, (result, value) in enumerate(zip(operator.results, results, strict=True)):
            if split[0] in result.axes:
                close(value, operand_piece(result, whole[index], atoms, split, part, number), operator.name)
            elif factor.reducer is None:
                close(value, whole[index], operator.name)
            else:
                so_far = combined.get(index)
                combined[index] = value if so_far is None else COMBINE[factor.reducer](so_far, value)
    for index, value in combined.items():
        close(value, whole[index], operator.name)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("gpt2-tiny", "model"), ("llama-tiny-gqa-past", "model"), ("mixtral-tiny", "model"),
     ("vit-tiny", "model"), ("t5-tiny-encoder", "model"), ("gpt2-tiny-qdq-int8", "model"),
     ("llama-tiny-gqa-past", "int8")],
)  # fmt: skip
def test_the_factor_law_holds_for_every_atom(name: str, precision: str) -> None:
    graph = prepared(name, precision)
    atoms = find_atoms(graph)
    interpreter = Interpreter(graph, random_inputs(graph, seed=5), WeightReader(Path(find_model(name))), {})
    seen: set[object] = set()
    checked = 0
    for operator, found in zip(graph.operators, atoms.operators, strict=True):
        blocks = [interpreter.read(operand) for operand in operator.operands]
        kind = (operator.unit, found.factors, tuple(o.axes for o in operator.operands), operator.body)
        if kind not in seen:
            seen.add(kind)
            for split in splittable(operator, found):
                check_factor_law(operator, found, blocks, graph, split)
                checked += 1
        interpreter.run(operator)
    assert checked > 40
