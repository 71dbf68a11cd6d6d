"""Points for a report's picture of what chips buy, from the JSON of `compile --pareto` or `scale`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chiplan.ir import BadInput, Plan, Problem, plan_elapsed

from .quantities import rate
from .report_source import shown_name


def read_frontier(path: Path, plan: Plan) -> tuple[dict[str, Any], ...]:
    """One object a plan that fits, by chips: chips, latency_us, interval_cycles, label, nondominated, and
    chosen (whether it has this plan's chips, latency and interval). Raises BadInput."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise _refusal(path, "it is no JSON") from error
    found = document.get("frontier", document.get("points")) if isinstance(document, dict) else None
    if not isinstance(found, list) or not found:
        raise _refusal(path, "it has neither a frontier nor points")
    try:
        points = list(_points(document, plan))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refusal(path, "a point lacks a figure") from error
    return tuple(sorted(points, key=lambda point: (point["chips"], point["latency_us"])))


def _no_number(text: str) -> float:
    raise ValueError(text)


def _refusal(path: Path, why: str) -> BadInput:
    message = (
        f"cannot show {path}: {why}. Expected is what `chiplan compile --pareto --json` or "
        "`chiplan scale --json` prints."
    )
    return BadInput(Problem("frontier_broken", message))


def _points(document: Mapping[str, Any], plan: Plan) -> Iterator[dict[str, Any]]:
    used = sum(len(stage.chips) for stage in plan.stages)
    passed = plan_elapsed(plan)
    mine = used, passed.latency, passed.interval
    for point in document["frontier" if "frontier" in document else "points"]:
        chips = point["chips"] if "frontier" in document else point["chips_used"]
        if chips is None:
            continue
        figures = int(chips), int(point["latency_cycles"]), int(point["interval_cycles"])
        yield {
            "chips": figures[0],
            "latency_us": float(point["latency_us"]),
            "interval_cycles": figures[2],
            "label": shown_name(_label(point)),
            "nondominated": bool(point.get("nondominated", True)),
            "chosen": figures == mine,
        }


def _label(point: Mapping[str, Any]) -> str:
    tokens = point.get("tokens_per_second_user")
    if tokens is not None:
        return f"{rate(float(tokens))} tokens a second, one user"
    return f"{rate(float(point.get('rate', point.get('inferences_per_second'))))} a second"
