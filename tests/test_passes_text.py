"""Passes, text in, text out: what each makes of a small graph (`--update-golden` writes what they make)."""

from collections.abc import Callable

import pytest

from chiplan.compiler.atoms import find_atoms
from chiplan.compiler.device_graph import GroupStage, build_device_graph
from chiplan.compiler.fusion import fuse_vector_chains
from chiplan.compiler.indexed_loads import index_weight_loads
from chiplan.compiler.layer_order import layer_order
from chiplan.compiler.precision import apply_precision
from chiplan.compiler.rewrites import REWRITES
from chiplan.compiler.weight_storage import arrange_weights
from chiplan.ir import DType, Graph, graph_text, read_graph, verify_graph

Compare = Callable[[str], None]


def passed(text: str, *passes: Callable[[Graph], Graph]) -> str:
    """The text of the graph that passes make, every one of them whole."""
    graph = read_graph(text)
    assert not list(map(str, verify_graph(graph)))
    for change in passes:
        graph = change(graph)
        assert not list(map(str, verify_graph(graph)))
    return graph_text(graph)


REWRITTEN = {rewrite.__name__: rewrite for rewrite in REWRITES}

TWICE = """\
graph "twice" reads %x
  input %x fp32 [4, 8]
  %a[m, n] = vector fp32 Relu(%x[m, n]) for m=4, n=8 @first
  %b[m, n] = vector fp32 Relu(%x[m, n]) for m=4, n=8 @second
  %y[m, n] = vector fp32 Add(%a[m, n], %b[m, n]) for m=4, n=8 @add
  output "y" = %y
"""


def test_merge_duplicates(golden: Compare) -> None:
    golden(passed(TWICE, REWRITTEN["merge_duplicates"]))


CASTS = """\
graph "casts" reads %x
  input %x fp32 [4, 8]
  %half[m, n] = vector fp16 Cast(%x[m, n]) for m=4, n=8 @down
  %again[m, n] = vector fp16 Cast(%half[m, n]) for m=4, n=8 @same
  %y[m, n] = vector fp16 Neg(%again[m, n]) for m=4, n=8 @neg
  output "y" = %y
"""


def test_drop_casts(golden: Compare) -> None:
    golden(passed(CASTS, REWRITTEN["drop_casts"]))


SCALED = """\
graph "scaled" reads %x, %w
  input %x fp32 [16, 4]
  input %w fp32 [4, 2]
  weight %s fp32 [] = 0.125
  %t[m, k] = vector fp32 Tanh(%x[m, k]) for m=16, k=4 @tanh
  %b[m, k] = vector fp32 Mul(%t[m, k], %s[]) for m=16, k=4 @mul
  %y[m, n] = matrix fp32 MatMul(%b[m, k], %w[k, n]) for m=16, n=2, k=4 sum @product
  output "y" = %y
"""


def test_move_scales(golden: Compare) -> None:
    golden(passed(SCALED, REWRITTEN["move_scales"]))


JOINED = """\
graph "joined" reads %x
  input %x fp32 [4, 8]
  %a[m, n] = vector fp32 Relu(%x[m, n]) for m=4, n=8 @relu
  value %y fp32 [4, 16]
  %y[m, n] = switch fp32 Copy(%x[m, n]) for m=4, n=8 @left
  %y[m, 8+n] = switch fp32 Copy(%a[m, n]) for m=4, n=8 @right
  output "y" = %y
"""


def test_write_in_place(golden: Compare) -> None:
    golden(passed(JOINED, REWRITTEN["write_in_place"]))


CHAIN = """\
graph "chain" reads %x
  input %x fp32 [4, 8]
  weight %c fp32 [] = 2.0
  %a[m, n] = vector fp32 Exp(%x[m, n]) for m=4, n=8 @exp
  %b[m, n] = vector fp32 Mul(%a[m, n], %c[]) for m=4, n=8 @mul
  %y[m, n] = vector fp32 Sub(%b[m, n], %a[m, n]) for m=4, n=8 @sub
  output "y" = %y
"""


@pytest.mark.parametrize("chained", [1, 2, 4])
def test_fuse_vector_chains(chained: int, golden: Compare) -> None:
    golden(passed(CHAIN, lambda graph: fuse_vector_chains(graph, chained)))


