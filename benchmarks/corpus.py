"""Compile, simulate and check the numerics of every model in a folder: `python -m benchmarks.corpus DIR`.

One row a model, target and chip count: time, interval over its bound, tiles, faults, largest error.
Models without their weights are compiled and simulated only.
"""

from pathlib import Path
from time import perf_counter

import click

from chiplan.compiler import compile_model
from chiplan.compiler.numeric_check import check_numerics
from chiplan.ir import ChiplanError
from chiplan.models import load_target

CASES = (("groq-node", "fp16"), ("tiny-ring", None))


def row(path: Path, target: str, chips: int, precision: str | None) -> tuple[bool, str]:
    """Whether all is well, and the table row."""
    begin = perf_counter()
    try:
        compiled = compile_model(path, target=load_target(target), chips=chips, precision=precision)
    except ChiplanError as refusal:
        first = refusal.problems[0]
        return refusal.exit_code == 3, f"{'-':>6} refused ({first.code}): {first.message[:90]}"
    plan, seconds = compiled.plan, perf_counter() - begin
    bound = max(b.value for b in plan.bounds if b.quantity == "interval")
    tiles = sum(len(stage.program.tiles.start) for stage in plan.stages)
    text = f"{seconds:6.2f} {plan.interval:>10,} {plan.interval / bound:6.3f} {tiles:>8,}"
    text += f" {len(plan.stages):>2} chips"
    begin = perf_counter()
    try:
        numerics = check_numerics(plan, path)
    except ChiplanError as refusal:
        return True, f"{text}  no numerics: {refusal.problems[0].code}"
    text += f"  {perf_counter() - begin:5.2f} s  error {numerics.max_error:.1e} of {numerics.tolerance:.0e}"
    if numerics.first_divergence:
        text += f"  {numerics.first_divergence.message[:200]}"
    return numerics.ok, text


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--match", default="*.onnx", help="Glob of the files.")
@click.option("--chips", default="1,2,4", help="Chip counts.")
def main(folder: Path, match: str, chips: str) -> None:
    """Print the table; exit 1 when a row is not well."""
    good = True
    for path in sorted(folder.glob(match)):
        for target, precision in CASES:
            for count in map(int, chips.split(",")):
                fine, text = row(path, target, count, precision)
                good &= fine
                click.echo(f"{'ok  ' if fine else 'BAD '} {path.stem:34} {target:9} {count} {text}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
