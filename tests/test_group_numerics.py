"""Device graphs and plans of groups: they give what the whole graph gives, and broken ones do not."""

from dataclasses import replace

import numpy as np
import pytest

from chiplan.compiler.numeric_check import first_divergence
from chiplan.ir import (
    ChipId,
    Cycle,
    DType,
    ExchangeKind,
    Factor,
    Instruction,
    Operand,
    Operator,
    Own,
    Plan,
    Reducer,
    Result,
    Role,
    Tensor,
    Unit,
)
from chiplan.runtime_sim import execute, interpret, run_body, run_device_graph

from .group_graphs import (
    Case,
    appended_rows,
    below_largest,
    neighbours,
    own_pieces,
    products,
    products_on_wire,
    table_rows,
)
from .group_plans import group_plan
from .handmade import edited, with_operator

MESHES = [((2,), (0,)), ((3,), (0,)), ((2, 2), (0, 1)), ((2, 2), (1,)), ((8,), (0,))]
MAKERS = {
    "one-shot": lambda mesh, axes: products(mesh, axes, 12, "one"),
    "two-shot": lambda mesh, axes: products(mesh, axes, 12, "two"),
    "uneven": lambda mesh, axes: products(mesh, axes, 5, "two"),
    "largest": lambda mesh, axes: below_largest(mesh, axes, 5),
    "picked": lambda mesh, axes: table_rows(mesh, axes, 11, False),
    "loaded": lambda mesh, axes: table_rows(mesh, axes, 11, True),
    "appended": lambda mesh, axes: appended_rows(mesh, axes, 10),
    "own": lambda mesh, axes: own_pieces(mesh, axes, 5),
    "neighbours": neighbours,
}


def everything(case: Case) -> list[tuple[range, tuple[int, ...]]]:
    """One stage of all operators."""
    return [(range(len(case.device.operators)), case.mesh)]


def wanted(case: Case) -> dict[str, np.ndarray]:
    return interpret(case.whole, case.inputs, case.weight, case.inputs)


def executed(plan: Plan, case: Case) -> dict[str, np.ndarray]:
    return execute(plan, [case.inputs], case.weight).outputs[0]


def assert_same(found, right):
    assert sorted(found) == sorted(right)
    for name, array in right.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5, err_msg=name)


def differs(found, right) -> bool:
    return not all(np.allclose(found[name], array, atol=1e-3) for name, array in right.items())


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("mesh", "axes"), MESHES)
def test_groups_compute_what_one_chip_computes(name, mesh, axes):
    case = MAKERS[name](mesh, axes)
    right = wanted(case)
    assert_same(run_device_graph(case.device, everything(case), case.inputs, case.weight), right)
    assert_same(executed(group_plan(case.device, everything(case)), case), right)


@pytest.mark.parametrize("hidden", [3, 12])
def test_sums_level_by_level(hidden):
    case = products((2, 2), (0, 1), hidden, "levels")
    right = wanted(case)
    assert_same(run_device_graph(case.device, everything(case), case.inputs, case.weight), right)
    assert_same(executed(group_plan(case.device, everything(case)), case), right)


@pytest.mark.parametrize("ways", [2, 3, 8])
def test_partial_sums_of_bytes_are_exact_in_int32(ways):
    case = products_on_wire(ways, 12, DType.INT8, DType.INT32)
    found = executed(group_plan(case.device, everything(case)), case)["out"]
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, wanted(case)["out"])


