"""The rules of the machine: docs/machine-model.md's examples by the code, and what follows from a rule."""

from dataclasses import replace

import numpy as np
import pytest

from chiplan.compiler import compile_model
from chiplan.ir import (
    BadInput,
    Chip,
    DType,
    Factor,
    Graph,
    HostRule,
    Instruction,
    Operand,
    Operator,
    Output,
    Reducer,
    Result,
    Role,
    Rules,
    Target,
    Tensor,
    Tiling,
    Unit,
    elapsed_cycles,
    load_rate,
    streams_taken,
    tile_timing,
    unit_rate,
)
from chiplan.models import find_model, load_target, target_names
from chiplan.runtime_sim import figures, simulate

GROQ = load_target("groq-node")
OFF = Rules(shared_load_port=True, instruction_memory=True)


def with_rules(target: Target, **rules: bool) -> Target:
    return replace(target, chip=replace(target.chip, rules=replace(target.chip.rules, **rules)))


def elementwise(
    operands: int, elements: int, dtype: DType = DType.FP32
) -> tuple[Operator, dict[str, Tensor]]:
    """A sum of tensors in one tile."""
    tensors = {
        name: Tensor(name, (elements,), dtype, Role.VALUE) for name in [f"x{i}" for i in range(operands)]
    }
    tensors["y"] = Tensor("y", (elements,), dtype, Role.VALUE)
    operator = Operator(
        "sum",
        Unit.VECTOR,
        (Factor("i", elements),),
        tuple(Operand(f"x{i}", (), (0,)) for i in range(operands)),
        (Result("y", (0,), (0,), 0),),
        (Instruction("Sum", tuple(range(operands)), dtype),),
    )
    return operator, tensors


def occupancy(operands: int, elements: int, chip: Chip) -> int:
    operator, tensors = elementwise(operands, elements)
    return int(tile_timing(operator, Tiling((elements,), (0,)), tensors, chip).occupancy[0])


def block_of_weights() -> tuple[Operator, dict[str, Tensor]]:
    """A product of one row and one fp16 block."""
    tensors = {
        "x": Tensor("x", (1, 160), DType.FP16, Role.VALUE),
        "w": Tensor("w", (160, 320), DType.FP16, Role.WEIGHT),
        "y": Tensor("y", (1, 320), DType.FP16, Role.VALUE),
    }
    operator = Operator(
        "product",
        Unit.MATRIX,
        (Factor("m", 1), Factor("k", 160, Reducer.SUM), Factor("n", 320)),
        (Operand("x", (), (0, 1)), Operand("w", (), (1, 2))),
        (Result("y", (0, 2), (0, 0), 0),),
        (Instruction("MatMul", (0, 1), DType.FP16),),
    )
    return operator, tensors


def load(chip: Chip) -> int:
    operator, tensors = block_of_weights()
    return int(tile_timing(operator, Tiling((1, 160, 320), (0, 2, 1)), tensors, chip).load[0])


def test_stream_budget() -> None:
    assert occupancy(8, 6_400, GROQ.chip) == 23
    assert occupancy(8, 6_400, with_rules(GROQ, stream_budget=False).chip) == 20
    assert occupancy(2, 6_400, GROQ.chip) == 20
    assert streams_taken(GROQ.chip) == 92
    assert [unit_rate(GROQ.chip, unit) for unit in Unit] == [2_880, 10_240, 640, 640]


def test_shared_load_port() -> None:
    assert load(GROQ.chip) == 20
    assert load(with_rules(GROQ, shared_load_port=False).chip) == 10


def test_sram_bandwidth() -> None:
    without = with_rules(GROQ, sram_bandwidth=False).chip
    assert (occupancy(8, 6_400, without), load(without)) == (23, 20)
    short = replace(GROQ.chip, sram_bytes_per_cycle=14_720)
    assert unit_rate(short, Unit.VECTOR) == 5_120
    assert (occupancy(4, 6_400, short), load(short)) == (25, 40)
    assert load_rate(replace(short, rules=replace(short.rules, sram_bandwidth=False))) == 5_120


def test_instruction_memory() -> None:
    assert GROQ.chip.usable_bytes == 220_200_960
    assert with_rules(GROQ, instruction_memory=False).chip.usable_bytes == 230_686_720


def moved(nbytes_in: int, nbytes_out: int) -> Graph:
    """A graph whose inputs and outputs have so many bytes."""
    tensors = {
        "a": Tensor("a", (nbytes_in,), DType.INT8, Role.INPUT),
        "b": Tensor("b", (nbytes_out,), DType.INT8, Role.VALUE),
        "s": Tensor("s", (10**9,), DType.INT8, Role.STATE),
    }
    outputs = (Output("first", "b", ()), Output("again", "b", ()), Output("present", "s", ()))
    return Graph("moved", tensors, (), ("a",), outputs)


