"""`chiplan scale` on full-size models: `python -m benchmarks.scaling [--corpus DIR] [--write]`.

One table a model and objective, and in words where linearity ends and why. All figures are simulated
and exact to the cycle, so the tables are the same on every machine. `--write` puts them into
docs/scaling-results.md, and the curves beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from chiplan.compiler import Scaling, scale_model
from chiplan.compiler.cli_scale import conclusions
from chiplan.compiler.drawing_scaling import scaling_svg
from chiplan.compiler.quantities import grouped, rate, share
from chiplan.compiler.scaling import Point
from chiplan.compiler.scaling_loss import PARTS
from chiplan.ir import ChiplanError
from chiplan.models import find_model, load_target

DOCS = Path(__file__).parents[1] / "docs"
HEAD = """# Where linear scaling ends

Made by `python -m benchmarks.scaling --write`. docs/scaling.md says what the columns and the causes
of loss mean. All figures are simulated and exclude the host.
"""


@dataclass(frozen=True)
class Sweep:
    """A model at several counts. `corpus` is the file of a model that does not ship."""

    name: str
    title: str
    target: str
    chips: Sequence[int]
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    corpus: str | None = None


SEVENTY = "llama2-70b-decode.dynamo.onnx"
SWEEPS = (
    Sweep(
        "bert-large", "BERT-large, sequence 128, fp16, throughput", "groq-node", (3, 4, 5, 6, 7, 8),
        model="bert-large",
    ),
    Sweep(
        "bert-large-rack", "BERT-large, sequence 128, fp16, throughput, up to a rack", "groq-rack",
        (4, 8, 16, 24, 36, 48, 72), model="bert-large",
    ),
    Sweep(
        "bert-large-latency", "BERT-large, sequence 128, fp16, latency", "groq-rack", (4, 5, 6, 8, 12, 16),
        {"objective": "latency"}, "bert-large",
    ),
    Sweep(
        "bert-encoders", "BERT encoders, six for every chip (weak scaling)", "groq-rack",
        (1, 2, 4, 8, 16, 32), {"weak": "layers", "precision": "fp16"}, "bert-encoders-6",
    ),
    Sweep(
        "llama2-7b", "Llama-2-7B decode, fp16, context 2,048, latency", "groq-264",
        (72, 96, 128, 160, 200, 264), {"objective": "latency", "precision": "fp16"}, "llama2-7b-decode",
    ),
    Sweep(
        "llama2-7b-int8", "Llama-2-7B decode, int8, context 2,048, latency, within a rack", "groq-rack",
        (36, 40, 48, 56, 64, 72), {"objective": "latency", "precision": "int8"}, "llama2-7b-decode",
    ),
    Sweep(
        "llama2-70b", "Llama-2-70B decode, int8, context 4,096, latency", "groq-576",
        (352, 384, 432, 480, 528, 576), {"objective": "latency", "precision": "int8", "context": 4096},
        corpus=SEVENTY,
    ),
)  # fmt: skip


def section(sweep: Sweep, corpus: Path | None, folder: Path | None) -> str:
    """A model's table, conclusions and picture; or why there is none."""
    head = f"\n## {sweep.title}\n\n"
    path = find_model(sweep.model) if sweep.corpus is None else corpus and corpus / sweep.corpus
    if path is None or not path.is_file():
        return f"{head}{sweep.corpus} does not ship; give its folder with --corpus.\n"
    try:
        scaling = scale_model(
            path, name=path.stem, target=load_target(sweep.target), chips=sweep.chips, **sweep.options
        )
    except ChiplanError as refusal:
        return f"{head}Refused: {refusal.problems[0].message}\n"
    picture = ""
    if folder is not None:
        name = f"scaling-{sweep.name}.svg"
        (folder / name).write_text(scaling_svg(scaling), encoding="utf-8", newline="\n")
        picture = f"\n![{sweep.title}]({name})\n"
    words = "\n".join(f"- {line}" for line in conclusions(scaling, None))
    return f"{head}Target `{sweep.target}`.\n\n{table(scaling)}\n{words}\n{picture}"


def table(scaling: Scaling) -> str:
    """One line a count: figures, then the loss in per cent of chips x cycles, by cause."""
    shown = [
        part
        for part in PARTS
        if any(standing.parts[part] for point in scaling.points if (standing := scaling.standing(point)))
    ]
    columns = [
        "chips",
        "used",
        "interval",
        "latency us",
        "per second",
        "speed-up",
        "ideal",
        "of ideal",
        *shown,
    ]
    lines = [columns, ["---"] * len(columns), *(_cells(scaling, point, shown) for point in scaling.points)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _cells(scaling: Scaling, point: Point, shown: Sequence[str]) -> list[str]:
    found, standing = point.measured, scaling.standing(point)
    if found is None or standing is None:
        smallest = point.refusal.smallest_chips if point.refusal else None
        why = "does not fit" if smallest is None else f"needs {smallest}"
        return [grouped(point.allowed), why, *[""] * (6 + len(shown))]
    budget = point.allowed * found.cycles(scaling.objective)
    amount = found.rates["tokens_per_second_total" if scaling.has_state else "inferences_per_second"]
    return [
        grouped(point.allowed),
        grouped(found.used),
        grouped(found.interval),
        f"{1e6 * found.latency / scaling.clock_hz:,.1f}",
        rate(amount),
        f"{standing.speed_up:.2f}",
        f"{standing.ideal:.2f}",
        share(standing.efficiency, 1),
        *(share(standing.parts[part], budget) for part in shown),
    ]


@click.command()
@click.option(
    "--corpus", type=click.Path(exists=True, path_type=Path), help="Folder of models that do not ship."
)
@click.option("--only", default="", metavar="WORD", help="Sweeps whose name has this in it.")
@click.option("--write", is_flag=True, help="Write docs/scaling-results.md and its pictures as well.")
def main(corpus: Path | None, only: str, write: bool) -> None:
    """Print the tables."""
    chosen = [sweep for sweep in SWEEPS if only in sweep.name]
    text = HEAD
    for sweep in chosen:
        text += section(sweep, corpus, DOCS if write else None)
        click.echo(sweep.name, err=True)
    click.echo(text)
    if write:
        (DOCS / "scaling-results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
