"""What people see of groups: the frontier, meshes, shardings, collectives, pictures."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest
from rich.console import Console

from chiplan.compiler import cli, compile_model
from chiplan.compiler.cli import main
from chiplan.compiler.cli_frontier import print_frontier
from chiplan.compiler.cli_sharding import axes_words, folded
from chiplan.compiler.cli_summary import ordered_bounds
from chiplan.compiler.drawing import partition_dot
from chiplan.compiler.drawing_boxes import MOST_BOXES, partition
from chiplan.compiler.drawing_svg import partition_svg
from chiplan.compiler.plan_folding import fold_edges, fold_stages
from chiplan.compiler.plan_frontier import FrontierPoint, mark_nondominated, wanted
from chiplan.compiler.plan_summary import EdgeSummary, StageSummary, summarise_edges, wire_types
from chiplan.compiler.quantities import excess, groups_words, least_and_most
from chiplan.ir import (
    Bound,
    Certificate,
    ChipId,
    MemoryPeak,
    Plan,
    PlannedCollective,
    ShardingChoice,
    Unit,
    read_plan,
)
from chiplan.models import find_model, load_target
from chiplan.partitioner import GroupPlan

Capture = pytest.CaptureFixture[str]
PINS = ["--pin", "node_linear_6=k", "--pin", "node_linear_13=k"]
DECODE = ["compile", "llama-tiny-gqa-past", "--target", "groq-node", "--context", "64", *PINS]


@pytest.fixture(scope="module")
def decode_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of a model with state, on a group of four chips and one of two."""
    path = tmp_path_factory.mktemp("groups") / "decode.chiplan"
    assert main([*DECODE, "--groups", "4,2", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def decode_plan(decode_file: Path) -> Plan:
    return read_plan(decode_file)


def _stage(index: int, weights: int = 8) -> StageSummary:
    chips = tuple(ChipId(4 * index + rank) for rank in range(4))
    busy = dict.fromkeys(Unit, 5)
    peak = MemoryPeak(chips[0], 7 + index, f"a{index}", 60, 64, 100, {"weights": weights}, ())
    return StageSummary(index, chips, (2, 2), f"a{index}", f"b{index}", 3, 0, 9, busy, 64, weights, 0, peak)


def _edge(source: int, destination: int, nbytes: int = 16, cycles: int = 4) -> EdgeSummary:
    return EdgeSummary(source, destination, ("x",), (), nbytes, 1, 1, 1, 1, cycles, 0, 9)


def test_equal_neighbours_are_one_line() -> None:
    stages = [_stage(0), _stage(1), _stage(2), _stage(3, weights=16), _stage(4)]
    runs = fold_stages(stages)
    assert [[stage.index for stage in run] for run in runs] == [[0, 1, 2], [3], [4]]


def test_steps_and_fans_of_equal_bytes_are_one_line() -> None:
    steps = [_edge(0, 1, 32), _edge(1, 2), _edge(2, 3), _edge(3, 4)]
    fan = [_edge(0, 2, 8, 7), _edge(0, 3, 8), _edge(0, 4, 8)]
    runs = fold_edges([*steps, *fan, _edge(1, 1), _edge(2, 2)])
    ends = [[(edge.source, edge.destination) for edge in run] for run in runs]
    assert ends == [[(0, 1)], [(0, 2), (0, 3), (0, 4)], [(1, 1), (2, 2)], [(1, 2), (2, 3), (3, 4)]]
    assert least_and_most([edge.cycles for edge in runs[1]]) == "4-7"


def test_figures_in_words() -> None:
    assert groups_words([(8,), (4, 8), (4, 8), (1,)]) == "8, 2 of 4x8, 1"
    assert [excess(10, 10), excess(110, 10), excess(131, 10)] == ["0.0 %", "1,000.0 %", "1,210.0 %"]
    assert [excess(None, 10), excess(5, 0)] == ["-", "-"]
    assert [axes_words(("n", "n")), axes_words(("none", "n")), axes_words(("k",))] == ["n", "none x n", "k"]


def test_the_largest_bound_comes_first() -> None:
    bounds = [Bound("interval", 3, "a"), Bound("latency", 9, "b"), Bound("interval", 7, "c")]
    told = [(bound.binding, first) for bound, first in ordered_bounds(bounds)]
    assert told == [("c", True), ("a", False), ("b", True)]


def _point(chips: int, latency: int, pace: int) -> FrontierPoint:
    return FrontierPoint(chips, ((chips,),), latency, pace, pace, None, None, 1.0, 1.0, False, False)


def test_a_point_is_marked_when_none_is_as_good_in_everything() -> None:
    points = [_point(1, 9, 9), _point(2, 9, 9), _point(2, 5, 9), _point(4, 6, 3), _point(4, 6, 3)]
    marked = [point.is_nondominated for point in mark_nondominated(points)]
    assert marked == [True, False, True, True, False]


def _choice(node: str, cycles: int, cost: int, factor: str = "n") -> ShardingChoice:
    return ShardingChoice(0, (0,), node, node, (2,), (factor,), ("Replicate",), cycles, (), ("k",), cost)


def test_operators_that_split_alike_are_one_line() -> None:
    norm = [_choice("norm", 10, 9), _choice("norm", 20, 5)]
    linear = [_choice("q", 7, 3), _choice("k", 7, 3), _choice("v", 7, 3), _choice("o", 7, 3, "k")]
    lines = [(words, choice.cycles, choice.next_cost) for choice, words in folded([*norm, *linear])]
    assert lines == [("norm (2)", 30, 5), ("q .. v (3)", 21, 3), ("o", 7, 3)]


def test_every_option_stands_in_the_help(capsys: Capture) -> None:
    for command in (cli.compile_verb, cli.scale_verb):
        assert command.name is not None
        assert main([command.name, "--help"]) == 0
        text = capsys.readouterr().out
        options = [p for p in command.params if isinstance(p, click.Option)]
        assert all(option.opts[-1] in text for option in options)
        assert "<=x<=2147483647" not in text


def test_the_page_of_groups_fits_80_columns(decode_file: Path, decode_plan: Plan, capsys: Capture) -> None:
    assert main(["show", str(decode_file)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for expected in (
        "2 stages on 6 chips",
        "context 64, 1 user resident",
        "partial sums travel as fp16",
        "Inside the groups of stages",
        " gather",
    ):
        assert expected in text
    assert wire_types(decode_plan) == ("fp16",)
    inside = [edge for edge in summarise_edges(decode_plan) if edge.source == edge.destination]
    counted = sum(count for edge in inside for _, count in edge.exchanges)
    assert counted == len({(e.source, e.target) for e in decode_plan.graph.exchanges})


def test_every_choice_and_every_collective_is_told(
    decode_file: Path, decode_plan: Plan, capsys: Capture
) -> None:
    assert main(["show", str(decode_file), "--sharding"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for expected in (
        "on 4 chips, stage 0",
        "on 2 chips, stage 1",
        "Partial(sum)",
        "k*",
        "all-reduce",
        "fp16",
    ):
        assert expected in text
    choices = decode_plan.sharding
    assert any(choice.pinned for choice in choices)
    collectives: list[tuple[int, tuple[int, ...], PlannedCollective]] = [
        (choice.block, choice.mesh, collective) for choice in choices for collective in choice.collectives
    ]
    assert collectives
    # Each value is converted once, whoever reads it.
    kinds = {(block, mesh, c.tensor, c.kind) for block, mesh, c in collectives}
    assert len(kinds) == len(collectives)
    assert all(c.cycles > 0 and c.nbytes > 0 and c.made != c.used for _, _, c in collectives)


@pytest.mark.parametrize("model", ["gpt2-tiny", "llama-tiny-gqa"])
def test_the_cycles_of_a_block_add_up_to_its_certificate(tmp_path: Path, capsys: Capture, model: str) -> None:
    """One stage, so that every block is told whole: layers of each kind, and what is recomputed."""
    path = str(tmp_path / "one.chiplan")
    words = ["compile", model, "--target", "groq-node", "--groups", "7", "--objective", "latency"]
    assert main([*words, "-o", path]) == 0
    plan = read_plan(Path(path))
    (stage,) = plan.stages
    ending = f" on {len(stage.chips)} chips"
    shardings = [c for c in plan.certificates if c.problem.startswith("sharding of block")]
    proved = [int(c.objective) for c in shardings if c.problem.endswith(ending)]
    capsys.readouterr()
    assert main(["show", path, "--sharding"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    told = re.findall(r"hidden behind compute \S+ = (\S+)\.", text)
    assert [int(cycles.replace(",", "")) for cycles in told] == proved
    undecided = [choice for choice in plan.sharding if choice.block < 0]
    assert f"Stage 0 executes {len(undecided)} operators that are cheaper to recompute" in text


def test_show_as_json_has_meshes_and_collectives(decode_file: Path, capsys: Capture) -> None:
    assert main(["show", str(decode_file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [stage["mesh"] for stage in document["stage_details"]] == [[4], [2]]
    assert (document["context"], document["users"], document["wire_types"]) == (64, 1, ["fp16"])
    told = [collective for choice in document["sharding"] for collective in choice["collectives"]]
    assert ("all_reduce", ["Partial(sum)"], ["Replicate"], "fp16") in [
        (c["kind"], c["made"], c["used"], c["dtype"]) for c in told
    ]
    assert any(edge["exchanges"].get("gather") for edge in document["transfers"])


def test_pictures_of_groups(decode_plan: Plan) -> None:
    root = ET.fromstring(partition_svg(decode_plan))
    words = [str(text.text) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "stage 0 on chips 0-3, mesh 4 (node 0)" in words
    assert "links inside" in words
    assert any("gather" in text for text in words)
    assert "stage 1 on chips 4-5, mesh 2" in partition_dot(decode_plan)


def test_many_equal_stages_share_a_box(decode_plan: Plan) -> None:
    """The first stage again and again, without what is sent."""
    stage = decode_plan.stages[0]
    count = MOST_BOXES + 1
    nothing = {name: column[:0] for name, column in vars(decode_plan.transfers).items()}
    hops = {name: column[:0] for name, column in vars(decode_plan.hops).items()}
    plan = replace(
        decode_plan,
        stages=(stage,) * count,
        transfers=replace(decode_plan.transfers, **nothing),
        hops=replace(decode_plan.hops, **hops),
    )
    boxes, edges = partition(plan)
    assert [len(box.stages) for box in boxes] == [count]
    assert edges == []
    assert f"stages 0-{count - 1} on chips" in partition_svg(plan)


def test_a_type_on_the_wire_is_honoured_and_told(tmp_path: Path, capsys: Capture) -> None:
    path = str(tmp_path / "wide.chiplan")
    assert main([*DECODE, "--groups", "4", "--wire", "fp32", "-o", path]) == 0
    printed = capsys.readouterr().out
    assert "partial sums travel as fp32" in printed
    assert "changes nothing" not in printed
    assert (
        main(["compile", "bert-tiny", "--target", "groq-node", "--groups", "1", "--wire", "fp32", "-o", path])
        == 0
    )
    assert "--wire fp32 changes nothing: no partial sums travel" in capsys.readouterr().out


@pytest.fixture(scope="module")
def frontier_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frontier") / "frontier.chiplan"


def test_the_frontier_of_chips_latency_and_interval(frontier_file: Path, capsys: Capture) -> None:
    words = ["compile", "bert-tiny", "--target", "groq-node", "--sequence", "16", "--pareto"]
    assert main([*words, "--chips", "2", "-o", str(frontier_file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    points = document["frontier"]
    assert [point["chips"] for point in points] == sorted(point["chips"] for point in points)
    (written,) = [point for point in points if point["written"]]
    assert written["interval_cycles"] == document["interval_cycles"]
    assert written["latency_cycles"] == document["latency_cycles"]
    kept = [(p["chips"], p["latency_cycles"], p["pace_cycles"]) for p in points if p["nondominated"]]
    assert len(kept) >= 2
    assert not any(
        one != other and all(a <= b for a, b in zip(one, other, strict=True))
        for one in kept
        for other in kept
    )
    # The plan that is written has the shortest interval: the objective is throughput.
    assert written["pace_cycles"] == min(point["pace_cycles"] for point in points)


def test_a_page_of_the_frontier_leaves_out_what_is_beaten() -> None:
    plan = compile_model(find_model("bert-tiny"), target=load_target("groq-node"), sequence=16, chips=1).plan
    points = mark_nondominated([_point(1, 900, 900), _point(2, 901, 901), _point(2, 1_900_000, 90)])
    page = io.StringIO()
    print_frontier(Console(width=80, file=page), points, plan)
    text = " ".join(page.getvalue().split())
    rows = re.findall(r"\* (\d) (\d) (\S+ \S+) - (\S+ \S+) -", text)
    assert rows == [("1", "1", "1.00 us", "1.00 us"), ("2", "2", "2.11 ms", "100 ns")]
    assert "1 plan that another beats in everything: --json has all." in text


def test_what_estimates_show_beaten_is_not_scheduled() -> None:
    """Each plan for what it may be best in: the second has neither the latency nor the interval."""
    proof = Certificate("", "optimal", 0, 0, 0.0, 0.0)
    plans = [
        GroupPlan((), latency, interval, chips, proof)
        for chips, latency, interval in [(1, 9, 9), (2, 9, 9), (2, 5, 9), (4, 6, 3)]
    ]
    assert wanted(plans, is_alone=False) == [
        (plans[0], "throughput"),
        (plans[0], "latency"),
        (plans[2], "latency"),
        (plans[3], "throughput"),
    ]
    assert wanted(plans[:2], is_alone=True) == [(plans[0], "latency"), (plans[1], "latency")]


def test_the_frontier_and_given_groups_exclude_each_other(capsys: Capture) -> None:
    words = ["compile", "bert-tiny", "--target", "groq-node", "--pareto", "--groups", "2"]
    assert main(words) == 2
    assert "keep one" in capsys.readouterr().err
