"""`chiplan show`: what a plan is, as text, picture or data."""

from pathlib import Path

import click

from chiplan.ir import ExitCode, Plan

from .cli_options import OUTPUT, PLAN, with_json
from .cli_output import (
    STANDARD_OUTPUT,
    check_not_input,
    check_writable,
    file_sha256,
    page,
    print_json,
    write_text,
)
from .collection import collection_paused


@click.command("show")
@PLAN
@click.option("--dot", type=OUTPUT, help="Write the partition graph for Graphviz; - is standard output.")
@click.option("--svg", type=OUTPUT, help="Write the partition graph as a picture; - is standard output.")
@click.option("--html", type=OUTPUT, help="Write the report: one file that opens in any browser, offline.")
@click.option(
    "--frontier",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --html: what `compile --pareto --json` or `scale --json` printed, to show as well.",
)
@click.option("--sharding", is_flag=True, help="What every operator splits, and the next best choice.")
@with_json
@collection_paused()
def show_verb(
    plan_path: Path,
    dot: Path | None,
    svg: Path | None,
    html: Path | None,
    frontier: Path | None,
    sharding: bool,
    as_json: bool,
) -> ExitCode:
    """Show PLAN: stages, chips, links, memory, interval, latency, what binds."""
    from .cli_inputs import plan_of
    from .cli_sharding import print_sharding
    from .cli_show import plan_document, print_plan
    from .drawing import partition_dot
    from .drawing_svg import partition_svg

    printed = [dot, svg, html].count(STANDARD_OUTPUT)
    if printed + as_json > 1:
        raise click.UsageError("--dot -, --svg -, --html - and --json each need standard output; keep one")
    if frontier is not None and html is None:
        raise click.UsageError("--frontier is shown in the report; give --html as well")
    plan = plan_of(plan_path)
    for path, draw in ((dot, partition_dot), (svg, partition_svg)):
        if path is not None:
            check_not_input(path, plan_path)
            write_text(path, draw(plan))
    if html is not None:
        _write_report(plan, plan_path, html, frontier)
    if as_json:
        print_json(plan_document(plan, file_sha256(plan_path)))
    elif sharding and not printed:
        print_sharding(page(), plan)
    elif not printed:
        print_plan(page(), plan)
    return ExitCode.DONE


def _write_report(plan: Plan, plan_path: Path, html: Path, frontier: Path | None) -> None:
    """Writes the report of a plan; Bokeh and Jinja are imported for nothing else."""
    from .report_frontier import read_frontier
    from .report_page import report_html

    check_not_input(html, plan_path)
    if html != STANDARD_OUTPUT:
        check_writable(html)
    points = read_frontier(frontier, plan) if frontier is not None else ()
    write_text(html, report_html(plan, file_sha256(plan_path), points))
