"""Plans broken at random, thousands of them: `python -m benchmarks.mutations [--mutants N] [--write]`.

How plans are broken and judged is in `tests/mutant_verdict.py`; the test suite runs a sample. `--write` puts
the table into docs/mutations.md. Exit code 1 when a mutant survives.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from tests.mutant_plans import Case, by_hand, compiled
from tests.mutant_verdict import (
    FOUND,
    HARMLESS,
    MISNAMED,
    NUMBERS,
    REFUSED,
    SURVIVOR,
    Mutant,
    Tally,
    mutants,
    tallies,
)  # fmt: skip

PAGE = Path(__file__).parents[1] / "docs" / "mutations.md"
BY_HAND_SHARE = 4
"""Plans made by hand, which are quick to step, are broken this many times as often as compiled ones."""
HEAD = """# Broken plans

Made by `python -m benchmarks.mutations --write`: {count:,} mutants of {plans} good plans, seed {seed}.
Each is changed at random in one place. It is

- **refused** by the reader of plan files, because it refers to what is not there;
- **found** by `chiplan simulate`, with a fault by a name that fits the change;
- found by the **numbers**: a graph that was changed may be a graph as good as any, for which the plan is
  right; `chiplan simulate --numerics MODEL` holds it against the model;
- **harmless**: a second simulator (`tests/stepping_simulator.py`) steps the plan cycle by cycle through
  steady state and finds nothing, the stated latency and interval hold there, and the plan, executed in bytes
  for several overlapping micro-batches (`runtime_sim.execute` on seeded inputs), gives the outputs of the
  model in onnxruntime, or of its graph where a plan is made by hand;
- a **survivor** otherwise, or **misnamed** where the fault's name does not fit: both are bugs of the
  simulator.

The second simulator has found faults of the first: state rows that nobody appends on some chips, buffers that
live long before their micro-batch, gathers that were none. Figures that a plan states and a simulation cannot
know (bounds, certificates, options) are not changed here.
"""


def page(cases: Sequence[Case], found: Sequence[Mutant], seed: int) -> str:
    """The tables as they stand in docs/mutations.md."""
    counted = tallies(found)
    text = HEAD.format(count=len(found), plans=len(cases), seed=seed)
    text += (
        "\n## By kind\n\n| kind | mutants | refused | found | numbers | harmless | misnamed | survivors |\n"
    )
    text += "|---|---|---|---|---|---|---|---|\n"
    text += "".join(_kind_line(tally.kind.title, tally) for tally in counted)
    verdicts = Counter(mutant.verdict for mutant in found)
    cells = " | ".join(f"{verdicts[v]:,}" for v in (REFUSED, FOUND, NUMBERS, HARMLESS, MISNAMED, SURVIVOR))
    text += f"| **all** | {len(found):,} | {cells} |\n"
    text += (
        "\n## Why more than a tenth of a kind are harmless\n\n| kind | harmless | reason |\n|---|---|---|\n"
    )
    for tally in counted:
        if tally.harmless_share > 0.1:
            reason = tally.kind.reason or "NOT EXPLAINED"
            text += f"| {tally.kind.title} | {tally.harmless_share:.0%} | {reason} |\n"
    text += "\n## By fault\n\nThe first fault of the report.\n\n| fault | mutants | kinds |\n|---|---|---|\n"
    faults = sum((tally.faults for tally in counted), Counter[str]())
    for name, count in sorted(faults.items()):
        kinds = sum(name in tally.faults for tally in counted)
        text += f"| `{name}` | {count:,} | {kinds} |\n"
    text += "\n## The plans\n\n| plan | chips | tiles | transfers | interval | latency | mutants |\n"
    text += "|---|---|---|---|---|---|---|\n"
    by_case = Counter(mutant.case for mutant in found)
    return text + "".join(_case_line(case, by_case[case.name]) for case in cases)


def _kind_line(title: str, tally: Tally) -> str:
    verdicts = [tally.verdicts[v] for v in (REFUSED, FOUND, NUMBERS)]
    cells = [*verdicts, f"{tally.verdicts[HARMLESS]} ({tally.harmless_share:.0%})"]
    cells += [tally.verdicts[MISNAMED], tally.verdicts[SURVIVOR]]
    return f"| {title} | {tally.count} | {' | '.join(map(str, cells))} |\n"


def _case_line(case: Case, count: int) -> str:
    stages = case.plan.stages
    tiles = sum(len(stage.program.tiles.start) * len(stage.chips) for stage in stages)
    meshes = " + ".join(" x ".join(map(str, stage.mesh)) for stage in stages)
    return (
        f"| {case.name} | {meshes} | {tiles} | {len(case.plan.transfers.start)} | {case.plan.interval} | "
        f"{case.plan.latency} | {count} |\n"
    )


@click.command()
@click.option("--mutants", "count", default=10_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--write", is_flag=True, help="Write docs/mutations.md as well.")
def main(count: int, seed: int, write: bool) -> None:
    """Print the tables; every mutant that should not be on standard error."""
    cases = (*by_hand(), *compiled())
    found = []
    for mutant in mutants((*by_hand() * BY_HAND_SHARE, *compiled()), count, seed):
        found.append(mutant)
        if mutant.verdict in (MISNAMED, SURVIVOR):
            what = f"{mutant.verdict}: {mutant.kind.title} of {mutant.case}: {mutant.faults} {mutant.why}"
            click.echo(what, err=True)
    text = page(cases, found, seed)
    click.echo(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")
    if any(mutant.verdict in (MISNAMED, SURVIVOR) for mutant in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
