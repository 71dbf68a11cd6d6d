"""Plans on groups of chips, end to end: simulated without a fault, and with the model's numbers."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chiplan.compiler import Compiled, check_numerics, compile_model
from chiplan.compiler.atoms import Decision, find_atoms
from chiplan.compiler.cli import main
from chiplan.compiler.device_graph import GroupStage, build_device_graph
from chiplan.compiler.group_candidate import Realisation
from chiplan.compiler.group_costs import ShapeCosts
from chiplan.ir import (
    BadInput,
    DType,
    Factor,
    Graph,
    Infeasible,
    Instruction,
    Operand,
    Operator,
    Output,
    Reshape,
    Result,
    Role,
    Target,
    Tensor,
    Unit,
)
from chiplan.models import find_model, load_target, target_text
from chiplan.runtime_sim.group_interpreter import run_device_graph
from chiplan.runtime_sim.interpreter import interpret

from .random_models import random_model
from .test_device_graph import ALGORITHMS, Dice, draw_decisions

SLOW_UNITS = {"lanes = 8 ": "lanes = 1 ", "cycles_per_row = 1 ": "cycles_per_row = 4 "}
FAST_LINKS = {
    "flit_bytes = 32 ": "flit_bytes = 128 ",
    "cycles_per_flit = 3 ": "cycles_per_flit = 1 ",
    "hop_latency = 11 ": "hop_latency = 1 ",
}
NODES_OF_TWO = {
    "chips_per_node = 8 ": "chips_per_node = 2 ",
    'generator = "ring" ': 'generator = "dragonfly" ',
    "\nchips = 16 ": "\nglobal_ports_per_chip = 2\nnodes = 5\nlinks_per_node_pair = 1 ",
}


def edited_target(folder: Path, name: str, edits: dict[str, str]) -> Target:
    text = target_text("tiny-ring")
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return load_target(str(path))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    """By name; on slow-ring and slow-nodes the units are slow and the links fast, so that all that can be
    split is."""
    folder = tmp_path_factory.mktemp("targets")
    slow = SLOW_UNITS | FAST_LINKS
    return {
        "slow-ring": edited_target(folder, "slow-ring", slow),
        "slow-nodes": edited_target(folder, "slow-nodes", slow | NODES_OF_TWO),
        **{name: load_target(name) for name in ("tiny-ring", "groq-node")},
    }


def check(compiled: Compiled, model: Path) -> None:
    assert compiled.report.ok
    report = check_numerics(compiled.plan, model)
    assert report.ok, report.first_divergence


def meshes(compiled: Compiled) -> list[tuple[int, ...]]:
    return [stage.mesh for stage in compiled.plan.stages]


MODELS_ON_GROUPS = [
    ("bert-tiny", "tiny-ring", (3,), {"sequence": 23}),
    ("bert-tiny-torchscript", "tiny-ring", (2, 2), {"sequence": 17}),
    ("gpt2-tiny", "tiny-ring", (4,), {"sequence": 11, "batch": 2}),
    ("gpt2-tiny-fp16", "tiny-ring", (3, 3), {"sequence": 13}),
    ("gpt2-tiny-qdq-int8", "tiny-ring", (2,), {"sequence": 7, "objective": "latency"}),
    ("llama-tiny-gqa", "tiny-ring", (8,), {"sequence": 17, "objective": "latency"}),
    ("llama-tiny-gqa-op23", "tiny-ring", (4, 4), {"sequence": 11, "objective": "latency"}),
    ("mixtral-tiny", "slow-ring", (3,), {"sequence": 5, "objective": "latency"}),
    ("t5-tiny-encoder", "slow-ring", (3, 2), {"sequence": 13, "objective": "latency"}),
    ("vit-tiny", "tiny-ring", (4,), {"batch": 2, "objective": "latency"}),
    ("bert-tiny", "slow-nodes", (4,), {"sequence": 11, "wire": "fp32", "precision": "fp16"}),
    ("llama-tiny-gqa", "slow-nodes", (4, 4), {"sequence": 7, "precision": "w8a16", "objective": "latency"}),
    ("bert-tiny", "groq-node", (4,), {"sequence": 32, "precision": "int8", "objective": "latency"}),
    ("mixtral-tiny", "groq-node", (2, 3), {"sequence": 5, "precision": "fp16", "objective": "latency"}),
]


@pytest.mark.parametrize(("name", "target", "groups", "options"), MODELS_ON_GROUPS)
def test_groups_compute_what_the_model_computes(
    targets: dict[str, Target], name: str, target: str, groups: tuple[int, ...], options: dict[str, Any]
) -> None:
    model = find_model(name)
    compiled = compile_model(model, target=targets[target], groups=groups, **options)
    assert [len(stage.chips) for stage in compiled.plan.stages] == list(groups)
    operators = compiled.plan.graph.operators
    assert any(operator.splits for operator in operators)
    check(compiled, model)


@pytest.mark.parametrize(
    ("target", "groups", "options"),
    [
        ("tiny-ring", (3,), {"users": 2, "context": 64}),
        ("slow-ring", (4,), {"users": 3, "context": 37}),
        ("tiny-ring", (8,), {"context": 48}),
        ("slow-nodes", (4,), {"context": 50, "objective": "latency"}),
    ],
)
def test_every_chip_has_a_piece_of_the_cache_of_every_user(
    targets: dict[str, Target], target: str, groups: tuple[int, ...], options: dict[str, Any]
) -> None:
    """Several micro-batches, each of another user. Pieces are of heads, of their width, or of rows."""
    model = find_model("llama-tiny-gqa-past")
    compiled = compile_model(model, target=targets[target], groups=groups, **options)
    states = [tensor for tensor in compiled.plan.graph.tensors.values() if tensor.role is Role.STATE]
    assert all(state.sharding is not None for state in states)
    check(compiled, model)


def test_a_mesh_of_two_axes_splits_along_both(targets: dict[str, Target]) -> None:
    model = find_model("llama-tiny-gqa")
    compiled = compile_model(model, target=targets["slow-nodes"], groups=(4,), sequence=16)
    assert meshes(compiled) == [(2, 2)]
    axes = {axis for o in compiled.plan.graph.operators for split in o.splits for axis in split.axes}
    assert axes == {0, 1}


@cache
def pin_choices() -> tuple[str, ...]:
    """ONNX nodes of the products of a fully connected layer, one an equal layer."""
    plan = compile_model(
        find_model("bert-tiny"), target=load_target("tiny-ring"), groups=(2,), sequence=8
    ).plan
    wide = (o for o in plan.graph.operators if o.unit is Unit.MATRIX)
    return tuple(
        o.nodes[0]
        for o in wide
        if any(plan.graph.tensors[operand.tensor].whole_shape == (64, 128) for operand in o.operands)
    )


def split_of(compiled: Compiled, node: str) -> set[str]:
    """Names of the factors that the product from an ONNX node has split."""
    operator = next(o for o in compiled.plan.graph.operators if node in o.nodes and o.unit is Unit.MATRIX)
    return {operator.factors[split.factor].name for split in operator.splits}


@pytest.mark.parametrize(("layer", "factor"), [(0, "k"), (1, "k"), (0, "m"), (1, "none")])
def test_pins_hold_in_the_layer_that_they_name(layer: int, factor: str) -> None:
    """Layers are alike, but for what is pinned in one of them."""
    model, node = find_model("bert-tiny"), pin_choices()[layer]
    compiled = compile_model(
        model, target=load_target("tiny-ring"), groups=(2,), sequence=8, pins=((node, factor),)
    )
    assert split_of(compiled, node) == ({factor} - {"none"})
    pinned = [choice for choice in compiled.plan.sharding if choice.pinned]
    assert {choice.factors for choice in pinned} == {(factor,)}
    check(compiled, model)


@pytest.mark.parametrize("seed", range(0, 20, 2))
def test_random_models_split_by_the_solver(targets: dict[str, Target], tmp_path: Path, seed: int) -> None:
    check_random(targets, tmp_path, seed)


@pytest.mark.parametrize("seed", range(1, 21, 2))
def test_random_models_split_at_random(
    targets: dict[str, Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = Dice(seed)

    def decide(planner: Realisation, operators: tuple[int, ...], shape: ShapeCosts) -> dict[int, Decision]:
        drawn = draw_decisions(planner.graph, planner.atoms, shape.mesh, dice)
        return {index: drawn[index] for index in operators}

    monkeypatch.setattr(Realisation, "_decisions", decide)
    monkeypatch.setattr(Realisation, "_choose", lambda *_: dice.choose(ALGORITHMS))
    check_random(targets, tmp_path, seed)


def check_random(targets: dict[str, Target], folder: Path, seed: int) -> None:
    model, dice = folder / "model.onnx", Dice(seed)
    random_model(model, seed, dice.choose((4, 7, 10)))
    target = targets[dice.choose(("slow-ring", "slow-nodes"))]
    groups = dice.choose(((2,), (3,), (4,), (2, 2)) if target.name == "slow-nodes" else ((3,), (5,), (2, 3)))
    objective = dice.choose(("throughput", "latency"))
    try:
        compiled = compile_model(model, target=target, groups=groups, objective=objective)
    except Infeasible as refusal:
        assert [problem.code for problem in refusal.problems] == ["too_many_stages"]  # noqa: PT017
    else:
        check(compiled, model)


def test_an_axis_that_an_instruction_counts_follows_dimensions_taken_apart() -> None:
    """A running sum along dimension 1, over pieces of the inner atom of dimension 0, 2 x 3 over 4 chips."""
    total = Operator(
        "total",
        Unit.VECTOR,
        (Factor("row", 6), Factor("along", 5, whole=True)),
        (Operand("x", (Reshape((6, 5)),), (0, 1)),),
        (Result("y", (0, 1), (0, 0), 0),),
        (Instruction("CumSum", (0,), DType.FP32, (("axis", 1), ("exclusive", 0), ("reverse", 0))),),
    )
    tensors = {
        "x": Tensor("x", (2, 3, 5), DType.FP32, Role.INPUT),
        "y": Tensor("y", (6, 5), DType.FP32, Role.VALUE),
    }
    graph = Graph("sums", tensors, (total,), ("x",), (Output("y", "y", ()),))
    stage = GroupStage((0,), (4,), {0: ((0, 1),)})
    device = build_device_graph(graph, find_atoms(graph), [stage], lambda _: "one-shot", None)
    assert dict(device.graph.operators[0].body[0].attributes)["axis"] == 2
    given = {"x": np.arange(30, dtype=np.float32).reshape(2, 3, 5)}

    def no_weights(tensor: Tensor) -> np.ndarray:
        raise AssertionError(tensor)

    found = run_device_graph(device.graph, [(device.stages[0], (4,))], given, no_weights)
    np.testing.assert_array_equal(found["y"], interpret(graph, given, no_weights, {})["y"])


GROUPED = ["compile", "llama-tiny-gqa", "--target", "tiny-ring", "--sequence", "16", "--groups", "3,2"]


def test_hash_seed_and_process_give_the_same_bytes(tmp_path: Path) -> None:
    script = "import sys; from chiplan.compiler.cli import main; sys.exit(main(sys.argv[1:]))"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, *GROUPED, "--json", "-o", f"{seed}.chiplan"],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1")
    ]
    printed = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    assert printed[0]["sha256"] == printed[1]["sha256"]
    assert (tmp_path / "0.chiplan").read_bytes() == (tmp_path / "1.chiplan").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--groups", "0"], 2, "not a list of chip counts"),
        (["--groups", "2,"], 2, "not a list of chip counts"),
        (["--groups", "9", "--chips", "8"], 2, "these are 9 chips, and --chips 8 allows 8"),
        (["--groups", "9,9"], 2, "target tiny-ring has 16"),
        (["--groups", "2", "--chips", "1"], 2, "--chips 1 allows 1"),
        (["--pin", "nonsense=k"], 2, "no planned operator comes from a node nonsense"),
        (["--pin", "nonsense=k", "--chips", "1"], 2, "no planned operator comes from a node nonsense"),
        (["--pin", "NODE=sideways", "--chips", "2"], 2, "expected one of the factors of"),
        (["--pin", "NODE"], 2, "is not NODE=FACTOR"),
        (["--groups", "2", "--max-latency", "0.001"], 3, "--max-latency"),
        (["--chips", "2", "--max-latency", "0.001"], 3, "--max-latency"),
        (["--groups", "2", "--max-interval", "0.001"], 3, "--max-interval"),
        (["--chips", "2", "--max-interval", "0.001"], 3, "--max-interval"),
        (["--groups", "2", "--wire", "int8"], 2, "--wire"),
    ],
)
def test_groups_that_cannot_be_are_refused_in_one_line(
    words: list[str],
    code: int,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace("NODE=", f"{pin_choices()[0]}=") for word in words]
    line = ["compile", "bert-tiny", "--target", "tiny-ring", "--sequence", "8", *words]
    assert main([*line, "--json"]) == code
    refusal = json.loads(capsys.readouterr().out)
    assert len(refusal["errors"]) == 1
    assert expected in refusal["errors"][0]["message"]
    assert not list(tmp_path.iterdir())


def test_groups_of_no_chips_are_refused() -> None:
    for groups in ((), (0,), (2, -1)):
        with pytest.raises(BadInput, match="chip counts of 1 or more"):
            compile_model(find_model("bert-tiny"), target=load_target("tiny-ring"), groups=groups)


def test_more_stages_than_places_to_cut_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "small.onnx"
    random_model(model, 3, 2)
    with pytest.raises(Infeasible, match="can be cut into"):
        compile_model(model, target=load_target("tiny-ring"), groups=(1,) * 12)
