"""Scaling: rows, the ideal, the loss and its parts, and models that are made deeper."""

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from chiplan.compiler.compile import plan_model
from chiplan.compiler.drawing_scaling import scaling_svg
from chiplan.compiler.importer import import_model
from chiplan.compiler.options import Options
from chiplan.compiler.scaling import Load, Measured, Point, Scaling, scale_model
from chiplan.compiler.scaling_depth import find_layers, with_depth
from chiplan.compiler.scaling_loss import (
    PARTS,
    busiest_kind,
    covered_cycles,
    latency_parts,
    throughput_parts,
)
from chiplan.ir import BadInput, Elapsed, Infeasible, Plan, Problem, Target, Unit, plan_elapsed
from chiplan.models import find_model, load_target
from chiplan.runtime_sim import simulate

RING = "tiny-ring"


@pytest.fixture(scope="module")
def ring() -> Target:
    return load_target(RING)


@pytest.fixture(scope="module")
def bert(ring: Target) -> Scaling:
    return scale_model(find_model("bert-tiny"), target=ring, chips=(4, 1, 2, 2))


def test_rows_are_sorted_and_never_get_worse(bert: Scaling) -> None:
    assert [point.allowed for point in bert.points] == [1, 2, 4]
    paces = [point.measured.pace for point in bert.points if point.measured]
    assert paces == sorted(paces, reverse=True)
    assert paces[0] > paces[-1]


@pytest.mark.parametrize("objective", ["throughput", "latency"])
def test_the_parts_add_up_to_the_loss(bert: Scaling, objective: str) -> None:
    scaling = replace(bert, objective=objective)
    for point in scaling.points:
        standing, found = scaling.standing(point), point.measured
        assert standing is not None
        assert found is not None
        assert sum(standing.parts.values()) == standing.loss
        assert sum(found.parts[objective].values()) == point.allowed * found.cycles(objective)
        assert tuple(standing.parts) == tuple(PARTS)
        assert standing.efficiency == pytest.approx(standing.speed_up / standing.ideal)


def test_the_baseline_is_the_ideal_itself(bert: Scaling) -> None:
    standing = bert.standing(bert.points[0])
    assert standing is not None
    assert (standing.efficiency, standing.loss, set(standing.parts.values())) == (1.0, 0, {0})


def test_every_figure_is_the_simulators(bert: Scaling, ring: Target) -> None:
    imported = import_model(find_model("bert-tiny"))
    plan = plan_model(imported, ring, Options(chips=2))
    report = simulate(plan)
    found = bert.points[1].measured
    assert found is not None
    passed = plan_elapsed(plan, max(int(report.latency or 0), plan.latency))
    assert passed.deskew_interval == 16
    assert (found.interval, found.latency) == (passed.interval, passed.latency)


def test_parts_counted_by_hand(hand_plan: Plan) -> None:
    """Chip 0 runs 2 matrix tiles of 8 cycles (loads) on 2 instances, 4 cycles of vector; chip 1 two of 8
    on one instance, in an interval of 10: the busiest instance is held for the whole of it."""
    report = simulate(hand_plan)
    assert busiest_kind(report) is Unit.MATRIX
    parts = throughput_parts(hand_plan, report, 3, Elapsed(77, 12), Unit.MATRIX)
    work = sum(use.busy for use in report.units if use.unit == "matrix") // 2
    assert parts["work"] == work
    assert parts["imbalance"] == 2 * 10 - work
    assert (parts["links"], parts["memory"], parts["schedule"]) == (0, 0, 0)
    assert (parts["fill"], parts["unused"]) == (2 * 2, 12)
    assert sum(parts.values()) == 3 * 12


def test_latency_parts_counted_by_hand(hand_plan: Plan) -> None:
    """Tiles run in [8, 10), [13, 17) on chip 0 and [70, 74) on chip 1; flits are under way in [19, 51)."""
    parts = latency_parts(hand_plan, 3, Elapsed(77, 10))
    assert (parts["work"], parts["fill"]) == (6 + 4, 6 + 4)
    assert (parts["links"], parts["unused"]) == (32 * 2, 77)
    assert sum(parts.values()) == 3 * 77


def test_clocks_and_host_are_parts_of_their_own(hand_plan: Plan) -> None:
    passed = Elapsed(77 + 5 + 9, 10 + 5 + 2, 5, 5, 9, 2)
    parts = latency_parts(hand_plan, 3, passed)
    assert (parts["clocks"], parts["host"], parts["unused"]) == (5 * 2, 9 * 2, 91)
    assert sum(parts.values()) == 3 * 91
    parts = throughput_parts(hand_plan, simulate(hand_plan), 3, passed, Unit.MATRIX)
    assert (parts["clocks"], parts["host"], parts["fill"], parts["unused"]) == (10, 4, 0, 17)
    assert sum(parts.values()) == 3 * 17


def test_covered_cycles() -> None:
    spans = [(np.array([5, 0, 90]), np.array([9, 3, 120])), (np.array([1, 7]), np.array([2, 12]))]
    assert covered_cycles(spans, 100) == 3 + 7 + 10