LINEAR = """\
graph "linear" reads %x
  input %x fp32 [4, 64]
  weight %w fp32 [32, 64] from "w"
  %y[m, n] = matrix fp32 MatMul(%x[m, k], %w|transpose[1, 0][k, n]) for m=4, n=32, k=64 sum @product
  output "y" = %y
"""


@pytest.mark.parametrize("precision", ["fp16", "int8", "w8a16"])
def test_apply_precision(precision: str, golden: Compare) -> None:
    golden(passed(LINEAR, lambda graph: apply_precision(graph, precision)))


POSITIONS = """\
graph "positions" reads %x
  input %x fp32 [4, 8]
  weight %table fp32 [512, 8] from "positions"
  weight %zeros fp32 [8] from "zeros"
  %p[m, n] = vector fp32 Add(%x[m, n], %table|slice[0:4, 0:8][m, n]) for m=4, n=8 @add
  %flat[m, n] = vector fp32 Add(%p[m, n], %zeros[n]) for m=4, n=8 @flat
  %heads[m, h, w] = vector fp32 Add(%x|reshape[4, 2, 4][m, h, w], %zeros|reshape[2, 4][h, w]) \
for m=4, h=2, w=4 @heads
  output "flat" = %flat
  output "heads" = %heads
"""


def test_arrange_weights(golden: Compare) -> None:
    golden(passed(POSITIONS, arrange_weights))


EXPERTS = """\
graph "experts" reads %x, %chosen
  input %x fp32 [2, 8]
  input %chosen int64 [2]
  weight %table fp32 [4, 8, 6] from "experts"
  %w[i, k, n] = memory fp32 Gather<axis=0>(%table[e, k, n], %chosen[i]) \
for i=2, e=4 sum gathered, k=8, n=6 @pick
  %y[i, n] = matrix fp32 MatMul(%x[i, k], %w[i, k, n]) for i=2, n=6, k=8 sum @product
  output "y" = %y
"""


def test_index_weight_loads(golden: Compare) -> None:
    golden(passed(EXPERTS, index_weight_loads))


MIXED = """\
graph "mixed" reads %x
  input %x fp32 [4, 8]
  weight %w_0 fp32 [8, 8] from "w_0"
  weight %w_1 fp32 [8, 8] from "w_1"
  weight %w_2 fp32 [8, 8] from "w_2"
  %mask[m] = vector fp32 Neg(%x|slice[0:4, 0:1]|reshape[4][m]) for m=4 @mask
  %h_0[m, n] = matrix fp32 MatMul(%x[m, k], %w_0[k, n]) for m=4, n=8, k=8 sum @product_0
  %h_1[m, n] = matrix fp32 MatMul(%h_0[m, k], %w_1[k, n]) for m=4, n=8, k=8 sum @product_1
  %late[m] = vector fp32 Exp(%mask[m]) for m=4 @late
  %h_2[m, n] = matrix fp32 MatMul(%h_1[m, k], %w_2[k, n]) for m=4, n=8, k=8 sum @product_2
  %y[m, n] = vector fp32 Add(%h_2[m, n], %late|reshape[4, 1]|expand[4, 8][m, n]) for m=4, n=8 @add
  output "y" = %y
"""


def test_layer_order(golden: Compare) -> None:
    golden(passed(MIXED, layer_order))


TWO_PRODUCTS = """\
graph "two products" reads %x
  input %x fp32 [4, 8]
  weight %up fp32 [8, 12] from "up"
  weight %down fp32 [12, 8] from "down"
  %h[m, n] = matrix fp32 MatMul(%x[m, k], %up[k, n]) for m=4, n=12, k=8 sum @widen
  %y[m, n] = matrix fp32 MatMul(%h[m, k], %down[k, n]) for m=4, n=8, k=12 sum @narrow
  output "y" = %y
"""


@pytest.mark.parametrize("algorithm", ["one-shot", "two-shot", "ring"])
def test_device_graph_of_a_column_then_a_row(algorithm: str, golden: Compare) -> None:
    """The first product splits its columns over two chips, the second what it sums over."""

    def split(graph: Graph) -> Graph:
        stage = GroupStage((0, 1), (2,), {0: ((1, 0),), 1: ((2, 0),)})
        return build_device_graph(graph, find_atoms(graph), [stage], lambda _: algorithm, DType.FP16).graph

    golden(passed(TWO_PRODUCTS, split))
