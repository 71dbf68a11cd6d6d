"""What several test modules need: the checkout, and a plan small enough to be written by hand."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chiplan.ir import (
    Bound,
    BufferColumns,
    Bytes,
    Certificate,
    Chip,
    ChipId,
    CopyUnit,
    Cycle,
    DType,
    Factor,
    Graph,
    HopColumns,
    Instruction,
    Link,
    LinkRule,
    MatrixRule,
    MatrixUnit,
    Operand,
    Operator,
    Output,
    Plan,
    Reducer,
    Result,
    Role,
    Stage,
    Target,
    Tensor,
    TileColumns,
    TileProgram,
    Tiling,
    Topology,
    TransferColumns,
    Unit,
    VectorUnit,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write what the tests would compare with.")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether tests write what they would compare with."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def golden(request: pytest.FixtureRequest, update_golden: bool) -> Callable[[str], None]:
    """Compares a text with `tests/golden/<name of the test>.txt`."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
    path = Path(__file__).parent / "golden" / f"{name}.txt"

    def compare(text: str) -> None:
        if update_golden:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        assert path.is_file(), f"{path} is not there yet: run with --update-golden, and read what it says"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run in."""
    return Path(__file__).parents[1]


def _columns(**values: list[int]) -> dict[str, np.ndarray]:
    return {name: np.array(column, dtype=np.int64) for name, column in values.items()}


def hand_target() -> Target:
    """Three chips in a ring; links of 4 bytes a cycle and 10 cycles a hop."""
    unit = CopyUnit(instances=1, bytes_per_cycle=16, depth=Cycle(2))
    rules = {DType.FP16: (MatrixRule(rows=8, columns=8),)}
    chip = Chip(
        clock_hz=1_000_000_000,
        sram_bytes=Bytes(1100),
        reserved_bytes=Bytes(100),
        alignment=Bytes(8),
        matrix=MatrixUnit(instances=2, load_bytes_per_cycle=16, depth=Cycle(3), rules=rules),
        vector=VectorUnit(instances=1, lanes=8, chained=4, depth=Cycle(2), cycles={DType.FP16: 1}),
        switch=unit,
        memory=unit,
    )
    links = tuple(Link(ChipId(a), ChipId(b)) for a, b in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)])
    topology = Topology("ring", 3, links, node_of=(0, 0, 1), rack_of=(0, 0, 0))
    rule = LinkRule(flit_bytes=Bytes(16), cycles_per_flit=Cycle(4), hop_latency=Cycle(10))
    return Target("hand-ring", chip, rule, topology)


def _matmul(name: str, left: str, right: str, result: str) -> Operator:
    return Operator(
        name,
        Unit.MATRIX,
        (Factor("m", 4), Factor("n", 8), Factor("k", 8, Reducer.SUM)),
        (Operand(left, (), (0, 2)), Operand(right, (), (2, 1))),
        (Result(result, (0, 1), (0, 0), 0),),
        (Instruction("MatMul", (0, 1), DType.FP16),),
        nodes=(f"node_{name}",),
    )


def hand_graph() -> Graph:
    """y = relu(x @ w1) @ w2, all fp16."""
    relu = Operator(
        "relu",
        Unit.VECTOR,
        (Factor("m", 4), Factor("n", 8)),
        (Operand("h", (), (0, 1)),),
        (Result("r", (0, 1), (0, 0), 0),),
        (Instruction("Relu", (0,), DType.FP16),),
        nodes=('node_"<relu>&\\{x}|',),
    )
    roles = {"x": Role.INPUT, "w1": Role.WEIGHT, "w2": Role.WEIGHT}
    shapes = {"w1": (8, 8), "w2": (8, 8)}
    tensors = {
        name: Tensor(name, shapes.get(name, (4, 8)), DType.FP16, roles.get(name, Role.VALUE))
        for name in ("h", "r", "w1", "w2", "x", "y")
    }
    operators = (_matmul("first", "x", "w1", "h"), relu, _matmul("second", "r", "w2", "y"))
    return Graph("hand", tensors, operators, ("x",), (Output("y", "y", ()),))


def _stage(chip: int, operators: tuple[int, ...], tilings: tuple[Tiling, ...], tiles: TileColumns) -> Stage:
    return Stage((ChipId(chip),), (1,), TileProgram(operators, tilings, tiles))


@pytest.fixture(scope="session")
def hand_plan() -> Plan:
    """Stage 0 (chip 0): first, relu. Stage 1 (chip 1): second. Half of r goes each way around."""
    matrix, vector = Tiling((2, 8, 8), (0, 1, 2)), Tiling((4, 8), (0, 1))
    first = TileColumns(
        **_columns(operator=[0, 0, 1], tile=[0, 1, 0], unit=[0, 0, 1], instance=[0, 1, 0]),
        **_columns(start=[8, 8, 13], end=[10, 10, 17]),
    )
    second = TileColumns(
        **_columns(operator=[0, 0], tile=[0, 1], unit=[0, 0], instance=[0, 0]),
        **_columns(start=[70, 72], end=[72, 74]),
    )
    stages = (_stage(0, (0, 1), (matrix, vector), first), _stage(1, (2,), (matrix,), second))
    # Positions of tensors by name: h r w1 w2 x y = 0 .. 5.
    transfers = TransferColumns(
        **_columns(tensor=[1, 1], source=[0, 0], destination=[1, 1], first=[0, 16], last=[16, 32]),
        **_columns(start=[19, 19], into=[1, 1], at=[0, 16]),
    )
    hops = HopColumns(
        **_columns(transfer=[0, 1, 1], hop=[0, 0, 1], link=[0, 1, 5], start=[19, 19, 33], end=[27, 27, 41])
    )
    buffers = BufferColumns(
        **_columns(tensor=[4, 2, 0, 1, 3, 1, 5], chip=[0, 0, 0, 0, 1, 1, 1]),
        **_columns(address=[0, 64, 192, 256, 0, 128, 192], nbytes=[64, 128, 64, 64, 128, 64, 64]),
        **_columns(
            copies=[1, 1, 1, 2, 1, 1, 1], birth=[0, 0, 8, 13, 0, 19, 70], death=[10, -1, 17, 41, -1, 74, 77]
        ),
    )
    return Plan(
        target=hand_target(),
        graph=hand_graph(),
        stages=stages,
        transfers=transfers,
        hops=hops,
        buffers=buffers,
        latency=Cycle(77),
        interval=Cycle(10),
        users=1,
        batch=1,
        sequence=4,
        precision="fp16",
        objective="throughput",
        model_fingerprint="0" * 64,
        bounds=(Bound("interval", 8, "link 0->1 is the bottleneck"), Bound("latency", 60, "critical path")),
        certificates=(Certificate("stages", "OPTIMAL", 10, 10, 0.0, 0.01),),
        assumptions=("batch = 1 (default)",),
        tensor_names=("h", "r", "w1", "w2", "x", "y"),
    )
