"""One compilation in a process of its own, so that its time and memory are its own.

`python -m benchmarks.case JSON` compiles what the JSON object (the fields of `Case`) says and prints
what came of it as one JSON object; `run_case` does that in a child process and adds the wall time.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from chiplan.compiler.compile import plan_model
from chiplan.compiler.importer import import_model
from chiplan.compiler.options import Options, check_options
from chiplan.compiler.scaling_depth import find_layers, with_depth
from chiplan.ir import ChiplanError, Cycle, Plan, Target
from chiplan.models import find_model, load_target
from chiplan.runtime_sim import figures, simulate

FOLDER = Path(__file__).parents[1]
LIMIT_SECONDS = 900


@dataclass(frozen=True)
class Case:
    """model: a shipped name or a file. links: None (the target's own) or the name of the target whose
    links it gets. depths: units' latencies, which are assumed, times so much. rules: those of the machine
    that differ from the target's. layers: None for the model's own depth. shape: batch, sequence, context.
    planning: fields of `Options`."""

    model: str
    target: str
    links: str | None = None
    depths: float = 1.0
    rules: Mapping[str, bool] = field(default_factory=dict)
    layers: int | None = None
    shape: Mapping[str, int] = field(default_factory=dict)
    planning: Mapping[str, Any] = field(default_factory=dict)


def case_target(case: Case) -> Target:
    """The case's target, with what the case changes of it."""
    target = load_target(case.target)
    chip = replace(target.chip, rules=replace(target.chip.rules, **case.rules))
    units = {name: getattr(chip, name) for name in ("matrix", "vector", "switch", "memory")}
    deeper = {
        name: replace(unit, depth=Cycle(max(1, round(case.depths * unit.depth))))
        for name, unit in units.items()
    }
    target = replace(target, chip=replace(chip, **deeper))
    if case.links is None:
        return target
    return replace(target, name=f"{target.name}-2022", link=load_target(case.links).link)


def run_case(case: Case) -> dict[str, Any]:
    """What `measure` found, and `wall_seconds` of the whole process; or `refused` in words."""
    begin = perf_counter()
    command = [sys.executable, "-m", "benchmarks.case", json.dumps(asdict(case))]
    try:
        child = subprocess.run(
            command, cwd=FOLDER, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"refused": f"not done after {LIMIT_SECONDS} s"}
    if child.returncode:
        return {"refused": f"failed: {child.stderr.strip().splitlines()[-1][:200]}"}
    return {**json.loads(child.stdout), "wall_seconds": perf_counter() - begin}


def measure(case: Case) -> dict[str, Any]:
    """Imports, plans and simulates in this process."""
    target, options = case_target(case), Options(**case.planning)
    try:
        check_options(options, target)
        path = find_model(case.model)
        imported = import_model(path, name=path.stem, **case.shape)
        if case.layers is not None:
            imported = with_depth(find_layers(imported), case.layers)
        plan = plan_model(imported, target, options)
    except ChiplanError as refusal:
        return {"refused": str(refusal.problems[0].message)}
    begin = perf_counter()
    report = simulate(plan)
    found = figures(plan, report)
    return {
        **{key: found[key] for key in ("ok", "latency_us", "latency_cycles", "interval_cycles", "chips")},
        **{key: value for key, value in found.items() if key.endswith("_per_second") or "tokens_" in key},
        "faults": [fault.message for fault in report.faults[:3]],
        "stages": len(plan.stages),
        "operators": len(plan.graph.operators),
        "tiles": count_tiles(plan),
        "simulate_seconds": perf_counter() - begin,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def count_tiles(plan: Plan) -> int:
    """Tiles of all chips together."""
    return sum(len(stage.program.tiles.start) * len(stage.chips) for stage in plan.stages)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Case(**json.loads(sys.argv[1])))) + "\n")
