"""`chiplan scale`: what it prints, its exit codes, and what it refuses."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from chiplan.compiler.cli import main
from chiplan.compiler.cli_scale import smallest_system

TINY = ["scale", "bert-tiny", "--target", "tiny-ring"]


def test_the_page_fits_80_columns_and_says_where_linearity_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--chips", "1,2,4", "--weak", "layers"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "layers grow with the chips" in " ".join(text.split())
    assert "Baseline: 1 chip, interval" in text
    assert "Linear (efficiency 95.0 % or more) up to 4 chips" in " ".join(text.split())


def test_one_json_object_whose_parts_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--chips", "1-2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert [point["chips_allowed"] for point in document["points"]] == [1, 2]
    for point in document["points"]:
        assert sum(point["loss_parts"].values()) == point["loss_chip_cycles"]
    assert document["baseline"]["chips"] == 1
    assert document["linear_up_to"] == 2


def test_a_point_below_the_wanted_efficiency_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = [
        "scale",
        "llama-tiny-gqa-past",
        "--target",
        "tiny-ring",
        "--chips",
        "1,4",
        "--objective",
        "latency",
    ]
    assert main([*wanted, "--min-efficiency", "0.9"]) == 1
    assert "4 chips: efficiency" in capsys.readouterr().out
    assert main([*wanted, "--min-efficiency", "0.9", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["below_min_efficiency"]) == (False, [4])
    assert main([*wanted, "--min-efficiency", "0.01"]) == 0


def test_a_picture_on_standard_output_takes_the_place_of_the_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*TINY, "--chips", "1,2", "--svg", "-"]) == 0
    printed = capsys.readouterr().out
    assert main([*TINY, "--chips", "1,2", "--svg", str(tmp_path / "scale.svg")]) == 0
    assert (tmp_path / "scale.svg").read_text(encoding="utf-8") == printed
    assert ET.fromstring(printed).tag.endswith("svg")
    assert "Scaling" in capsys.readouterr().out


def test_when_nothing_fits_it_is_infeasible(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "gpt2", "--chips", "1", "--sequence", "16", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["errors"][0]["smallest_chips"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--chips", "0,1"], "neither a count"),
        (["--chips", "4-2"], "a range rises"),
        (["--chips", "1-99"], "at most"),
        (["--chips", "1x2"], "neither a count"),
        (["--chips", "1", "--json", "--svg", "-"], "keep one"),
        (["--chips", "1,99"], "choose 1 to"),
        (["--chips", "1", "--svg", "/"], "it is a folder"),
        (["--chips", "1", "--layers", "2"], "--weak layers"),
    ],
)
def test_what_it_refuses(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.out + captured.err


def test_the_smallest_system_of_a_count() -> None:
    assert [smallest_system(count) for count in (1, 9, 73, 300, 577, 10**6)] == [
        "groq-node", "groq-rack", "groq-264", "groq-576", "groq-10440", "groq-10440",
    ]  # fmt: skip
