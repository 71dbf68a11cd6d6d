"""Every fault: a good plan broken in one place, and exactly that fault with its coordinates."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chiplan.ir import DType, Factor, Output, Plan, Reducer, Result, Role, Tensor, Tiling
from chiplan.runtime_sim import simulate
from chiplan.runtime_sim.faults import MOST_PER_RULE

from .handmade import (
    Maker,
    buffer_row,
    edited,
    ring_target,
    small_graph,
    small_plan,
    with_operator,
    with_program,
    with_tiles,
)
from .test_simulator_groups import BROKEN as BROKEN_GROUPS

# Rows of the tiles, by start (see the table in `handmade`):
#   stage 0: matmul 0..7 (two instances, pairs sum over k), relu 8..11
#   stage 1: top 0..1, append 2..3, double 4..7
Break = Callable[[Plan], Plan]


def tiles(stage: int, **changes: object) -> Break:
    return lambda plan: with_tiles(plan, stage, **changes)


def buffer(chip: int, tensor: str, **changes: int) -> Break:
    def change(plan: Plan) -> Plan:
        row = buffer_row(plan, chip, tensor)
        cells = {name: {row: value} for name, value in changes.items()}
        return replace(plan, buffers=edited(plan.buffers, **cells))

    return change


def without_buffer(chip: int, tensor: str) -> Break:
    def change(plan: Plan) -> Plan:
        row = buffer_row(plan, chip, tensor)
        cut = {name: (lambda column: np.delete(column, row)) for name in plan.buffers.__dataclass_fields__}
        return replace(plan, buffers=edited(plan.buffers, **cut))

    return change


def hops(**changes: object) -> Break:
    return lambda plan: replace(plan, hops=edited(plan.hops, **changes))


def transfers(**changes: object) -> Break:
    return lambda plan: replace(plan, transfers=edited(plan.transfers, **changes))


def tiling(stage: int, position: int, new: Tiling) -> Break:
    def change(plan: Plan) -> Plan:
        program = plan.stages[stage].program
        tilings = list(program.tilings)
        tilings[position] = new
        return with_program(plan, stage, replace(program, tilings=tuple(tilings)))

    return change


def plan_field(**changes: object) -> Break:
    return lambda plan: replace(plan, **changes)


def both(*steps: Break) -> Break:
    def change(plan: Plan) -> Plan:
        for step in steps:
            plan = step(plan)
        return plan

    return change


def without_second_transfer(plan: Plan) -> Plan:
    first = {name: (lambda column: column[:1]) for name in plan.transfers.__dataclass_fields__}
    two = {name: (lambda column: column[:2]) for name in plan.hops.__dataclass_fields__}
    return replace(plan, transfers=edited(plan.transfers, **first), hops=edited(plan.hops, **two))


def move_transfer(number: int, start: int) -> Break:
    """The transfer and its two hops, with right timing."""
    at = {2 * number: start, 2 * number + 1: start + 14}
    ends = {row: cycle + 180 for row, cycle in at.items()}
    return both(transfers(start={number: start}), hops(start=at, end=ends))


def without_operator(stage: int, position: int) -> Break:
    def change(plan: Plan) -> Plan:
        program = plan.stages[stage].program
        kept = program.tiles.operator != position
        cut = {name: (lambda column: column[kept]) for name in program.tiles.__dataclass_fields__}
        operators = tuple(o for i, o in enumerate(program.operators) if i != position)
        tilings = tuple(t for i, t in enumerate(program.tilings) if i != position)
        columns = edited(edited(program.tiles, **cut), operator=lambda c: c - (c > position))
        return with_program(
            plan, stage, replace(program, operators=operators, tilings=tilings, tiles=columns)
        )

    return change


def tensor(name: str, **changes: object) -> Break:
    def change(plan: Plan) -> Plan:
        changed = {**plan.graph.tensors, name: replace(plan.graph.tensors[name], **changes)}
        return replace(plan, graph=replace(plan.graph, tensors=changed))

    return change


def without_vector_rule(plan: Plan) -> Plan:
    vector = replace(plan.target.chip.vector, cycles={DType.FP16: 1})
    return replace(plan, target=replace(plan.target, chip=replace(plan.target.chip, vector=vector)))


def with_unwritten_output(plan: Plan) -> Plan:
    lost = Tensor("zz", (2,), DType.FP32, Role.VALUE)
    outputs = (*plan.graph.outputs, Output("lost", "zz", ()))
    graph = replace(plan.graph, tensors={**plan.graph.tensors, "zz": lost}, outputs=outputs)
    return replace(plan, graph=graph, tensor_names=(*plan.tensor_names, "zz"))


def with_output(tensor: str) -> Break:
    """A tensor of the graph is an output of the model too."""

    def change(plan: Plan) -> Plan:
        outputs = (*plan.graph.outputs, Output("more", tensor, ()))
        return replace(plan, graph=replace(plan.graph, outputs=outputs))

    return change


def with_unread_input(plan: Plan) -> Plan:
    """An output that is an input which no chip has."""
    given = Tensor("zz", (2,), DType.FP32, Role.INPUT)
    graph = replace(
        plan.graph, tensors={**plan.graph.tensors, "zz": given}, inputs=(*plan.graph.inputs, "zz")
    )
    return with_output("zz")(replace(plan, graph=graph, tensor_names=(*plan.tensor_names, "zz")))


RELU, MATMUL = {"operator": "relu", "stage": 0}, {"operator": "matmul", "stage": 0}

BROKEN: list[tuple[str, str, Break, dict[str, object]]] = [
    (
        "a vector tile one cycle early",
        "unit_overlap",
        tiles(0, start={10: 178}, end={10: 208}),
        {
            **RELU,
            "chip": 0,
            "unit": "vector",
            "instance": 0,
            "tile": 2,
            "cycle": 178,
            "expected": 179,
            "found": 178,
        },
    ),
    (
        "a matrix tile before its load",
        "unit_overlap",
        tiles(0, start={4: 58}, end={4: 70}),
        {**MATMUL, "unit": "matrix", "instance": 0, "tile": 4, "expected": 59, "found": 58},
    ),
    (
        "an end one cycle late",
        "wrong_duration",
        tiles(0, end={11: 210}),
        {
            **RELU,
            "chip": 0,
            "unit": "vector",
            "instance": 1,
            "tile": 3,
            "cycle": 179,
            "expected": 30,
            "found": 31,
        },
    ),
    (
        "sums on exchanged instances",
        "accumulation_interrupted",
        tiles(0, instance={5: 1, 7: 0}),
        {**MATMUL, "chip": 0, "unit": "matrix", "instance": 1, "tile": 5, "cycle": 90},
    ),
    (
        "a tile twice",
        "not_covered",
        tiles(0, tile={9: 0}),
        {**RELU, "chip": 0, "unit": "vector", "tile": 1, "expected": 4, "found": 4},
    ),
    ("tiles out of order", "not_covered", tiles(0, tile={9: 2, 10: 1}), {**RELU, "tile": 1}),
    (
        "a tile of another operator",
        "not_covered",
        tiles(0, operator={8: 0}),
        {**MATMUL, "tile": 8, "expected": 8, "found": 9},
    ),
    (
        "larger blocks, the same tiles",
        "not_covered",
        tiling(0, 1, Tiling((2, 12, 20), (0, 1, 2))),
        {**RELU, "expected": 2, "found": 4},
    ),
    ("a block of zero", "not_covered", tiling(0, 1, Tiling((0, 12, 20), (0, 1, 2))), RELU),
    ("a block beyond the extent", "not_covered", tiling(0, 1, Tiling((1, 12, 21), (0, 1, 2))), RELU),
    ("no permutation", "not_covered", tiling(0, 1, Tiling((1, 12, 20), (0, 1, 1))), RELU),
    ("a block too few", "not_covered", tiling(0, 1, Tiling((1, 12), (0, 1))), RELU),
    (
        "a reduction in pieces",
        "not_covered",
        tiling(1, 0, Tiling((2, 12, 10), (0, 1, 2))),
        {"operator": "top", "stage": 1, "chip": 2},
    ),
    ("a stationary block too large", "not_covered", tiling(0, 0, Tiling((12, 20, 16), (0, 1, 2))), MATMUL),
    (
        "a whole factor in pieces",
        "not_covered",
        lambda plan: with_operator(
            plan, 1, factors=(Factor("h", 2), Factor("s", 24, whole=True), Factor("c", 20))
        ),
        RELU,
    ),
    (
        "a gathered factor in pieces",
        "not_covered",
        lambda plan: with_operator(
            plan, 1, factors=(Factor("h", 2), Factor("s", 24, gathered=True), Factor("c", 20))
        ),
        RELU,
    ),
    ("no rule for the type", "no_cycle_rule", without_vector_rule, {**RELU, "unit": "vector"}),
    (
        "another unit",
        "wrong_unit",
        tiles(1, unit={0: 2}),
        {"operator": "top", "chip": 2, "stage": 1, "unit": "switch", "instance": 0, "tile": 0, "cycle": 742},
    ),
    (
        "an instance that is not there",
        "wrong_instance",
        tiles(1, instance={1: 2}),
        {"operator": "top", "chip": 2, "unit": "vector", "instance": 2, "tile": 1, "expected": 1, "found": 2},
    ),
    (
        "reads a cycle early",
        "read_before_ready",
        both(buffer(0, "z", birth=0), tiles(0, start={8: 57}, end={8: 87})),
        {
            **RELU,
            "chip": 0,
            "unit": "vector",
            "instance": 0,
            "tile": 0,
            "cycle": 57,
            "tensor": "y",
            "expected": 58,
            "found": 57,
        },
    ),
    (
        "reads a row before it is appended",
        "read_before_ready",
        both(buffer(2, "out", birth=0), tiles(1, start={4: 852}, end={4: 854})),
        {
            "operator": "double",
            "chip": 2,
            "stage": 1,
            "tile": 0,
            "tensor": "cache",
            "expected": 853,
            "found": 852,
        },
    ),
    (
        "reads before the transfer is in",
        "read_before_ready",
        both(buffer(2, "p", birth=0), tiles(1, start={1: 701}, end={1: 761})),
        {"operator": "top", "chip": 2, "tile": 1, "tensor": "z", "expected": 702, "found": 701},
    ),
    (
        "sends a cycle early",
        "send_before_ready",
        both(buffer(2, "z", birth=0), move_transfer(0, 181)),
        {"chip": 0, "tensor": "z", "cycle": 181, "expected": 182, "found": 181},
    ),
    (
        "a transfer left out",
        "receive_without_arrival",
        without_second_transfer,
        {"operator": "top", "chip": 2, "stage": 1, "unit": "vector", "tile": 0, "tensor": "z", "cycle": 742},
    ),
    (
        "a transfer one element short",
        "receive_without_arrival",
        transfers(last={1: 959}),
        {"operator": "top", "chip": 2, "tile": 1, "tensor": "z"},
    ),
    (
        "a hop over another link",
        "broken_route",
        hops(link={1: 3}),
        {"chip": 2, "link": 3, "expected": 1, "found": 2},
    ),
    (
        "a route that ends elsewhere",
        "broken_route",
        transfers(destination={0: 3}),
        {"link": 2, "expected": 3, "found": 2},
    ),
    (
        "a slot too short",
        "broken_route",
        hops(end={0: 431}),
        {"link": 0, "expected": 180, "found": 179, "cycle": 252},
    ),
    (
        "a hop that waits",
        "broken_route",
        hops(start={1: 267}, end={1: 447}),
        {"link": 2, "expected": 266, "found": 267},
    ),
    ("a hop misnumbered", "broken_route", hops(hop={1: 2}), {"link": 2}),
    ("a transfer without hops", "broken_route", hops(transfer={0: 1, 1: 1}), {"chip": 0, "tensor": "z"}),
    ("a transfer to itself", "broken_route", transfers(destination={0: 0}), {"chip": 0, "tensor": "z"}),
    ("a transfer beyond the tensor", "broken_route", transfers(last={1: 961}), {"chip": 0, "tensor": "z"}),
    ("a transfer of nothing", "broken_route", transfers(last={0: 0}), {"chip": 0, "tensor": "z"}),
    (
        "two transfers on a link",
        "link_overlap",
        move_transfer(1, 431),
        {"link": 0, "chip": 0, "tensor": "z", "cycle": 431, "expected": 432, "found": 431},
    ),
    ("shared bytes", "sram_overlap", buffer(0, "z", address=4096), {"chip": 0, "tensor": "z", "cycle": 139}),
    ("bytes shared with a weight", "sram_overlap", buffer(0, "x", address=2528), {"chip": 0, "tensor": "x"}),
    (
        "beyond the last byte",
        "sram_overflow",
        buffer(0, "z", address=61_440),
        {"chip": 0, "tensor": "z", "expected": 64_512, "found": 65_280},
    ),
    ("a negative address", "sram_overflow", buffer(0, "w", address=-32), {"chip": 0, "tensor": "w"}),
    (
        "four bytes off",
        "sram_misaligned",
        buffer(0, "z", address=7940),
        {"chip": 0, "tensor": "z", "found": 4},
    ),
    ("no buffer", "buffer_missing", without_buffer(2, "p"), {"chip": 2, "tensor": "p"}),
    ("no buffer for what arrives", "buffer_missing", without_buffer(2, "z"), {"chip": 2, "tensor": "z"}),
    ("no buffer for a weight", "weight_not_resident", without_buffer(0, "w"), {"chip": 0, "tensor": "w"}),
    (
        "a weight that dies",
        "weight_not_resident",
        buffer(0, "w", death=500),
        {"chip": 0, "tensor": "w", "found": 500},
    ),
    (
        "a small buffer",
        "buffer_too_small",
        buffer(0, "z", nbytes=3836),
        {"chip": 0, "tensor": "z", "expected": 3840, "found": 3836},
    ),
    (
        "written before birth",
        "buffer_lifetime",
        buffer(0, "y", birth=21),
        {"chip": 0, "tensor": "y", "cycle": 20, "expected": 21, "found": 20},
    ),
    (
        "arrives before birth",
        "buffer_lifetime",
        buffer(2, "z", birth=281),
        {"chip": 2, "tensor": "z", "expected": 281, "found": 280},
    ),
    (
        "read after death",
        "buffer_lifetime",
        buffer(0, "y", death=208),
        {"chip": 0, "tensor": "y", "expected": 208, "found": 209},
    ),
    (
        "sent after death",
        "buffer_lifetime",
        buffer(0, "z", death=676),
        {"chip": 0, "tensor": "z", "expected": 676, "found": 677},
    ),
    (
        "written after death",
        "buffer_lifetime",
        buffer(2, "out", death=905),
        {"chip": 2, "tensor": "out", "expected": 905, "found": 906},
    ),
    (
        "an input that comes late",
        "buffer_lifetime",
        buffer(0, "x", birth=1),
        {"chip": 0, "tensor": "x", "found": 0},
    ),
    ("a value for ever", "copies_too_few", buffer(0, "y", birth=0, death=-1), {"chip": 0, "tensor": "y"}),
    (
        "longer than the interval",
        "copies_too_few",
        buffer(0, "y", death=1057),
        {"chip": 0, "tensor": "y", "expected": 2, "found": 1},
    ),
    ("a state that dies", "state_copies", buffer(2, "cache", death=1000), {"chip": 2, "tensor": "cache"}),
    (
        "users without a state",
        "state_copies",
        plan_field(users=2),
        {"chip": 2, "tensor": "cache", "expected": 2, "found": 1},
    ),
    (
        "latency not met",
        "wrong_latency",
        plan_field(latency=905),
        {"tensor": "out", "cycle": 906, "expected": 905, "found": 906},
    ),
    ("interval not met", "wrong_interval", plan_field(interval=359), {"expected": 360, "found": 359}),
    ("no interval", "wrong_interval", plan_field(interval=0), {"found": 0}),
    (
        "an operator left out",
        "missing_operator",
        without_operator(1, 2),
        {"operator": "double", "unit": "vector"},
    ),
    ("an output that nobody writes", "missing_output", with_unwritten_output, {"tensor": "lost"}),
    ("an output that is an input on no chip", "missing_output", with_unread_input, {"tensor": "more"}),
    (
        "an output that dies before it is read",
        "output_not_held",
        both(buffer(2, "out", death=910), plan_field(latency=911)),
        {"chip": 2, "tensor": "out", "cycle": 910, "expected": 911, "found": 910},
    ),
    (
        "an output that is an input, overwritten",
        "output_not_held",
        both(with_output("x"), buffer(0, "x", death=905)),
        {"chip": 0, "tensor": "x", "cycle": 905, "expected": 906, "found": 905},
    ),
    (
        "an output that two chips have, neither to the end",
        "output_not_held",
        both(with_output("z"), buffer(0, "z", death=800), buffer(2, "z", death=850)),
        {"chip": 2, "tensor": "z", "cycle": 850, "expected": 906, "found": 850},
    ),
    (
        "resident rows written",
        "written_twice",
        tensor("cache", resident_rows=(1, 7)),
        {"operator": "append", "chip": 2, "tensor": "cache"},
    ),
]


@pytest.mark.parametrize(("name", "change", "where"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_one_break_one_fault(name: str, change: Break, where: dict[str, object]) -> None:
    report = simulate(change(small_plan()))
    assert not report.ok
    assert {fault.name for fault in report.faults} == {name}, report.faults
    found = report.faults[0]
    assert {key: getattr(found, key) for key in where} == where
    assert found.message


def test_every_fault_that_the_simulator_names_is_tested(repository: Path) -> None:
    text = "".join(path.read_text() for path in sorted((repository / "runtime_sim").glob("*.py")))
    named = set(re.findall(r'(?:[fF]ault\w*\(\s*(?:\w+, )?|name=|else |fault_name = )"([a-z_]+)"', text))
    tested = {name for _, name, _, _ in BROKEN} | {"buffer_order", "duplicate_buffer", "stream_budget"}
    tested |= {name for _, _, names, _, _ in BROKEN_GROUPS for name in names.split()}
    assert tested <= named
    assert {name for name in named if "_" in name} <= tested


def test_buffers_in_another_order_and_twice() -> None:
    plan = small_plan()
    swapped = {name: (lambda c: c[[1, 0, *range(2, len(c))]]) for name in plan.buffers.__dataclass_fields__}
    faults = simulate(replace(plan, buffers=edited(plan.buffers, **swapped))).faults
    assert {fault.name for fault in faults} == {"buffer_order"}
    twice = {name: (lambda c: np.append(c, c[-1:])) for name in plan.buffers.__dataclass_fields__}
    faults = simulate(replace(plan, buffers=edited(plan.buffers, **twice))).faults
    assert [(fault.name, fault.chip, fault.tensor) for fault in faults] == [("duplicate_buffer", 2, "z")]


@pytest.mark.parametrize(("chip", "name"), [(0, "x"), (0, "z"), (2, "z"), (2, "p")])
def test_one_chip_that_holds_an_output_to_the_end_is_enough(chip: int, name: str) -> None:
    plan = with_output(name)(small_plan())
    assert {fault.name for fault in simulate(plan).faults} == {"output_not_held"}
    report = simulate(buffer(chip, name, death=906)(plan))
    assert report.ok, report.faults


def test_an_input_that_comes_over_links_is_there_when_it_arrives() -> None:
    broken = both(tensor("z", role=Role.INPUT), without_second_transfer)(small_plan())
    faults = [fault for fault in simulate(broken).faults if fault.name == "receive_without_arrival"]
    assert [(fault.operator, fault.tensor, fault.tile) for fault in faults] == [
        ("top", "z", 0),
        ("top", "z", 1),
    ]


def test_a_chip_works_for_one_stage() -> None:
    plan = small_plan(with_state=False)
    faults = simulate(replace(plan, stages=(*plan.stages, plan.stages[1]))).faults
    assert [(fault.name, fault.chip, fault.stage) for fault in faults] == [("wrong_group", 2, 2)]


def test_two_operators_that_write_the_same_box() -> None:
    plan = small_plan(with_state=False)
    double = plan.graph.operators[3]
    again = replace(double, results=(*double.results, Result("out", (0, 1), (0, 0), 0)))
    faults = simulate(with_operator(plan, 3, results=again.results)).faults
    assert {(fault.name, fault.operator, fault.chip) for fault in faults} == {("written_twice", "double", 2)}


def test_a_reduction_that_is_not_innermost_scatters_its_sums() -> None:
    faults = simulate(tiling(0, 0, Tiling((12, 20, 12), (2, 0, 1)))(small_plan())).faults
    scattered = [fault for fault in faults if fault.name == "accumulation_interrupted"]
    assert [fault.operator for fault in scattered] == ["matmul"]


def test_a_tile_may_not_span_batches_with_a_stationary_block_each() -> None:
    plan = small_plan()
    matmul = plan.graph.operators[0]
    # x and w seen with h as a batch factor of both.
    operands = (replace(matmul.operands[0], axes=(0, 2)), replace(matmul.operands[1], axes=(0, 1)))
    factors = (Factor("b", 24), Factor("n", 40), Factor("k", 16, Reducer.SUM))
    faults = simulate(with_operator(plan, 0, operands=operands, factors=factors)).faults
    assert {fault.name for fault in faults} == {"not_covered"}


def test_nothing_starts_before_the_inputs_are_there() -> None:
    faults = simulate(with_tiles(small_plan(), 0, start={0: -1}, end={0: 11})).faults
    assert [(fault.name, fault.tile, fault.cycle) for fault in faults] == [
        ("read_before_ready", 0, -1),
        ("buffer_lifetime", None, -1),
    ]


def test_many_faults_are_cut_off_for_each_rule() -> None:
    fine = [Tiling((12, 20, 12), (0, 1, 2)), Tiling((1, 1, 20), (0, 1, 2))]
    graph = small_graph(with_state=False)
    graph = replace(graph, operators=graph.operators[:2], outputs=(Output("out", "z", ()),))
    plan = Maker(graph, ring_target(), fine).plan([(0, 0), (0, 1)])
    assert simulate(plan).ok
    broken = with_tiles(plan, 0, end=lambda column: column + 1)
    assert [fault.name for fault in simulate(broken).faults] == ["wrong_duration"] * MOST_PER_RULE
