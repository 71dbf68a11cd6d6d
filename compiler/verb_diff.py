"""`chiplan diff`: what differs between two plans."""

from pathlib import Path

import click

from chiplan.ir import ExitCode

from .cli_options import OUTPUT, with_json
from .cli_output import file_sha256, page, print_json, write_text
from .collection import collection_paused
from .output_places import STANDARD_OUTPUT, check_places, outputs

DIFF_EXAMPLES = """
\b
Examples:
  chiplan diff before.chiplan after.chiplan
  chiplan diff before.chiplan after.chiplan --html diff.html
  chiplan diff before.chiplan after.chiplan --markdown > summary.md
"""


@click.command("diff", epilog=DIFF_EXAMPLES)
@click.argument("before", metavar="PLAN", type=click.Path(path_type=Path))
@click.argument("after", metavar="PLAN", type=click.Path(path_type=Path))
@click.option("--html", type=OUTPUT, help="Also write everything as one offline page.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@with_json
@collection_paused()
def diff_verb(before: Path, after: Path, html: Path | None, markdown: bool, as_json: bool) -> ExitCode:
    """Show what differs from one PLAN to another; exit code 0 whether or not anything does."""
    if as_json + markdown + (html == STANDARD_OUTPUT) > 1:
        raise click.UsageError("--json, --markdown and --html - each need standard output; keep one")
    check_places({"the first PLAN": before, "the second PLAN": after}, outputs(texts={"--html": html}))
    from .cli_diff import diff_document, diff_markdown, print_diff
    from .cli_inputs import plan_of
    from .diff_html import diff_html
    from .plan_diff import compare_plans

    plans = plan_of(before), plan_of(after)
    diff = compare_plans(*plans, (before, after), (file_sha256(before), file_sha256(after)))
    if html is not None:
        write_text(html, diff_html(diff))
    if as_json:
        print_json(diff_document(diff))
    elif markdown:
        click.echo(diff_markdown(diff), nl=False)
    elif html != STANDARD_OUTPUT:
        print_diff(page(), diff)
    return ExitCode.DONE
