"""Ready times of groups of chips against chip by chip, element by element."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.ir import Operand, Own, Plan, Reshape, Result, Split, apply_view, mesh_places
from chiplan.runtime_sim.readiness import Readiness, ReadyTimes
from chiplan.runtime_sim.reads import check_readiness
from chiplan.runtime_sim.timeline import Timeline

from .handmade import edited, with_operator
from .test_simulator_groups import forward_plan

NEVER = np.iinfo(np.int32).max
PLAN = forward_plan()
AXES = st.sampled_from([(0, 1), (1, 0)])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """The gather over a square with transfers of any ranges between any chips, in any cycles."""
    count = len(PLAN.transfers.first)
    columns = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    first = np.array(draw(st.lists(st.integers(0, 95), min_size=count, max_size=count)))
    last = np.minimum(
        first + np.array(draw(st.lists(st.integers(1, 60), min_size=count, max_size=count))), 96
    )
    late = np.array(draw(st.lists(st.integers(0, 300), min_size=count, max_size=count)))
    transfers = replace(
        PLAN.transfers, first=first, last=last, at=first,
        source=np.array(draw(columns), dtype=np.int32), destination=np.array(draw(columns), dtype=np.int32),
        start=late,
    )  # fmt: skip
    plan = replace(PLAN, transfers=transfers, hops=replace(PLAN.hops, end=late + 10))
    own: tuple[int, ...] = draw(AXES) if draw(st.booleans()) else ()
    (result,) = plan.graph.operators[0].results
    if own:
        return with_operator(plan, 0, results=(replace(result, own=own),))
    # Everybody writes the first two pieces, or some chips do.
    only = ((draw(st.integers(0, 1)), draw(st.integers(0, 1))),) if draw(st.booleans()) else ()
    return with_operator(
        plan, 0, results=(Result("g", (None, 0, 1), (draw(st.integers(0, 3)), 0, 0), 0, (), only),)
    )


def expected_times(plan: Plan, rank: int) -> np.ndarray:
    """Ready cycle of every element of g on a chip, by the definition."""
    place = mesh_places((2, 2))[rank]
    cycles = np.full((4, 4, 6), NEVER, dtype=np.int64)
    (result,) = plan.graph.operators[0].results
    piece = place.piece(result.own) if result.own else result.offsets[0]
    if all(place.coordinates[axis] == c for axis, c in result.only):
        # Two tiles of two rows each; the result is there 3 cycles behind their end.
        ends = plan.stages[0].program.tiles.end[:2]
        cycles[piece] = np.repeat(ends + 3, 2)[:, None]
    flat, transfers = cycles.reshape(-1), plan.transfers
    for row in range(len(transfers.first)):
        if transfers.destination[row] == rank:
            low, high = int(transfers.first[row]), int(transfers.last[row])
            arrival = int(plan.hops.end[row]) + 11
            flat[low:high] = np.minimum(flat[low:high], arrival)
    return cycles


def ready_times(plan: Plan) -> ReadyTimes:
    return Readiness(Timeline(plan)).at((0, "g"))


@settings(max_examples=60, deadline=None)
@given(plans())
def test_ready_times_of_a_group(plan: Plan) -> None:
    times = ready_times(plan)
    expected = [expected_times(plan, rank) for rank in range(4)]
    for rank in range(4):
        assert np.array_equal(times.on(rank), expected[rank])
    assert np.array_equal(times.latest, np.maximum.reduce(expected))
    transfers = plan.transfers
    sent = Timeline(plan).groups.sends[0, "g"]
    assert sorted(sent.tolist()) == list(range(len(transfers.first)))
    assert ready_times(plan).sendable().tolist() == [
        expected[transfers.source[row]].reshape(-1)[transfers.first[row] : transfers.last[row]].max()
        for row in sent
    ]


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(1, 12), st.booleans(), st.integers(60, 400))
def test_reads_of_a_group(plan: Plan, extent: int, own: bool, start: int) -> None:
    """An operator of one tile reads what each chip executes of it, no sooner than it is there."""
    view = (Own(0, (1, 0), 4),) if own else ()
    view = (*view, Reshape((24 if own else 96,)))
    factor = replace(plan.graph.operators[1].factors[0], extent=24 if own else 96)
    split = Split(0, (0, 1), 3 * factor.extent + extent)
    reader = replace(
        plan.graph.operators[1], factors=(factor,), operands=(Operand("g", view, (0,)),), splits=(split,),
        results=(),
    )  # fmt: skip
    operators = (plan.graph.operators[0], reader)
    program = plan.stages[0].program
    tiles = edited(program.tiles, start=lambda c: np.where(program.tiles.operator == 1, start, c))
    kept = np.flatnonzero((tiles.operator == 0) | (tiles.tile == 0))
    tiles = edited(tiles, **{name: (lambda c: c[kept]) for name in tiles.__dataclass_fields__})
    tiling = replace(program.tilings[1], blocks=(factor.extent,), order=(0,))
    program = replace(program, tiles=tiles, tilings=(program.tilings[0], tiling))
    plan = replace(
        plan, graph=replace(plan.graph, operators=operators),
        stages=(replace(plan.stages[0], program=program),),
    )  # fmt: skip
    timeline = Timeline(plan)
    needs = []
    for rank, place in enumerate(mesh_places((2, 2))):
        seen = apply_view(view, expected_times(plan, rank), place)[: split.real(factor.extent, place)]
        needs.append(int(seen.max(initial=0)))
    found = [f for f in check_readiness(timeline, Readiness(timeline)) if f.operator is not None]
    assert bool(found) == (max(needs) > start)
    if found:
        assert needs[found[0].chip] == max(needs)
