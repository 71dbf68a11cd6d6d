"""docs/manual is what the command line says of itself (`--update-golden` writes it)."""

from pathlib import Path

import click
import pytest

from chiplan.compiler.cli import ENDS, chiplan, main
from chiplan.compiler.manual import manual_pages

PAGES = manual_pages(chiplan, "chiplan", ENDS)


def test_the_manual_is_up_to_date(repository: Path, request: pytest.FixtureRequest) -> None:
    folder = repository / "docs/manual"
    if request.config.getoption("--update-golden"):
        folder.mkdir(exist_ok=True)
        for path in folder.glob("*.md"):
            path.unlink()
        for name, text in PAGES.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == PAGES


@pytest.mark.parametrize("name", sorted(set(PAGES) - {"README.md"}))
def test_a_page_tells_what_a_user_asks(name: str) -> None:
    text = PAGES[name]
    assert "## Examples" in text
    assert "## Exit status" in text
    assert "--json" in text or name == "completion.md"
    assert "--help" in text


def test_a_page_lists_the_codes_of_its_verb_alone() -> None:
    said_no = {name for name, text in PAGES.items() if "a check said no" in text}
    assert said_no == {"README.md", "check.md", "scale.md", "simulate.md"}
    assert set(ENDS) <= set(chiplan.commands)


def _paths() -> list[list[str]]:
    """Words of every command, the groups among them."""
    nested = [
        [name, inner]
        for name, command in chiplan.commands.items()
        if isinstance(command, click.Group)
        for inner in command.commands
    ]
    return [[], *([name] for name in chiplan.commands), *nested]


@pytest.mark.parametrize("words", _paths(), ids=" ".join)
def test_help_fits_80_columns(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def _commands() -> list[tuple[str, click.Option]]:
    return [
        (name, option)
        for name, command in chiplan.commands.items()
        for option in command.params
        if isinstance(option, click.Option)
    ]


@pytest.mark.parametrize(("name", "option"), _commands(), ids=lambda value: getattr(value, "name", value))
def test_every_option_says_what_it_is_for(name: str, option: click.Option) -> None:
    assert option.help, f"{name} {option.opts}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_CHIPLAN_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "position", "offered"),
    [
        ("chiplan comp", "1", {"compile", "completion"}),
        ("chiplan compile llama2", "2", {"llama2-7b-decode"}),
        ("chiplan compile gpt2 --target tiny", "4", {"tiny-ring"}),
        ("chiplan compile gpt2 --max", "3", {"--max-latency", "--max-interval"}),
    ],
)
def test_shells_complete_verbs_models_targets_and_options(
    words: str,
    position: str,
    offered: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", position)
    monkeypatch.setenv("_CHIPLAN_COMPLETE", "bash_complete")
    with pytest.raises(SystemExit):
        chiplan.main(args=[], prog_name="chiplan")
    lines = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert {word for kind, word in lines if kind == "plain"} == offered
