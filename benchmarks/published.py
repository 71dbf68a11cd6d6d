"""Predicted against published: `python -m benchmarks.published [--corpus DIR] [--only WORD] [--write]`.

Each row is compiled and simulated in a process of its own, once with the links of the shipped targets
and once with those published in 2022. A row that is refused says why. `--write` puts the table into
docs/published.md; wall time and memory are those of the machine it ran on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from .case import Case, run_case

PAGE = Path(__file__).parents[1] / "docs" / "published.md"
LINKS_2022 = "groq-node-2022"
HEAD = """# Predicted against published

Made by `python -m benchmarks.published --write`. Published figures are measured on hardware by others;
ours are simulated, exclude the host, and come from targets whose unpublished numbers are assumptions
(docs/targets.md), with all rules of docs/machine-model.md on. *Simulated* is with 27 cycles a flit and
270 a hop (`groq-*`); *2022 links* with 24 and 650. *Reach* is what the plan was to reach; a figure that
does not get there says so. Wall time is that of the whole process: import, plan and simulation, on two
cores of a laptop-class machine.

| case | published | reach | simulated | 2022 links | chips used | wall | of it simulation | peak memory |
|---|---|---|---|---|---|---|---|---|
"""
SOURCES = """
## Assumptions of each row

| case | what is assumed | source of the published figure |
|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """A published experiment. `figure` is the field of the simulation that is compared, in `unit`;
    `reach` is the least (or, where `smaller` is better, the most) that is to be reached. With `of`,
    the figure is the share of linear scaling from the row of that name. `corpus` names a model file
    that does not ship."""

    name: str
    case: Case
    published: str
    source: str
    assumed: str
    figure: str = "latency_us"
    unit: str = "us"
    reach: float | None = None
    smaller: bool = True
    corpus: str | None = None
    of: str | None = None


def _bert(sequence: int, precision: str) -> Row:
    reach = 1225.0 if (sequence, precision) == (384, "fp16") else None
    return Row(
        f"BERT-large, batch 1, sequence {sequence}, {precision}, 4 chips",
        Case(
            "bert-large",
            "groq-node",
            shape={"sequence": sequence},
            planning={"chips": 4, "objective": "latency", "precision": precision},
        ),
        "1,225 us (99th percentile, with host)",
        "ISCA 2022, section 5.4",
        "its sequence and precision are not published; links of the node's four idle chips may be used",
        reach=reach,
    )


def _encoders(layers: int, chips: int) -> Row:
    return Row(
        f"{layers} BERT-large encoders on {chips} chip{'s' if chips > 1 else ''}",
        Case(
            "bert-encoders-6",
            "groq-rack",
            layers=layers,
            shape={"sequence": 128},
            planning={"chips": chips, "precision": "fp16"},
        ),
        "throughput linear in chips",
        "ISCA 2022, figure 18",
        "width 1,024, sequence 128, fp16: six encoders fill one chip; no embedding, no mask",
        figure="inferences_per_second",
        unit="% of linear",
        reach=98.0,
        smaller=False,
        of="6 BERT-large encoders on 1 chip",
    )


def _product(chips: int, target: str, published: str, reach: float) -> Row:
    return Row(
        f"GEMM [800 x 32576] x [32576 x 8192], {chips} chips",
        Case("gemm-isca", target, planning={"chips": chips, "objective": "latency", "precision": "fp16"}),
        published,
        "ISCA 2022, figure 14 (read off a plot)",
        "operands resident in the layout that the plan chooses, the result left sharded",
        reach=reach,
    )


def _decode(name: str, model: str, target: str, published: str, reach: float | None, **how: Any) -> Row:
    planning = {"objective": "latency", "precision": how["precision"]}
    return Row(
        name,
        Case(model, target, shape={"context": how["context"]}, planning=planning),
        published,
        how["source"],
        "one user, one token a run with the whole cache read; figures of the model's graph as exported",
        figure="tokens_per_second_user",
        unit="tokens/s a user",
        reach=reach,
        smaller=False,
        corpus=how.get("corpus"),
    )


