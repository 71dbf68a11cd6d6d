"""Text from files that anybody may have made, as it may be shown: on one line, in full view, not too long.

Terminals obey escape sequences, and a line break inside a name forges a line of output.
"""

from typing import TypeGuard

MOST_SHOWN = 2000
"""Characters of one message."""
MOST_NAME = 2**16
"""Characters of one name in a model or a plan."""


def printable(text: str, most: int = MOST_SHOWN) -> str:
    """`text` with every character that cannot be seen written as an escape, cut after `most`."""
    if len(text) > most:
        text = f"{text[: most - 3]}..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def is_name(text: object) -> TypeGuard[str]:
    """Whether `text` may be a name in a model or a plan: text, every character can be seen, and not too
    many."""
    return isinstance(text, str) and len(text) <= MOST_NAME and text.isprintable()
