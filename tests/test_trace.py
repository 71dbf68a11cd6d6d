"""`show --trace`, read back: it holds what the plan holds, to the cycle."""

import gzip
import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chiplan.compiler import compile_model
from chiplan.compiler.cli import main
from chiplan.compiler.trace import TraceChoice, trace_chunks
from chiplan.ir import Plan, write_plan
from chiplan.models import find_model, load_target

Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def group_plan() -> Plan:
    """Two groups of two chips, with exchanges inside and transfers between, and a state."""
    target = load_target("groq-node")
    return compile_model(find_model("llama-tiny-gqa-past"), target=target, groups=(2, 2)).plan


def events_of(plan: Plan, **choice: Any) -> Events:
    document = json.loads("".join(trace_chunks(plan, TraceChoice(**choice))))
    assert document["displayTimeUnit"] == "ns"
    events: Events = document["traceEvents"]
    return events


def of_kind(events: Events, category: str) -> Events:
    return [event for event in events if event["ph"] == "X" and event["cat"] == category]


def cycles(microseconds: float, plan: Plan) -> int:
    """A time stamp as cycles: they are exact after rounding."""
    exact = microseconds * plan.target.chip.clock_hz / 1e6
    assert abs(exact - round(exact)) < 1e-2
    return round(exact)


@pytest.mark.parametrize("batches", [1, 3])
def test_busy_cycles_of_units_and_links_come_back(group_plan: Plan, batches: int) -> None:
    events = events_of(group_plan, micro_batches=batches)
    units: dict[tuple[int, int], int] = defaultdict(int)
    for event in of_kind(events, "tile"):
        start, length = cycles(event["ts"], group_plan), cycles(event["dur"], group_plan)
        assert (event["args"]["start_cycle"], event["args"]["end_cycle"]) == (start, start + length)
        units[event["pid"], event["tid"]] += length
    for stage in group_plan.stages:
        tiles = stage.program.tiles
        pairs = np.stack([tiles.unit, tiles.instance], axis=1)
        _, which = np.unique(pairs, axis=0, return_inverse=True)
        wanted = sorted((np.bincount(which.ravel(), tiles.end - tiles.start) * batches).astype(int).tolist())
        for chip in stage.chips:
            assert sorted(busy for (process, _), busy in units.items() if process == chip) == wanted
    links = np.zeros(len(group_plan.target.topology.links), dtype=int)
    for event in of_kind(events, "hop"):
        link = group_plan.target.topology.links[event["args"]["link"]]
        assert event["pid"] == link.source
        links[event["args"]["link"]] += cycles(event["dur"], group_plan)
    hops = group_plan.hops
    wanted_links = np.bincount(hops.link, hops.end - hops.start, minlength=len(links)) * batches
    assert links.tolist() == wanted_links.astype(int).tolist()


def test_slices_of_a_thread_follow_each_other(group_plan: Plan) -> None:
    """The format wants slices of one thread to nest; a unit and a link do one thing at a time."""
    threads: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    events = events_of(group_plan, micro_batches=2)
    for event in events:
        if event["ph"] == "X":
            stamps = round(event["ts"] * 1e6), round((event["ts"] + event["dur"]) * 1e6)
            threads[event["pid"], event["tid"]].append(stamps)
    for slices in threads.values():
        assert all(before[1] <= after[0] for before, after in pairwise(sorted(slices)))
    named = {(e["pid"], e["tid"]) for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert threads.keys() <= named


def test_every_chip_has_a_name(hand_plan: Plan) -> None:
    """Chip 2 has no stage: it passes on what others send."""
    named = {e["pid"]: e["args"]["name"] for e in events_of(hand_plan) if e["name"] == "process_name"}
    assert named == {0: "chip 0, stage 0", 1: "chip 1, stage 1", 2: "chip 2, passes on"}


def test_every_transfer_is_one_flow_from_its_source_to_its_destination(group_plan: Plan) -> None:
    flows: dict[int, Events] = defaultdict(list)
    slices = set()
    for event in events_of(group_plan, micro_batches=2):
        if event.get("cat") == "transfer":
            flows[event["id"]].append(event)
        elif event["ph"] == "X":
            slices.add((event["pid"], event["tid"], event["ts"]))
    transfers = group_plan.transfers
    assert sorted(flows) == list(range(2 * len(transfers.start)))
    for number, steps in flows.items():
        assert [step["ph"] for step in steps] == ["s", *"t" * (len(steps) - 2), "f"]
        ends = steps[0]["pid"], steps[-1]["pid"]
        row = number % len(transfers.start)
        assert ends == (transfers.source[row], transfers.destination[row])
        assert all((step["pid"], step["tid"], step["ts"]) in slices for step in steps)


def test_arrivals_end_when_a_transfer_is_in_sram(hand_plan: Plan) -> None:
    found = {e["args"]["transfer"]: e for e in of_kind(events_of(hand_plan), "arrival")}
    # The last links are held in [19, 27) and [33, 41); a hop takes 10 cycles, a flit 4.
    assert [(found[n]["pid"], found[n]["args"]["end_cycle"]) for n in (0, 1)] == [(1, 37), (1, 51)]
    assert [found[n]["args"]["start_cycle"] for n in (0, 1)] == [19 + 4 + 10, 33 + 4 + 10]


def test_users_wait_for_their_states_in_the_trace(group_plan: Plan) -> None:
    """One user is resident: its next micro-batch starts when the last one has ended."""
    starts: dict[int, int] = {}
    for event in of_kind(events_of(group_plan, micro_batches=3), "tile"):
        batch = event["args"]["micro_batch"]
        starts[batch] = min(starts.get(batch, 1 << 60), event["args"]["start_cycle"])
    assert starts == {batch: starts[0] + batch * group_plan.latency for batch in range(3)}


def test_chips_can_be_chosen(group_plan: Plan) -> None:
    whole, one = events_of(group_plan), events_of(group_plan, chips=(1,))
    assert {event["pid"] for event in one} == {1}
    assert [e for e in whole if e["pid"] == 1 and e["ph"] == "X"] == [e for e in one if e["ph"] == "X"]


def test_hostile_names_stay_text(hand_plan: Plan) -> None:
    hostile = '"pid":-1,%d%s\\\n</script>'
    operators = tuple(replace(o, name=hostile, nodes=(hostile,)) for o in hand_plan.graph.operators)
    plan = replace(hand_plan, graph=replace(hand_plan.graph, operators=operators))
    tiles = of_kind(events_of(plan), "tile")
    assert {(tile["name"], tile["args"]["nodes"]) for tile in tiles} == {(hostile, hostile)}
    assert {tile["pid"] for tile in tiles} == {0, 1}


def test_the_command_writes_equal_bytes(
    hand_plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "hand.chiplan"
    write_plan(hand_plan, plan)
    for name in ("a.json", "b.json.gz", "c.json.gz"):
        assert main(["show", str(plan), "--trace", str(tmp_path / name)]) == 0
    assert (tmp_path / "b.json.gz").read_bytes() == (tmp_path / "c.json.gz").read_bytes()
    unpacked = gzip.decompress((tmp_path / "b.json.gz").read_bytes())
    assert unpacked == (tmp_path / "a.json").read_bytes()
    assert main(["show", str(plan), "--trace", str(tmp_path / "d.json"), "--chip", "2"]) == 2
    assert "--chip 2: the plan uses no such chip" in capsys.readouterr().err
    assert main(["show", str(plan), "--stage", "0"]) == 2
    assert not (tmp_path / "d.json").exists()
