"""`show --csv`: tables that hold the plan, quoted, and written whole or not at all."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiplan.compiler.cli import main
from chiplan.compiler.plan_tables import Table, text_field, write_table, write_tables
from chiplan.ir import Plan, write_plan

NAMES = ("bounds", "buffers", "certificates", "hops", "links", "operators", "sharding")
NAMES = (*NAMES, "stages", "tiles", "transfers", "units")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_tables_hold_the_columns(hand_plan: Plan, tmp_path: Path) -> None:
    write_tables(hand_plan, tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(NAMES)
    tiles = read(tmp_path / "tiles.csv")
    assert [(int(t["start_cycle"]), int(t["end_cycle"]), t["unit"]) for t in tiles] == [
        (8, 10, "matrix"), (8, 10, "matrix"), (13, 17, "vector"), (70, 72, "matrix"), (72, 74, "matrix"),
    ]  # fmt: skip
    assert [int(t["operator"]) for t in tiles] == [0, 0, 1, 2, 2]
    transfers = read(tmp_path / "transfers.csv")
    assert [(t["tensor"], t["bytes"], t["destination_stage"]) for t in transfers] == [
        ("r", "32", "1"), ("r", "32", "1"),
    ]  # fmt: skip
    links = read(tmp_path / "links.csv")
    assert [int(link["busy_cycles"]) for link in links] == [8, 8, 0, 0, 0, 8]
    units = read(tmp_path / "units.csv")
    assert [(u["unit"], u["instance"], u["busy_cycles"]) for u in units] == [
        ("matrix", "0", "2"), ("matrix", "1", "2"), ("vector", "0", "4"), ("matrix", "0", "4"),
    ]  # fmt: skip
    assert read(tmp_path / "operators.csv")[1]["nodes"] == 'node_"<relu>&\\{x}|'
    assert [bound["value"] for bound in read(tmp_path / "bounds.csv")] == ["8", "60"]
    assert len(read(tmp_path / "buffers.csv")) == len(hand_plan.buffers.chip)


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=2))
def test_any_text_is_one_field_and_no_formula(texts: list[str]) -> None:
    line = ",".join(map(text_field, texts)) + "\r\n"
    (fields,) = csv.reader(io.StringIO(line, newline=""), strict=True)
    for text, field in zip(texts, fields, strict=True):
        is_formula = text.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert field == (f"'{text}" if is_formula else text)


def test_names_that_look_like_formulas_are_text(tmp_path: Path) -> None:
    names = np.array(["=1+1", "-2", "@x", 'a"b,c', "line\nfeed", ""], dtype=object)
    write_table(Table("t", (("name", names), ("number", np.arange(-1, 5)))), tmp_path)
    rows = read(tmp_path / "t.csv")
    assert [row["name"] for row in rows] == ["'=1+1", "'-2", "'@x", 'a"b,c', "line\nfeed", ""]
    assert [int(row["number"]) for row in rows] == [-1, 0, 1, 2, 3, 4]
    assert (tmp_path / "t.csv").read_bytes().startswith(b"name,number\r\n'=1+1,-1\r\n")


def test_the_folder_is_written_whole_or_not_at_all(
    hand_plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, folder = tmp_path / "hand.chiplan", tmp_path / "tables"
    write_plan(replace(hand_plan, bounds=()), plan)
    assert main(["show", str(plan), "--csv", str(folder)]) == 0
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["show", str(plan), "--csv", str(folder)]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    (folder / "thesis.txt").write_text("mine")
    assert main(["show", str(plan), "--csv", str(folder)]) == 2
    assert "the folder holds something else (thesis.txt)" in capsys.readouterr().err
    assert (folder / "thesis.txt").read_text() == "mine"
    assert main(["show", str(plan), "--csv", str(plan)]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hand.chiplan", "tables"]
