"""Every rule of the verifier is broken once, alone, and named; what the compiler makes breaks none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chiplan.compiler import compile as compile_module
from chiplan.compiler.cli import main
from chiplan.compiler.verify_passes import check_graph
from chiplan.ir import (
    Cut,
    Graph,
    InternalFault,
    Plan,
    Sharding,
    Stage,
    TileColumns,
    Tiling,
    read_graph,
    verify_graph,
    verify_plan,
)
from chiplan.ir.verify import PLAN_RULES
from chiplan.ir.verify_graph import FLOW_RULES, SHAPE_RULES

GOOD = """\
graph "good" reads %x, %index
  input %x fp16 [4, 8] shards [4, 16] cut 1@0
  input %index int64 [4]
  weight %w fp16 [8, 6] from "w"
  weight %table fp16 [5, 8] from "t"
  state %past fp16 [10, 8] rows 6 of 0
  %rows[m, c] = memory fp16 Gather<axis=0>(%table[r, c], %index[m]) for m=4, r=5 sum gathered, c=8 @pick
  %h[m, n] = matrix fp16 MatMul(%x[m, k], %w[k, n]) for m=4, n=6, k=8 sum split n of 12@0 @first
  value %both fp16 [4, 14]
  %both[m, c] = vector fp16 Neg(%rows[m, c]) for m=4, c=8 @left
  %both[m, 8+n] = switch fp16 Copy(%h[m, n]) for m=4, n=6 @right
  %past[6+m, c] only@0=1 = memory fp16 Copy(%x[m, c]) for m=4, c=8 @append
  %sums[m, .] = vector fp16 ReduceSum<factors=[1]>(%past|slice[0:4, 0:8][m, c]) for m=4, c=8 sum @sum
  value %part fp16 [2, 4, 1]
  %part[., m, .] own@0 = vector fp16 Neg(%sums[m, .]) for m=4 @share
  gather %part -> %part @0
  value %moved fp16 [4, 1]
  shift %sums -> %moved @0 by 1
  value %spread fp16 [1, 2]
  scatter %sums -> %spread @0
  %out[m, .] = vector fp16 Add(%part|slice[0:1, 0:4, 0:1]|reshape[4, 1][m, .], %moved[m, .]) for m=4 @add
  cache "past" -> "present" in %past axis 0
  output "y" = %both|transpose[1, 0]
  output "z" = %out
