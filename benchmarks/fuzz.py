"""Fuzz the command line with mutated models, targets and plans: `python -m benchmarks.fuzz`.

`--write` puts the table into docs/fuzz.md; the exit code is 1 when there was a crash. `tests/fuzzing.py`
says what a try is; the suite runs a few hundred.
"""

import platform
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from tests.fuzz_seeds import write_seeds
from tests.fuzzing import KINDS, LIMIT_SECONDS, MEMORY, Kind, Try, run_tries, shares

PAGE = Path(__file__).parents[1] / "docs/fuzz.md"
FAMILIES = ("model", "target", "baseline", "plan")
_HEAD = """# Fuzzing

{total:,} mutated inputs through the command line, {crashes} crashes:
`python -m benchmarks.fuzz --tries {total} --seed {seed} --write`.

Each is run in a process that may have {memory} GiB of address space and {seconds} s. A *refusal* is one
message and exit code 2 or 3; *accepted* means that the input still meant something (exit code 0, or 1 for
a plan with faults). A *crash* is anything else: a traceback, exit code 70, a signal, a try that does not
end, a file left behind by a refusal, a character that a terminal would obey, more than 120 lines.

| kind | tries | refused | accepted | crashes | slowest (processor time) |
|---|---:|---:|---:|---:|---:|"""
_MIDDLE = """
Models go through `inspect`, some through `compile`; targets through `targets show`; plans through
`simulate`, every third through `show` with `--sharding`, or with `--svg` and `--dot`.

The problems that refusals named most often (of the half that were run with `--json`):

| family | problems |
|---|---|"""
_TAIL = """
Measured with Python {version}. [Untrusted input](untrusted-input.md) states the bounds.
"""


@dataclass(frozen=True)
class Row:
    """All tries of one kind."""

    kind: Kind
    tries: tuple[Try, ...]

    def count(self, verdict: str) -> int:
        return sum(tried.verdict == verdict for tried in self.tries)

    @property
    def slowest(self) -> float:
        return max(tried.seconds for tried in self.tries)

    def line(self) -> str:
        counts = (len(self.tries), *(self.count(verdict) for verdict in ("refused", "accepted", "crash")))
        return f"| {self.kind.name} | {' | '.join(f'{count:,}' for count in counts)} | {self.slowest:.2f} s |"


def row(seeds: Path, kind: Kind, tries: int, seed: int) -> Row:
    """All tries of a kind; crashes are told as they come."""
    found = []
    for tried in run_tries(seeds, kind, range(tries), seed):
        found.append(tried)
        if tried.verdict == "crash":
            click.echo(f"CRASH {kind.name} {tried.number} (seed {seed}): {tried.command}: {tried.detail}")
    return Row(kind, tuple(found))


def page(rows: list[Row], seed: int) -> str:
    """docs/fuzz.md."""
    total = sum(len(entry.tries) for entry in rows)
    crashes = sum(entry.count("crash") for entry in rows)
    head = _HEAD.format(
        total=total, crashes=crashes, seed=seed, memory=MEMORY // 2**30, seconds=LIMIT_SECONDS
    )
    lines = [*(entry.line() for entry in rows), _MIDDLE, *map(partial(_codes_line, rows), FAMILIES)]
    return "\n".join([head, *lines, _TAIL.format(version=platform.python_version())])


def _codes_line(rows: list[Row], family: str) -> str:
    codes: Counter[str] = Counter()
    for entry in rows:
        if entry.kind.family == family:
            codes.update(code for tried in entry.tries for code in tried.codes if " " not in code)
    words = ", ".join(
        f"`{code}` {count:,}" for code, count in sorted(codes.items(), key=lambda c: (-c[1], c[0]))[:10]
    )
    return f"| {family} | {words} |"


@click.command()
@click.option("--tries", default=10_000, show_default=True, help="In all, or a few more.")
@click.option("--seed", default=1, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Processes at a time.")
@click.option("--write", is_flag=True, help="Write docs/fuzz.md.")
def main(tries: int, seed: int, workers: int, write: bool) -> None:
    """Print the table; exit 1 when there was a crash."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        seeds = Path(folder)
        write_seeds(seeds)
        counts = shares(tries)
        rows = list(pool.map(lambda kind: row(seeds, kind, counts[kind], seed), KINDS))
    text = page(rows, seed)
    click.echo(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")
    raise SystemExit(1 if any(entry.count("crash") for entry in rows) else 0)


if __name__ == "__main__":
    main()
