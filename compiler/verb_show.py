"""`chiplan show`: what a plan is, as text, picture or data."""

from pathlib import Path

import click

from chiplan.ir import ExitCode

from .cli_options import OUTPUT, PLAN, with_json
from .cli_output import STANDARD_OUTPUT, check_not_input, file_sha256, page, print_json, write_text
from .collection import collection_paused

PLACE = click.IntRange(0, 2**31 - 1)


@click.command("show")
@PLAN
@click.option("--dot", type=OUTPUT, help="Write the partition graph for Graphviz; - is standard output.")
@click.option("--svg", type=OUTPUT, help="Write the partition graph as a picture; - is standard output.")
@click.option("--sharding", is_flag=True, help="What every operator splits, and the next best choice.")
@click.option(
    "--ir", "form", type=click.Choice(["graph", "tiles", "plan"]), help="Print it in the text form."
)
@click.option(
    "--stage", "stages", type=PLACE, multiple=True, metavar="N", help="Of --ir, this stage; repeatable."
)
@click.option(
    "--chip", "chips", type=PLACE, multiple=True, metavar="N", help="Of --ir, this chip; repeatable."
)
@click.option("--brief", is_flag=True, help="Of --ir, what fits a page: no buffers, no target.")
@with_json
@collection_paused()
def show_verb(
    plan_path: Path,
    dot: Path | None,
    svg: Path | None,
    sharding: bool,
    form: str | None,
    stages: tuple[int, ...],
    chips: tuple[int, ...],
    brief: bool,
    as_json: bool,
) -> ExitCode:
    """Show PLAN: stages, chips, links, memory, interval, latency, what binds."""
    from .cli_inputs import plan_of
    from .cli_sharding import print_sharding
    from .cli_show import plan_document, print_plan
    from .drawing import partition_dot
    from .drawing_svg import partition_svg
    from .plan_part import Part, part_text

    printed = [dot, svg].count(STANDARD_OUTPUT) + (form is not None)
    if printed + as_json > 1:
        raise click.UsageError("--dot -, --svg -, --ir and --json each need standard output; keep one")
    if form is None and (stages or chips or brief):
        raise click.UsageError(
            "--stage, --chip and --brief say what --ir prints; add --ir graph, tiles or plan"
        )
    plan = plan_of(plan_path)
    for path, draw in ((dot, partition_dot), (svg, partition_svg)):
        if path is not None:
            check_not_input(path, plan_path)
            write_text(path, draw(plan))
    if form is not None:
        write_text(STANDARD_OUTPUT, part_text(plan, form, Part(stages, chips, brief)))
    if as_json:
        print_json(plan_document(plan, file_sha256(plan_path)))
    elif sharding and not printed:
        print_sharding(page(), plan)
    elif not printed:
        print_plan(page(), plan)
    return ExitCode.DONE
