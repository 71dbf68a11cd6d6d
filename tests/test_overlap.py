"""Exchanges overlap with compute: loops that take a little of every piece in turn, operators by turns."""

from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from chiplan.compiler import compile_model
from chiplan.compiler.device_weaving import Weave, weave_graph
from chiplan.compiler.issue_order import issue_order
from chiplan.compiler.numeric_check import check_numerics
from chiplan.compiler.tile_choice import tile_graph
from chiplan.compiler.tile_steps import Loop, Seen, Written, block_of_steps, steps_needed
from chiplan.ir import (
    DType,
    Exchange,
    ExchangeKind,
    Factor,
    Graph,
    Instruction,
    Operand,
    Operator,
    Output,
    Own,
    Plan,
    Reducer,
    Reshape,
    Result,
    Role,
    Tensor,
    Transpose,
    Unit,
    View,
)
from chiplan.models import find_model, load_target
from chiplan.runtime_sim.interpreter import interpret

RING = load_target("tiny-ring")


def tensor(name: str, *shape: int, role: Role = Role.VALUE) -> Tensor:
    return Tensor(name, shape, DType.FP32, role)


def passes(rows: int, width: int, count: int, view: View = ()) -> Graph:
    """`count` operators in a row that each add a tensor of [rows, width], seen through `view`, to itself."""
    names = ["x", *(f"y{number}" for number in range(count))]
    operators = tuple(
        Operator(
            f"{after}/add",
            Unit.VECTOR,
            (Factor("m", rows), Factor("n", width)),
            (Operand(before, (), (0, 1)), Operand(before, view, (0, 1))),
            (Result(after, (0, 1), (0, 0), 0),),
            (Instruction("Add", (0, 1), DType.FP32),),
        )
        for before, after in pairwise(names)
    )
    tensors = {name: tensor(name, rows, width) for name in names}
    tensors["x"] = tensor("x", rows, width, role=Role.INPUT)
    return Graph("passes", tensors, operators, ("x",), (Output("out", names[-1], ()),))


def values(graph: Graph) -> np.ndarray:
    shape = graph.tensors["x"].shape
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return interpret(graph, {"x": x}, {}, {})["out"]


def test_a_woven_loop_takes_a_little_of_every_piece() -> None:
    graph = passes(12, 2, 2)
    woven = weave_graph(graph, {0: Weave(0, 1, 4)})
    assert [(f.name, f.extent) for f in woven.operators[0].factors] == [
        ("m/within", 3),
        ("m/piece", 4),
        ("n", 2),
    ]
    assert woven.tensors["y0"].shape == (4, 3, 2)
    assert woven.operators[0].results[0].axes == (1, 0, 2)
    assert woven.operators[1].factors == graph.operators[1].factors
    np.testing.assert_array_equal(values(woven), values(graph))


def test_woven_loops_inside_of_runs_and_of_outputs() -> None:
    graph = passes(24, 2, 2)
    woven = weave_graph(graph, {0: Weave(0, 2, 3), 1: Weave(0, 2, 3)})
    assert woven.tensors["y1"].shape == (2, 3, 4, 2)
    assert [f.extent for f in woven.operators[1].factors] == [4, 2, 3, 2]
    np.testing.assert_array_equal(values(woven), values(graph))


def test_reductions_know_their_factors_in_a_woven_loop() -> None:
    graph = passes(8, 4, 1)
    total = Operator(
        "total",
        Unit.VECTOR,
        (Factor("m", 8), Factor("n", 4, Reducer.SUM)),
        (Operand("y0", (), (0, 1)),),
        (Result("s", (0,), (0,), 0),),
        (Instruction("ReduceSum", (0,), DType.FP32, (("factors", (1,)),)),),
    )
    graph = replace(
        graph,
        tensors=graph.tensors | {"s": tensor("s", 8)},
        operators=(*graph.operators, total),
        outputs=(Output("out", "s", ()),),
    )
    woven = weave_graph(graph, {1: Weave(0, 1, 2)})
    assert woven.operators[1].body[0].attribute("factors") == (2,)
    np.testing.assert_allclose(values(woven), values(graph), rtol=1e-6)


def test_who_writes_boxes_of_one_tensor_is_woven_with_the_others_or_not_at_all() -> None:
    graph = passes(8, 2, 1)
    half = replace(graph.operators[0], factors=(Factor("m", 8), Factor("n", 1)), operands=())
    left, right = (
        replace(
            half,
            name=f"box{column}",
            operands=(Operand("x", (Transpose((1, 0)), Reshape((2, 8)), Transpose((1, 0))), (0, None)),) * 2,
            factors=(Factor("m", 8),),
            results=(Result("y0", (0, None), (0, column), 0),),
        )
        for column in (0, 1)
    )
    boxes = replace(graph, operators=(left, right))
    assert weave_graph(boxes, {0: Weave(0, 1, 4)}).operators == boxes.operators
    both = weave_graph(boxes, {0: Weave(0, 1, 4), 1: Weave(0, 1, 4)})
    assert both.tensors["y0"].shape == (4, 2, 2)


