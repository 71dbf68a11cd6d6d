"""Compile time against depth and against chips: `python -m benchmarks.compile_time [--write]`.

Depth: the layers of a model, found by structure, repeated. Every time is that of a process of its own
and is given as a ratio to the smallest case of the same run, so that tables of different machines
compare. `--write` puts them into docs/compile-time.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from .case import Case, run_case

PAGE = Path(__file__).parents[1] / "docs" / "compile-time.md"
DEPTHS = (2, 8, 32, 80, 320)
CHIPS = (72, 144, 288, 576)
HEAD = """# Compile time

Made by `python -m benchmarks.compile_time --write`: seconds of the whole process (import, plan,
simulation), and their ratio to the first row of the same table. Layers are those of the shipped graph,
repeated (docs/scaling.md); every layer is there as nodes of the model, with weights of its own.
"""
COLUMNS = """
| {what} | operators | tiles | chips used | interval | wall | ratio | of it simulation | peak memory |
|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Sweep:
    """Cases of one table, by what differs between them."""

    title: str
    what: str
    cases: Sequence[tuple[int, Case]]


def sweeps(target: str, depths: Sequence[int], chips: Sequence[int]) -> tuple[Sweep, ...]:
    """Depth on one target at throughput, and chips at the model's own depth."""
    decode = Case("llama2-7b-decode", target, planning={"precision": "fp16"})
    encoders = Case("bert-encoders-6", target, planning={"precision": "fp16"})
    by_depth = [(depth, replace(encoders, layers=depth)) for depth in depths]
    decode_depth = [(depth, replace(decode, layers=depth)) for depth in depths]
    by_chips = [(count, replace(decode, planning={**decode.planning, "chips": count})) for count in chips]
    return (
        Sweep(f"BERT-large encoders on `{target}`, by depth", "layers", by_depth),
        Sweep(f"Llama-2-7B decode on `{target}`, by depth", "layers", decode_depth),
        Sweep(f"Llama-2-7B decode on `{target}`, by chips allowed", "chips", by_chips),
    )


def table(sweep: Sweep) -> str:
    """One table; the first case that is not refused is the unit."""
    lines, unit = [], None
    for value, case in sweep.cases:
        found = run_case(case)
        if unit is None and "refused" not in found:
            unit = found["wall_seconds"]
        lines.append(_line(value, found, unit or 1.0))
        click.echo(lines[-1], err=True)
    return f"\n## {sweep.title}\n{COLUMNS.format(what=sweep.what)}" + "\n".join(lines) + "\n"


def _line(value: int, found: dict[str, Any], unit: float) -> str:
    if "refused" in found:
        why = found["refused"].split(". ")[0].replace("|", "/")
        return f"| {value} | refused: {why} | | | | | | | |"
    return (
        f"| {value} | {found['operators']:,} | {found['tiles']:,} | {found['chips']} | "
        f"{found['interval_cycles']:,} | {found['wall_seconds']:.1f} s | "
        f"{found['wall_seconds'] / unit:.2f} | {found['simulate_seconds']:.1f} s | "
        f"{found['peak_bytes'] / 1e9:.2f} GB |"
    )


def _numbers(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, ...]:
    return tuple(map(int, value.split(",")))


@click.command()
@click.option("--target", default="groq-576", show_default=True)
@click.option("--depths", default=",".join(map(str, DEPTHS)), callback=_numbers, show_default=True)
@click.option("--chips", default=",".join(map(str, CHIPS)), callback=_numbers, show_default=True)
@click.option("--write", is_flag=True, help="Write docs/compile-time.md as well.")
def main(target: str, depths: Sequence[int], chips: Sequence[int], write: bool) -> None:
    """Print the tables."""
    text = HEAD + "".join(table(sweep) for sweep in sweeps(target, depths, chips))
    click.echo(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
