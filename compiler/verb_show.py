"""`chiplan show`: what a plan is, as text, picture or data."""

from pathlib import Path

import click

from chiplan.ir import ExitCode

from .cli_options import OUTPUT, PLAN, with_json
from .cli_output import STANDARD_OUTPUT, check_not_input, file_sha256, page, print_json, write_text
from .collection import collection_paused


@click.command("show")
@PLAN
@click.option("--dot", type=OUTPUT, help="Write the partition graph for Graphviz; - is standard output.")
@click.option("--svg", type=OUTPUT, help="Write the partition graph as a picture; - is standard output.")
@click.option("--sharding", is_flag=True, help="What every operator splits, and the next best choice.")
@with_json
@collection_paused()
def show_verb(plan_path: Path, dot: Path | None, svg: Path | None, sharding: bool, as_json: bool) -> ExitCode:
    """Show PLAN: stages, chips, links, memory, interval, latency, what binds."""
    from .cli_inputs import shown_plan
    from .cli_sharding import print_sharding
    from .cli_show import plan_document, print_plan
    from .drawing import partition_dot
    from .drawing_svg import partition_svg

    printed = [dot, svg].count(STANDARD_OUTPUT)
    if printed + as_json > 1:
        raise click.UsageError("--dot -, --svg - and --json each need standard output; keep one")
    plan = shown_plan(plan_path)
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
