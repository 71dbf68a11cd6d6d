"""Plans executed in bytes: right plans give numpy's answer, broken ones do not."""

from dataclasses import replace

import numpy as np
import pytest

from chiplan.ir import (
    BufferColumns,
    ChipId,
    Cycle,
    DType,
    Factor,
    Graph,
    HopColumns,
    Instruction,
    InternalFault,
    Operand,
    Operator,
    Output,
    Plan,
    Reducer,
    Reshape,
    Result,
    Role,
    Slice,
    Stage,
    State,
    Tensor,
    TileColumns,
    TileProgram,
    Tiling,
    TransferColumns,
    Transpose,
    Unit,
    tile_timing,
)
from chiplan.runtime_sim import execute, interpret

UNITS = list(Unit)


def sequential_plan(graph, tilings, target, users=1, interval=None):
    """Everything on chip 0: operators one after the other, tiles in order, no byte used twice."""
    rows, now = [], 8
    for number, (operator, tiling) in enumerate(zip(graph.operators, tilings, strict=True)):
        timing = tile_timing(operator, tiling, graph.tensors, target.chip)
        now += int(timing.load.max())
        for tile, busy in enumerate(timing.occupancy.tolist()):
            rows.append((number, tile, UNITS.index(operator.unit), 0, now, now + busy))
            now += max(busy, int(timing.load.max()))
        now += timing.depth
    tiles = TileColumns(*(np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)))
    names = tuple(sorted(graph.tensors))
    states, buffers, address = {state.tensor for state in graph.states}, [], 0
    for index, name in enumerate(names):
        tensor = graph.tensors[name]
        stride = -(-tensor.nbytes // 8) * 8
        copies = users if name in states else 1
        death = -1 if tensor.role in (Role.WEIGHT, Role.STATE) else now
        buffers.append((index, 0, address, tensor.nbytes, copies, 0, death))
        address += copies * stride
    empty = np.zeros(0, dtype=np.int64)
    program = TileProgram(tuple(range(len(graph.operators))), tuple(tilings), tiles)
    return Plan(
        target=target,
        graph=graph,
        stages=(Stage((ChipId(0),), (1,), program),),
        transfers=TransferColumns(*[empty] * 8),
        hops=HopColumns(*[empty] * 5),
        buffers=BufferColumns(*(np.array(column, dtype=np.int64) for column in zip(*buffers, strict=True))),
        latency=Cycle(now),
        interval=Cycle(interval or now),
        users=users,
        batch=1,
        sequence=1,
        precision="fp16",
        objective="throughput",
        model_fingerprint="",
        tensor_names=names,
    )


def tensor(name, shape, role=Role.VALUE, dtype=DType.FP16, **more):
    return Tensor(name, shape, dtype, role, **more)


def projection(k=20):
    """h[m, n] = sum over k of x[m, k] * w[n, k]^T, with w stored transposed."""
    return Operator(
        "project",
        Unit.MATRIX,
        (Factor("m", 5), Factor("n", 6), Factor("k", k, Reducer.SUM)),
        (Operand("x", (), (0, 2)), Operand("w", (Transpose((1, 0)),), (2, 1))),
        (Result("h", (0, 1), (0, 0), 0),),
        (Instruction("MatMul", (0, 1), DType.FP16),),
    )


def attention_like_graph():
    """Matmul with a ragged k, a softmax numerator over a view that strides cannot express, a cache that
    is appended to and read back, and two outputs that share a tensor in two boxes."""
    exponent = Operator(
        "exponent",
        Unit.VECTOR,
        (Factor("a", 3), Factor("b", 10, Reducer.SUM)),
        (Operand("h", (Transpose((1, 0)), Reshape((3, 10))), (0, 1)), Operand("bias", (), (None, 1))),
        (Result("e", (0, 1), (0, 0), 1), Result("s", (0, None), (0, 0), 2)),
        (
            Instruction("Add", (0, 1), DType.FP16),
            Instruction("Exp", (2,), DType.FP16),
            Instruction("ReduceSum", (3,), DType.FP16, (("factors", (1,)),)),
        ),
    )
    divide = Operator(
        "divide",
        Unit.VECTOR,
        (Factor("a", 3), Factor("b", 10)),
        (Operand("e", (), (0, 1)), Operand("s", (), (0, None))),
        (Result("both", (0, 1), (0, 0), 0),),
        (Instruction("Div", (0, 1), DType.FP16),),
    )
    append = Operator(
        "append",
        Unit.MEMORY,
        (Factor("a", 3), Factor("b", 10)),
        (Operand("both", (Slice((0, 0), (3, 10), (1, 1)),), (0, 1)),),
        (Result("cache", (0, 1), (2, 0), 0),),
        (Instruction("Copy", (0,), DType.FP16),),
    )
    pick = Operator(
        "pick",
        Unit.MEMORY,
        (Factor("row", 5, Reducer.SUM, gathered=True), Factor("i", 4), Factor("b", 10)),
        (Operand("cache", (), (0, 2)), Operand("index", (), (1,))),
        (Result("both", (1, 2), (3, 0), 0),),
        (Instruction("Gather", (0, 1), DType.FP16, (("axis", 0),)),),
    )
    tensors = [
        tensor("x", (5, 20), Role.INPUT),
        tensor("index", (4,), Role.INPUT, DType.INT64),
        tensor("w", (6, 20), Role.WEIGHT),
        tensor("bias", (1, 10), Role.WEIGHT, value=np.linspace(-1, 1, 10).reshape(1, 10)),
        tensor("cache", (5, 10), Role.STATE, resident_rows=(0, 2)),
        *(
            tensor(name, shape)
            for name, shape in (("h", (5, 6)), ("e", (3, 10)), ("s", (3, 1)), ("both", (7, 10)))
        ),
    ]
    operators = (projection(), exponent, divide, append, pick)
    outputs = (
        Output("shares", "both", (Slice((0, 0), (3, 10), (1, 1)),)),
        Output("picked", "both", (Slice((3, 0), (7, 10), (1, 1)),)),
    )
    states = (State("past", "present", "cache", 0),)
    named = {item.name: item for item in tensors}
    return Graph("like", named, operators, ("x", "index"), outputs, states)


TILINGS = (
    Tiling((2, 4, 8), (1, 0, 2)),  # 3 x 2 x 3 tiles, ragged on every axis
    Tiling((2, 10), (0, 1)),
    Tiling((2, 3), (1, 0)),
    Tiling((1, 4), (0, 1)),
    Tiling((5, 3, 4), (1, 2, 0)),
)


def given(seed):
    random = np.random.default_rng(seed)
    return {
        "x": random.normal(0, 1, (5, 20)).astype(np.float16),
        "index": random.integers(-5, 5, 4),
        "past": random.normal(0, 1, (2, 10)).astype(np.float16),
    }


def weights(wanted):
    assert wanted.name == "w"
    return np.random.default_rng(99).normal(0, 0.3, (6, 20)).astype(np.float16)


def expected(inputs):
    """The same computation in double precision."""
    weight = weights(tensor("w", (6, 20))).astype(np.float64)
    hidden = inputs["x"].astype(np.float64) @ weight.T
    exponent = np.exp(hidden.T.reshape(3, 10) + np.linspace(-1, 1, 10))
    shares = exponent / exponent.sum(axis=1, keepdims=True)
    present = np.concatenate([inputs["past"].astype(np.float64), shares])
    return {"shares": shares, "picked": present[inputs["index"]], "present": present}


def assert_close(found, wanted):
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name].astype(np.float64), array, atol=4e-3, err_msg=name)


