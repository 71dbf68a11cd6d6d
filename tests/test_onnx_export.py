"""`chiplan export` and back: annotated and split models compute what the model computes, and compile back."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from chiplan.compiler import compile_model
from chiplan.compiler.cli import main
from chiplan.compiler.file_nodes import FileNode, FileNodes, file_nodes
from chiplan.compiler.importer import import_model
from chiplan.compiler.node_places import settle
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.ir import Plan, write_plan
from chiplan.models import find_model, load_target

Arrays = dict[str, np.ndarray]


def run(path: Path, inputs: Arrays) -> Arrays:
    """In onnxruntime as users have it, but for its fusions: their sums are in another order."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    fed = {value.name: inputs[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, fed), strict=True))


def run_split(folder: Path, inputs: Arrays) -> Arrays:
    manifest = json.loads((folder / "manifest.json").read_text())
    values = dict(inputs)
    for stage in manifest["stages"]:
        given_values = {value["name"]: values[value["name"]] for value in stage["inputs"]}
        values |= run(folder / stage["file"], given_values)
    return {output["name"]: values[output["name"]] for output in manifest["outputs"]}


def assert_equal(found: Arrays, wanted: Arrays) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)


@dataclass(frozen=True)
class Case:
    model: Path
    plan: Plan
    plan_file: Path
    inputs: Arrays


CASES = (
    ("gpt2-tiny", "groq-node", (2, 2)),
    ("bert-tiny-torchscript", "tiny-ring", (1, 1, 1)),
    ("llama-tiny-gqa-past", "groq-node", (4, 2)),
    ("llama-tiny-gqa-op23", "tiny-ring", (1, 1, 1)),
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{len(case[2])}")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Groups with exchanges, recomputed masks, a state, and a cut inside a node."""
    name, target, groups = request.param
    model = find_model(name)
    plan = compile_model(model, target=load_target(target), groups=groups).plan
    plan_file = tmp_path_factory.mktemp(name) / "a.chiplan"
    write_plan(plan, plan_file)
    return Case(model, plan, plan_file, random_inputs(import_model(model), 0))


@pytest.fixture
def annotated(case: Case, tmp_path: Path) -> Path:
    path = tmp_path / f"{case.model.stem}.onnx"
    assert main(["export", str(case.plan_file), str(case.model), "--onnx", str(path)]) == 0
    return path


def test_the_annotated_model_runs_with_equal_outputs(case: Case, annotated: Path) -> None:
    model = onnx.load(annotated)
    assert model.ir_version >= 11
    onnx.checker.check_model(model)
    assert_equal(run(annotated, case.inputs), run(case.model, case.inputs))


def test_annotations_name_stages_chips_and_pieces(case: Case, annotated: Path) -> None:
    model = onnx.load(annotated)
    (configuration,) = model.configuration
    assert configuration.num_devices == len(configuration.device) == case.plan.target.topology.chips
    executed = {
        node: number
        for number, stage in reversed(list(enumerate(case.plan.stages)))
        for index in stage.program.operators
        for node in case.plan.graph.operators[index].nodes
    }
    for node in model.graph.node:
        for entry in node.device_configurations:
            chips = {int(chip) for chip in case.plan.stages[entry.pipeline_stage].chips}
            assert executed.get(node.name, 0) <= entry.pipeline_stage
            for spec in entry.sharding_spec:
                assert spec.tensor_name in (*node.input, *node.output)
                groups = {group.key: list(group.value) for group in spec.index_to_device_group_map}
                held = [chip for place in spec.device for chip in groups.get(place, [place])]
                assert sorted(held) == sorted(chips)
    matrices = [
        (stage, case.plan.graph.operators[index])
        for stage in range(len(case.plan.stages))
        for index in case.plan.stages[stage].program.operators
        if case.plan.graph.operators[index].splits
    ]
    cut = [
        (node.name, dimension)
        for node in model.graph.node
        for entry in node.device_configurations
        for spec in entry.sharding_spec
        for dimension in spec.sharded_dim
    ]
    assert bool(cut) == bool(matrices)


def cut_nodes(plan: Plan) -> set[str]:
    """Nodes of which no stage executes all operators."""
    operators: dict[str, set[int]] = {}
    for index, operator in enumerate(plan.graph.operators):
        for node in operator.nodes:
            operators.setdefault(node, set()).add(index)
    stages = [set(stage.program.operators) for stage in plan.stages]
    return {node for node, its in operators.items() if not any(its <= stage for stage in stages)}


def test_split_files_in_order_equal_the_whole(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "stages"
    assert main(["export", str(case.plan_file), str(case.model), "--split", str(folder)]) == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["cut_nodes"]) <= cut_nodes(case.plan)
    assert manifest["moved_nodes"] == []
    assert len(manifest["stages"]) == len(case.plan.stages)
    weights = [{t.name for t in onnx.load(folder / s["file"]).graph.initializer} for s in manifest["stages"]]
    whole = {tensor.name for tensor in onnx.load(case.model).graph.initializer}
    assert all(held < whole for held in weights)
    assert_equal(run_split(folder, case.inputs), run(case.model, case.inputs))


def test_an_annotated_model_compiles_back(case: Case, annotated: Path) -> None:
    """Same stages, meshes and splits, where no cut lies inside a node."""
    back = compile_model(annotated, target=case.plan.target, use_annotations=True).plan
    assert [stage.mesh for stage in back.stages] == [stage.mesh for stage in case.plan.stages]
    if case.model.stem not in ("llama-tiny-gqa-op23", "bert-tiny-torchscript"):
        assert _splits(back) == _splits(case.plan)
        assert (back.latency, back.interval) == (case.plan.latency, case.plan.interval)
    # What is expressed once is expressed again: a second round changes nothing.
    again = annotated.with_name("again.onnx")
    plan_file = annotated.with_name("back.chiplan")
    write_plan(back, plan_file)
    assert main(["export", str(plan_file), str(annotated), "--onnx", str(again)]) == 0
    third = compile_model(again, target=case.plan.target, use_annotations=True).plan
    assert _splits(third) == _splits(back)


def _splits(plan: Plan) -> list[list[tuple[str, object]]]:
    operators = plan.graph.operators
    return [
        sorted((operators[i].name, operators[i].splits) for i in stage.program.operators)
        for stage in plan.stages
    ]


def test_exports_are_equal_bytes(case: Case, annotated: Path, tmp_path: Path) -> None:
    second, folder, other = tmp_path / "second.onnx", tmp_path / "s", tmp_path / "t"
    common = ["export", str(case.plan_file), str(case.model)]
    assert main([*common, "--onnx", str(second), "--split", str(folder)]) == 0
    assert main([*common, "--split", str(other)]) == 0
    assert second.read_bytes() == annotated.read_bytes()
    for path in folder.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()


@st.composite
def placed_nodes(draw: st.DrawFn) -> tuple[FileNodes, dict[int, set[int]]]:
    """A random graph of nodes, and the stages that a plan might have for some of them."""
    count = draw(st.integers(1, 12))
    nodes = []
    for index in range(count):
        needs = draw(st.lists(st.integers(-2, index - 1), max_size=3))
        op_type = draw(st.sampled_from(["Add", "Shape"]))
        nodes.append(FileNode(f"n{index}", op_type, tuple(f"v{n}" for n in needs), (f"v{index}",)))
    outputs = draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    stages = st.sets(st.integers(0, 3), min_size=1, max_size=3)
    planned = draw(st.dictionaries(st.integers(0, count - 1), stages))
    return FileNodes(tuple(nodes), tuple(f"v{n}" for n in outputs)), planned


@given(placed_nodes())
def test_every_value_is_made_before_it_is_needed(drawn: tuple[FileNodes, dict[int, set[int]]]) -> None:
    nodes, planned = drawn
    stages, moved = settle(nodes, planned)
    for index, node in enumerate(nodes.nodes):
        if index in planned and index not in moved:
            assert set(stages[index]) == planned[index]
        for need in node.needs:
            maker = nodes.maker_of.get(need)
            if maker is not None:
                assert all(any(s <= stage for s in stages[maker]) for stage in stages[index])
    assert all(stages[nodes.maker_of[name]] for name in nodes.outputs)


def test_branches_need_what_they_capture() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["outer", "own"], ["sum"])],
        "then",
        [],
        [helper.make_tensor_value_info("sum", 1, None)],
        [numpy_helper.from_array(np.ones(1, np.float32), "own")],
    )
    node = helper.make_node("If", ["condition"], ["y"], "choice", then_branch=inner, else_branch=inner)
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", 1, None)])
    nodes = file_nodes(graph)
    assert nodes.nodes[0].needs == ("condition", "outer")
    assert (nodes.owner("choice/Add_0"), nodes.owner("other")) == (0, None)


