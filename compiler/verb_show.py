"""`chiplan show`: what a plan is, as text, picture or data."""

from pathlib import Path
from typing import TYPE_CHECKING

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
    replacing_folder,
    write_chunks,
    write_text,
)
from .collection import collection_paused

if TYPE_CHECKING:
    from chiplan.ir import Plan

PLACE = click.IntRange(0, 2**31 - 1)
BATCHES = click.IntRange(1, 4096)

EXAMPLES = """
\b
Examples:
  chiplan show gpt2.chiplan
  chiplan show gpt2.chiplan --svg gpt2.svg
  chiplan show gpt2.chiplan --trace gpt2.json.gz --micro-batches 2
  chiplan show gpt2.chiplan --csv tables
  chiplan show gpt2.chiplan --sharding
"""


@click.command("show", epilog=EXAMPLES)
@PLAN
@click.option("--dot", type=OUTPUT, help="Write the partition graph for Graphviz; - is standard output.")
@click.option("--svg", type=OUTPUT, help="Write the partition graph as a picture; - is standard output.")
@click.option("--trace", type=OUTPUT, help="Write a trace for Perfetto; compressed if the name ends in .gz.")
@click.option("--micro-batches", type=BATCHES, default=1, metavar="N", help="So many, with --trace. [1]")
@click.option("--chip", "chips", type=PLACE, multiple=True, metavar="N", help="Trace this chip; repeatable.")
@click.option("--stage", "stages", type=PLACE, multiple=True, metavar="N", help="Trace this stage's chips.")
@click.option("--csv", "tables", type=OUTPUT, metavar="DIR", help="Write tables, one CSV file each.")
@click.option("--model-explorer", "explorer", type=OUTPUT, help="Write the graph for Model Explorer.")
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
    trace: Path | None,
    micro_batches: int,
    chips: tuple[int, ...],
    stages: tuple[int, ...],
    tables: Path | None,
    explorer: Path | None,
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
    if trace is None and (chips or stages or micro_batches > 1):
        raise click.UsageError(
            "--chip, --stage and --micro-batches say what --trace writes; add --trace FILE"
        )
    if frontier is not None and html is None:
        raise click.UsageError("--frontier is shown in the report; give --html as well")
    plan = plan_of(plan_path)
    for path, draw in ((dot, partition_dot), (svg, partition_svg)):
        if path is not None:
            check_not_input(path, plan_path)
            write_text(path, draw(plan))
    if trace is not None:
        check_not_input(trace, plan_path)
        _write_trace(plan, trace, micro_batches, chips, stages)
    if tables is not None:
        _write_tables(plan, tables)
    if explorer is not None:
        check_not_input(explorer, plan_path)
        _write_explorer(plan, explorer)
    if html is not None:
        _write_report(plan, plan_path, html, frontier)
    if as_json:
        print_json(plan_document(plan, file_sha256(plan_path)))
    elif sharding and not printed:
        print_sharding(page(), plan)
    elif not printed:
        print_plan(page(), plan)
    return ExitCode.DONE


def _write_trace(
    plan: "Plan", path: Path, micro_batches: int, chips: tuple[int, ...], stages: tuple[int, ...]
) -> None:
    from .trace import TraceChoice, choose_chips, trace_chunks

    choice = TraceChoice(choose_chips(plan, chips, stages), micro_batches)
    write_chunks(path, trace_chunks(plan, choice))


def _write_tables(plan: "Plan", folder: Path) -> None:
    from .plan_tables import write_tables

    with replacing_folder(folder) as beside:
        write_tables(plan, beside)


def _write_explorer(plan: "Plan", path: Path) -> None:
    """FILE is the graph; its node data lies beside it, as FILE with `.cycles` before the last suffix."""
    from .model_explorer import explorer_cycles, explorer_graph

    write_text(path, explorer_graph(plan))
    if path != STANDARD_OUTPUT:
        write_text(path.with_suffix(f".cycles{path.suffix}"), explorer_cycles(plan))


def _write_report(plan: "Plan", plan_path: Path, html: Path, frontier: Path | None) -> None:
    """Writes the report of a plan; Bokeh and Jinja are imported for nothing else."""
    from .report_frontier import read_frontier
    from .report_page import report_html

    check_not_input(html, plan_path)
    if html != STANDARD_OUTPUT:
        check_writable(html)
    points = read_frontier(frontier, plan) if frontier is not None else ()
    write_text(html, report_html(plan, file_sha256(plan_path), points))
