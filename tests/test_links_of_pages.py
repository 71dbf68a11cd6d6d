"""Whatever a page links to is there."""

import re
from pathlib import Path

import pytest

LINK = re.compile(r"\]\(([^)\s]+)\)")


def _pages(repository: Path) -> list[Path]:
    return [
        repository / "README.md",
        repository / "CONTRIBUTING.md",
        *sorted((repository / "docs").rglob("*.md")),
    ]


def _anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub makes it."""
    kept = "".join(c for c in heading.strip().lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return {_anchor(line.lstrip("#")) for line in lines if line.startswith("#")}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs"])
def test_every_link_leads_somewhere(repository: Path, name: str) -> None:
    broken = []
    for page in _pages(repository):
        if not page.is_relative_to(repository / name):
            continue
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            if "://" in link:
                continue
            place, _, anchor = link.partition("#")
            target = (page.parent / place).resolve() if place else page
            if not target.exists() or (anchor and anchor not in _anchors(target)):
                broken.append(f"{page.name}: {link}")
    assert broken == []
