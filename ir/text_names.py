"""How names are written in the text form: plain where they are plain, else quoted and escaped.

A name from a model is untrusted text. What is written is ASCII without control characters, and the
characters that folding (`text_folding`) gives a meaning, { } and |, occur in no name, quoted or not.
"""

import json
import re

PLAIN = r"[A-Za-z0-9_./:@#-]+"
QUOTED = r'"(?:[^"\\]|\\.)*"'
_PLAIN = re.compile(PLAIN)
_ESCAPED = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "{}|\x7f"})


def quoted(text: str) -> str:
    """`text` as a string in double quotes, with JSON's escapes."""
    return json.dumps(text).translate(_ESCAPED)


def written(name: str) -> str:
    """`name` as it stands behind a % (tensor) or an @ (operator, node)."""
    return name if _PLAIN.fullmatch(name) else quoted(name)


def tensor_ref(name: str) -> str:
    return "%" + written(name)


def operator_ref(name: str) -> str:
    return "@" + written(name)


def read_name(text: str) -> str:
    """The name that `written` or `quoted` wrote. Raises ValueError for what no JSON string is."""
    if not text.startswith('"'):
        return text
    name = json.loads(text)
    if not isinstance(name, str):
        raise ValueError(text)
    return name
