"""`diff`, on plans small enough to count by hand."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from chiplan.compiler.cli import main
from chiplan.compiler.cli_diff import diff_document, diff_markdown
from chiplan.compiler.cli_summary import stated_figures
from chiplan.compiler.diff_html import diff_html
from chiplan.compiler.diff_table import growth
from chiplan.compiler.markdown import markdown_code
from chiplan.compiler.plan_diff import Named, PlanDiff, Row, compare_plans, unlike_rows
from chiplan.compiler.plan_profile import profile_nodes
from chiplan.compiler.plan_summary import summarise_stages
from chiplan.ir import ChipId, Cycle, Operator, Plan, write_plan

HOSTILE = "<script>alert(1)</script>|`*_@user #1\x1b[31m\n\u202e"


def compared(before: Plan, after: Plan) -> PlanDiff:
    return compare_plans(before, after, (Path("a"), Path("b")), ("1", "2"))


def rows_of(diff: PlanDiff) -> dict[str, list[tuple[object, ...]]]:
    return {section.key: [(r.name, r.before, r.after) for r in section.rows] for section in diff.sections}


def renamed(plan: Plan, name: str) -> Plan:
    def rename(operator: Operator) -> Operator:
        return replace(operator, nodes=tuple(f"{name}{node}" for node in operator.nodes))

    return replace(plan, graph=replace(plan.graph, operators=tuple(map(rename, plan.graph.operators))))


def slowed(plan: Plan) -> Plan:
    """The second product takes 8 cycles more, the links carry r for 12 more, and stage 1 is on chip 2."""
    stage = plan.stages[1]
    tiles = replace(stage.program.tiles, end=stage.program.tiles.end + np.array([0, 30]))
    moved = replace(stage, chips=(ChipId(2),), program=replace(stage.program, tiles=tiles))
    hops = replace(plan.hops, end=plan.hops.end + np.array([12, 0, 0]))
    sent = replace(plan.transfers, destination=np.array([2, 2]))
    stages, figures = (plan.stages[0], moved), {"latency": Cycle(107), "interval": Cycle(40)}
    return replace(plan, stages=stages, transfers=sent, hops=hops, **figures)


def test_profile_equals_the_columns(hand_plan: Plan) -> None:
    """Two products of one tile on each of two instances, whose blocks load in 8 cycles; r holds links 8."""
    first, relu, second = profile_nodes(hand_plan)
    assert (first.unit_cycles, relu.unit_cycles, second.unit_cycles) == (8, 4, 16)
    assert (first.link_cycles, relu.link_cycles, second.link_cycles) == (0, 8, 0)
    assert (first.stages, first.chips, second.chips) == ((0,), (0,), (1,))
    assert first.nodes == ("node_first",)
    assert first.kind == second.kind != relu.kind
    assert first.place != second.place


def test_what_moved_and_what_costs_more(hand_plan: Plan) -> None:
    rows = rows_of(compared(hand_plan, slowed(hand_plan)))
    assert rows["moved"] == [("node_second", ("1", "1"), ("1", "2"))]
    assert rows["nodes"] == [
        ("node_second", (16, 0, 16), (40, 0, 40)),
        (profile_nodes(hand_plan)[1].label, (4, 8, 12), (4, 20, 24)),
    ]
    assert ("latency_cycles", (77,), (107,)) in rows["figures"]
    assert rows["transfers"] == [("0 to 1", (2, 64, 8), (2, 64, 20))]
    assert {"options", "target", "renamed", "bounds", "certificates"}.isdisjoint(rows)


def test_other_names_are_renamed_and_nothing_else(hand_plan: Plan) -> None:
    rows = rows_of(compared(hand_plan, renamed(hand_plan, "other/")))
    assert list(rows) == ["renamed"]
    assert next(name for name, _, _ in rows["renamed"]) == "other/node_first"


def test_a_plan_and_itself_differ_in_nothing(hand_plan: Plan) -> None:
    assert rows_of(compared(hand_plan, hand_plan)) == {}


class _Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_are_text_everywhere(hand_plan: Plan) -> None:
    diff = compared(hand_plan, renamed(hand_plan, HOSTILE))
    page = _Tags(diff_html(diff))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert "http" not in diff_html(diff)
    written = diff_html(diff) + diff_markdown(diff) + json.dumps(diff_document(diff), ensure_ascii=False)
    assert not {"\x1b", "\u202e"} & set(written)
    tables = [line for line in diff_markdown(diff).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables}) == 1
    assert "<script" not in diff_markdown(diff)


@pytest.mark.parametrize("mark", "<>&|`*[]()#@!~\\\"'$^={};?")
def test_no_mark_of_markdown_survives(mark: str) -> None:
    code = markdown_code(f"a{mark}b_c_")
    assert re.fullmatch(r"<code>a&#\d+;b_c&#95;</code>", code)


def test_growth_is_shown_to_as_many_places_as_it_needs() -> None:
    assert [growth(*pair) for pair in ((100, 100), (100, 105), (1_000_000, 1_000_001), (0, 3))] == [
        "",
        "+5.0 %",
        "+0.0001 %",
        "+3",
    ]
    assert growth(40, 30) == "-25.0 %"


def test_the_verb(hand_plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "a.chiplan", tmp_path / "b.chiplan"
    write_plan(hand_plan, before)
    write_plan(renamed(hand_plan, "other/"), after)
    assert main(["diff", str(before), str(before)]) == 0
    assert "No difference" in capsys.readouterr().out
    html = tmp_path / "diff.html"
    assert main(["diff", str(before), str(after), "--html", str(html)]) == 0
    text = capsys.readouterr().out
    assert "Renamed" in text
    assert "\x1b" not in text
    assert html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert main(["diff", str(before), str(after), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["identical"] is False
    assert len(document["sections"]["renamed"]) == 3
    assert main(["diff", str(before), str(after), "--markdown"]) == 0
    assert "#### Renamed" in capsys.readouterr().out
    assert main(["diff", str(before), str(after), "--json", "--markdown"]) == 2
    assert main(["diff", str(before), "nowhere.chiplan"]) == 2
    assert main(["diff", str(before), str(after), "--html", str(before)]) == 2


def test_of_equal_names_equal_figures_are_pairs() -> None:
    """Of three certificates of one name the first is gone; the others are as they were."""
    proofs: list[Named] = [("cut", ("optimal", 7, 7)), ("cut", ("optimal", 9, 9)), ("cut", ("optimal", 9, 9))]
    assert list(unlike_rows(proofs, proofs[1:])) == [Row("cut", ("optimal", 7, 7), None)]
    assert list(unlike_rows(proofs, proofs[::-1])) == []
    first, third = (f"sharding of block {number}: cycles" for number in (0, 3))
    assert list(unlike_rows([(first, (5,))], [(third, (5,))])) == []
    assert list(unlike_rows([(first, (5,))], [(third, (6,))])) == [
        Row(first, (5,), None),
        Row(third, None, (6,)),
    ]
    (changed,) = unlike_rows(proofs, [*proofs[1:], ("cut", ("optimal", 8, 8))])
    assert (changed.before, changed.after) == (("optimal", 7, 7), ("optimal", 8, 8))


def test_colours_say_better_or_worse(hand_plan: Plan) -> None:
    """A longer interval is worse, and so are the fewer inferences a second that come of it."""
    page = diff_html(compared(hand_plan, slowed(hand_plan)))
    for label in ("interval, cycles", "inferences a second"):
        (row,) = re.findall(rf"<tr><td>{label}</td>.*?</tr>", page)
        assert 'class="worse"' in row
    back = diff_html(compared(slowed(hand_plan), hand_plan))
    (row,) = re.findall(r"<tr><td>inferences a second</td>.*?</tr>", back)
    assert 'class="better"' in row
    assert re.search(r"\d{3}\.\d{3}", page) is None


def test_one_figure_of_sram_everywhere(hand_plan: Plan) -> None:
    """Holes are not counted, and the last buffer is as long as the alignment makes it."""
    stated = stated_figures(hand_plan, "")["peak_sram_bytes"]
    shown = {str(stage.chips[0]): stage.sram_bytes for stage in summarise_stages(hand_plan)}
    assert stated == shown == {"0": 384, "1": 256}