@pytest.fixture(scope="module")
def graph():
    return attention_like_graph()


@pytest.fixture(scope="module")
def plan(graph, hand_plan):
    return sequential_plan(graph, TILINGS, hand_plan.target)


def test_the_interpreter_agrees_with_numpy(graph):
    inputs = given(0)
    assert_close(interpret(graph, inputs, weights, {"past": inputs["past"]}), expected(inputs))


def test_a_state_needs_its_past(graph):
    with pytest.raises(ValueError, match="past"):
        interpret(graph, {name: given(0)[name] for name in ("x", "index")}, weights, {})


def test_tiles_agree_with_numpy(plan):
    execution = execute(plan, [given(0)], weights)
    assert_close(execution.outputs[0], expected(given(0)))


def test_tiles_agree_with_the_interpreter_operator_by_operator(plan, graph):
    execution = execute(plan, [given(0)], weights)
    whole = interpret(graph, given(0), weights, given(0))
    divide = execution.tiles[2, ChipId(0)]
    np.testing.assert_array_equal(divide.written[0], whole["shares"])


def test_users_have_a_state_each(graph, hand_plan):
    """Two users, interval a latency: copies of the cache in rotation, inputs different each time."""
    two = sequential_plan(graph, TILINGS, hand_plan.target, users=2)
    execution = execute(two, [given(n) for n in range(5)], weights)
    for n, outputs in enumerate(execution.outputs):
        assert_close(outputs, expected(given(n)))


def test_a_resident_state_serves_one_micro_batch_at_a_time(plan):
    hurried = replace(plan, interval=Cycle(1))
    execution = execute(hurried, [given(n) for n in range(3)], weights)
    for n, outputs in enumerate(execution.outputs):
        assert_close(outputs, expected(given(n)))