"""
# (rule, what stands in the good graph, what stands there instead)
BROKEN = (
    ("tensor_shapes", "value %moved fp16 [4, 1]", "value %moved fp16 [4, 1]\n  weight %empty fp16 [0]"),
    ("resident_rows", "rows 6 of 0", "rows 11 of 0"),
    ("tensor_shardings", "shards [4, 16] cut 1@0", "shards [4, 16] cut 2@0"),
    ("tensors_exist", 'output "z" = %out', 'output "z" = %outer'),
    ("factor_extents", "Neg(%rows[m, c]) for m=4, c=8", "Neg(%rows[m, c]) for m=4, c=8, more=0"),
    ("products", "MatMul(%x[m, k], %w[k, n])", "MatMul(%x[m, k], &0)"),
    ("split_factors", "split n of 12@0", "split n of 5@0"),
    ("split_factors", "split n of 12@0", "split n of 12@-"),
    ("instruction_inputs", "Add(%part", "Add($1, %part"),
    ("views_apply", "transpose[1, 0]", "transpose[1, 1]"),
    ("views_apply", "slice[0:4, 0:8]", "slice[0:4, 0:9]"),
    ("operand_axes", "%w[k, n]", "%w[n, k]"),
    ("operand_axes", "Copy(%x[m, c])", "Copy(%x[., c])"),
    ("result_axes", "%part[., m, .] own@0", "%part[., m] own@0"),
    ("result_axes", "%part[., m, .] own@0", "%part[., m, .] own@0 $1"),
    ("results_inside", "%both[m, 8+n]", "%both[m, 9+n]"),
    ("own_pieces", "own@0", "own@0.0"),
    ("own_pieces", "only@0=1", "only@0=-1"),
    ("exchange_targets", "scatter %sums", "scatter %nothing"),
    ("exchange_axes", "%spread @0", "%spread @0.0"),
    ("exchange_circles", "shift %sums -> %moved", "shift %moved -> %moved"),
    ("graph_inputs", "reads %x, %index", "reads %x"),
    ("cache_states", "in %past axis 0", "in %past axis 2"),
    ("cache_states", "in %past axis 0", "in %w axis 0"),
    ("writers_write_values", "value %moved fp16 [4, 1]",
     "weight %moved fp16 [4, 1]\n  %moved[m, .] = vector fp16 Neg(%sums[m, .]) for m=4 @more"),
    ("values_have_writers", "shift %sums -> %moved @0 by 1\n", ""),
    ("results_apart", "%both[m, 8+n]", "%both[m, 7+n]"),
    ("results_cover", "value %both fp16 [4, 14]", "value %both fp16 [4, 15]"),
    ("result_types", "switch fp16 Copy", "switch fp32 Copy"),
    ("unit_bodies", "switch fp16 Copy", "switch fp16 Neg"),
    ("reductions_reduce", "ReduceSum<factors=[1]>", "ReduceSum<factors=[0]>"),
    ("exchange_shapes", "value %moved fp16 [4, 1]", "value %moved fp32 [4, 1]"),
    ("exchange_shapes", "value %spread fp16 [1, 2]", "value %spread fp16 [1, 1]"),
)  # fmt: skip


def test_the_good_graph_is_good() -> None:
    assert list(verify_graph(read_graph(GOOD))) == []


@pytest.mark.parametrize(
    ("rule", "good", "bad"), BROKEN, ids=[f"{n}-{case[0]}" for n, case in enumerate(BROKEN)]
)
def test_a_broken_rule_of_graphs_is_named_alone(rule: str, good: str, bad: str) -> None:
    assert GOOD.count(good) == 1
    found = list(verify_graph(read_graph(GOOD.replace(good, bad))))
    assert {finding.rule for finding in found} == {rule}, list(map(str, found))
    assert all(finding.place and finding.expected and finding.found for finding in found)


def test_operators_in_order() -> None:
    graph = read_graph(GOOD)
    turned = replace(graph, operators=graph.operators[::-1])
    (first, *_) = found = list(verify_graph(turned))
    assert {finding.rule for finding in found} == {"operators_in_order"}
    assert "operator 'add': expected a place behind 'share', which writes 'part', found place 0" in str(first)


def test_what_no_text_says() -> None:
    graph = read_graph(GOOD)
    idle = replace(graph.operators[-1], body=())
    for broken, rule in (
        (replace(graph, tensors={**graph.tensors, "other": graph.tensors["w"]}), "tensor_names"),
        (replace(graph, operators=(*graph.operators[:-1], idle)), "operators_do_something"),
    ):
        assert rule in {finding.rule for finding in verify_graph(broken)}


def test_names_are_escaped() -> None:
    graph = read_graph(GOOD.replace("%rows[m, c]", '%"\\u001b[2J"[m, c]'))
    bad = replace(graph, inputs=("x", "index", "\x1b[2J\n"))
    assert "\x1b" not in "".join(map(str, verify_graph(bad)))
    assert all(str(finding).isprintable() for finding in verify_graph(bad))


Change = Callable[[Plan], Plan]


def stage(number: int, **changes: object) -> Change:
    def change(plan: Plan) -> Plan:
        stages: list[Stage] = list(plan.stages)
        stages[number] = replace(stages[number], **changes)
        return replace(plan, stages=tuple(stages))

    return change


def program(number: int, **changes: object) -> Change:
    return lambda plan: stage(number, program=replace(plan.stages[number].program, **changes))(plan)


def tiles(number: int, **changes: list[int]) -> Change:
    arrays = {name: np.array(values) for name, values in changes.items()}

    def change(plan: Plan) -> Plan:
        columns: TileColumns = replace(plan.stages[number].program.tiles, **arrays)
        return program(number, tiles=columns)(plan)

    return change


PLANS: tuple[tuple[str, Change], ...] = (
    ("stage_chips", stage(1, chips=(0,))),
    ("operators_ascending", stage(1, recomputed=(0,))),
    ("operators_executed", lambda plan: replace(plan, stages=plan.stages[:1])),
    ("tilings_cut", program(1, tilings=(Tiling((2, 9, 8), (0, 1, 2)),))),
    ("tile_numbers", tiles(1, tile=[1, 0])),
    ("tile_units", tiles(1, unit=[0, 1])),
    ("tile_instances", tiles(1, instance=[0, 2])),
    ("tile_cycles", tiles(1, end=[72, 72])),
    ("rows_sorted", lambda plan: replace(plan, hops=replace(plan.hops, hop=np.array([0, 1, 0])))),
    ("plan_references", stage(1, mesh=(2,))),
    ("tensor_shardings", lambda plan: replace(plan, graph=sharded(plan.graph))),
)


def sharded(graph: Graph) -> Graph:
    tensor = replace(graph.tensors["x"], sharding=Sharding((4, 8), (4, 9), (Cut(0, (0,)),)))
    return replace(graph, tensors={**graph.tensors, "x": tensor})


@pytest.mark.parametrize(("rule", "change"), PLANS, ids=[rule for rule, _ in PLANS])
def test_a_broken_rule_of_plans_is_named_alone(rule: str, change: Change, hand_plan: Plan) -> None:
    assert list(verify_plan(hand_plan)) == []
    assert {finding.rule for finding in verify_plan(change(hand_plan))} == {rule}


def test_every_rule_is_tested() -> None:
    tested = {rule for rule, *_ in (*BROKEN, *PLANS)}
    tested |= {"operators_in_order", "tensor_names", "operators_do_something"}
    assert {rule.__name__ for rule in (*SHAPE_RULES, *FLOW_RULES, *PLAN_RULES)} <= tested


@pytest.mark.parametrize(
    "options",
    [
        "llama-tiny-gqa-past --groups 2",
        "gpt2-tiny-qdq-int8 --chips 1 --sequence 1",
        "mixtral-tiny --chips 1 --sequence 1 --precision w8a16",
    ],
)
def test_no_pass_breaks_a_rule(options: str, tmp_path: Path) -> None:
    output = str(tmp_path / "a.chiplan")
    assert main(["compile", *options.split(), "--target", "tiny-ring", "--verify-each", "-o", output]) == 0


def test_a_pass_that_breaks_a_rule_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose_an_operator(graph: Graph) -> Graph:
        return replace(graph, operators=graph.operators[1:])

    monkeypatch.setattr(compile_module, "layer_order", lose_an_operator)
    output = tmp_path / "a.chiplan"
    command = ["compile", "llama-tiny-gqa-past", "--target", "tiny-ring", "--verify-each", "-o", str(output)]
    assert main(command) == 70
    error = capsys.readouterr().err
    assert "behind the pass layer_order: tensor" in error
    assert "expected an operator or an exchange that makes it, found none (values_have_writers)" in error
    assert not output.exists()


def test_findings_are_problems_with_the_rules_name() -> None:
    with pytest.raises(InternalFault) as refusal:
        check_graph("a_pass", read_graph(GOOD.replace("%w[k, n]", "%w[n, k]")))
    (problem,) = refusal.value.problems
    assert problem.code == "rule_operand_axes"
    assert problem.message == (
        "behind the pass a_pass: operator 'first': expected a factor of each extent of 'w' seen as (8, 6), "
        "found ['n'=6, 'k'=8] (operand_axes)"
    )
