"""`chiplan show`: what a plan is, as text, picture or data."""

from pathlib import Path
from typing import Any

import click

from chiplan.ir import ExitCode, Plan

from .cli_options import LARGEST_EXTENT, OUTPUT, PLAN, WholeNumber, with_json
from .cli_output import file_sha256, page, print_json
from .collection import collection_paused
from .output_places import check_places
from .show_files import Wanted, write_files

NUMBER = WholeNumber(0, LARGEST_EXTENT)
BATCHES = WholeNumber(1, 4096)

EXAMPLES = """
\b
Examples:
  chiplan show gpt2.chiplan
  chiplan show gpt2.chiplan --html gpt2.html
  chiplan show gpt2.chiplan --svg gpt2.svg
  chiplan show gpt2.chiplan --sharding
  chiplan show gpt2.chiplan --ir tiles --stage 0
  chiplan show gpt2.chiplan --trace gpt2.json.gz --micro-batches 2
  chiplan show gpt2.chiplan --csv tables
"""


@click.command("show", epilog=EXAMPLES)
@PLAN
@click.option("--html", type=OUTPUT, help="Write the report: one file that opens in any browser, offline.")
@click.option(
    "--frontier",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --html: what `compile --pareto --json` or `scale --json` printed, to show as well.",
)
@click.option("--svg", type=OUTPUT, help="Write the partition graph as a picture; - is standard output.")
@click.option("--dot", type=OUTPUT, help="Write the partition graph for Graphviz; - is standard output.")
@click.option("--sharding", is_flag=True, help="What every operator splits, and the next best choice.")
@click.option(
    "--ir", "form", type=click.Choice(["graph", "tiles", "plan"]), help="Print it in the text form."
)
@click.option("--brief", is_flag=True, help="Of --ir, what fits a page: no buffers, no target.")
@click.option("--trace", type=OUTPUT, help="Write a trace for Perfetto; compressed if the name ends in .gz.")
@click.option("--micro-batches", type=BATCHES, default=1, metavar="N", help="So many, with --trace. [1]")
@click.option(
    "--chip", "chips", type=NUMBER, multiple=True, metavar="N", help="Of --ir and --trace, this; repeatable."
)
@click.option(
    "--stage", "stages", type=NUMBER, multiple=True, metavar="N", help="Likewise this stage; repeatable."
)
@click.option("--csv", "tables", type=OUTPUT, metavar="DIR", help="Write tables, one CSV file each.")
@click.option("--model-explorer", "explorer", type=OUTPUT, help="Write the graph for Model Explorer.")
@with_json
@collection_paused()
def show_verb(plan_path: Path, form: str | None, sharding: bool, as_json: bool, **asked: Any) -> ExitCode:
    """Show PLAN: stages, chips, links, memory, interval, latency, what binds.

    The page counts what the plan states; `chiplan simulate` says whether it holds. Files are written besides,
    each whole or not at all.
    """
    from .cli_inputs import shown_plan

    brief, wanted = asked.pop("brief"), Wanted(**asked)
    _check_usage(wanted, form, brief, as_json)
    check_places({"PLAN": plan_path, "--frontier": wanted.frontier}, wanted.outputs)
    plan = shown_plan(plan_path)
    write_files(plan, plan_path, wanted)
    if as_json:
        from .cli_show import plan_document

        print_json(plan_document(plan, file_sha256(plan_path)))
    elif form is not None:
        from .plan_part import Part, part_text

        click.echo(part_text(plan, form, Part(wanted.stages, wanted.chips, brief)), nl=False)
    elif not wanted.printed:
        _print_page(plan, sharding)
    return ExitCode.DONE


def _check_usage(wanted: Wanted, form: str | None, brief: bool, as_json: bool) -> None:
    """Raises UsageError for options that ask for two things in one place, or for a part of nothing."""
    spoken = (
        [f"{option} -" for option in wanted.printed] + ["--ir"] * (form is not None) + ["--json"] * as_json
    )
    if len(spoken) > 1:
        raise click.UsageError(f"{' and '.join(spoken)} each need standard output; keep one")
    if (wanted.chips or wanted.stages) and wanted.trace is None and form is None:
        raise click.UsageError("--chip and --stage say what --ir prints or --trace writes; add one of them")
    if wanted.micro_batches > 1 and wanted.trace is None:
        raise click.UsageError("--micro-batches says what --trace writes; add --trace FILE")
    if brief and form is None:
        raise click.UsageError("--brief says what --ir prints; add --ir graph, tiles or plan")
    if wanted.frontier is not None and wanted.html is None:
        raise click.UsageError("--frontier is shown in the report; give --html as well")


def _print_page(plan: Plan, sharding: bool) -> None:
    if sharding:
        from .cli_sharding import print_sharding

        print_sharding(page(), plan)
    else:
        from .cli_show import print_plan

        print_plan(page(), plan)
