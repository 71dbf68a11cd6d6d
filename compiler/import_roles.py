"""What each axis of each model input means: batch, sequence, context, past."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .import_symbols import Expression
from .imported import StatePair

BATCH, SEQUENCE, CONTEXT, PAST = "batch", "sequence", "context", "past"

_TOKENS = re.compile(r"(decoder_)?(input_ids|inputs_embeds|token_type_ids|hidden_states|tokens|ids)")
_POSITIONS = re.compile(r"(cache_)?positions?(_ids)?")
_MASK = re.compile(r"(decoder_)?(attention|attn|causal|padding|input)_mask|mask")
_CACHE = re.compile(r"past|cache|kv", re.IGNORECASE)
_CROSS = re.compile(r"encoder|cross", re.IGNORECASE)
_IMAGE = re.compile(r"pixel|image|feature|encoder|cross|audio|mel", re.IGNORECASE)
_BY_SYMBOL = (
    (PAST, re.compile(r"past(_seq\w*|_len\w*|_key_values\w*)?|cache(_len\w*|d\w*)?", re.IGNORECASE)),
    (CONTEXT, re.compile(r"total\w*|context\w*|kv_\w+|past_\w*(\+|_plus_)\w*", re.IGNORECASE)),
    (BATCH, re.compile(r"batch\w*|bs|b|n", re.IGNORECASE)),
    (SEQUENCE, re.compile(r"seq\w*|s|t|length|len|num_tokens|tokens", re.IGNORECASE)),
)


@dataclass(frozen=True)
class ModelInput:
    """A graph input whose dimensions are numbers or expressions; `element_type` is ONNX's."""

    name: str
    element_type: int
    dimensions: tuple[Expression, ...]


Roles = Mapping[tuple[str, int], str]
"""Role of (input name, axis), for the axes that have one."""


def find_roles(inputs: Sequence[ModelInput], states: Iterable[StatePair]) -> Roles:
    """Roles from structure (cache inputs), then names and ranks, then the names of the symbols."""
    past_axes = {pair.past: pair.axis for pair in states}
    has_cache = any(_is_cache(entry, past_axes) for entry in inputs)
    roles: dict[tuple[str, int], str] = {}
    for entry in inputs:
        by_axis = _axes(entry, past_axes, has_cache)
        roles |= {(entry.name, axis): role for axis, role in by_axis.items() if role}
    return roles


def _is_cache(entry: ModelInput, past_axes: Mapping[str, int]) -> bool:
    if entry.name in past_axes:
        return True
    named = _CACHE.search(entry.name) and not _CROSS.search(entry.name)
    return bool(named) and len(entry.dimensions) >= 4


def _axes(entry: ModelInput, past_axes: Mapping[str, int], has_cache: bool) -> dict[int, str]:
    rank = len(entry.dimensions)
    if _is_cache(entry, past_axes):
        return _cache_axes(entry, past_axes)
    if _MASK.fullmatch(entry.name) and rank in (2, 4):
        last = CONTEXT if has_cache else SEQUENCE
        return {0: BATCH, 1: last} if rank == 2 else {0: BATCH, 2: SEQUENCE, 3: last}
    if _POSITIONS.fullmatch(entry.name):
        return {rank - 1: SEQUENCE} | ({rank - 2: BATCH} if rank > 1 else {})
    if _TOKENS.fullmatch(entry.name) and rank in (2, 3):
        return {0: BATCH, 1: SEQUENCE}
    if _IMAGE.search(entry.name):
        return {0: BATCH} if rank else {}
    return _by_symbols(entry)


def _cache_axes(entry: ModelInput, past_axes: Mapping[str, int]) -> dict[int, str]:
    """[B, H, P, D], its transposes, and [2, B, H, P, D] as ORT fuses keys and values."""
    fused = len(entry.dimensions) == 5
    batch = 1 if fused else 0
    if entry.name in past_axes:
        return {batch: BATCH, past_axes[entry.name]: PAST}
    symbolic = [axis for axis, size in enumerate(entry.dimensions) if size.terms and axis != batch]
    return {batch: BATCH} | dict.fromkeys(symbolic[:1], PAST)


def _by_symbols(entry: ModelInput) -> dict[int, str]:
    """An input of unknown name: a symbol that is called batch or sequence says what it is."""
    roles = {axis: _role_of_symbol(size) for axis, size in enumerate(entry.dimensions)}
    return {axis: role for axis, role in roles.items() if role}


def _role_of_symbol(size: Expression) -> str:
    if size.constant or len(size.terms) != 1 or size.terms[0][1] != 1:
        return ""
    symbol = size.terms[0][0]
    return next((role for role, pattern in _BY_SYMBOL if pattern.fullmatch(symbol)), "")
