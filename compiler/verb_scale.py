"""`chiplan scale`: a model at several chip counts, held against linear scaling."""

from pathlib import Path
from typing import Any

import click

from chiplan.ir import ExitCode

from .cli_options import (
    COUNT,
    EFFICIENCY,
    MODEL,
    OUTPUT,
    SectionedCommand,
    chip_counts,
    merged_bindings,
    target_option,
    with_json,
    with_limits,
    with_shape,
)
from .cli_output import page, print_json, progress, write_text
from .output_places import STANDARD_OUTPUT, check_places, outputs

EXAMPLES = """
\b
Examples:
  chiplan scale bert-large --chips 4-8
  chiplan scale bert-large --chips 4-8 --min-efficiency 0.9
  chiplan scale bert-encoders-6 --weak layers --chips 1,2,4,8 --precision fp16
  chiplan scale gpt2 --chips 2,4,8 --svg scaling.svg
"""


@click.command("scale", cls=SectionedCommand, epilog=EXAMPLES)
@MODEL
@click.option(
    "--chips", type=chip_counts, required=True, metavar="N,N-M,...", help="Counts, such as 1,2,4-8."
)
@target_option(help="[the smallest groq-* with the largest count]")
@click.option(
    "--objective",
    type=click.Choice(["throughput", "latency"]),
    default="throughput",
    show_default=True,
    help="What is to grow with the chips.",
)
@click.option(
    "--min-efficiency",
    type=EFFICIENCY,
    metavar="SHARE",
    help="Exit code 1 when a count has less of the linear ideal, such as 0.9.",
)
@click.option("--weak", type=click.Choice(["layers", "batch"]), help="Let the work grow with the chips.")
@click.option(
    "--layers", type=COUNT, metavar="N", help="With --weak layers: those at the smallest count. [the model's]"
)
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
    """Plan MODEL at several chip counts and hold each against linear scaling.

    Every count is an upper limit and every figure is simulated. The baseline is the smallest count that is
    feasible. What a count loses against the linear ideal is told in chip-cycles, by cause.
    """
    from chiplan.models import find_target, load_target

    from .cli_inputs import model_file
    from .cli_scale import print_scaling, scaling_document, smallest_system
    from .drawing_scaling import scaling_svg
    from .scaling import scale_model

    if as_json and svg == STANDARD_OUTPUT:
        raise click.UsageError("--svg - and --json each need standard output; keep one")
    source = model_file(model)
    target_name = target_name or smallest_system(max(chips))
    read = {"MODEL": source, "--target": find_target(target_name)}
    check_places(read, outputs(texts={"--svg": svg}))
    target = load_target(target_name)
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
