"""The command line: verbs, and what becomes of every way in which they end.

What a verb needs is imported inside it, so that `--help` and `--version` answer at once.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from errno import ENOSPC
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chiplan.ir import ChiplanError, ExitCode, InternalFault, Problem

from .cli_options import (
    COUNT,
    SectionedCommand,
    chip_counts,
    merged_bindings,
    with_json,
    with_limits,
    with_planning,
    with_shape,
)
from .cli_output import (
    STANDARD_OUTPUT,
    check_not_input,
    check_writable,
    file_sha256,
    page,
    print_json,
    print_refusal,
    progress,
    write_text,
)
from .collection import collection_paused

if TYPE_CHECKING:
    from .numeric_check import NumericsReport

EXAMPLES = """
\b
Examples:
  chiplan compile gpt2 --target groq-node --chips 8 -o gpt2.chiplan
  chiplan simulate gpt2.chiplan
  chiplan show gpt2.chiplan --svg gpt2.svg
  chiplan show gpt2.chiplan --sharding
  chiplan compile llama2-7b-decode --target groq-rack --objective latency
  chiplan scale bert-large --chips 4-8 --min-efficiency 0.9
  chiplan inspect mymodel.onnx
  chiplan compile mymodel.onnx --sequence 128 --target ./mychip.toml --chips 4 --json

\b
Exit codes: 0 done, 1 a check said no, 2 bad input or usage, 3 infeasible,
4 incomparable, 70 a bug in chiplan.
"""

COMPILE_EXAMPLES = """
\b
Examples:
  chiplan compile gpt2 --target groq-node --chips 8
  chiplan compile bert-large --target groq-node --objective latency --sequence 384
  chiplan compile llama2-7b-decode --target groq-rack --objective latency --pareto
  chiplan compile gpt2 --target groq-node --groups 4,4 --pin node_linear=n
