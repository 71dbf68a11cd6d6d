"""Where two plan files differ first: the member, and the field or the row inside it."""

import io
import json
from typing import Any

import numpy as np

from .plan_container import unpack


def first_difference(one: bytes, two: bytes) -> str | None:
    """Where two plans' bytes differ first, members in the order of their names; None where they do not."""
    if one == two:
        return None
    first, second = unpack(one), unpack(two)
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            return f"{name} is in one of them alone"
        if first[name] != second[name]:
            return (
                _in_document(first[name], second[name])
                if name == "plan.json"
                else _in_column(name, first, second)
            )
    return "the container"


def _in_column(name: str, first: dict[str, bytes], second: dict[str, bytes]) -> str:
    one, two = (np.load(io.BytesIO(members[name]), allow_pickle=False) for members in (first, second))
    if one.shape != two.shape:
        return f"{name} has the shape {one.shape}, then {two.shape}"
    row = int(np.flatnonzero((one != two).ravel())[0])
    return f"{name}, row {row:,}: {one.ravel()[row]}, then {two.ravel()[row]}"


def _in_document(one: bytes, two: bytes) -> str:
    return f"plan.json, {_in_value(json.loads(one), json.loads(two), 'plan')}"


def _in_value(one: Any, two: Any, path: str) -> str:
    """The path to the first value that differs, and both values."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        key = next(key for key in one if one[key] != two[key])
        return _in_value(one[key], two[key], f"{path}.{key}")
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        place = next(place for place, pair in enumerate(zip(one, two, strict=True)) if pair[0] != pair[1])
        return _in_value(one[place], two[place], f"{path}[{place}]")
    return f"{path}: {_short(one)}, then {_short(two)}"


def _short(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return f"{value!r:.80}"
