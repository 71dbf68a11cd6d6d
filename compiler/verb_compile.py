"""`chiplan compile`: import, partition, schedule, simulate, write the plan."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chiplan.ir import ExitCode

from .cli_options import (
    MODEL,
    OUTPUT,
    SectionedCommand,
    merged_bindings,
    target_option,
    with_json,
    with_planning,
    with_shape,
)
from .cli_output import page, print_json, progress
from .collection import collection_paused
from .output_places import check_places, outputs

if TYPE_CHECKING:
    from .compile import Compiled

COMPILE_EXAMPLES = """
\b
Examples:
  chiplan compile gpt2 --target groq-node --chips 8
  chiplan compile bert-large --target groq-node --objective latency
  chiplan compile llama2-7b-decode --target groq-rack --pareto
  chiplan compile gpt2 --target groq-node --groups 4,4 --pin node_linear=n
"""


@click.command("compile", cls=SectionedCommand, epilog=COMPILE_EXAMPLES)
@MODEL
@target_option(required=True, help="A shipped target or a TOML file.")
@with_planning
@with_shape
@click.option("--pareto", is_flag=True, help="Also plan along the frontier of chips, latency and interval.")
@click.option("--verify-each", is_flag=True, help="Run the verifier behind every pass; for who changes one.")
@click.option("-o", "--output", type=OUTPUT, help="The plan file. [MODEL's name + .chiplan]")
@click.option(
    "--check-reproducible",
    "twice",
    is_flag=True,
    help="Compile a second time in a fresh process; exit code 70, nothing written, if the bytes differ.",
)
@with_json
@collection_paused()
def compile_verb(
    model: str, target_name: str, output: Path | None, twice: bool, as_json: bool, **asked: Any
) -> ExitCode:
    """Compile MODEL to a plan, simulate it, and write it.

    Decides which chip holds and computes what, and which link carries what in which cycle; the simulator
    checks the plan before it is written. The same command gives the same bytes. With limits on latency or
    interval, or too little SRAM, the answer may be that nothing fits: exit code 3, and what would.
    """
    from chiplan.models import find_target

    from .cli_inputs import model_file

    check_usage(asked)
    source = model_file(model)
    output = output or Path(f"{source.stem}.chiplan")
    read = {"MODEL": source, "--target": find_target(target_name)}
    check_places(read, outputs({"--output": output}))

    from chiplan.ir import printable, write_plan

    asked |= {"name": printable(source.stem), "bind": merged_bindings(asked["bind"])}
    with progress(as_json) as say:
        compiled, checks = _compiled(source, target_name, asked, twice, say)
    _tell(compiled, checks, write_plan(compiled.plan, output), output, as_json)
    return ExitCode.DONE


def _compiled(
    source: Path, target_name: str, asked: Mapping[str, Any], twice: bool, say: Callable[[str], None]
) -> tuple["Compiled", dict[str, bool | int | None]]:
    """The plan, and what was checked besides: null where it was not asked for. Raises as `compile_model`,
    and InternalFault."""
    from chiplan.ir import plan_bytes
    from chiplan.models import load_target

    from . import reproducible
    from .compile import compile_model
    from .verify_passes import noting_passes

    with noting_passes() as verified:
        compiled = compile_model(source, target=load_target(target_name), **asked, progress=say)
    if twice:
        say("compiling a second time")
        request = reproducible.compile_request(source, target_name, **asked)
        reproducible.check_reproducible(plan_bytes(compiled.plan), request, reproducible.compile_again)
    passes = len(verified) if asked["verify_each"] else None
    return compiled, {"reproducible": True if twice else None, "verified_passes": passes}


def check_usage(asked: Mapping[str, Any]) -> None:
    """Raises UsageError for two options that both say what the groups are."""
    if asked["pareto"] and asked["groups"] is not None:
        raise click.UsageError("--pareto chooses groups and --groups fixes them; keep one")
    if asked["use_annotations"] and (asked["pareto"] or asked["groups"] is not None):
        raise click.UsageError(
            "--use-annotations fixes the groups, as --groups does, and --pareto chooses them"
        )


def _tell(
    compiled: "Compiled", checks: Mapping[str, bool | int | None], sha256: str, output: Path, as_json: bool
) -> None:
    """The figures of what was written, and what it was checked for."""
    from .cli_frontier import frontier_document, print_frontier
    from .cli_summary import plan_figures, print_figures
    from .cli_tables import print_list
    from .quantities import size

    plan = compiled.plan
    measured = plan_figures(plan, compiled.report, sha256) | dict(checks)
    if compiled.frontier:
        measured["frontier"] = frontier_document(compiled.frontier, plan.target)
    if as_json:
        print_json(measured)
        return
    console = page()
    print_figures(console, plan, measured)
    print_frontier(console, compiled.frontier, plan)
    print_list(console, "Assumed", plan.assumptions)
    if checks["verified_passes"] is not None:
        console.print(f"{checks['verified_passes']} passes verified")
    if checks["reproducible"]:
        console.print("compiled twice: the same bytes")
    console.print(f"wrote {output}, {size(output.stat().st_size)}, sha256 {sha256[:16]}", soft_wrap=True)