"""

PLAN = click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
OUTPUT = click.Path(path_type=Path)
MODEL = click.argument("model", metavar="MODEL")


@click.group(
    "chiplan",
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
)
@click.version_option(version("chiplan"), prog_name="chiplan")
def chiplan() -> None:
    """Plan an ONNX transformer on many deterministic chips, and prove the plan.

    MODEL is the path of an .onnx file or the name of a model that ships with chiplan.
    """


@chiplan.command("compile", cls=SectionedCommand, epilog=COMPILE_EXAMPLES)
@MODEL
@click.option(
    "--target", "target_name", required=True, metavar="NAME|FILE", help="A shipped target or a TOML file."
)
@with_planning
@with_shape
@click.option("--pareto", is_flag=True, help="Also plan along the frontier of chips, latency and interval.")
@click.option("-o", "--output", type=OUTPUT, help="The plan file. [MODEL's name + .chiplan]")
@with_json
@collection_paused()
def compile_verb(
    model: str,
    target_name: str,
    batch: int,
    sequence: int | None,
    context: int | None,
    bind: tuple[tuple[str, int], ...],
    pareto: bool,
    output: Path | None,
    as_json: bool,
    **planning: Any,
) -> ExitCode:
    """Compile MODEL to a plan, simulate it, and write it."""
    from chiplan.models import load_target

    from .cli_inputs import model_file

    if pareto and planning["groups"] is not None:
        raise click.UsageError("--pareto chooses groups and --groups fixes them; keep one")
    source = model_file(model)
    target = load_target(target_name)
    output = output or Path(f"{source.stem}.chiplan")
    check_writable(output)
    check_not_input(output, source)

    from chiplan.ir import write_plan

    from .cli_frontier import frontier_document, print_frontier
    from .cli_summary import plan_figures, print_figures
    from .cli_tables import print_list
    from .compile import compile_model
    from .quantities import size

    with progress(as_json) as say:
        compiled = compile_model(
            source,
            name=source.stem,
            target=target,
            **planning,
            batch=batch,
            sequence=sequence,
            context=context,
            bind=merged_bindings(bind),
            pareto=pareto,
            progress=say,
        )
    sha256 = write_plan(compiled.plan, output)
    measured = plan_figures(compiled.plan, compiled.report, sha256)
    if pareto:
        measured["frontier"] = frontier_document(compiled.frontier, target)
    if as_json:
        print_json(measured)
    else:
        console = page()
        print_figures(console, compiled.plan, measured)
        print_frontier(console, compiled.frontier, compiled.plan)
        print_list(console, "Assumed", compiled.plan.assumptions)
        console.print(f"wrote {output}, {size(output.stat().st_size)}, sha256 {sha256[:16]}", soft_wrap=True)
    return ExitCode.DONE


@chiplan.command("simulate")
@PLAN
@click.option("--numerics", metavar="MODEL", help="Also execute all tiles and compare with onnxruntime.")
@with_json
@collection_paused()
def simulate_verb(plan_path: Path, numerics: str | None, as_json: bool) -> ExitCode:
    """Check PLAN cycle by cycle; exit code 1 when it has a fault."""
    from .cli_inputs import model_file, plan_of
    from .cli_simulate import examine, print_verdict
    from .cli_summary import plan_figures

    model = model_file(numerics) if numerics is not None else None
    plan = plan_of(plan_path)
    with progress(as_json) as say:
        report, compared = examine(plan, model, say)
    document = plan_figures(plan, report, file_sha256(plan_path))
    if not as_json:
        print_verdict(page(), plan, report.faults, document)
    if model is not None:
        document |= _numerics(compared, as_json)
    if as_json:
        print_json(document)
    return ExitCode.DONE if document["ok"] else ExitCode.CHECK_FAILED


def _numerics(compared: "NumericsReport | None", as_json: bool) -> dict[str, object]:
    """What numerics adds to the verdict; printed as text unless `as_json`. None: the plan has faults."""
    if compared is None:
        return {"numerics": None}
    from .cli_numerics import numerics_document, print_numerics

    if not as_json:
        print_numerics(page(), compared)
    return {"ok": compared.ok, "numerics": numerics_document(compared)}


@chiplan.command("show")
@PLAN
@click.option("--dot", type=OUTPUT, help="Write the partition graph for Graphviz; - is standard output.")
@click.option("--svg", type=OUTPUT, help="Write the partition graph as a picture; - is standard output.")
@click.option("--sharding", is_flag=True, help="What every operator splits, and the next best choice.")
@with_json
@collection_paused()
def show_verb(plan_path: Path, dot: Path | None, svg: Path | None, sharding: bool, as_json: bool) -> ExitCode:
    """Show PLAN: stages, chips, links, memory, interval, latency, what binds."""
    from .cli_inputs import plan_of
    from .cli_sharding import print_sharding
    from .cli_show import plan_document, print_plan
    from .drawing import partition_dot
    from .drawing_svg import partition_svg

    printed = [dot, svg].count(STANDARD_OUTPUT)
    if printed + as_json > 1:
        raise click.UsageError("--dot -, --svg - and --json each need standard output; keep one")
    plan = plan_of(plan_path)
    for path, draw in ((dot, partition_dot), (svg, partition_svg)):
        if path is not None:
            check_not_input(path, plan_path)
            write_text(path, draw(plan))
    if as_json:
        print_json(plan_document(plan, file_sha256(plan_path)))
    elif sharding and not printed:
        print_sharding(page(), plan)
    elif not printed:
        print_plan(page(), plan)
    return ExitCode.DONE


@chiplan.command("scale", cls=SectionedCommand)
@MODEL
@click.option(
    "--chips", type=chip_counts, required=True, metavar="N,N-M,...", help="Counts, such as 1,2,4-8."
)
@click.option(
    "--target", "target_name", metavar="NAME|FILE", help="[the smallest groq-* with the largest count]"
)
@click.option(
    "--objective",
    type=click.Choice(["throughput", "latency"]),
    default="throughput",
    show_default=True,
    help="What is to grow with the chips.",
)
@click.option(
    "--min-efficiency",
    type=click.FloatRange(0.0, 10.0, min_open=True),
    metavar="SHARE",
    help="Exit code 1 when a count has less of the linear ideal, such as 0.9.",
)
@click.option("--weak", type=click.Choice(["layers", "batch"]), help="Let the work grow with the chips.")
@click.option("--layers", type=COUNT, help="With --weak layers: those at the smallest count. [the model's]")
@with_limits
@with_shape
@click.option("--svg", type=OUTPUT, help="Write the curves as a picture; - is standard output.")
@with_json
def scale_verb(
    model: str,
    chips: tuple[int, ...],
    target_name: str | None,
    min_efficiency: float | None,
    bind: tuple[tuple[str, int], ...],
    svg: Path | None,
    as_json: bool,
    **how: Any,
) -> ExitCode:
    """Plan MODEL at several chip counts and hold each against linear scaling."""
    from chiplan.models import load_target

    from .cli_inputs import model_file
    from .cli_scale import print_scaling, scaling_document, smallest_system
    from .drawing_scaling import scaling_svg
    from .scaling import scale_model

    if as_json and svg == STANDARD_OUTPUT:
        raise click.UsageError("--svg - and --json each need standard output; keep one")
    source = model_file(model)
    target = load_target(target_name or smallest_system(max(chips)))
    if svg is not None and svg != STANDARD_OUTPUT:
        check_writable(svg)
        check_not_input(svg, source)
    with progress(as_json) as say:
        scaling = scale_model(
            source,
            name=source.stem,
            target=target,
            chips=chips,
            bind=merged_bindings(bind),
            progress=say,
            **how,
        )
    if svg is not None:
        write_text(svg, scaling_svg(scaling))
    if as_json:
        print_json(scaling_document(scaling, min_efficiency))
    elif svg != STANDARD_OUTPUT:
        print_scaling(page(), scaling, min_efficiency)
    short = min_efficiency is not None and scaling.short_of(min_efficiency)
    return ExitCode.CHECK_FAILED if short else ExitCode.DONE


@chiplan.command("inspect")
@MODEL
@with_json
def inspect_verb(model: str, as_json: bool) -> ExitCode:
    """Show what MODEL holds and what of it is not supported, before anything else."""
    from .cli_inputs import model_file
    from .cli_inspect import inspect_document, print_inspection

    path = model_file(model)
    if as_json:
        print_json(inspect_document(path))
    else:
        print_inspection(page(), path)
    return ExitCode.DONE


@chiplan.group("targets", invoke_without_command=True)
@with_json
@click.pass_context
def targets_group(context: click.Context, as_json: bool) -> ExitCode | None:
    """List the targets that ship; `show NAME` prints one with its sources."""
    context.obj = as_json
    if context.invoked_subcommand is not None:
        return None
    from .cli_catalogue import print_targets, targets_document

    if as_json:
        print_json(targets_document())
    else:
        print_targets(page())
    return ExitCode.DONE


@targets_group.command("show")
@click.argument("name", metavar="NAME|FILE")
@with_json
@click.pass_obj
def show_target_verb(listed_as_json: bool, name: str, as_json: bool) -> ExitCode:
    """Print a target file: every hardware number and its source."""
    from .cli_catalogue import target_document

    document = target_document(name)
    if as_json or listed_as_json:
        print_json(document)
    else:
        click.echo(document["toml"], nl=False)
    return ExitCode.DONE


@chiplan.command("models")
@with_json
def models_verb(as_json: bool) -> ExitCode:
    """List the models that ship."""
    from .cli_catalogue import models_document, print_models

    if as_json:
        print_json(models_document())
    else:
        print_models(page())
    return ExitCode.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb and returns the exit code. Nothing but a bug in chiplan ends in a traceback, and
    that only where CHIPLAN_TRACEBACK is set."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        code = int(chiplan.main(args=words, prog_name="chiplan", standalone_mode=False) or 0)
        sys.stdout.flush()
        return code
    except ChiplanError as refusal:
        if isinstance(refusal, InternalFault):
            return _report_bug(refusal, refusal.problems, as_json)
        print_refusal(refusal.problems, refusal.exit_code, as_json)
        return refusal.exit_code
    except click.ClickException as error:
        return _report_usage(error, as_json)
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader went away (`chiplan show ... | head`); nothing is left to say to it.
        _forget_output()
        return 141
    except Exception as error:
        if isinstance(error, OSError) and error.errno == ENOSPC:
            _forget_output()
            sys.stderr.write("error: cannot write standard output: no space is left there\n")
            return ExitCode.BAD_INPUT
        message = f"{type(error).__name__}: {error}"
        return _report_bug(error, (Problem("bug", message),), as_json)


def _forget_output() -> None:
    """What is still buffered goes nowhere, so that the end of the process does not fail on it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_usage(error: click.ClickException, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "chiplan"
    message = f"{error.format_message()} (see {path} --help)"
    print_refusal((Problem("usage", message),), ExitCode.BAD_INPUT, as_json)
    return ExitCode.BAD_INPUT


def _report_bug(error: Exception, problems: Sequence[Problem], as_json: bool) -> int:
    print_refusal(problems, ExitCode.BUG, as_json)
    sys.stderr.write(
        f"This is a bug in chiplan {version('chiplan')}, not in your input. Please report it with the "
        "command line, the output of CHIPLAN_TRACEBACK=1 and the same command, and the model file if "
        "you may share it.\n"
    )
    if os.environ.get("CHIPLAN_TRACEBACK"):
        traceback.print_exception(error)
    return ExitCode.BUG
