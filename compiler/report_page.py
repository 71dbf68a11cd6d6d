"""`chiplan show --html`: one file that opens from disk, with no server and no network.

The page is rendered by Jinja, which escapes whatever it is given; data for the plots is one JSON text in
which nothing can end its element. A content security policy names every script by its hash and allows no
connection.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chiplan.ir import BadInput, Plan, Problem
from chiplan.runtime_sim import simulate

from .report_figures import figure_documents
from .report_memory import stage_memory
from .report_operators import OperatorDetails, lay_out_operators
from .report_source import Source, shown_name
from .report_system import system_data
from .report_timeline import overview, stage_bars
from .report_words import page_words

FOLDER = Path(__file__).parent / "report"
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def report_html(plan: Plan, plan_sha256: str, frontier: Sequence[Mapping[str, Any]] = ()) -> str:
    """The report as a page. frontier: points as `compile --pareto --json` or `scale --json` gives them.

    Raises BadInput (`plan_faulty`) for a plan that the simulator refuses.
    """
    verdict = simulate(plan)
    if not verdict.ok:
        raise BadInput(
            Problem(
                "plan_faulty",
                f"the plan does not hold: {shown_name(verdict.faults[0].message)}. A report shows plans that "
                "the simulator accepts; `chiplan simulate` lists every fault.",
            )
        )
    source = Source(plan)
    bundle = _executable(Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0])
    parts = [part.read_text(encoding="utf-8") for part in sorted(FOLDER.glob("*.js"))]
    script = _executable("\n".join(['"use strict";', "(async () => {", *parts, "})();"]))
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html").render(
        words=page_words(source, verdict, plan_sha256),
        style=(FOLDER / "report.css").read_text(encoding="utf-8"),
        policy=_policy(bundle, script),
        scripts=(bundle, script),
        data=_embedded(report_data(source, frontier)),
        figures=_embedded(figure_documents(frontier=bool(frontier))),
        has_frontier=bool(frontier),
    )


def report_data(source: Source, frontier: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """What the plots show; every part documents its own columns."""
    plan, picture, details = source.plan, lay_out_operators(source), OperatorDetails(source)
    instances = [(folded.number, i) for folded in picture.operators for i in folded.instances]
    spans = [details.span(instance) for _, instance in instances]
    folded_of = {(i.stage, i.operator): (number, i.repeat) for number, i in instances}
    sent = _bytes_sent(source)
    return {
        "clock": int(plan.target.chip.clock_hz),
        "latency": int(plan.latency),
        "interval": int(plan.interval),
        "runs": [list(run.stages) for run in source.runs],
        "system": system_data(source),
        "operators": [
            {"run": f.run, "x": f.x, "y": round(f.y, 2), "segment": f.segment, **details.of(f)}
            for f in picture.operators
        ],
        "frames": [
            {**asdict(f), "bottom": round(f.bottom, 2), "top": round(f.top, 2)} for f in picture.frames
        ],
        "links": [
            [a, b, shown_name(tensor), int(exchanged), *sent.get((picture.operators[a].run, tensor), (0, 0))]
            for a, b, tensor, exchanged in picture.links
        ],
        "instances": {
            "operator": [number for number, _ in instances],
            "stage": [i.stage for _, i in instances],
            "repeat": [i.repeat for _, i in instances],
            "start": [start for start, _ in spans],
            "end": [end for _, end in spans],
            "nodes": [
                [shown_name(n) for n in plan.graph.operators[i.operator].nodes] for _, i in instances
            ],
        },
        "overview": overview(source),
        "bars": [stage_bars(source, run, folded_of) for run in source.runs],
        "memory": [stage_memory(source, run) for run in source.runs],
        "frontier": list(frontier),
    }  # fmt: skip


def _bytes_sent(source: Source) -> dict[tuple[int, str], tuple[int, int]]:
    """Bytes, and cycles of the busiest link, of each tensor that the chips of a run's first stage send."""
    plan, timeline = source.plan, source.timeline
    firsts = {run.first: number for number, run in enumerate(source.runs)}
    sizes = np.array([plan.graph.tensors[name].dtype.itemsize for name in plan.tensor_names], dtype=np.int64)
    nbytes = (plan.transfers.last - plan.transfers.first) * sizes[plan.transfers.tensor]
    found = {}
    for (stage, tensor), rows in timeline.groups.sends.items():
        if stage in firsts:
            cycles = int(timeline.arrival[rows].max() - plan.transfers.start[rows].min())
            found[firsts[stage], tensor] = int(nbytes[rows].sum()), cycles
    return found


def _embedded(data: Any) -> str:
    """JSON that may stand in an element: nothing in it looks like a tag or an entity."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def _executable(text: str) -> str:
    """A script that may stand in an element. The HTML parser has line ends of one kind alone."""
    return (
        "\n" + text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--") + "\n"
    )


def _policy(*scripts: str) -> str:
    hashes = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
