"""The page of docs/ir.md is what its commands print (`--update-golden` writes it there)."""

import re
import shlex
from pathlib import Path

import pytest

from chiplan.compiler.cli import main

COMPILE = "chiplan compile llama-tiny-gqa --target tiny-ring --chips 2 --sequence 24 -o llama.chiplan"
SHOW = "chiplan show llama.chiplan --ir plan --brief"
PAGE_LINES = 125


def test_the_page_is_what_the_commands_print(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    update_golden: bool,
) -> None:
    page = repository / "docs/ir.md"
    text = page.read_text(encoding="utf-8")
    assert f"```sh\n{COMPILE}\n{SHOW}\n```" in text
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(COMPILE)[1:]) == 0
    capsys.readouterr()
    assert main(shlex.split(SHOW)[1:]) == 0
    block = f"```text\n{capsys.readouterr().out}```"
    if update_golden:
        text = re.sub(r"```text\n.*?```", lambda _: block, text, flags=re.DOTALL)
        page.write_text(text, encoding="utf-8")
    assert block in text
    assert len(block.splitlines()) <= PAGE_LINES