def with_tile_start(plan, operator, cycles):
    """The tiles of one operator start earlier."""
    tiles = plan.stages[0].program.tiles
    shift = np.where(tiles.operator == operator, cycles, 0)
    moved = replace(tiles, start=tiles.start - shift, end=tiles.end - shift)
    stage = replace(plan.stages[0], program=replace(plan.stages[0].program, tiles=moved))
    return replace(plan, stages=(stage,))


def test_reading_before_the_value_is_there_shows(plan):
    broken = execute(with_tile_start(plan, 2, 1000), [given(0)], weights)
    assert np.isnan(broken.outputs[0]["shares"]).any()


def test_overlapping_buffers_show(plan):
    names, columns = plan.tensor_names, plan.buffers
    address = columns.address.copy()
    address[names.index("s")] = address[names.index("e")]
    broken = execute(replace(plan, buffers=replace(columns, address=address)), [given(0)], weights)
    wanted = expected(given(0))["shares"]
    found = broken.outputs[0]["shares"].astype(np.float64)
    assert not np.allclose(found, wanted, atol=4e-3)


def test_a_missing_buffer_is_a_fault(plan):
    columns = plan.buffers
    keep = columns.tensor != plan.tensor_names.index("e")
    fewer = BufferColumns(*(getattr(columns, name)[keep] for name in columns.__dataclass_fields__))
    with pytest.raises(InternalFault, match="tensor e"):
        execute(replace(plan, buffers=fewer), [given(0)], weights)


def hand_inputs(seed):
    return {"x": np.random.default_rng(seed).normal(0, 1, (4, 8)).astype(np.float16)}


def hand_weights(wanted):
    return np.random.default_rng(ord(wanted.name[-1])).normal(0, 1, (8, 8)).astype(np.float16)


def hand_answer(inputs, graph):
    w1, w2 = (hand_weights(graph.tensors[name]).astype(np.float64) for name in ("w1", "w2"))
    return np.maximum(inputs["x"].astype(np.float64) @ w1, 0) @ w2


def test_two_chips_and_two_routes(hand_plan):
    """Half of r goes over one link, half over two; stage 1 reads it on its own chip."""
    execution = execute(hand_plan, [hand_inputs(0)], hand_weights)
    wanted = hand_answer(hand_inputs(0), hand_plan.graph)
    np.testing.assert_allclose(execution.outputs[0]["y"], wanted, atol=0.05)


def test_micro_batches_apart(hand_plan):
    apart = replace(hand_plan, interval=Cycle(77))
    execution = execute(apart, [hand_inputs(n) for n in range(3)], hand_weights)
    for n, outputs in enumerate(execution.outputs):
        np.testing.assert_allclose(outputs["y"], hand_answer(hand_inputs(n), hand_plan.graph), atol=0.05)


def test_too_few_copies_of_a_buffer_show(hand_plan):
    """r lives for 55 cycles on chip 1: one micro-batch every 30 cycles needs two copies, not one."""
    hurried = replace(hand_plan, interval=Cycle(30))
    broken = execute(hurried, [hand_inputs(n) for n in range(2)], hand_weights)
    wanted = hand_answer(hand_inputs(0), hand_plan.graph)
    assert not np.allclose(broken.outputs[0]["y"], wanted, atol=0.05)
    columns, r = hand_plan.buffers, hand_plan.tensor_names.index("r")
    rotated = (columns.tensor == r) & (columns.chip == 1)
    copies = np.where(rotated, 2, columns.copies)
    address = np.where(rotated, 256, columns.address)
    right = replace(hurried, buffers=replace(columns, copies=copies, address=address))
    execution = execute(right, [hand_inputs(n) for n in range(4)], hand_weights)
    for n, outputs in enumerate(execution.outputs):
        np.testing.assert_allclose(outputs["y"], hand_answer(hand_inputs(n), hand_plan.graph), atol=0.05)


def test_sending_before_the_value_is_there_shows(hand_plan):
    early = replace(hand_plan, transfers=replace(hand_plan.transfers, start=np.array([5, 19])))
    broken = execute(early, [hand_inputs(0)], hand_weights)
    assert np.isnan(broken.outputs[0]["y"]).any()


def test_a_late_arrival_shows(hand_plan):
    late = replace(hand_plan, hops=replace(hand_plan.hops, end=hand_plan.hops.end + 40))
    broken = execute(late, [hand_inputs(0)], hand_weights)
    assert np.isnan(broken.outputs[0]["y"]).any()
