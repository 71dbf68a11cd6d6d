"""A strict codec between frozen dataclasses and JSON values, driven by the type hints alone.

| hint                               | JSON                                                        |
|------------------------------------|-------------------------------------------------------------|
| int (and NewTypes of it)           | number without fraction, 64 bit                             |
| float                              | number; {"float": "inf" / "-inf" / "nan"} if not finite     |
| str, bool, None                    | string, true/false, null                                    |
| Enum                               | its value                                                   |
| tuple                              | array                                                       |
| dict[str or Enum, X]               | object                                                      |
| dataclass                          | object with exactly the fields as keys                      |
| union of dataclasses               | the object, with its class's name in lower case as "kind"   |
| other union                        | told apart by the JSON type                                 |

The coder of every type is made once, so a value costs one call. Decoding refuses, with
`CodecError`, whatever is missing, unknown, or of another type; it never guesses.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, NamedTuple, NewType, Union, get_args, get_origin, get_type_hints

from .printable import is_name
from .types import Lines


class CodecError(ValueError):
    """A JSON value does not have the shape that its type asks for."""


class Coder(NamedTuple):
    """Both directions for one type. `accepts` tells whether a JSON value can be one of it."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    accepts: Callable[[Any], bool]
    holds: Callable[[Any], bool]
    """Whether a Python value is one of this type (tells the members of a union apart)."""


Omitted = Mapping[type, Mapping[str, Any]]
"""Fields that are kept elsewhere: class -> field -> the value that stands for it when decoded."""


class Codec:
    """Encodes and decodes one dataclass type and everything below it."""

    def __init__(self, kind: type, omitted: Omitted | None = None, checked_text: bool = False) -> None:
        """checked_text: decode no string that could not be shown on one line, but for `Lines`."""
        self._omitted = omitted or {}
        self._coders: dict[Any, Coder] = {Lines: _SCALARS[str]}
        if checked_text:
            self._coders[str] = _CHECKED_TEXT
        self._root = self._coder(kind)

    def encode(self, value: object) -> Any:
        """The JSON value (dicts, lists, scalars) of `value`."""
        return self._root.encode(value)

    def decode(self, data: object) -> Any:
        """The value that `data` describes; raises CodecError, which says where and why."""
        return self._root.decode(data)

    def _coder(self, hint: Any) -> Coder:
        while isinstance(hint, NewType) and hint not in self._coders:
            hint = hint.__supertype__
        if hint not in self._coders:
            self._coders[hint] = self._make(hint)
        return self._coders[hint]

    def _make(self, hint: Any) -> Coder:
        if hint in _SCALARS:
            return _SCALARS[hint]
        origin = get_origin(hint)
        if origin in (Union, UnionType):
            return self._union(get_args(hint))
        if origin is tuple:
            return self._tuple(get_args(hint))
        if origin is dict:
            return self._dict(*get_args(hint))
        if isinstance(hint, type) and issubclass(hint, Enum):
            return _enum(hint)
        if is_dataclass(hint) and isinstance(hint, type):
            return self._dataclass(hint)
        raise TypeError(f"no JSON form for {hint}")

    def _tuple(self, arguments: tuple[Any, ...]) -> Coder:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _many(self._coder(arguments[0]))
        return _row([self._coder(argument) for argument in arguments])

    def _dict(self, key_hint: Any, value_hint: Any) -> Coder:
        key, value = self._coder(key_hint), self._coder(value_hint)

        def encode(items: dict[Any, Any]) -> dict[str, Any]:
            return {key.encode(name): value.encode(item) for name, item in items.items()}

        def decode(data: Any) -> dict[Any, Any]:
            _expect(isinstance(data, dict), "an object", data)
            return {key.decode(name): _at(name, value.decode, item) for name, item in data.items()}

        return Coder(encode, decode, lambda data: isinstance(data, dict), lambda item: isinstance(item, dict))

    def _dataclass(self, kind: type) -> Coder:
        hints = get_type_hints(kind)
        omitted = dict(self._omitted.get(kind, {}))
        names = [field.name for field in fields(kind) if field.name not in omitted]
        coders = [(name, self._coder(hints[name])) for name in names]
        encoders = [(name, coder.encode) for name, coder in coders]
        decoders = [(name, coder.decode) for name, coder in coders]
        keys = set(names)

        def encode(item: Any) -> dict[str, Any]:
            return {name: encoder(getattr(item, name)) for name, encoder in encoders}

        def decode(data: Any) -> Any:
            _expect(isinstance(data, dict), f"an object with the fields of {kind.__name__}", data)
            if data.keys() != keys:
                raise CodecError(_key_message(kind, keys, set(data)))
            values = {}
            for name, decoder in decoders:
                try:
                    values[name] = decoder(data[name])
                except CodecError as error:
                    raise CodecError(f"{kind.__name__}.{name}: {error}") from None
            return kind(**values, **omitted)

        return Coder(encode, decode, lambda data: isinstance(data, dict), lambda item: isinstance(item, kind))

    def _union(self, members: tuple[Any, ...]) -> Coder:
        if all(isinstance(member, type) and is_dataclass(member) for member in members):
            return self._tagged(members)
        coders = [self._coder(member) for member in members]

        def encode(item: Any) -> Any:
            return next(coder for coder in coders if coder.holds(item)).encode(item)

        def decode(data: Any) -> Any:
            for coder in coders:
                if coder.accepts(data):
                    return coder.decode(data)
            raise CodecError(f"no form of this field looks like {_short(data)}")

        return Coder(
            encode,
            decode,
            lambda data: any(coder.accepts(data) for coder in coders),
            lambda item: any(coder.holds(item) for coder in coders),
        )

    def _tagged(self, members: tuple[type, ...]) -> Coder:
        tags = {member: member.__name__.lower() for member in members}
        coders = {tag: self._coder(member) for member, tag in tags.items()}

        def encode(item: Any) -> dict[str, Any]:
            tag = tags[type(item)]
            return {"kind": tag, **coders[tag].encode(item)}

        def decode(data: Any) -> Any:
            _expect(isinstance(data, dict), "an object with a kind", data)
            tag = data.get("kind")
            if not isinstance(tag, str) or tag not in coders:
                raise CodecError(f"kind must be one of {', '.join(coders)}, found {_short(tag)}")
            return coders[tag].decode({name: item for name, item in data.items() if name != "kind"})

        return Coder(encode, decode, lambda data: isinstance(data, dict), lambda item: type(item) in tags)