def test_deskew() -> None:
    passed = elapsed_cycles(GROQ, moved(1, 1), 2, 1_000, 300)
    assert (passed.interval, passed.latency) == (556, 2_024)
    assert (passed.deskew_interval, passed.deskew_latency) == (256, 1_024)
    alone = elapsed_cycles(GROQ, moved(1, 1), 1, 1_000, 300)
    assert (alone.interval, alone.latency, alone.deskew_latency) == (300, 1_000, 0)
    never = elapsed_cycles(with_rules(GROQ, deskew=False), moved(1, 1), 2, 1_000, 300)
    assert (never.interval, never.latency) == (300, 1_000)


def test_host() -> None:
    hosted = with_rules(GROQ, host=True)
    passed = elapsed_cycles(hosted, moved(24_000, 2_400_000), 1, 1_000, 300)
    assert (passed.latency, passed.host_latency) == (109_900, 108_900)
    assert (passed.interval, passed.host_interval) == (90_000, 89_700)
    assert elapsed_cycles(hosted, moved(24_000, 2_400_000), 1, 1_000, 95_000).interval == 95_000


def test_pace_of_users_counts_what_passes() -> None:
    passed = elapsed_cycles(GROQ, moved(1, 1), 2, 1_000, 300)
    assert passed.pace(1, has_states=True) == 2_024
    assert passed.pace(4, has_states=True) == 556
    assert passed.pace(1, has_states=False) == 556


@pytest.mark.parametrize("name", target_names())
def test_shipped_targets_have_every_rule_but_the_host(name: str) -> None:
    target = load_target(name)
    chip = target.chip
    assert chip.rules == Rules(True, True, True, True, True, False)
    assert streams_taken(chip) <= chip.streams.count * chip.streams.sides
    assert target.deskew_cycles
    assert target.host.bytes_per_second


@pytest.mark.parametrize("unit", list(Unit))
@pytest.mark.parametrize("name", ["tiny-ring", "groq-node"])
def test_shares_never_exceed_what_sram_moves(name: str, unit: Unit) -> None:
    chip = load_target(name).chip
    for sram in (1, 1_000, chip.sram_bytes_per_cycle):
        short = replace(chip, sram_bytes_per_cycle=sram)
        shares = sum(
            (unit_rate(short, kind) or 0) * instances
            for kind, instances in (
                (Unit.MATRIX, chip.matrix.instances),
                (Unit.VECTOR, chip.vector.instances),
                (Unit.SWITCH, chip.switch.instances),
                (Unit.MEMORY, chip.memory.instances),
            )
        )
        # A share is one byte a cycle at the least, or nothing would ever move.
        assert shares + chip.matrix.instances * load_rate(short) <= max(sram, 16)
        assert (unit_rate(short, unit) or 0) <= (unit_rate(chip, unit) or 0)


def test_a_rule_never_makes_a_tile_shorter() -> None:
    generator = np.random.default_rng(0)
    for target in (load_target("tiny-ring"), GROQ):
        free = replace(target.chip, rules=OFF)
        for operands, elements in generator.integers(1, [12, 5_000], size=(40, 2)).tolist():
            assert occupancy(operands, elements, target.chip) >= occupancy(operands, elements, free)


def test_a_plan_made_without_a_rule_is_found_out() -> None:
    target = load_target("tiny-ring")
    free = with_rules(target, stream_budget=False, sram_bandwidth=False)
    plan = compile_model(find_model("bert-tiny"), target=free, chips=2, sequence=16).plan
    assert simulate(plan).ok
    report = simulate(replace(plan, target=target))
    assert {fault.name for fault in report.faults} >= {"wrong_duration"}


def test_streams_over_the_budget_are_a_fault() -> None:
    plan = compile_model(find_model("bert-tiny"), target=load_target("tiny-ring"), chips=1, sequence=16).plan
    chip = replace(plan.target.chip, streams=replace(plan.target.chip.streams, links=9))
    faults = simulate(replace(plan, target=replace(plan.target, chip=chip))).faults
    assert [(fault.name, fault.expected, fault.found) for fault in faults] == [("stream_budget", 48, 51)]


def test_the_host_is_in_the_figures_where_it_is_asked_for() -> None:
    model, target = find_model("bert-tiny"), load_target("groq-node")
    bare = compile_model(model, target=target, chips=1, sequence=16)
    hosted = compile_model(model, target=target, chips=1, sequence=16, host=True)
    before, after = figures(bare.plan, bare.report), figures(hosted.plan, hosted.report)
    assert (before["latency_includes_host"], after["latency_includes_host"]) == (False, True)
    assert after["latency_cycles"] - before["latency_cycles"] == after["host_latency_cycles"] >= 18_000
    assert before["host_latency_cycles"] == 0
    assert dict(hosted.plan.options)["host"] == "true"


def test_a_target_without_a_host_is_asked_for_one() -> None:
    target = replace(GROQ, host=HostRule())
    with pytest.raises(BadInput, match=r"--host: target groq-node has no \[host\]"):
        compile_model(find_model("bert-tiny"), target=target, host=True)
