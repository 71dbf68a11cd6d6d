"""`chiplan compile`: import, partition, schedule, simulate, write the plan."""

from collections.abc import Mapping
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
from .cli_output import check_not_input, check_writable, page, print_json, progress
from .collection import collection_paused

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
    model: str,
    target_name: str,
    batch: int,
    sequence: int | None,
    context: int | None,
    bind: tuple[tuple[str, int], ...],
    pareto: bool,
    output: Path | None,
    twice: bool,
    as_json: bool,
    **planning: Any,
) -> ExitCode:
    """Compile MODEL to a plan, simulate it, and write it.

    Decides which chip holds and computes what, and which link carries what in which cycle; the simulator
    checks the plan before it is written. The same command gives the same bytes. With limits on latency or
    interval, or too little SRAM, the answer may be that nothing fits: exit code 3, and what would.
    """
    from chiplan.models import load_target

    from .cli_inputs import model_file

    _check_usage(pareto, planning)
    source = model_file(model)
    target = load_target(target_name)
    output = output or Path(f"{source.stem}.chiplan")
    check_writable(output)
    check_not_input(output, source)

    from chiplan.ir import plan_bytes, printable, write_plan

    from . import reproducible
    from .compile import compile_model

    asked = {
        "name": printable(source.stem),
        **planning,
        "batch": batch,
        "sequence": sequence,
        "context": context,
        "bind": merged_bindings(bind),
        "pareto": pareto,
    }
    with progress(as_json) as say:
        compiled = compile_model(source, target=target, **asked, progress=say)
        if twice:
            say("compiling a second time")
            request = reproducible.compile_request(source, target_name, **asked)
            reproducible.check_reproducible(plan_bytes(compiled.plan), request, reproducible.compile_again)
    _tell(compiled, write_plan(compiled.plan, output), output, as_json)
    return ExitCode.DONE


def _check_usage(pareto: bool, planning: Mapping[str, Any]) -> None:
    """Raises UsageError for two options that both say what the groups are."""
    if pareto and planning["groups"] is not None:
        raise click.UsageError("--pareto chooses groups and --groups fixes them; keep one")
    if planning["use_annotations"] and (pareto or planning["groups"] is not None):
        raise click.UsageError(
            "--use-annotations fixes the groups, as --groups does, and --pareto chooses them"
        )


def _tell(compiled: "Compiled", sha256: str, output: Path, as_json: bool) -> None:
    """The figures of what was written."""
    from .cli_frontier import frontier_document, print_frontier
    from .cli_summary import plan_figures, print_figures
    from .cli_tables import print_list
    from .quantities import size

    plan = compiled.plan
    measured = plan_figures(plan, compiled.report, sha256)
    if compiled.frontier:
        measured["frontier"] = frontier_document(compiled.frontier, plan.target)
    if as_json:
        print_json(measured)
        return
    console = page()
    print_figures(console, plan, measured)
    print_frontier(console, compiled.frontier, plan)
    print_list(console, "Assumed", plan.assumptions)
    console.print(f"wrote {output}, {size(output.stat().st_size)}, sha256 {sha256[:16]}", soft_wrap=True)