def _many(element: Coder) -> Coder:
    """A tuple of any length of one type."""
    encode_one, decode_one = element.encode, element.decode

    def encode(items: tuple[Any, ...]) -> list[Any]:
        return [encode_one(item) for item in items]

    def decode(data: Any) -> tuple[Any, ...]:
        _expect(isinstance(data, list), "an array", data)
        return tuple([decode_one(item) for item in data])

    return Coder(
        encode,
        decode,
        lambda data: isinstance(data, list) and all(map(element.accepts, data)),
        lambda items: isinstance(items, tuple) and all(map(element.holds, items)),
    )


def _row(coders: list[Coder]) -> Coder:
    """A tuple of a fixed length, each place with its own type."""

    def encode(items: tuple[Any, ...]) -> list[Any]:
        return [coder.encode(item) for coder, item in zip(coders, items, strict=True)]

    def decode(data: Any) -> tuple[Any, ...]:
        _expect(isinstance(data, list) and len(data) == len(coders), f"an array of {len(coders)}", data)
        return tuple([coder.decode(item) for coder, item in zip(coders, data, strict=True)])

    return Coder(
        encode,
        decode,
        lambda data: isinstance(data, list) and len(data) == len(coders),
        lambda items: isinstance(items, tuple) and len(items) == len(coders),
    )


def _enum(kind: type[Enum]) -> Coder:
    values = {member.value: member for member in kind}

    def decode(data: Any) -> Enum:
        if not isinstance(data, str) or data not in values:
            raise CodecError(f"expected one of {', '.join(values)}, found {_short(data)}")
        return values[data]

    return Coder(
        lambda item: item.value,
        decode,
        lambda data: isinstance(data, str) and data in values,
        lambda item: isinstance(item, kind),
    )


def _decode_int(data: Any) -> int:
    if type(data) is not int or not -(2**63) <= data < 2**63:
        raise CodecError(f"expected a 64-bit integer, found {_short(data)}")
    return data


def _encode_float(item: float) -> Any:
    return float(item) if math.isfinite(item) else {"float": str(float(item))}


def _decode_float(data: Any) -> float:
    if isinstance(data, dict) and list(data) == ["float"] and data["float"] in ("inf", "-inf", "nan"):
        return float(data["float"])
    _expect(_is_float(data) and not isinstance(data, dict), "a number", data)
    return float(data)


def _is_float(data: Any) -> bool:
    return (type(data) is float and math.isfinite(data)) or isinstance(data, dict)


def _decode_checked(data: Any) -> str:
    if not is_name(data):
        raise CodecError(f"expected a string of characters that can be shown, found {_short(data)}")
    return data


def _plain(kind: type, words: str) -> Coder:
    def decode(data: Any) -> Any:
        _expect(type(data) is kind, words, data)
        return data

    return Coder(
        lambda item: item, decode, lambda data: type(data) is kind, lambda item: isinstance(item, kind)
    )


_SCALARS: dict[Any, Coder] = {
    int: Coder(int, _decode_int, lambda data: type(data) is int, lambda item: isinstance(item, int)),
    float: Coder(_encode_float, _decode_float, _is_float, lambda item: isinstance(item, float)),
    str: _plain(str, "a string"),
    bool: _plain(bool, "true or false"),
    NoneType: _plain(NoneType, "null"),
}


_CHECKED_TEXT = _SCALARS[str]._replace(decode=_decode_checked)


def _at(name: str, decode: Callable[[Any], Any], item: Any) -> Any:
    try:
        return decode(item)
    except CodecError as error:
        raise CodecError(f"{_short(name)}: {error}") from None


def _expect(holds: bool, words: str, data: Any) -> None:
    if not holds:
        raise CodecError(f"expected {words}, found {_short(data)}")


def _key_message(kind: type, expected: set[str], found: set[str]) -> str:
    missing, unknown = sorted(expected - found), sorted(found - expected)
    parts = [f"lacks {', '.join(missing)}"] if missing else []
    parts += [f"has the unknown field {', '.join(map(_short, unknown))}"] if unknown else []
    return f"{kind.__name__} {' and '.join(parts)}"


def _short(data: Any) -> str:
    """At most 40 characters of a value, for a message."""
    text = (
        f"an array of {len(data)}"
        if isinstance(data, list)
        else repr(data)
        if not isinstance(data, dict)
        else "an object"
    )
    return text if len(text) <= 40 else text[:37] + "..."
