"""How figures move with what is assumed: `python -m benchmarks.assumptions [--corpus DIR] [--write]`.

Each column changes one thing of the target: the unpublished latencies of units halved and doubled, a rule
of the machine switched off, the host switched on. `--write` puts the table into docs/assumptions.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .case import Case, run_case
from .published import ROWS, Row, located

PAGE = Path(__file__).parents[1] / "docs" / "assumptions.md"
HEAD = """# What the figures rest on

Made by `python -m benchmarks.assumptions --write`: the figures of [published](published.md) with one
thing changed a column. All simulated. *Latencies* are the depths of the units, which nobody has
published (matrix 100 cycles, vector 20, switch 20, memory 10). The rules are those of
[the machine model](machine-model.md); without `stream_budget` or `shared_load_port` units are faster than
they can be. A plan is made anew for each column, so a figure may also move because another was found.

"""
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "as shipped": {},
    "latencies / 2": {"depths": 0.5},
    "latencies x 2": {"depths": 2.0},
    "no stream budget": {"rules": {"stream_budget": False}},
    "whole load port each": {"rules": {"shared_load_port": False}},
    "SRAM never short": {"rules": {"sram_bandwidth": False}},
    "no instructions in SRAM": {"rules": {"instruction_memory": False}},
    "no deskew": {"rules": {"deskew": False}},
    "with the host": {"rules": {"host": True}},
}
CASES = ("Llama-2-7B", "Llama-2-70B decode, int8, context 4,096, groq-576", "sequence 384, fp16", "16 chips")


def chosen() -> Sequence[Row]:
    """The rows of the published table that are looked at."""
    return [row for row in ROWS if row.of is None and any(word in row.name for word in CASES)]


def figure(row: Row, case: Case) -> str:
    """The row's figure under a change of its case."""
    found = run_case(case)
    if "refused" in found:
        return "refused"
    return f"{found[row.figure]:,.1f}" if found["ok"] else "FAULT"


@click.command()
@click.option(
    "--corpus", type=click.Path(exists=True, path_type=Path), help="Folder of models that do not ship."
)
@click.option("--write", is_flag=True, help="Write docs/assumptions.md as well.")
def main(corpus: Path | None, write: bool) -> None:
    """Print the table."""
    lines = [f"| case | unit | {' | '.join(CHANGES)} |", "|---|---|" + "---|" * len(CHANGES)]
    for row in chosen():
        there = located(row, corpus)
        cells = ["does not ship"] * len(CHANGES)
        if there is not None:
            cells = [figure(row, replace(there.case, **change)) for change in CHANGES.values()]
        lines.append(f"| {row.name} | {row.unit} | {' | '.join(cells)} |")
        click.echo(lines[-1], err=True)
    text = HEAD + "\n".join(lines) + "\n"
    click.echo(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