PRESS = "press, 2024-02"
_SEVENTY = {"context": 4096, "precision": "int8", "corpus": "llama2-70b-decode.dynamo.onnx"}
ROWS: Sequence[Row] = (
    _decode(
        "Llama-2-7B decode, fp16, context 2,048, groq-rack (72 chips)",
        "llama2-7b-decode", "groq-rack", "750 tokens/s", 2000.0,
        context=2048, precision="fp16", source=PRESS,
    ),
    _decode(
        "Llama-2-70B decode, int8, context 4,096, groq-576",
        "", "groq-576", "300 tokens/s", 700.0, source=PRESS, **_SEVENTY,
    ),
    _decode(
        "Llama-2-70B decode, int8, context 4,096, groq-10440",
        "", "groq-10440", "-", None, source="-", **_SEVENTY,
    ),
    *(_bert(sequence, precision) for sequence in (128, 384) for precision in ("fp16", "int8")),
    Row(
        "BERT-base, batch 1, sequence 128, fp16, 1 chip",
        Case("bert-base", "groq-node", planning={"chips": 1, "objective": "latency", "precision": "fp16"}),
        "130 us",
        "ASAP 2022, arXiv 2206.11062",
        "its sequence and precision are not published",
    ),
    *(_encoders(layers, chips) for layers, chips in ((6, 1), (24, 4), (48, 8), (96, 16))),
    _product(8, "groq-node", "about 330 us", 330.0),
    _product(16, "groq-264", "about 150 us", 155.0),
    _product(104, "groq-264", "about 120 us", 120.0),
)  # fmt: skip


def located(row: Row, corpus: Path | None) -> Row | None:
    """The row with its model file; None where that file is not at hand."""
    if row.corpus is None:
        return row
    path = None if corpus is None else corpus / row.corpus
    return (
        None
        if path is None or not path.is_file()
        else replace(row, case=replace(row.case, model=str(path.resolve())))
    )


def compared(row: Row, found: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    """The figure of a row as it stands in the table."""
    if "refused" in found:
        return f"refused: {found['refused'].replace('|', '/')}"
    if not found["ok"]:
        return f"FAULT: {found['faults'][0]}"
    value, rate = found[row.figure], ""
    if row.of is not None:
        if base is None or "refused" in base:
            return "-"
        rate = f" ({value:,.0f} a second)"
        value = 100 * value / base[row.figure]
    short = row.reach is not None and (value > row.reach if row.smaller else value < row.reach)
    return f"{value:,.1f} {row.unit}{rate}{' (not reached)' if short else ''}"


def line(row: Row, ours: Mapping[str, Any], words: Sequence[str]) -> str:
    """A row of the table."""
    reach = (
        "-" if row.reach is None else f"{'at most' if row.smaller else 'at least'} {row.reach:,g} {row.unit}"
    )
    if "refused" in ours:
        cost = ("-",) * 4
    else:
        cost = (
            str(ours["chips"]), f"{ours['wall_seconds']:.1f} s", f"{ours['simulate_seconds']:.1f} s",
            f"{ours['peak_bytes'] / 1e9:.2f} GB",
        )  # fmt: skip
    return f"| {row.name} | {row.published} | {reach} | {words[0]} | {words[1]} | {' | '.join(cost)} |"


def table(rows: Sequence[Row], corpus: Path | None) -> str:
    """Runs every row; the page."""
    lines: list[str] = []
    done: dict[tuple[str, str | None], Mapping[str, Any]] = {}
    for row in rows:
        there = located(row, corpus)
        for links in (None, LINKS_2022):
            absent = {"refused": f"{row.corpus} does not ship; give its folder with --corpus"}
            case = None if there is None else replace(there.case, links=links)
            done[row.name, links] = absent if case is None else run_case(case)
        found = [done[row.name, links] for links in (None, LINKS_2022)]
        bases = [done.get((row.of or "", links)) for links in (None, LINKS_2022)]
        words = [compared(row, one, base) for one, base in zip(found, bases, strict=True)]
        lines.append(line(row, found[0], words))
        click.echo(lines[-1], err=True)
    sources = [f"| {row.name} | {row.assumed} | {row.source} |" for row in rows]
    return HEAD + "\n".join(lines) + "\n" + SOURCES + "\n".join(sources) + "\n"


@click.command()
@click.option(
    "--corpus", type=click.Path(exists=True, path_type=Path), help="Folder of models that do not ship."
)
@click.option("--only", default="", metavar="WORD", help="Rows whose name has this in it.")
@click.option("--write", is_flag=True, help="Write docs/published.md as well.")
def main(corpus: Path | None, only: str, write: bool) -> None:
    """Print the table."""
    text = table([row for row in ROWS if only.lower() in row.name.lower()], corpus)
    click.echo(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
