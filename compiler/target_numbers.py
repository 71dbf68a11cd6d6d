"""The numbers of a target as its file gives them: two targets are one where these are equal.

Comments, layout and prices do not count: no plan depends on them.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping

from chiplan.ir import Target, printable

_NO_PLAN_DEPENDS_ON = ("cost",)


def target_numbers(target: Target) -> dict[str, bool | int | float | str]:
    """Every value by its dotted key, in the order of the file; a list as its JSON text."""
    try:
        document = tomllib.loads(target.sources)
    except (ValueError, RecursionError):
        # A plan file may carry any text here; it is then one value.
        return {"sources": printable(target.sources)}
    return dict(_flat({key: value for key, value in document.items() if key not in _NO_PLAN_DEPENDS_ON}))


def _flat(table: Mapping[str, object], above: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{printable(key)}.")
        elif isinstance(value, bool | int | float | str):
            yield f"{above}{printable(key)}", value
        else:
            yield f"{above}{printable(key)}", json.dumps(value, default=str)
