"""Good plans: what the simulator measures on them, and the figures made of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from chiplan.ir import (
    DType,
    Expand,
    Factor,
    Instruction,
    Operand,
    Operator,
    Output,
    Reducer,
    Reshape,
    Result,
    Role,
    Tensor,
    Tiling,
    Transpose,
    Unit,
)
from chiplan.runtime_sim import figures, simulate

from .handmade import (
    Maker,
    buffer_row,
    edited,
    graph_of,
    ring_target,
    small_plan,
    vector_operator,
    with_tiles,
)


@pytest.mark.parametrize("with_state", [True, False])
def test_a_good_plan_has_no_fault(with_state: bool) -> None:
    plan = small_plan(with_state)
    report = simulate(plan)
    assert report.ok, report.faults
    assert report.latency == plan.latency
    assert report.interval == plan.interval


def test_measured_use_of_units_links_and_memory() -> None:
    report = simulate(small_plan())
    units = {(use.chip, use.unit): (use.instances, use.busy) for use in report.units}
    # matmul: 8 tiles of 12 rows, whose blocks take 16 cycles to load;
    # relu: 4 x ceil(240 / 8) = 120; top: 2 x 60; append: 2 x 6; double: 4 x 2.
    assert units == {
        (0, "matrix"): (2, 128),
        (0, "vector"): (2, 120),
        (2, "vector"): (2, 128),
        (2, "memory"): (1, 12),
    }
    assert report.units[0].utilisation == pytest.approx(128 / (2 * 1046))
    # Two transfers of 480 elements of 4 bytes: 60 flits of 3 cycles each, over two links.
    links = [(use.link, use.source, use.destination, use.busy) for use in report.links]
    assert links == [(0, 0, 1, 360), (2, 1, 2, 360)]
    assert [(m.chip, m.peak_bytes, m.usable_bytes) for m in report.memory] == [
        (0, 11_776, 64_512),
        (2, 4_544, 64_512),
    ]
    assert report.critical == "link 0->1 is held for 360 of 1046 cycles"


def test_finish_times_without_state_follow_the_interval() -> None:
    plan = small_plan(with_state=False, interval=500)
    report = simulate(plan, micro_batches=4)
    assert report.latency is not None
    assert report.finish == tuple(report.latency + n * 500 for n in range(4))


def test_bytes_may_be_shared_by_tensors_that_do_not_meet() -> None:
    plan = small_plan()
    row, z = buffer_row(plan, 2, "out"), buffer_row(plan, 2, "z")
    # z dies at 812, out is born at 889 and dies at 916: also 1046 cycles later, before the next z.
    moved = edited(plan.buffers, address={row: int(plan.buffers.address[z])})
    order = np.lexsort((moved.tensor, moved.address, moved.chip))
    moved = edited(moved, **{name: (lambda column: column[order]) for name in moved.__dataclass_fields__})
    assert simulate(replace(plan, buffers=moved)).ok


def test_the_figures_of_a_model_without_state() -> None:
    plan = small_plan(with_state=False, interval=500)
    document = figures(plan, simulate(plan), sha256="ab")
    assert document["ok"] is True
    assert document["faults"] == []
    assert document["latency_cycles"] == plan.latency
    assert document["latency_us"] == pytest.approx(plan.latency / 1000)
    assert document["interval_cycles"] == 500
    assert document["inferences_per_second"] == pytest.approx(1e9 / 500)
    assert document["tokens_per_second_user"] is None
    assert document["tokens_per_second_total"] is None
    assert (document["chips"], document["stages"], document["sha256"]) == (2, 2, "ab")
    json.dumps(document, allow_nan=False)


def test_the_figures_of_a_model_with_state() -> None:
    plan = replace(small_plan(interval=500, users=2), sequence=3)
    document = figures(plan, simulate(plan))
    turn = plan.latency
    assert document["inferences_per_second"] is None
    assert document["tokens_per_second_user"] == pytest.approx(3e9 / turn)
    assert document["tokens_per_second_total"] == pytest.approx(3e9 * min(1 / 500, 2 / turn))
    json.dumps(document, allow_nan=False)


def test_the_figures_of_a_broken_plan_name_its_faults() -> None:
    plan = with_tiles(small_plan(), 0, tile={9: 0})
    document = figures(plan, simulate(plan))
    assert document["ok"] is False
    assert document["latency_cycles"] is None
    assert document["faults"][0]["name"] == "not_covered"
    assert document["faults"][0]["link"] is None
    json.dumps(document, allow_nan=False)


def _attention() -> Maker:
    """scores = q @ k^T with k computed on the chip, so that it must be there before it is loaded; and
    a concatenation written as two boxes of one tensor."""
    tensors = [
        Tensor("q", (2, 5, 8), DType.FP32, Role.INPUT),
        Tensor("raw", (7, 16), DType.FP32, Role.INPUT),
        Tensor("bias", (1, 7), DType.FP32, Role.INPUT),
        Tensor("k", (7, 16), DType.FP32, Role.VALUE),
        Tensor("scores", (2, 5, 7), DType.FP32, Role.VALUE),
        Tensor("both", (2, 5, 14), DType.FP32, Role.VALUE),
    ]
    plane = (Factor("t", 7), Factor("w", 16))
    keys = vector_operator("keys", Operand("raw", (), (0, 1)), plane, Result("k", (0, 1), (0, 0), 0))
    heads = (Reshape((7, 2, 8)), Transpose((1, 2, 0)))
    scores = Operator(
        "scores",
        Unit.MATRIX,
        (Factor("h", 2), Factor("s", 5), Factor("t", 7), Factor("d", 8, Reducer.SUM)),
        (Operand("q", (), (0, 1, 3)), Operand("k", heads, (0, 3, 2))),
        (Result("scores", (0, 1, 2), (0, 0, 0), 0),),
        (Instruction("MatMul", (0, 1), DType.FP32),),
    )
    cube = (Factor("h", 2), Factor("s", 5), Factor("t", 7))
    spread = (Reshape((1, 1, 7)), Expand((2, 5, 7)))
    left = Operator(
        "left",
        Unit.VECTOR,
        cube,
        (Operand("scores", (), (0, 1, 2)), Operand("bias", spread, (0, 1, 2))),
        (Result("both", (0, 1, 2), (0, 0, 0), 0),),
        (Instruction("Add", (0, 1), DType.FP32),),
    )
    right = vector_operator(
        "right", Operand("scores", (), (0, 1, 2)), cube, Result("both", (0, 1, 2), (0, 0, 7), 0)
    )
    graph = graph_of(tensors, (keys, scores, left, right), "both")
    cuts = [
        Tiling((2, 16), (0, 1)),
        Tiling((1, 3, 4, 8), (0, 2, 1, 3)),
        Tiling((1, 5, 3), (2, 0, 1)),
        Tiling((2, 2, 7), (0, 1, 2)),
    ]
    return Maker(graph, ring_target(), cuts)


def test_computed_keys_concatenation_and_broadcast() -> None:
    plan = _attention().plan([(1, 0), (1, 1), (1, 2), (1, 3)])
    report = simulate(plan)
    assert report.ok, report.faults
    assert report.latency == plan.latency


def test_a_stationary_operand_must_be_there_when_it_is_loaded() -> None:
    plan = _attention().plan([(1, 0), (1, 1), (1, 2), (1, 3)])
    tiles = plan.stages[0].program.tiles
    keys = tiles.operator == 0
    ready = int(tiles.end[keys].max()) + 3
    row = int(np.flatnonzero(tiles.operator == 1)[-1])
    # The last tile of scores reads the last rows of k. Ready at its start, but not at its load.
    wide = edited(plan.buffers, birth=lambda column: column * 0)
    only = {int(r): ready + 200 + 20 * i for i, r in enumerate(np.flatnonzero(tiles.operator == 1)[:-1])}
    lengths = tiles.end - tiles.start
    moved = {**only, row: ready + 1}
    late = {r: start + int(lengths[r]) for r, start in moved.items()}
    shift = {int(r): int(tiles.start[r]) + 1000 for r in np.flatnonzero(tiles.operator > 1)}
    ends = {r: start + int(lengths[r]) for r, start in shift.items()}
    long = edited(wide, death=lambda column: column * 0 + 9000)
    broken = with_tiles(
        replace(plan, buffers=long, interval=9000, latency=9000),
        0, start={**moved, **shift}, end={**late, **ends},
    )  # fmt: skip
    faults = simulate(broken).faults
    assert [(f.name, f.operator, f.tensor, f.expected) for f in faults] == [
        ("read_before_ready", "scores", "k", ready)
    ]


def test_half_a_concatenation_is_no_arrival() -> None:
    maker = _attention()
    plan = maker.plan([(1, 0), (1, 1), (1, 2), (1, 3)])
    reader = vector_operator(
        "reader",
        Operand("both", (), (0, 1, 2)),
        (Factor("h", 2), Factor("s", 5), Factor("t", 14)),
        Result("end", (0, 1, 2), (0, 0, 0), 0),
    )
    graph = maker.graph
    end = Tensor("end", (2, 5, 14), DType.FP32, Role.VALUE)
    operators = tuple(
        replace(o, results=(Result("scores2", (0, 1, 2), (0, 0, 0), 0),)) if o.name == "right" else o
        for o in graph.operators
    )
    other = Tensor("scores2", (2, 5, 7), DType.FP32, Role.VALUE)
    graph = replace(
        graph,
        tensors={**graph.tensors, "end": end, "scores2": other},
        operators=(*operators, reader),
        outputs=(Output("out", "end", ()),),
    )
    cuts = [*maker.tilings, Tiling((2, 5, 14), (0, 1, 2))]
    plan = Maker(graph, ring_target(), cuts).plan([(1, i) for i in range(5)])
    assert [(f.name, f.operator, f.tensor) for f in simulate(plan).faults] == [
        ("receive_without_arrival", "reader", "both")
    ]
