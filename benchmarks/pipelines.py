"""Intervals of the full-size models against their bounds: `python -m benchmarks.pipelines [--write]`.

One row a model and chip count; `--write` puts the table into docs/pipelines.md. All figures are
simulated and exact to the cycle, so the table is the same on every machine.
"""

from pathlib import Path

import click

from chiplan.compiler import Compiled, compile_model
from chiplan.ir import Infeasible
from chiplan.models import find_model, load_target

CASES = (("gpt2", 128), ("bert-base", 128), ("bert-large", 128), ("bert-large", 384))
CHIPS = (1, 2, 4, 8)
PAGE = Path(__file__).parents[1] / "docs" / "pipelines.md"
HEAD = """# Pipelines of the full-size models

Made by `python -m benchmarks.pipelines --write`. Target `groq-node`, fp16, batch 1, one chip a stage.
All figures are simulated cycles and exclude the host. The bounds are those that `chiplan compile` prints;
*over* is the interval over the best proved bound; (SRAM) names what keeps a figure from being smaller.

| model | chips | used | interval | even split | largest operator | best cut | over | latency | its bound |
|---|---|---|---|---|---|---|---|---|---|
"""


def row(name: str, sequence: int, chips: int) -> str:
    """A line of the table, or why there is none."""
    head = f"| {name}, sequence {sequence} | {chips} |"
    try:
        found = compile_model(
            find_model(name), name=name, target=load_target("groq-node"), chips=chips, sequence=sequence
        )
    except Infeasible as refusal:
        smallest = refusal.problems[0].smallest_chips
        return f"{head} does not fit: the smallest number is {smallest} | | | | | | | |"
    return f"{head} {figures(found)} |"


def figures(found: Compiled) -> str:
    """used | interval | bounds | over | latency | bound."""
    plan = found.plan
    bounds = {b.binding.split(",")[0].split(";")[0]: b.value for b in plan.bounds if b.quantity == "interval"}
    (even,) = (value for words, value in bounds.items() if words.startswith("all work"))
    (largest,) = (value for words, value in bounds.items() if words.startswith("the largest"))
    (cut,) = (value for words, value in bounds.items() if words.startswith("the best cut"))
    (latency,) = (b.value for b in plan.bounds if b.quantity == "latency")
    why = next(b.binding for b in plan.bounds if b.binding.startswith("the best cut"))
    note = " (SRAM)" if "SRAM binds: without" in why else ""
    closing = " (SRAM)" if "SRAM" in plan.certificates[-1].problem else ""
    return (
        f"{len(plan.stages)} | {plan.interval:,} | {even:,} | {largest:,} | {cut:,}{note} | "
        f"{plan.interval / cut - 1:.1%}{closing} | {plan.latency:,} | {latency:,}"
    )


@click.command()
@click.option("--write", is_flag=True, help="Write docs/pipelines.md as well.")
def main(write: bool) -> None:
    """Print the table."""
    rows = [row(name, sequence, chips) for name, sequence in CASES for chips in CHIPS]
    text = HEAD + "\n".join(rows) + "\n"
    click.echo(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
