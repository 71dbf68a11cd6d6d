"""`show` and the pictures, on a plan small enough to count by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import dist
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from chiplan.compiler.cli import main
from chiplan.compiler.cli_output import page
from chiplan.compiler.cli_show import plan_document, print_plan
from chiplan.compiler.drawing import partition_dot
from chiplan.compiler.drawing_svg import partition_svg
from chiplan.compiler.drawing_topology import TOPOLOGY_SIZE, lay_out
from chiplan.compiler.plan_part import Part, part_text
from chiplan.compiler.plan_summary import (
    binding_bounds,
    precision_words,
    summarise_edges,
    summarise_links,
    summarise_stages,
)
from chiplan.ir import (
    BadInput,
    Bound,
    Plan,
    Unit,
    plan_text,
    read_graph,
    read_plan,
    read_plan_text,
    read_stages,
    write_plan,
)

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def plan_file(hand_plan: Plan, tmp_path: Path) -> Path:
    path = tmp_path / "hand.chiplan"
    write_plan(hand_plan, path)
    return path


def test_stage_figures_equal_the_columns(hand_plan: Plan) -> None:
    first, second = summarise_stages(hand_plan)
    assert (first.operators, first.tiles, second.operators, second.tiles) == (2, 3, 1, 2)
    assert first.busy == {Unit.MATRIX: 8, Unit.VECTOR: 4, Unit.SWITCH: 0, Unit.MEMORY: 0}
    assert second.busy[Unit.MATRIX] == 16
    assert (first.sram_bytes, second.sram_bytes) == (64 + 128 + 64 + 2 * 64, 128 + 64 + 64)
    assert (first.weight_bytes, first.state_bytes) == (128, 0)
    assert (first.first_node, second.last_node) == ("node_first", "node_second")


def test_edge_figures_equal_the_columns(hand_plan: Plan) -> None:
    (edge,) = summarise_edges(hand_plan)
    assert (edge.source, edge.destination, edge.tensors) == (0, 1, ("r",))
    assert (edge.nbytes, edge.transfers, edge.routes, edge.links, edge.hops) == (64, 2, 2, 3, 2)
    assert (edge.cycles, edge.start, edge.end) == (8, 19, 41 + 10)
    assert [(used.index, used.busy) for used in summarise_links(hand_plan)] == [(0, 8), (1, 8), (5, 8)]


def test_the_page_fits_80_columns_and_names_everything(
    hand_plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    print_plan(page(), hand_plan)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for expected in (
        "simulated",
        "node_second",
        "link 0->1 is the bottleneck",
        "OPTIMAL",
        "batch = 1 (default)",
    ):
        assert expected in text


def test_show_prints_one_object(plan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(plan_file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert (document["stages"], document["chips"], document["interval_cycles"]) == (2, 2, 10)
    assert document["stage_details"][0]["busy"] == {"matrix": 8, "vector": 4, "switch": 0, "memory": 0}
    assert document["links"][0] == {
        "link": 0, "source": 0, "destination": 1, "port": 0, "busy": 8, "transfers": 1,
    }  # fmt: skip


def test_the_picture_is_well_formed_and_keeps_its_bounds(hand_plan: Plan) -> None:
    root = ET.fromstring(partition_svg(hand_plan))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    texts = list(root.iter(f"{SVG}text"))
    assert any(text.text == 'to node_"<relu>&\\{x}|' for text in texts)
    assert all(0 <= float(t.attrib["x"]) <= width and 0 <= float(t.attrib["y"]) <= height for t in texts)
    assert len([r for r in root.iter(f"{SVG}rect") if r.attrib["class"] == "box"]) == 2
    assert len([c for c in root.iter(f"{SVG}circle") if c.attrib["class"].startswith("busy")]) == 2


def _on_nodes(plan: Plan, nodes: int, chips_a_node: int) -> Plan:
    """The hand-made plan on the first chips of a larger system; its own links keep their numbers."""
    topology = plan.target.topology
    node_of = tuple(node for node in range(nodes) for _ in range(chips_a_node))
    larger = replace(topology, chips=len(node_of), node_of=node_of, rack_of=(0,) * len(node_of))
    return replace(plan, target=replace(plan.target, topology=larger))


@pytest.mark.parametrize(
    ("nodes", "chips_a_node", "boxes", "chips"), [(9, 8, 1, 8), (4, 8, 4, 32), (3, 2, 0, 6), (1, 64, 1, 3)]
)
def test_many_chips_stand_in_boxes_apart_from_each_other(
    hand_plan: Plan, nodes: int, chips_a_node: int, boxes: int, chips: int
) -> None:
    plan = _on_nodes(hand_plan, nodes, chips_a_node)
    picture = lay_out(plan)
    assert picture is not None
    assert (len(picture.boxes), len(picture.chips)) == (boxes, chips)
    places = list(picture.chips.values())
    room = TOPOLOGY_SIZE - picture.radius
    assert all(picture.radius <= x <= room and picture.radius <= y <= room for x, y in places)
    apart = [dist(one, other) for one, other in combinations(places, 2)]
    assert min(apart) > 2 * picture.radius
    root = ET.fromstring(partition_svg(plan))
    numbers = [t.text for t in root.iter(f"{SVG}text") if t.attrib["class"] == "on"]
    assert sorted(map(str, numbers)) == ["0", "1"]


def test_names_are_escaped_in_dot(hand_plan: Plan) -> None:
    text = partition_dot(hand_plan)
    assert 'node_\\"<relu>&\\\\{x}|' in text
    assert 's0 -> s1 [label="64 B, 8 cycles\\l3 links, 2 hops\\l"];' in text
    assert text.count("{") - text.count("{x}") == text.count("}") - text.count("{x}")


def test_show_writes_both_pictures(plan_file: Path, tmp_path: Path) -> None:
    dot, svg = tmp_path / "hand.dot", tmp_path / "hand.svg"
    assert main(["show", str(plan_file), "--dot", str(dot), "--svg", str(svg)]) == 0
    assert dot.read_text(encoding="utf-8").startswith('digraph "hand" {')
    assert svg.read_text(encoding="utf-8").startswith("<svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hand.chiplan", "hand.dot", "hand.svg"]


@pytest.mark.parametrize(("option", "begin"), [("--svg", "<svg"), ("--dot", "digraph")])
def test_a_dash_is_standard_output(
    option: str,
    begin: str,
    plan_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(plan_file.parent)
    assert main(["show", plan_file.name, option, "-"]) == 0
    text, errors = capsys.readouterr()
    assert text.startswith(begin)
    assert text.endswith(("</svg>\n", "}\n"))
    assert errors == ""
    assert list(plan_file.parent.iterdir()) == [plan_file]
    assert main(["show", plan_file.name, option, "-", "--json"]) == 2
    assert "keep one" in capsys.readouterr().out


def test_the_largest_bound_of_each_quantity_binds(hand_plan: Plan) -> None:
    bounds = (
        Bound("interval", 5, "small"),
        Bound("interval", 9, "first"),
        Bound("latency", 7, "path"),
        Bound("interval", 9, "second"),
    )
    plan = replace(hand_plan, bounds=bounds)
    assert [bound.binding for bound in binding_bounds(plan)] == ["first", "path"]
    for text in (partition_dot(plan), partition_svg(plan)):
        assert f"interval {plan.interval:,} cycles" in text
        assert f"latency {plan.latency:,} cycles" in text
        assert "interval &gt;= 9: first" in text or "interval >= 9: first" in text
        assert "small" not in text


def test_the_models_own_precision_is_named(hand_plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    plan = replace(hand_plan, precision="model")
    assert precision_words(replace(plan, precision="fp16")) == "fp16"
    print_plan(page(), plan)
    assert f"precision {precision_words(plan)}" in capsys.readouterr().out
    assert precision_words(plan) == "model (fp16)"
    assert plan_document(plan, "")["precision_types"] == ["fp16"]


def test_a_picture_never_replaces_the_plan(plan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = plan_file.read_bytes()
    assert main(["show", str(plan_file), "--svg", str(plan_file)]) == 2
    assert "it is the file that is read" in capsys.readouterr().err
    assert plan_file.read_bytes() == before


def shown(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["show", *options]) == 0
    return capsys.readouterr().out


def test_the_text_form_reads_back(
    plan_file: Path, hand_plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, str(plan_file), "--ir", "plan")
    assert text == plan_text(read_plan_text(text)) == plan_text(read_plan(plan_file))
    graph = read_graph(shown(capsys, str(plan_file), "--ir", "graph"))
    assert graph == hand_plan.graph
    again, stages = read_stages(shown(capsys, str(plan_file), "--ir", "tiles"))
    assert again == hand_plan.graph
    assert [stage.program.operators for stage in stages] == [(0, 1), (2,)]


def test_a_part_of_the_text_form(plan_file: Path, golden: Callable[[str], None]) -> None:
    parts = (("tiles", Part(stages=(1,))), ("plan", Part(chips=(0,))), ("plan", Part(brief=True)))
    texts = [part_text(read_plan(plan_file), form, part) for form, part in parts]
    lines = "\n".join(texts).splitlines()
    golden("\n".join(line for line in lines if not line.startswith(("target", "column"))) + "\n")


def test_a_part_is_no_whole_plan(plan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--stage", "1"], ["--chip", "0"], ["--brief"]):
        text = shown(capsys, str(plan_file), "--ir", "plan", *options)
        with pytest.raises(BadInput, match="line 1: expected a line of a plan, found 'part'"):
            read_plan_text(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ir", "plan", "--stage", "2"], "--stage 2: the plan has 2, from 0 on"),
        (["--ir", "plan", "--chip", "2"], "--chip 2: no stage of the plan runs on it"),
        (["--ir", "plan", "--json"], "keep one"),
        (["--stage", "0"], "say what --ir prints or --trace writes"),
        (["--brief"], "add --ir graph, tiles or plan"),
        (["--ir", "picture"], "'picture' is not one of"),
    ],
)
def test_parts_that_are_not_there(
    options: list[str], words: str, plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(plan_file), *options]) == 2
    captured = capsys.readouterr()
    assert words in captured.out + captured.err
