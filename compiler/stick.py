"""The measuring stick of a baseline: a target and options of the command line, by their names.

The options are those that `compile` has for planning and shape, whatever they are, so that none that
changes a plan is ever left out.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from chiplan.ir import BadInput, Plan, Problem, Target
from chiplan.models import find_target, load_target, target_names

from .baseline import OptionValue
from .cli_options import merged_bindings, with_planning, with_shape

_RESOLVED = ("batch", "context", "objective", "precision", "sequence", "users")
"""Options whose value a baseline states even where it was a default."""


@click.command("stick")
@with_planning
@with_shape
def _stick(**_: Any) -> None:
    """Parses the options of a baseline."""


_OPTIONS = {parameter.opts[0].removeprefix("--"): parameter for parameter in _stick.params}


def option_names() -> tuple[str, ...]:
    """Names of the options that are part of the stick, sorted."""
    return tuple(sorted(_OPTIONS))


def given_options(context: click.Context) -> dict[str, OptionValue]:
    """The options of the stick that the command line gives, as a baseline states them."""
    return {
        name: _stated(context.params[parameter.name])
        for name, parameter in _OPTIONS.items()
        if parameter.name
        and context.get_parameter_source(parameter.name) not in (None, ParameterSource.DEFAULT)
    }


def _stated(value: Any) -> OptionValue:
    """A parsed value as it stands on the command line: `4,4`, or a list of NAME=VALUE."""
    if not isinstance(value, tuple):
        return value if isinstance(value, int | float) else str(value)
    if value and isinstance(value[0], tuple):
        return tuple(f"{name}={setting}" for name, setting in value)
    return ",".join(map(str, value))


def planning(options: Mapping[str, OptionValue]) -> dict[str, Any]:
    """Arguments of `compile_model` for the options. Raises BadInput (`baseline_broken`)."""
    try:
        with _stick.make_context("baseline", list(_words(options))) as context:
            parsed = dict(context.params)
            parsed["bind"] = merged_bindings(parsed["bind"])
            return parsed
    except click.ClickException as error:
        message = f"[options] of the baseline: {error.format_message()}; correct it, or write it again"
        raise BadInput(Problem("baseline_broken", message)) from None


def _words(options: Mapping[str, OptionValue]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, bool):
            # A switch takes no value; one that is off is left out.
            yield from [f"--{name}"] * value
        else:
            values = value if isinstance(value, tuple) else (value,)
            yield from (f"--{name}={setting}" for setting in values)


def resolved_options(given: Mapping[str, OptionValue], plan: Plan) -> dict[str, OptionValue]:
    """What was given, and what the defaults came to, sorted by name."""
    recorded = dict(plan.options)
    # A model without tokens has sequence 1, and no option may say so.
    silent = {"sequence"} if recorded.get("sequence") == "1" and "context" not in recorded else set()
    found: dict[str, OptionValue] = {
        name: int(recorded[name]) if recorded[name].isdecimal() else recorded[name]
        for name in _RESOLVED
        if name in recorded and name not in silent
    }
    return dict(sorted((found | dict(given)).items()))


def stick_target(name: str, baseline: Path) -> Target:
    """The target that a baseline names; a path counts from the baseline's folder. Raises BadInput."""
    return load_target(stick_path(name, baseline))


def stick_path(name: str, baseline: Path) -> Path:
    """The file of the target that a baseline names."""
    return find_target(name) if name in target_names() else baseline.parent / name


def target_name(name_or_path: str, baseline: Path) -> str:
    """How a baseline names a target: a shipped one's name, or the path from the baseline's folder."""
    if name_or_path in target_names():
        return name_or_path
    relative = Path(os.path.relpath(name_or_path, baseline.parent)).as_posix()
    return relative if relative.endswith(".toml") or "/" in relative else f"./{relative}"