def test_another_model_is_incomparable(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = find_model("bert-tiny")
    assert main(["export", str(case.plan_file), str(other), "--split", str(tmp_path / "s")]) == 4
    assert "the plan was made from another model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["export", str(case.plan_file), str(case.model)]) == 2
    assert main(["export", str(case.plan_file), str(case.model), "--onnx", str(case.plan_file)]) == 2


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model whose weights lie beside it in a folder, and its plan."""
    home = tmp_path_factory.mktemp("external")
    path, plan_file = home / "m.onnx", home / "m.chiplan"
    model = onnx.load(find_model("gpt2-tiny"))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=64)
    write_plan(compile_model(path, target=load_target("tiny-ring"), groups=(1, 1)).plan, plan_file)
    return path, plan_file


def test_data_files_come_along(external: tuple[Path, Path], tmp_path: Path) -> None:
    model, plan_file = external
    inputs = random_inputs(import_model(model), 0)
    annotated, folder = tmp_path / "a.onnx", tmp_path / "stages"
    command = ["export", str(plan_file), str(model), "--onnx", str(annotated), "--split", str(folder)]
    assert main(command) == 0
    wanted = run(model, inputs)
    assert_equal(run(annotated, inputs), wanted)
    assert_equal(run_split(folder, inputs), wanted)
    assert main(command) == 0
    beside = model.with_name("annotated.onnx")
    assert main(["export", str(plan_file), str(model), "--onnx", str(beside)]) == 0
    assert_equal(run(beside, inputs), wanted)


def test_other_data_is_not_overwritten_and_absent_data_is_named(
    external: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, plan_file = external
    (tmp_path / "weights.bin").write_text("mine")
    command = ["export", str(plan_file), str(model), "--onnx", str(tmp_path / "a.onnx")]
    assert main(command) == 2
    assert (tmp_path / "weights.bin").read_text() == "mine"
    assert not (tmp_path / "a.onnx").exists()
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(model, bare / "m.onnx")
    capsys.readouterr()
    command = ["export", str(plan_file), str(bare / "m.onnx"), "--onnx", str(bare / "a.onnx"), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["onnx"]["absent"] == ["weights.bin"]
