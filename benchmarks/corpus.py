"""Compile, simulate and check the numerics of every model in a folder: `python -m benchmarks.corpus DIR`.

One row a model, target and chip count: time, interval over its bound, tiles, faults, largest error.
With `--groups 2,3,4,8` one row a group size, for one stage and for two, that splits all it can.
Models without their weights are compiled and simulated only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from traceback import format_exc

import click

from chiplan.compiler import Compiled, compile_model
from chiplan.compiler.numeric_check import check_numerics
from chiplan.ir import ChiplanError
from chiplan.models import load_target

CASES = ("groq-node:fp16", "tiny-ring:model")


@dataclass(frozen=True)
class Case:
    """What a row is of: a target, how many chips of it, in which groups (None: as the solver likes), and a
    precision ("" for the default)."""

    target: str
    precision: str
    chips: int
    groups: tuple[int, ...] | None = None

    @property
    def title(self) -> str:
        groups = f"{self.chips}" if self.groups is None else ",".join(map(str, self.groups))
        return f"{self.target:9} {self.precision:5} {groups:5}"

    def compile(self, path: Path) -> Compiled:
        return compile_model(
            path,
            target=load_target(self.target),
            chips=self.chips,
            groups=self.groups,
            precision=self.precision or None,
        )


def row(path: Path, case: Case) -> tuple[bool, str]:
    """Whether all is well, and the table row."""
    begin = perf_counter()
    try:
        compiled = case.compile(path)
    except ChiplanError as refusal:
        first = refusal.problems[0]
        return refusal.exit_code == 3, f"{'-':>6} refused ({first.code}): {first.message[:90]}"
    except Exception:
        return False, format_exc()
    return checked(path, compiled, perf_counter() - begin)


def checked(path: Path, compiled: Compiled, seconds: float) -> tuple[bool, str]:
    """The same of what was compiled in so many seconds."""
    plan = compiled.plan
    bound = max(b.value for b in plan.bounds if b.quantity == "interval")
    tiles = sum(len(stage.program.tiles.start) for stage in plan.stages)
    chips = sum(len(stage.chips) for stage in plan.stages)
    text = f"{seconds:6.2f} {plan.interval:>10,} {plan.interval / bound:6.3f} {tiles:>8,}"
    text += f" {len(plan.stages):>2} stages {chips:>3} chips {_share_split(compiled):4.0%} split"
    begin = perf_counter()
    try:
        numerics = check_numerics(plan, path)
    except ChiplanError as refusal:
        return True, f"{text}  no numerics: {refusal.problems[0].code}"
    text += f"  {perf_counter() - begin:5.2f} s  error {numerics.max_error:.1e} of {numerics.tolerance:.0e}"
    if numerics.first_divergence:
        text += f"  {numerics.first_divergence.message[:200]}"
    return numerics.ok, text


def _share_split(compiled: Compiled) -> float:
    operators = compiled.plan.graph.operators
    return sum(bool(operator.splits) for operator in operators) / len(operators)


def cases(kinds: str, chips: str, groups: str | None) -> Iterator[Case]:
    """All rows of one model."""
    for kind in kinds.split(","):
        target, _, precision = kind.partition(":")
        available = load_target(target).topology.chips
        if groups is None:
            yield from (Case(target, precision, int(count)) for count in chips.split(","))
            continue
        for size in map(int, groups.split(",")):
            for stages in (1, 2):
                if stages * size <= available:
                    yield Case(target, precision, stages * size, (size,) * stages)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--match", default="*.onnx", help="Glob of the files.")
@click.option("--chips", default="1,2,4", help="Chip counts.")
@click.option("--groups", help="Sizes of groups, instead of chip counts.")
@click.option("--cases", "kinds", default=",".join(CASES), help="TARGET:PRECISION, ...")
def main(folder: Path, match: str, chips: str, groups: str | None, kinds: str) -> None:
    """Print the table; exit 1 when a row is not well."""
    good = True
    for path in sorted(folder.glob(match)):
        for case in cases(kinds, chips, groups):
            fine, text = row(path, case)
            good &= fine
            click.echo(f"{'ok  ' if fine else 'BAD '} {path.stem:34} {case.title} {text}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
