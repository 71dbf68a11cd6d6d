"""The README's commands print exactly what the README says (`--update-golden` writes it there)."""

import re
import shlex
from pathlib import Path

import pytest

from chiplan.compiler.cli import main

BLOCK = re.compile(r"```text\n(.*?)```", flags=re.DOTALL)
COMMANDS = (
    "chiplan compile gpt2 --target groq-node --chips 8 -o gpt2.chiplan",
    "chiplan simulate gpt2.chiplan",
    "chiplan compile llama2-7b-decode --target groq-rack --objective latency",
)


def test_the_commands_print_what_the_readme_says(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    update_golden: bool,
) -> None:
    page = repository / "README.md"
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    printed = []
    for command in COMMANDS:
        assert command in text
        assert main(shlex.split(command)[1:]) == 0
        printed.append(capsys.readouterr().out)
    if update_golden:
        blocks = iter(printed)
        text = BLOCK.sub(lambda _: f"```text\n{next(blocks)}```", text)
        page.write_text(text, encoding="utf-8")
    assert BLOCK.findall(text) == printed
