"""`chiplan check`: hold a model's plan against a baseline, or write the baseline."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chiplan.ir import ChiplanError, ExitCode

from .cli_options import (
    MODEL,
    OUTPUT,
    SectionedCommand,
    target_option,
    with_json,
    with_planning,
    with_shape,
)
from .cli_output import page, print_json, print_refusal, progress, write_text
from .collection import collection_paused
from .output_places import check_places, outputs
from .tolerance import tolerance

if TYPE_CHECKING:
    from .baseline_check import Check, Demand

CHECK_EXAMPLES = """
\b
Examples:
  chiplan check model.onnx --baseline perf.toml --update --target groq-node
  chiplan check model.onnx --baseline perf.toml
  chiplan check model.onnx --baseline perf.toml --max-latency-regression 2%
  chiplan check model.onnx --baseline perf.toml --junit check.xml --markdown
  chiplan check model.onnx --baseline perf.toml --allow target

\b
Exit codes: 0 same or better, 1 worse, 2 bad input, 3 infeasible,
4 incomparable.
"""

Command = Callable[..., Any]


def _limit(name: str, default: str, what: str) -> Callable[[Command], Command]:
    words = f"By how much {what} may grow: a share (2%) or an amount (+3)."
    return click.option(name, type=tolerance, default=default, show_default=True, metavar="LIMIT", help=words)


@click.command("check", cls=SectionedCommand, epilog=CHECK_EXAMPLES)
@MODEL
@click.option("--baseline", "baseline_path", required=True, type=OUTPUT, metavar="FILE", help="The baseline.")
@click.option(
    "--update", is_flag=True, help="Write the baseline instead, with the options given and its own."
)
@_limit("--max-latency-regression", "0%", "latency")
@_limit("--max-interval-regression", "0%", "the interval")
@_limit("--max-chips", "+0", "the chips")
@_limit("--max-sram", "0%", "SRAM of the fullest chip")
@click.option(
    "--allow",
    multiple=True,
    metavar="NAME",
    help="Compare although this differs: target, inputs, outputs, or an option.",
)
@click.option(
    "--same", multiple=True, type=click.Choice(["model", "tool"]), help="Let this be part of the stick."
)
@target_option(help="[the baseline's]")
@with_planning
@with_shape
@click.option("--junit", type=OUTPUT, help="Also write the verdict as a JUnit file.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@with_json
@click.pass_context
@collection_paused()
def check_verb(
    call: click.Context,
    /,
    model: str,
    baseline_path: Path,
    update: bool,
    target_name: str | None,
    junit: Path | None,
    markdown: bool,
    as_json: bool,
    **_: Any,
) -> ExitCode:
    """Hold MODEL's plan against a baseline file: same, better, worse or incomparable.

    Target and options come from the baseline; the defaults below hold for a new one. The model and chiplan
    may change: that is what is checked.
    """
    from .cli_inputs import model_file

    if as_json and markdown:
        raise click.UsageError("--json and --markdown each need standard output; keep one")
    source = model_file(model)
    _check_places(source, baseline_path, target_name, junit, update)
    if update:
        return _update(call, source, baseline_path, target_name, as_json)
    try:
        check = _checked(call, source, baseline_path, target_name, as_json)
    except ChiplanError as refusal:
        if junit is not None:
            from .junit_report import refusal_junit

            write_text(junit, refusal_junit(source.stem, refusal.problems))
        raise
    return _report(check, junit, markdown, as_json)


def _check_places(
    source: Path, baseline: Path, target_name: str | None, junit: Path | None, update: bool
) -> None:
    """The baseline is read, or written with --update; the target may be the one that it names."""
    from chiplan.models import find_target

    read = {"MODEL": source}
    if target_name is not None:
        read["--target"] = find_target(target_name)
    else:
        read |= _named_target(baseline)
    if update:
        check_places(read, outputs({"--baseline": baseline, "--junit": junit}))
    else:
        check_places(read | {"--baseline": baseline}, outputs({"--junit": junit}))


def _named_target(path: Path) -> dict[str, Path]:
    """The target file of a baseline; none where it cannot be read, which is refused later."""
    from .baseline import read_baseline
    from .stick import stick_path

    try:
        name = read_baseline(path).target.name
    except ChiplanError:
        return {}
    return {"the baseline's target": stick_path(name, path)}


def _demand(call: click.Context) -> "Demand":
    """What the command line asks. Raises click.UsageError for a name that nothing has."""
    from .baseline_check import Demand
    from .stick import given_options, option_names

    given = call.params
    names = ("inputs", "outputs", "target", *option_names())
    for name in given["allow"]:
        if name not in names:
            raise click.UsageError(f"--allow {name}: nothing is called so; choose from {', '.join(names)}")
    limits = {
        "latency_cycles": given["max_latency_regression"],
        "interval_cycles": given["max_interval_regression"],
        "chips": given["max_chips"],
        "sram_bytes": given["max_sram"],
    }
    return Demand(given_options(call), given["allow"], given["same"], limits)


def _checked(
    call: click.Context, source: Path, path: Path, target_name: str | None, as_json: bool
) -> "Check":
    from chiplan.models import load_target

    from .baseline import read_baseline

    demand = _demand(call)
    baseline = read_baseline(path)
    from .baseline_check import check_model
    from .stick import stick_target

    target = load_target(target_name) if target_name else stick_target(baseline.target.name, path)
    with progress(as_json) as say:
        return check_model(source, target, baseline, demand, say)


def _report(check: "Check", junit: Path | None, markdown: bool, as_json: bool) -> ExitCode:
    from .cli_check import EXIT_CODES, check_document, check_markdown, print_check, problems
    from .junit_report import check_junit

    code = EXIT_CODES[check.verdict]
    if junit is not None:
        write_text(junit, check_junit(check))
    if as_json:
        print_json(check_document(check))
        return code
    if markdown:
        click.echo(check_markdown(check), nl=False)
    elif code is not ExitCode.INCOMPARABLE:
        print_check(page(), check)
    print_refusal(problems(check), code, as_json=False)
    return code


def _update(
    call: click.Context, source: Path, path: Path, given_target: str | None, as_json: bool
) -> ExitCode:
    """Writes the baseline: with the options given, and otherwise those of the one that is there."""
    from chiplan.models import load_target

    from .baseline import baseline_text, read_baseline
    from .baseline_check import measure
    from .cli_check import print_update, update_document
    from .stick import given_options, stick_target, target_name

    old = read_baseline(path) if path.exists() else None
    if given_target is not None:
        named, target = target_name(given_target, path), load_target(given_target)
    elif old is not None:
        named, target = old.target.name, stick_target(old.target.name, path)
    else:
        raise click.UsageError(f"{path} is new: say what to measure with, --target NAME|FILE and options")
    options = {**(old.options if old else {}), **given_options(call)}
    with progress(as_json) as say:
        measured = measure(source, target, named, options, say)
    write_text(path, baseline_text(measured.stated, path.name))
    if as_json:
        print_json(update_document(old, measured))
    else:
        print_update(page(), path, old, measured)
    return ExitCode.DONE