def _measured(allowed: int, cycles: int) -> Measured:
    parts = dict.fromkeys(PARTS, 0) | {"work": allowed * cycles}
    both = {"throughput": parts, "latency": parts}
    return Measured(allowed, allowed, (1,) * allowed, cycles, cycles, cycles, {}, {}, both, "")


def test_a_point_that_falls_short_is_named() -> None:
    points = (
        Point(1, Load(1), None, Problem("sram_too_small", "no", smallest_chips=2)),
        Point(2, Load(1), _measured(2, 100)),
        Point(4, Load(1), _measured(4, 60)),
    )
    scaling = Scaling("m", "t", 10**9, "throughput", None, "fp16", (), False, points)
    assert scaling.baseline[0] == 2
    assert [point.allowed for point in scaling.short_of(0.9)] == [4]
    assert scaling.short_of(0.8) == ()
    weak = replace(scaling, weak="batch")
    standing = weak.standing(points[2])
    assert standing is not None
    assert (standing.speed_up, standing.ideal, standing.loss) == (
        pytest.approx(2 / 0.6),
        2.0,
        4 * 60 - 4 * 100,
    )


def test_counts_that_do_not_fit_are_rows() -> None:
    node = load_target("groq-node")
    scaling = scale_model(find_model("gpt2"), target=node, chips=(1, 2), sequence=16)
    first, second = scaling.points
    assert first.measured is None
    assert first.refusal is not None
    assert first.refusal.smallest_chips == 2
    assert second.measured is not None
    assert scaling.baseline[0] == 2
    with pytest.raises(Infeasible, match="The smallest number of chips"):
        scale_model(find_model("gpt2"), target=node, chips=(1,), sequence=16)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"chips": (1, 99)}, "chips_out_of_range"),
        ({"chips": ()}, "chips_out_of_range"),
        ({"objective": "chips"}, "unknown_objective"),
        ({"weak": "width"}, "unknown_weak"),
        ({"layers": 3}, "layers_without_weak"),
        ({"weak": "layers", "chips": (2, 3), "layers": 3}, "layers_not_whole"),
    ],
)
def test_what_means_nothing_is_refused(ring: Target, how: dict[str, Any], code: str) -> None:
    asked: dict[str, Any] = {"chips": (1, 2), **how}
    with pytest.raises(BadInput) as refusal:
        scale_model(find_model("vit-tiny"), target=ring, **asked)
    assert code in {problem.code for problem in refusal.value.problems}


def test_weak_scaling_grows_the_work(ring: Target) -> None:
    deeper = scale_model(find_model("vit-tiny"), target=ring, chips=(1, 2), weak="layers", layers=1)
    assert [point.load.layers for point in deeper.points] == [1, 2]
    wider = scale_model(find_model("vit-tiny"), target=ring, chips=(1, 2), weak="batch")
    assert [point.load.batch for point in wider.points] == [1, 2]
    for scaling in (deeper, wider):
        standing = scaling.standing(scaling.points[1])
        assert standing is not None
        assert sum(standing.parts.values()) == standing.loss
        assert 0.5 < standing.efficiency < 1.2


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("bert-large", 24),
        ("gpt2", 12),
        ("llama2-7b-decode", 32),
        ("llama-tiny-gqa-past", 2),
        ("bert-tiny-torchscript", 2),
        ("mixtral-tiny", 2),
    ],
)
def test_layers_are_found_by_structure(name: str, depth: int) -> None:
    assert find_layers(import_model(find_model(name))).count == depth


def test_a_deeper_model_is_the_model_exported_deeper() -> None:
    """GPT-2 cut to 3 layers and grown back to 12 has the nodes of GPT-2, names apart."""
    own = find_layers(import_model(find_model("gpt2")))
    again = with_depth(find_layers(with_depth(own, 3)), 12)
    assert [node.op_type for node in again.nodes] == [node.op_type for node in own.model.nodes]
    renamed: dict[str, str] = {}
    for one, other in zip(own.model.nodes, again.nodes, strict=True):
        for old, new in zip((*one.inputs, *one.outputs), (*other.inputs, *other.outputs), strict=True):
            assert renamed.setdefault(old, new) == new
    assert len(set(renamed.values())) == len(renamed)
    assert all(own.model.tensors[a].shape == again.tensors[b].shape for a, b in renamed.items() if a)


def test_states_grow_with_the_layers() -> None:
    own = import_model(find_model("llama-tiny-gqa-past"))
    deeper = with_depth(find_layers(own), 5)
    assert len(deeper.states) == 2 * 5
    assert len(deeper.inputs) == len(own.inputs) + 2 * 3
    assert {pair.past for pair in deeper.states} <= set(deeper.inputs)
    assert {pair.present for pair in deeper.states} <= set(deeper.outputs)
    assert len(with_depth(find_layers(own), 1).states) == 2


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(BadInput, match="no layers that repeat"):
        find_layers(import_model(find_model("t5-tiny-encoder")))


def test_the_picture_names_every_count_and_part(bert: Scaling) -> None:
    root = ET.fromstring(scaling_svg(bert))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1", "2", "4", "100%"} <= set(texts)
    assert "bert-tiny on tiny-ring" in texts
