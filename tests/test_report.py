"""The report without a browser: what is in the file, and that nothing from a model can break out of it."""

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chiplan.compiler import compile_model
from chiplan.compiler.cli import main
from chiplan.compiler.report_figures import figure_documents
from chiplan.compiler.report_operators import lay_out_operators
from chiplan.compiler.report_page import report_html
from chiplan.compiler.report_source import LONGEST_NAME, Source, shown_name
from chiplan.compiler.report_system import lay_out_system
from chiplan.compiler.report_timeline import overview
from chiplan.ir import Plan, plan_elapsed, write_plan
from chiplan.models import find_model, load_target

HOSTILE = (
    "</script><img src=x onerror=document.title='owned'>",
    "\"'><svg onload=alert(1)>&lt;&amp;",
    "right\u202eto left\u200b and\nlines\x00",
    "{{ 7 * 7 }}{% raw %}<!-- ]]> -->",
    "a" * 10_000,
)


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text of every script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.words.append(data)

    def data(self, name: str) -> Any:
        wanted = [attributes.get("id") for tag, attributes in self.elements if tag == "script"].index(name)
        return json.loads(self.scripts[wanted])


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A model on two groups of two chips."""
    path = find_model("llama-tiny-gqa-past")
    options = {"objective": "latency", "groups": (2, 2), "context": 8}
    return compile_model(path, name=path.stem, target=load_target("groq-node"), **options).plan


@pytest.fixture(scope="module")
def hostile_plan(plan: Plan) -> Plan:
    """The same plan with names that try to get out of where they stand."""
    graph = plan.graph
    operators = tuple(
        replace(operator, nodes=(HOSTILE[number % len(HOSTILE)], f"node {number}"))
        for number, operator in enumerate(graph.operators)
    )
    return replace(
        plan,
        graph=replace(graph, name=HOSTILE[0], operators=operators),
        target=replace(plan.target, name=HOSTILE[1], sources=f"# {HOSTILE[0]}\n"),
        assumptions=HOSTILE,
        options=tuple((name, name) for name in HOSTILE),
    )


@pytest.fixture(scope="module")
def page(plan: Plan) -> Page:
    return Page(report_html(plan, "0" * 64))


def test_the_file_needs_nothing_but_itself(page: Page) -> None:
    """No address anywhere in the markup, and a policy that allows none."""
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
        assert attributes.get("src") is None
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    (policy,) = [a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    assert "unsafe-eval" not in policy
    executed = [
        text
        for text, (_, attributes) in zip(
            page.scripts, [e for e in page.elements if e[0] == "script"], strict=True
        )
        if "type" not in attributes
    ]
    assert len(executed) == 2
    for text in executed:
        assert f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" in policy


def test_hostile_names_are_text(plan: Plan, hostile_plan: Plan) -> None:
    """The page of a plan with hostile names has the elements of the plain one, in the same order."""
    honest, hostile = (Page(report_html(p, "0" * 64)) for p in (plan, hostile_plan))
    plain = [tag for tag, _ in honest.elements]
    assert {tag for tag, _ in hostile.elements} == set(plain)
    assert [t for t, _ in hostile.elements if t == "script"] == ["script"] * 4
    assert "img" not in {tag for tag, _ in hostile.elements}
    words = "".join(hostile.words)
    assert HOSTILE[0] in words
    assert "49" not in re.findall(r"\{\{.*?\}\}|49", words)
    assert "\u202e" not in words
    assert "\\u{202e}" in words
    names = [name for nodes in hostile.data("data")["instances"]["nodes"] for name in nodes]
    assert shown_name(HOSTILE[1]) in names
    assert max(map(len, names)) == LONGEST_NAME
    assert hostile.scripts[2:] == honest.scripts[2:]


def test_the_same_plan_gives_the_same_bytes(plan: Plan) -> None:
    assert report_html(plan, "1" * 64) == report_html(plan, "1" * 64)


def test_every_label_refers_to_something(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-controls", "for"):
            assert attributes.get(name) is None or attributes[name] in ids
        href = attributes.get("href")
        assert href is None or href[1:] in ids


def test_headline_and_figures_are_in_the_markup(plan: Plan, page: Page) -> None:
    """What a reader without scripts sees."""
    words = " ".join(page.words)
    for expected in (
        f"{plan.latency:,} cycles",
        "What binds",
        "Proven lower bounds",
        "The simulator found no fault",
        *plan.assumptions,
        *(proof.problem for proof in plan.certificates),
        plan.model_fingerprint,
    ):
        assert expected in words


def test_folding_loses_no_operator(plan: Plan) -> None:
    """Every operator of every stage is one instance of one box, and no two boxes overlap."""
    source = Source(plan)
    picture = lay_out_operators(source)
    instances = sorted((i.stage, i.operator) for folded in picture.operators for i in folded.instances)
    assert instances == sorted(
        (number, operator) for number, stage in enumerate(plan.stages) for operator in stage.program.operators
    )
    forms = source.structures
    for folded in picture.operators:
        assert len({int(forms[i.operator]) for i in folded.instances}) == 1
    assert len({(folded.x, folded.y) for folded in picture.operators}) == len(picture.operators)


def test_cycles_of_every_node_are_those_of_its_tiles(plan: Plan, page: Page) -> None:
    shown = page.data("data")["instances"]
    spans = iter(zip(shown["stage"], shown["start"], shown["end"], shown["nodes"], strict=True))
    for stage, start, end, nodes in spans:
        program = plan.stages[stage].program
        tiles = program.tiles
        alike = [
            position
            for position, index in enumerate(program.operators)
            if [shown_name(node) for node in plan.graph.operators[index].nodes] == nodes
        ]
        starts = {int(tiles.start[tiles.operator == position].min()) for position in alike}
        assert start in starts
        assert end > int(tiles.start[np.isin(tiles.operator, alike)].min())


def test_the_overview_holds_every_busy_cycle(plan: Plan) -> None:
    """Shares of bins add up to the busy cycles of the columns, but for rounding up to whole per cent."""
    shown = overview(Source(plan))
    for row in shown["rows"]:
        assert len(row["once"]) == len(row["steady"]) == shown["bins"]
        assert all(0 <= share <= 100 for share in (*row["once"], *row["steady"]))
        assert max(row["once"]) > 0
        assert all(0 <= end <= shown["bins"] for end in row["path"])
    assert {row["stage"] for row in shown["rows"]} == set(range(len(plan.stages)))


@pytest.mark.parametrize("target", ["groq-node", "groq-rack", "groq-576", "groq-10440"])
def test_chips_of_a_system_stand_apart(plan: Plan, target: str) -> None:
    picture = lay_out_system(Source(replace(plan, target=load_target(target))))
    places = list(picture.chips.values())
    assert {chip for stage in plan.stages for chip in stage.chips} <= picture.chips.keys()
    cells = {(round(x / picture.radius), round(y / picture.radius)) for x, y in places}
    assert len(cells) == len(places)


def test_figures_know_no_model() -> None:
    first, second = figure_documents(frontier=True), figure_documents(frontier=True)
    assert json.dumps(first) == json.dumps(second)
    assert set(first) == {"system", "operators", "timeline", "memory", "frontier"}


@pytest.fixture
def plan_file(plan: Plan, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.chiplan"
    write_plan(plan, path)
    return path


def test_show_writes_the_report(plan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = plan_file.with_suffix(".html")
    assert main(["show", str(plan_file), "--html", str(html)]) == 0
    assert "latency" in capsys.readouterr().out
    assert 1_000_000 < html.stat().st_size < 5_000_000
    assert main(["show", str(plan_file), "--html", "-"]) == 0
    assert capsys.readouterr().out == html.read_text(encoding="utf-8")
    assert main(["show", str(plan_file), "--html", "-", "--json"]) == 2
    assert main(["show", str(plan_file), "--html", str(plan_file)]) == 2
    assert main(["show", str(plan_file), "--frontier", str(plan_file)]) == 2


def test_a_frontier_is_shown_and_a_broken_one_refused(
    plan: Plan, plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html, found = plan_file.with_suffix(".html"), plan_file.with_suffix(".json")
    passed = plan_elapsed(plan)
    point = {"chips": 4, "latency_cycles": passed.latency, "latency_us": 1.0, "rate": 5.0,
             "interval_cycles": passed.interval, "nondominated": True}  # fmt: skip
    other = {**point, "chips": 2, "latency_us": 2.0}
    found.write_text(json.dumps({"frontier": [point, other]}), encoding="utf-8")
    command = ["show", str(plan_file), "--html", str(html), "--frontier", str(found)]
    assert main(command) == 0
    points = Page(html.read_text(encoding="utf-8")).data("data")["frontier"]
    assert [(p["chips"], p["chosen"]) for p in points] == [(2, False), (4, True)]
    for text in ("{", '{"frontier": []}', '{"frontier": [{"chips": 4}]}', "[1]"):
        found.write_text(text, encoding="utf-8")
        assert main(command) == 2
    assert "compile --pareto --json" in capsys.readouterr().err


def test_a_plan_that_does_not_hold_has_no_report(
    hand_plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hand.chiplan"
    write_plan(hand_plan, path)
    assert main(["show", str(path), "--html", str(tmp_path / "hand.html")]) == 2
    assert "chiplan simulate" in capsys.readouterr().err
    assert not (tmp_path / "hand.html").exists()
