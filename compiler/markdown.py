"""Markdown for pull requests: tables, and names from models that must not be read as markup."""

import re
from collections.abc import Iterable, Sequence

_PLAIN = re.compile(r"[^\w ,.:/→%+\-]|(?<![^\W_])_|_(?![^\W_])")
"""What may stand as it is: letters, digits, some punctuation, and an underscore inside a word."""


def markdown_text(text: str) -> str:
    """Text in which nothing is markup; every other character is a character reference."""
    return _PLAIN.sub(lambda found: f"&#{ord(found[0])};", text)


def markdown_code(text: str) -> str:
    """The same as code, in which `@name` and `#1` are no mentions."""
    return f"<code>{markdown_text(text)}</code>"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is code and stands left; the others stand right."""
    head = f"| {' | '.join(map(markdown_text, columns))} |"
    rule = f"|:---|{'---:|' * (len(columns) - 1)}"
    body = (f"| {' | '.join((markdown_code(row[0]), *map(markdown_text, row[1:])))} |" for row in rows)
    return "\n".join((head, rule, *body))
