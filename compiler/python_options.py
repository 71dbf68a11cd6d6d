"""Options of `chiplan compile` as keyword arguments: read as the command line reads them."""

from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

import click

from chiplan.ir import BadInput, Problem, printable

from .cli_options import PositiveNumber, WholeNumber, merged_bindings
from .verb_compile import check_usage, compile_verb

_NOT_OF_A_PLAN = ("model", "target_name", "output", "twice", "as_json")
_OPTIONS = {
    parameter.opts[0].removeprefix("--").replace("-", "_"): parameter
    for parameter in compile_verb.params
    if isinstance(parameter, click.Option) and parameter.name not in _NOT_OF_A_PLAN
}


def planning_arguments(given: Mapping[str, object]) -> dict[str, Any]:
    """Arguments of `compile_model`, with the defaults of the command line. Raises BadInput (`usage`) for an
    option that there is not, or a value of the wrong kind or range."""
    words = [word for name, value in given.items() for word in _words(name, value)]
    try:
        with compile_verb.make_context("compile", [*words, "--target=-", "-"]) as context:
            asked = {name: value for name, value in context.params.items() if name not in _NOT_OF_A_PLAN}
            check_usage(asked)
            return asked | {"bind": merged_bindings(asked["bind"])}
    except click.ClickException as error:
        raise _wrong(error.format_message()) from None


def _words(name: str, value: object) -> Iterator[str]:
    """An argument as words of a command line; none where it is None, or a switch that is off."""
    names = {option.name: known for known, option in _OPTIONS.items()}
    name = names.get(name, name)
    option = _OPTIONS.get(name)
    if option is None:
        raise _wrong(f"there is no option {printable(name)}; known: {', '.join(_OPTIONS)}")
    if value is None:
        return
    kind = _expected(option)
    if kind is not None and (not isinstance(value, kind[0]) or isinstance(value, bool) != option.is_flag):
        raise _wrong(f"{name}: expected {kind[1]}, found {printable(repr(value))[:80]}")
    word = option.opts[0]
    if option.is_flag:
        yield from [word] * bool(value)
    elif isinstance(value, Mapping):
        yield from (f"{word}={key}={setting}" for key, setting in value.items())
    elif option.multiple and isinstance(value, tuple | list):
        yield from (f"{word}={_joined(item, '=')}" for item in value)
    else:
        yield f"{word}={_joined(value, ',')}"


def _expected(option: click.Option) -> tuple[type, str] | None:
    """The kind of value that an option takes; None where its own reader tells."""
    if option.is_flag:
        return bool, "True or False"
    if isinstance(option.type, WholeNumber):
        return Integral, "a whole number"
    if isinstance(option.type, PositiveNumber):
        return Real, "a number"
    if isinstance(option.type, click.Choice):
        return str, f"one of {', '.join(option.type.choices)}"
    return None


def _joined(value: object, sign: str) -> str:
    return sign.join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _wrong(message: str) -> BadInput:
    return BadInput(Problem("usage", message))
