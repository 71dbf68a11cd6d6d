"""How fast plans are simulated: `python -m benchmarks.simulation [--corpus DIR] [--write]`.

Times are the CPU seconds of `simulate` alone, the least of several runs, on plans compiled here. With
`--corpus` the whole of Llama-2-70B on 576 chips is one of them, and is profiled. `--write` puts it all into
docs/simulation.md.
"""

import cProfile
import pstats
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import click
import numpy as np

from benchmarks.case import count_tiles
from chiplan.compiler import compile_model
from chiplan.compiler.compile import plan_model
from chiplan.compiler.importer import import_model
from chiplan.compiler.options import Options
from chiplan.compiler.scaling_depth import find_layers, with_depth
from chiplan.ir import Plan, tile_extents
from chiplan.models import find_model, load_target
from chiplan.runtime_sim import simulate

PAGE = Path(__file__).parents[1] / "docs" / "simulation.md"
LARGE = "llama2-70b-decode.dynamo.onnx"
CHIPS = (1, 2, 4, 8, 16, 36, 72, 144, 288, 576)
RUNS = 3
PROFILED = 12
HEAD = """# Simulation speed

Made by `python -m benchmarks.simulation --write`: CPU seconds of `chiplan.runtime_sim.simulate`, one core. A
tile is one on one chip: the chips of a group run the same tiles, so the simulator looks at them once (`rows`)
and counts all. Elements are those of all iterations of all tiles. Every rule runs on every row; equal stages
are not skipped.
"""
COLUMNS = """
| {what} | chips | stages | rows | tiles | transfers | seconds | tiles a second | elements a second |
|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Measured:
    """A plan and what it took to simulate it."""

    title: str
    plan: Plan
    seconds: float

    @property
    def rows(self) -> int:
        return sum(len(stage.program.tiles.start) for stage in self.plan.stages)

    @property
    def size(self) -> int:
        """Rows of all columns: what the time should grow with."""
        return self.rows + len(self.plan.transfers.start) + len(self.plan.hops.start)

    def line(self) -> str:
        plan = self.plan
        chips = sum(len(stage.chips) for stage in plan.stages)
        tiles = count_tiles(plan)
        return (
            f"| {self.title} | {chips} | {len(plan.stages)} | {self.rows:,} | {tiles:,} | "
            f"{len(plan.transfers.start):,} | {self.seconds:.3f} | {tiles / self.seconds:,.0f} | "
            f"{count_elements(plan) / self.seconds:.2g} |"
        )


def count_elements(plan: Plan) -> int:
    """Iterations of all tiles on all chips."""
    total = 0
    for stage in plan.stages:
        for index, tiling in zip(stage.program.operators, stage.program.tilings, strict=True):
            extents = tile_extents(plan.graph.operators[index], tiling)
            total += int(extents.prod(axis=1, dtype=np.int64).sum()) * len(stage.chips)
    return total


def measure(title: str, plan: Plan) -> Measured:
    """The least CPU time of several simulations. Raises SystemExit when the plan has a fault."""
    times = []
    for _ in range(RUNS):
        begin = process_time()
        report = simulate(plan)
        times.append(process_time() - begin)
        if not report.ok:
            raise SystemExit(f"{title}: {report.faults[0].message}")
    found = Measured(title, plan, min(times))
    click.echo(found.line(), err=True)
    return found


def deep_plan(layers: int) -> Plan:
    """Encoders of BERT-large, one on each of as many chips."""
    path = find_model("bert-encoders-6")
    imported = import_model(path, name=path.stem)
    options = Options(precision="fp16", groups=(1,) * layers)
    return plan_model(with_depth(find_layers(imported), layers), load_target("groq-576"), options)


def profile(plan: Plan) -> str:
    """Where the time goes, by the functions' own time."""
    watch = cProfile.Profile()
    watch.enable()
    simulate(plan)
    watch.disable()
    stats = pstats.Stats(watch)
    entries = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:PROFILED]
    total = sum(entry[2] for entry in stats.stats.values())
    text = "| function | calls | own time | with what it calls |\n|---|---|---|---|\n"
    for (file, _, name), (_, calls, own, cumulative, _) in entries:
        where = name.strip("<>") if file == "~" else f"{Path(file).name}: {name}"
        text += f"| `{where}` | {calls:,} | {own / total:.0%} | {cumulative / total:.0%} |\n"
    return text


def growth(cases: Sequence[Measured]) -> str:
    """Seconds = constant x rows ** exponent, fitted to the plans on 8 chips or more."""
    large = [case for case in cases if len(case.plan.stages) >= 8]
    if len(large) < 2:
        return ""
    exponent = np.polyfit(np.log([c.size for c in large]), np.log([c.seconds for c in large]), 1)[0]
    return f"\nTime grows with the rows of all columns to the power {exponent:.2f} (1 is linear).\n"


@click.command()
@click.option("--corpus", type=click.Path(path_type=Path), help=f"Folder with {LARGE}.")
@click.option("--chips", default=",".join(map(str, CHIPS)), show_default=True, help="Of the growing plan.")
@click.option("--write", is_flag=True, help="Write docs/simulation.md as well.")
def main(corpus: Path | None, chips: str, write: bool) -> None:
    """Print the tables."""
    text = HEAD
    if corpus is not None:
        compiled = compile_model(
            corpus / LARGE,
            target=load_target("groq-576"),
            precision="int8",
            objective="latency",
            context=4096,
        )
        large = measure("Llama-2-70B decode, int8, context 4,096", compiled.plan)
        text += "\n## Llama-2-70B on `groq-576`\n" + COLUMNS.format(what="model") + large.line() + "\n"
        text += "\nWhere the time goes, by own time:\n\n" + profile(large.plan)
    cases = [measure(str(count), deep_plan(count)) for count in map(int, chips.split(","))]
    text += "\n## By plan size: BERT-large encoders on `groq-576`, one a chip\n"
    text += COLUMNS.format(what="layers") + "\n".join(case.line() for case in cases) + "\n" + growth(cases)
    click.echo(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
