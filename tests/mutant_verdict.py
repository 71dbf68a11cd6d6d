"""What becomes of a mutant: refused by the reader, found by the simulator, harmless, or a survivor.

Harmless: the stepping simulator finds nothing, the latency and the interval that are stated hold there, and
the plan, executed in bytes for several overlapping micro-batches, gives the model's outputs. A survivor is
neither found nor harmless: a bug of `runtime_sim`. So is a fault by another name than its kind may have.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from chiplan.ir import ChiplanError, Plan
from chiplan.ir.plan_validity import first_problem
from chiplan.runtime_sim import execute, simulate

from . import mutant_graphs, mutant_memory, mutant_tiles, mutant_transfers
from .mutant_editing import Kind, canonical
from .mutant_plans import MICRO_BATCHES, Case
from .stepping_simulator import step

KINDS: tuple[Kind, ...] = (
    *mutant_tiles.KINDS,
    *mutant_transfers.KINDS,
    *mutant_memory.KINDS,
    *mutant_graphs.KINDS,
)
REFUSED, FOUND, MISNAMED, NUMBERS, HARMLESS, SURVIVOR = (
    "refused", "found", "misnamed", "numbers", "harmless", "survivor",
)  # fmt: skip
_TRIES = 40


@dataclass(frozen=True)
class Mutant:
    """What was done to which plan, and what came of it. faults: names, in the order of the report."""

    kind: Kind
    case: str
    verdict: str
    faults: tuple[str, ...] = ()
    why: str = ""


@dataclass
class Tally:
    """The mutants of one kind, counted."""

    kind: Kind
    verdicts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, mutant: Mutant) -> None:
        self.verdicts[mutant.verdict] += 1
        if mutant.faults:
            self.faults[mutant.faults[0]] += 1

    @property
    def count(self) -> int:
        return sum(self.verdicts.values())

    @property
    def harmless_share(self) -> float:
        return self.verdicts[HARMLESS] / max(1, self.count)


def judge(kind: Kind, case: Case, plan: Plan) -> Mutant:
    """The verdict on one mutant of `case`."""
    problem = first_problem(plan)
    if problem is not None:
        return Mutant(kind, case.name, REFUSED, why=problem)
    report = simulate(plan)
    if not report.ok:
        found = tuple(dict.fromkeys(fault.name for fault in report.faults))
        verdict = FOUND if set(found) & kind.names else MISNAMED
        return Mutant(kind, case.name, verdict, found, report.faults[0].message)
    stepped = step(plan)
    if stepped.problem is not None or stepped.latency != report.latency:
        why = stepped.problem or f"the latency is {stepped.latency}, not {report.latency}"
        return Mutant(kind, case.name, SURVIVOR, why=why)
    wrong = _wrong_numbers(case, plan)
    if wrong is None:
        return Mutant(kind, case.name, HARMLESS)
    # A plan that is right for its own graph: `simulate --numerics MODEL` holds that against the model.
    return Mutant(kind, case.name, NUMBERS if kind.model else SURVIVOR, why=wrong)


def _wrong_numbers(case: Case, plan: Plan) -> str | None:
    """Which outputs the mutant gets wrong, if any, in overlapping micro-batches."""
    in_flight = -(-int(plan.latency) // int(plan.interval))
    count = min(MICRO_BATCHES, in_flight + int(plan.buffers.copies.max(initial=1)) + 1)
    try:
        outputs = execute(plan, case.inputs[:count], case.weights).outputs
    except (ChiplanError, ValueError, KeyError, IndexError, TypeError) as error:
        return f"it cannot be executed: {error!r}"
    for n, (found, wanted) in enumerate(zip(outputs, case.wanted, strict=False)):
        for name, right in wanted.items():
            if not _agree(found[name], right, case.tolerance):
                return f"output {name} of micro-batch {n} has other values"
    return None


def _agree(found: np.ndarray, right: np.ndarray, tolerance: float) -> bool:
    if found.shape != right.shape:
        return False
    a, b = found.astype(np.float64), right.astype(np.float64)
    scale = float(np.abs(b[np.isfinite(b)]).max(initial=1e-6))
    return np.allclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True)


def mutants(cases: Sequence[Case], count: int, seed: int) -> Iterator[Mutant]:
    """`count` mutants, the kinds and the plans by turns."""
    random = np.random.default_rng(seed)
    made = turn = 0
    while made < count:
        kind = KINDS[turn % len(KINDS)]
        turn += 1
        for _ in range(_TRIES):
            case = cases[int(random.integers(len(cases)))]
            plan = kind.change(case.plan, random)
            if plan is not None:
                made += 1
                yield judge(kind, case, canonical(plan) if first_problem(plan) is None else plan)
                break


def tallies(found: Sequence[Mutant]) -> list[Tally]:
    by_kind = {kind.title: Tally(kind) for kind in KINDS}
    for mutant in found:
        by_kind[mutant.kind.title].add(mutant)
    return list(by_kind.values())
