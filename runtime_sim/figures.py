"""The figures of a plan as one JSON object, null where a figure has no meaning for the model."""

from dataclasses import asdict
from typing import Any

from chiplan.ir import Elapsed, Plan, plan_elapsed

from .simulator import Report
from .usage import covered_bytes


def figures(plan: Plan, report: Report, sha256: str | None = None) -> dict[str, Any]:
    """The fields that `compile --json` and `simulate --json` print. `sha256` is that of the file.

    Cycles include deskews, and with the target's rule transfers from and to the host, of which
    `deskew_*` and `host_*` are parts; `finish_cycles` and bounds do not.

    Without state, inferences a second = batch / interval, and tokens read a second = sequence times that,
    where a run has several. With state, tokens a second of one user = sequence / latency, and of all =
    sequence x min(batch / interval, users x batch / latency); they hold for `context` cached tokens and
    new ones together.
    """
    # What is promised: a measured latency may be shorter, but outputs are handed over at the stated one.
    measured = None if report.latency is None else max(int(report.latency), int(plan.latency))
    passed = plan_elapsed(plan, measured)
    latency = None if measured is None else passed.latency
    clock = plan.target.chip.clock_hz
    has_state = bool(plan.graph.states)
    rates = _token_rates(plan, passed) if has_state and latency else (None, None)
    runs = None if has_state else plan.batch * clock / max(1, passed.interval)
    context = dict(plan.options).get("context")
    return {
        "ok": report.ok,
        "faults": [asdict(fault) for fault in report.faults],
        "latency_cycles": latency,
        "latency_us": None if latency is None else latency / clock * 1e6,
        "interval_cycles": passed.interval,
        **passed.parts(),
        "inferences_per_second": runs,
        "tokens_per_second_read": None if runs is None or plan.sequence == 1 else runs * plan.sequence,
        "tokens_per_second_user": rates[0],
        "tokens_per_second_total": rates[1],
        "precision": plan.precision,
        "context": int(context) if has_state and context else None,
        "latency_includes_host": plan.target.chip.rules.host,
        "chips": len({chip for stage in plan.stages for chip in stage.chips}),
        "stages": len(plan.stages),
        "bounds": [asdict(bound) for bound in plan.bounds],
        "certificates": [asdict(certificate) for certificate in plan.certificates],
        "users": plan.users if has_state else None,
        "finish_cycles": list(report.finish),
        "critical_resource": report.critical or None,
        "peak_sram_bytes": {str(chip): nbytes for chip, nbytes in covered_bytes(plan).items()},
        "sha256": sha256,
    }


def _token_rates(plan: Plan, passed: Elapsed) -> tuple[float, float]:
    """Tokens a second of one user and of all."""
    clock = plan.target.chip.clock_hz * plan.sequence
    together = min(plan.batch / max(1, passed.interval), plan.users * plan.batch / passed.latency)
    return clock / passed.latency, clock * together