def test_ones_own_entry_is_still_seen_first() -> None:
    """Whoever reads what it wrote itself must not seem to wait for the others."""
    graph = passes(8, 2, 1)
    gathered = replace(
        graph,
        tensors=graph.tensors | {"y0": tensor("y0", 3, 8, 2), "z": tensor("z", 8, 2)},
        operators=(
            replace(graph.operators[0], results=(Result("y0", (None, 0, 1), (0, 0, 0), 0, (0,)),)),
            replace(
                graph.operators[0],
                operands=(Operand("y0", (Own(0, (0,), 3), Reshape((8, 2))), (0, 1)),) * 2,
                results=(Result("z", (0, 1), (0, 0), 0),),
            ),
        ),
    )
    woven = weave_graph(gathered, {0: Weave(0, 1, 4)})
    assert woven.tensors["y0"].shape == (3, 4, 2, 2)
    assert woven.operators[1].operands[0].view == (Own(0, (0,), 3), Reshape((8, 2)))


def test_steps_that_readers_need() -> None:
    made = Written(Loop(0, 2, 4), (0, 1), (0, 0), (8, 6), (8, 6))
    assert steps_needed(made, Seen((), (0, 1)), Loop(0, 2, 4)) == (1, 2, 3, 4)
    assert steps_needed(made, Seen((), (0, 1)), Loop(0, 4, 2)) == (2, 4)
    assert steps_needed(made, Seen((Transpose((1, 0)),), (0, 1)), Loop(0, 2, 3)) is None
    assert steps_needed(made, Seen((Transpose((1, 0)),), (0, 1)), Loop(1, 1, 8)) == (1, 1, 2, 2, 3, 3, 4, 4)
    assert block_of_steps(made, Seen((), (0, 1)), 0) == 2
    assert block_of_steps(made, Seen((), (0, 1)), 1) is None


def exchanging(graph: Graph) -> Graph:
    """The graph on chips that send each other its last result."""
    name = graph.operators[-1].results[0].tensor
    return replace(graph, exchanges=(Exchange(name, name, ExchangeKind.GATHER, (0,)),))


def test_operators_that_stream_into_one_another_take_turns() -> None:
    graph = exchanging(passes(256, 4096, 3))
    tiled = tile_graph(graph, RING.chip)
    order = issue_order(graph, tiled, [range(3)])
    turns = [operator for operator, _ in groupby(portion.operator for portion in order)]
    assert turns == [0, 1, 2] * (len(turns) // 3)
    assert len(turns) > 3
    for operator, done in tiled.items():
        mine = [portion for portion in order if portion.operator == operator]
        assert [p.first for p in mine] == [0, *(p.last for p in mine[:-1])]
        assert mine[-1].last == len(done.offset)


def test_who_waits_for_all_of_another_takes_no_turns() -> None:
    across = (Transpose((1, 0)), Reshape((256, 4096)))
    graph = exchanging(passes(256, 4096, 2, across))
    assert [p.operator for p in issue_order(graph, tile_graph(graph, RING.chip), [range(2)])] == [0, 1]
    alone = passes(256, 4096, 2)
    assert [p.operator for p in issue_order(alone, tile_graph(alone, RING.chip), [range(2)])] == [0, 1]
    apart = exchanging(alone)
    assert [p.operator for p in issue_order(apart, tile_graph(apart, RING.chip), [[0], [1]])] == [0, 1]


def compiled(model: str, target: str, groups: tuple[int, ...], **options: Any) -> Plan:
    path = find_model(model)
    return compile_model(path, target=load_target(target), groups=groups, chips=sum(groups), **options).plan


def test_partial_sums_are_scattered_while_they_are_made() -> None:
    """The published product on 8 chips: half of the exchange's cycles, and more, are those of compute."""
    plan = compiled("gemm-isca", "groq-264", (8,), objective="latency")
    assert [exchange.kind for exchange in plan.graph.exchanges] == [ExchangeKind.SCATTER]
    tiles, clock = plan.stages[0].program.tiles, plan.target.chip.clock_hz
    compute = int(tiles.end[tiles.operator == 0].max())
    assert plan.hops.start.min() < compute // 10
    assert 1e6 * plan.latency / clock <= 330
    assert plan.latency - compute < compute // 20


def test_loops_of_a_transformer_on_a_group_are_woven_and_right() -> None:
    plan = compiled("bert-tiny", "groq-node", (4,), objective="latency", precision="fp16")
    names = [factor.name for operator in plan.graph.operators for factor in operator.factors]
    assert any(name.endswith("/within") for name in names)
    assert check_numerics(plan, find_model("bert-tiny")).ok