@pytest.mark.parametrize("ways", [2, 3, 8])
def test_partial_sums_are_rounded_to_their_type_on_the_wire(ways):
    """In fp16 a sum beyond 2,048 is rounded: once a chip, and once an addition in piece order."""
    case = products_on_wire(ways, 12, DType.FP16, DType.FP16)
    x, w = (array.astype(np.float32) for array in (case.inputs["x"], case.weights["w"]))
    part = -(-12 // ways)
    pieces = [slice(c * part, (c + 1) * part) for c in range(ways)]
    total = (x[:, pieces[0]] @ w[pieces[0]]).astype(np.float16)
    for piece in pieces[1:]:
        total += (x[:, piece] @ w[piece]).astype(np.float16)
    assert (total != wanted(case)["out"]).any()
    for found in (
        executed(group_plan(case.device, everything(case)), case),
        run_device_graph(case.device, everything(case), case.inputs, case.weight),
    ):
        np.testing.assert_array_equal(found["out"], total)


@pytest.mark.parametrize(
    ("opcode", "dtype", "identity"),
    [
        ("ReduceSum", DType.FP16, 0),
        ("ReduceMax", DType.FP16, -np.inf),
        ("ReduceMin", DType.FP32, np.inf),
        ("ReduceMax", DType.INT8, -128),
        ("ReduceMin", DType.INT32, 2**31 - 1),
        ("ReduceMax", DType.BOOL, False),
        ("ReduceProd", DType.FP32, 1),
    ],
)
def test_a_reduction_over_nothing_changes_no_other(opcode, dtype, identity):
    tensors = {name: Tensor(name, (2, 3), dtype, Role.VALUE) for name in ("x", "y")}
    body = (Instruction(opcode, (0,), dtype, (("factors", (1,)),)),)
    factors = (Factor("a", 2), Factor("b", 3, Reducer.MAX))
    operand, result = Operand("x", (), (0, 1)), Result("y", (0, None), (0, 0), 0)
    operator = Operator("reduce", Unit.VECTOR, factors, (operand,), (result,), body)
    (found,) = run_body(operator, [np.zeros((2, 0), dtype.numpy)], (2, 0), tensors)
    np.testing.assert_array_equal(found, np.full((2, 1), identity, dtype.numpy))
    assert found.dtype == dtype.numpy


@pytest.mark.parametrize("later", [(1,), (2,), (2, 2)])
def test_pieces_cross_to_another_group(later):
    """The partial sums of a group of three are added by another group."""
    case = products((3,), (0,), 12, "one")
    apart = replace(case.device, exchanges=())
    stages = [(range(3), case.mesh), (range(3, len(apart.operators)), later)]
    assert_same(run_device_graph(apart, stages, case.inputs, case.weight), wanted(case))
    assert_same(executed(group_plan(apart, stages), case), wanted(case))


def test_micro_batches_have_copies_of_their_own():
    case = appended_rows((3,), (0,), 10)
    plan = group_plan(case.device, everything(case))
    other = {name: array + 1 for name, array in case.inputs.items()}
    outputs = execute(plan, [case.inputs, other], case.weight).outputs
    assert_same(outputs[0], wanted(case))
    assert_same(outputs[1], wanted(replace(case, inputs=other)))


@pytest.fixture(scope="module")
def case() -> Case:
    return products((3,), (0,), 12, "two")


@pytest.fixture(scope="module")
def plan(case) -> Plan:
    return group_plan(case.device, everything(case))


def without_transfer(plan: Plan, row: int) -> Plan:
    """The row is still there, and carries nothing."""
    return replace(plan, transfers=edited(plan.transfers, last={row: int(plan.transfers.first[row])}))


@pytest.mark.parametrize("row", range(4))
def test_a_missing_contribution_shows(case, plan, row):
    broken = without_transfer(plan, row)
    right = wanted(case)
    assert differs(executed(broken, case), right)
    divergence = first_divergence(broken, case.weight, 1e-4, [case.inputs], [right], 0)
    assert divergence.operator == "add"
    assert divergence.chip == plan.transfers.destination[row]
    assert divergence.cycle is not None


def test_a_contribution_in_the_wrong_row_shows(case, plan):
    """Chip 0 receives both pieces in one row; the other is never written."""
    rows = np.flatnonzero((plan.transfers.destination == 0) & (plan.transfers.into != plan.transfers.tensor))
    assert len(rows) == 2
    moved = edited(plan.transfers, at={int(rows[0]): int(plan.transfers.at[rows[1]])})
    assert np.isnan(executed(replace(plan, transfers=moved), case)["out"]).any()


def test_a_piece_that_is_not_gathered_shows(case, plan):
    """Every tile is right, but no chip has the whole output."""
    gathers = np.flatnonzero(plan.transfers.into == plan.transfers.tensor)
    last = {int(row): int(plan.transfers.first[row]) for row in gathers}
    broken = replace(plan, transfers=edited(plan.transfers, last=last))
    divergence = first_divergence(broken, case.weight, 1e-4, [case.inputs], [wanted(case)], 0)
    assert divergence.operator is None
    assert "was not there" in divergence.message


def test_another_piece_shows(case, plan):
    """A view of the wrong own piece is a fault of the graph, and named as one."""
    add = plan.graph.operators[3]
    first = add.operands[0]
    view = tuple(replace(step, shift=1) if isinstance(step, Own) else step for step in first.view)
    broken = with_operator(plan, 3, operands=(replace(first, view=view), *add.operands[1:]))
    divergence = first_divergence(broken, case.weight, 1e-4, [case.inputs], [wanted(case)], 0)
    assert divergence.operator is None
    assert "pieces or exchanges" in divergence.message


def test_an_exchange_left_out_shows(case, plan):
    scatter = [e for e in case.device.exchanges if e.kind is ExchangeKind.SCATTER]
    broken = replace(plan, graph=replace(case.device, exchanges=tuple(scatter)))
    divergence = first_divergence(broken, case.weight, 1e-4, [case.inputs], [wanted(case)], 0)
    assert divergence.operator is None


def test_a_partial_sum_is_no_output(case):
    outputs = (replace(case.device.outputs[0], tensor="P", view=()),)
    partial = replace(case.device, outputs=outputs)
    with pytest.raises(ValueError, match="tensor P"):
        run_device_graph(partial, everything(case), case.inputs, case.weight)


def test_iterations_that_a_chip_does_not_have_are_not_stored():
    """Chip 2 of three has no row of four cut into pieces of two: its piece stays poison."""
    case = own_pieces((3,), (0,), 4)
    plan = group_plan(case.device, everything(case))
    execution = execute(plan, [case.inputs], case.weight)
    assert execution.tiles[0, ChipId(2)].written[0].size == 0
    assert execution.tiles[0, ChipId(1)].written[0].size == 6


def test_a_tile_of_one_chip_that_starts_too_early(case, plan):
    """All chips start at the same cycles; the first that reads what has not arrived is named."""
    stage = plan.stages[0]
    tiles = stage.program.tiles
    shift = np.where(tiles.operator == 3, 60, 0)
    early = replace(tiles, start=tiles.start - shift, end=tiles.end - shift)
    broken = replace(plan, stages=(replace(stage, program=replace(stage.program, tiles=early)),))
    divergence = first_divergence(broken, case.weight, 1e-4, [case.inputs], [wanted(case)], 0)
    assert divergence.operator == "add"
    assert divergence.chip == 0


def test_an_output_needs_all_pieces_at_its_latency():
    case = below_largest((3,), (0,), 5)
    plan = group_plan(case.device, everything(case))
    assert differs(executed(replace(plan, latency=Cycle(30)), case), wanted(case))
