"""SRAM addresses on hard instances: `python -m benchmarks.sram FILE... [--seconds S] [--json]`.

MiniMalloc's format (benchmarks/minimalloc.py). First fit in several orders and hill climbing stand beside the
CP-SAT portfolio; every solution is checked by a sweep that shares no code with them. Tops of allocators that
do not fit are those that they reached. `--ablation` solves each file again without one rule of the model.
"""

import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import click

from chiplan.compiler.cli_output import page, print_json, print_refusal
from chiplan.compiler.cli_tables import print_table, table
from chiplan.ir import ChiplanError
from chiplan.partitioner import (
    SEARCHES,
    Allocation,
    AllocationProblem,
    AllocationRules,
    allocate,
    allocation_fault,
    by_size,
    climb,
)

from .minimalloc import read_instance

_DETERMINISTIC_A_SECOND = 0.04
"""Deterministic time that one core spends in a second here, about. The budget is what counts: the clock stops
a search only after four times the seconds asked for, on a machine that is so much slower."""
_SLOWEST = 4.0


@dataclass(frozen=True)
class Row:
    """One instance. bound, greedy, hill_climbing, cp_sat: bytes; cp_sat None: not found. seconds: of CP-SAT
    by the clock, cpu_seconds: of the processor. verified: the independent check of every one that fits."""

    instance: str
    buffers: int
    capacity: int
    bound: int
    greedy: int
    hill_climbing: int
    cp_sat: int | None
    status: str
    won_by: str
    searches: int
    seconds: float
    cpu_seconds: float
    deterministic_time: float
    verified: bool
    stopped_by_clock: bool


def measure(path: Path, seconds: float) -> Row:
    """Raises BadInput for a file that is no instance, RuntimeError for addresses that are wrong."""
    problem = read_instance(path)
    greedy = by_size(problem)
    climbed = climb(problem, greedy)
    wall, cpu = time.perf_counter(), time.process_time()
    found = allocate(problem, seconds * _DETERMINISTIC_A_SECOND, seconds=_SLOWEST * seconds)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    for heuristic in (greedy, climbed):
        _check(replace(problem, capacity=max(problem.capacity, heuristic.top)), heuristic.addresses.tolist())
    return Row(
        instance=path.name.split(".")[0],
        buffers=len(problem.sizes),
        capacity=problem.capacity,
        bound=problem.peak,
        greedy=greedy.top,
        hill_climbing=climbed.top,
        cp_sat=None if found.addresses is None else problem.top(found.addresses),
        status=found.certificate.status,
        won_by=found.search,
        searches=found.tries,
        seconds=wall,
        cpu_seconds=cpu,
        deterministic_time=found.certificate.deterministic_time,
        verified=_is_verified(problem, found),
        stopped_by_clock=found.stopped_by_clock,
    )


def _is_verified(problem: AllocationProblem, found: Allocation) -> bool:
    if found.addresses is None:
        return False
    _check(problem, found.addresses.tolist())
    return True


def _check(problem: AllocationProblem, addresses: list[int]) -> None:
    fault = allocation_fault(problem, addresses)
    if fault is not None:
        raise RuntimeError(f"wrong addresses: {fault}")


def ablations() -> dict[str, tuple[AllocationRules, tuple[int, ...]]]:
    """Everything, then without one rule each, then each search alone: rules, and members of the portfolio."""
    everyone = tuple(range(len(SEARCHES)))
    cases = {"all": (AllocationRules(), everyone)}
    cases |= {
        f"without {field.name}": (replace(AllocationRules(), **{field.name: False}), everyone)
        for field in fields(AllocationRules)
    }
    return cases | {f"{SEARCHES[n].name} alone": (AllocationRules(), (n,)) for n in everyone}


def _print_ablation(files: tuple[Path, ...], seconds: float) -> None:
    problems = {path.name.split(".")[0]: read_instance(path) for path in files}
    rows = []
    for name, (rules, members) in ablations().items():
        cells, searches = [name], tuple(SEARCHES[number] for number in members)
        for problem in problems.values():
            cpu = time.process_time()
            limit, stop = seconds * _DETERMINISTIC_A_SECOND, _SLOWEST * seconds
            found = allocate(problem, limit, rules=rules, searches=searches, seconds=stop)
            cpu = time.process_time() - cpu
            cells.append("-" if found.addresses is None else f"{cpu:.1f}")
        rows.append(cells)
    title = f"CPU seconds without one part; - : not within the budget of {seconds:g} s"
    print_table(page(), title, table(("<", *problems), rows))


def _print_rows(rows: list[Row]) -> None:
    sizes = [
        (row.instance, *(f"{number:,}" for number in (row.buffers, row.capacity, row.bound, row.greedy)),
         f"{row.hill_climbing:,}", "-" if row.cp_sat is None else f"{row.cp_sat:,}")
        for row in rows
    ]  # fmt: skip
    efforts = [
        (
            row.instance,
            str(row.searches),
            f"{row.seconds:.2f}",
            f"{row.cpu_seconds:.2f}",
            f"{row.deterministic_time:.4f}",
            "yes" if row.verified else "no",
            "stopped by the clock" if row.stopped_by_clock else row.status,
            row.won_by,
        )
        for row in rows
    ]
    columns = ("instance", "buffers", "capacity", "bound", "first fit", "climbing", "CP-SAT")
    title = "Bytes: what is there, the lower bound, and where each allocator ends"
    print_table(page(), title, table(columns, sizes))
    columns = ("instance", "tries", "s", "CPU s", "det. time", "verified", "<status", "<won by")
    print_table(page(), "The CP-SAT portfolio", table(columns, efforts))


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1, 86_400),
              help="About how long CP-SAT may take a file, as deterministic time.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One object instead of the table.")
@click.option("--ablation", is_flag=True, help="What each rule of the model and each search is worth.")
def main(files: tuple[Path, ...], seconds: float, as_json: bool, ablation: bool) -> None:
    """Allocate the buffers of MiniMalloc FILES; exit 1 when one does not fit or is not found."""
    try:
        if ablation:
            _print_ablation(files, seconds)
            return
        rows = [measure(path, seconds) for path in files]
    except ChiplanError as error:
        print_refusal(error.problems, error.exit_code, as_json)
        raise SystemExit(int(error.exit_code)) from None
    if as_json:
        print_json({"ok": all(row.verified for row in rows), "instances": [asdict(row) for row in rows]})
    else:
        _print_rows(rows)
    raise SystemExit(0 if all(row.verified for row in rows) else 1)


if __name__ == "__main__":
    main()
