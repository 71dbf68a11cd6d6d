"""Values of records in the text form: what JSON has, with words for what is not finite.

    value = "none" | "true" | "false" | integer | real | "inf" | "-inf" | "nan" | text
          | "[" [ value { "," value } ] "]" | "(" [ field { "," field } ] ")"
    field = ( word | text ) "=" value

Whatever the codec (`codec.Codec`) makes of a dataclass has this form, so that a new field of a target, a
certificate or a choice needs no line here.
"""

import math
import re
from typing import Any

from .text_lexer import Line
from .text_names import quoted

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS: dict[str, Any] = {"none": None, "true": True, "false": False}


def value_text(value: Any) -> str:
    """A JSON value, as the codec makes it or with floats that are not finite, in one line."""
    match value:
        case None | True | False:
            return str(value).lower()
        case {"float": str(word), **others} if not others:
            return word
        case dict():
            return f"({fields_text(value)})"
        case list() | tuple():
            return f"[{', '.join(map(value_text, value))}]"
        case str():
            return quoted(value)
        case float():
            return repr(float(value))
    return str(int(value))


def fields_text(fields: dict[str, Any]) -> str:
    return ", ".join(f"{_field_name(name)}={value_text(value)}" for name, value in fields.items())


def _field_name(name: str) -> str:
    return name if _WORD.fullmatch(name) else quoted(name)


def read_value(line: Line) -> Any:
    """The value at the cursor as JSON has it: lists, dicts, scalars; floats as they are."""
    token = line.peek()
    match token.kind, token.text:
        case "whole", _:
            return line.integer()
        case "real", _:
            return float(line.take("real", "a number"))
        case "text", _:
            return line.string()
        case "mark", "[":
            return list(line.bracketed(lambda: read_value(line)))
        case "mark", "(":
            return dict(line.bracketed(lambda: read_field(line), "(", ")"))
        case "word", word if word in _WORDS:
            line.expect(word)
            return _WORDS[word]
    raise line.refusal("a value")


def read_fields(line: Line) -> dict[str, Any]:
    """`name=value` separated by commas, up to the end of the line."""
    return dict(line.items(lambda: read_field(line)))


def read_field(line: Line) -> tuple[str, Any]:
    name = line.string() if line.peek().kind == "text" else line.word("the name of a field")
    line.expect("=")
    return name, read_value(line)


def for_codec(value: Any) -> Any:
    """`value` with the codec's form of floats that are not finite."""
    match value:
        case list():
            return [for_codec(item) for item in value]
        case dict():
            return {name: for_codec(item) for name, item in value.items()}
        case float() if not math.isfinite(value):
            return {"float": str(value)}
    return value
