"""`compile --use-annotations` with files that others annotated, rightly and wrongly."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from chiplan.compiler import compile_model
from chiplan.compiler.cli import main
from chiplan.ir import BadInput, Plan, write_plan
from chiplan.models import find_model, load_target

Edit = Callable[[onnx.ModelProto], None]


def annotated(path: Path, edit: Edit) -> Path:
    """GPT-2 with the annotations that `edit` makes."""
    model = onnx.load(find_model("gpt2-tiny"))
    model.ir_version = 11
    model.configuration.add(name="theirs", num_devices=4)
    edit(model)
    onnx.save(model, path)
    return path


def compiled(path: Path) -> Plan:
    return compile_model(path, target=load_target("groq-node"), use_annotations=True).plan


def stage(node: onnx.NodeProto, number: int) -> onnx.NodeDeviceConfigurationProto:
    return node.device_configurations.add(configuration_id="theirs", pipeline_stage=number)


def halves(model: onnx.ModelProto) -> None:
    for index, node in enumerate(model.graph.node):
        stage(node, int(2 * index >= len(model.graph.node)))


def first(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == op_type)


def cut(node: onnx.NodeProto, tensor: str, axis: int, pieces: int, devices: list[int]) -> None:
    spec = node.device_configurations[0].sharding_spec.add(tensor_name=tensor, device=devices)
    spec.sharded_dim.add(axis=axis).simple_sharding.add(num_shards=pieces)


def test_stages_alone_share_the_devices_evenly(tmp_path: Path) -> None:
    plan = compiled(annotated(tmp_path / "m.onnx", halves))
    assert [stage.mesh for stage in plan.stages] == [(2,), (2,)]
    assert dict(plan.options)["annotations"] == "followed"
    assert plan.assumptions[-1] == "stages, groups and splits as annotated in the model file"


@pytest.mark.parametrize(("axis", "factor"), [(1, "n"), (-1, "n"), (0, "m")])
def test_a_cut_axis_of_a_result_becomes_the_factor_along_it(tmp_path: Path, axis: int, factor: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        halves(model)
        node = first(model, "Gemm")
        cut(node, node.output[0], axis, 2, [0, 1])

    model = annotated(tmp_path / "m.onnx", edit)
    plan = compiled(model)
    node = first(onnx.load(model), "Gemm").name
    found = [o for o in plan.graph.operators if node in o.nodes and o.unit.value == "matrix"]
    assert {o.factors[s.factor].name.partition("/")[0] for o in found for s in o.splits} == {factor}


def test_a_cut_axis_of_an_operand_alone_is_a_partial_sum(tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        halves(model)
        node = first(model, "Gemm")
        cut(node, node.input[0], 1, 2, [0, 1])

    model = annotated(tmp_path / "m.onnx", edit)
    node = first(onnx.load(model), "Gemm").name
    found = [o for o in compiled(model).graph.operators if node in o.nodes and o.unit.value == "matrix"]
    assert {o.factors[s.factor].name for o in found for s in o.splits} == {"k"}


def test_both_axes_of_a_mesh_come_back(tmp_path: Path) -> None:
    """Two nodes of eight chips: factors are cut over one axis, the other, or both."""
    model, target = find_model("llama-tiny-gqa-past"), load_target("groq-rack")
    plan = compile_model(model, target=target, groups=(16,)).plan
    assert plan.stages[0].mesh == (2, 8)
    assert {split.axes for o in plan.graph.operators for split in o.splits} > {(1,)}
    write_plan(plan, tmp_path / "a.chiplan")
    path = tmp_path / "a.onnx"
    assert main(["export", str(tmp_path / "a.chiplan"), str(model), "--onnx", str(path)]) == 0
    back = compile_model(path, target=target, use_annotations=True).plan
    assert [(o.name, o.splits) for o in back.graph.operators] == [
        (o.name, o.splits) for o in plan.graph.operators
    ]


def test_annotations_that_are_not_followed_are_an_assumption(tmp_path: Path) -> None:
    path = annotated(tmp_path / "m.onnx", halves)
    plan = compile_model(path, target=load_target("tiny-ring"), chips=1).plan
    assert "not followed" in plan.assumptions[-1]


def _wrong_configuration(model: onnx.ModelProto) -> None:
    model.graph.node[3].device_configurations.add(configuration_id="nobody", pipeline_stage=0)
    stage(model.graph.node[4], 0)


def _backwards(model: onnx.ModelProto) -> None:
    halves(model)
    model.graph.node[0].device_configurations[0].pipeline_stage = 1


def _foreign_tensor(model: onnx.ModelProto) -> None:
    halves(model)
    cut(model.graph.node[3], "nothing", 0, 2, [0, 1])


def _far_device(model: onnx.ModelProto) -> None:
    halves(model)
    cut(model.graph.node[3], model.graph.node[3].output[0], 0, 2, [0, 9])


def _few_places(model: onnx.ModelProto) -> None:
    halves(model)
    cut(model.graph.node[3], model.graph.node[3].output[0], 0, 4, [0, 1])


def _no_shards(model: onnx.ModelProto) -> None:
    halves(model)
    cut(model.graph.node[3], model.graph.node[3].output[0], 0, 0, [])


def _twice(model: onnx.ModelProto) -> None:
    halves(model)
    stage(model.graph.node[3], 0)


def _negative(model: onnx.ModelProto) -> None:
    stage(model.graph.node[3], -1)


def _no_axis(model: onnx.ModelProto) -> None:
    halves(model)
    node = first(model, "Gemm")
    cut(node, node.output[0], 7, 2, [0, 1])


WRONG: tuple[tuple[Edit, str], ...] = (
    (_wrong_configuration, "for the configuration 'nobody', which is not in the model"),
    (_backwards, "it is in stage 0 and reads"),
    (_foreign_tensor, "about the tensor 'nothing', which it neither reads nor makes"),
    (_far_device, "lies on device 9, and the configuration has 0 to 3"),
    (_few_places, "is cut into 4 pieces, and 2 places are given for them"),
    (_no_shards, "into 0 shards; expected 1 or more"),
    (_twice, "it has two annotations for the configuration 'theirs'"),
    (_negative, "its pipeline stage is -1; expected 0 or more"),
    (_no_axis, "has no axis 7"),
)


@pytest.mark.parametrize(("edit", "words"), WRONG)
def test_what_cannot_be_meant_is_refused_with_the_node(tmp_path: Path, edit: Edit, words: str) -> None:
    with pytest.raises(BadInput) as refusal:
        compiled(annotated(tmp_path / "m.onnx", edit))
    problem = refusal.value.problems[0]
    assert problem.code == "bad_annotation"
    assert words in problem.message
    assert problem.node is not None
    assert problem.node in problem.message


def test_nothing_to_follow_and_two_to_choose_from_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--target", "tiny-ring", "--use-annotations", "-o", str(tmp_path / "p.chiplan")]
    assert main(["compile", "gpt2-tiny", *common]) == 2
    assert "the file has no multi-device annotations" in capsys.readouterr().err

    def two(model: onnx.ModelProto) -> None:
        halves(model)
        model.configuration.add(name="ours", num_devices=2)

    model = str(annotated(tmp_path / "halves.onnx", halves))
    assert main(["compile", model, *common, "--chips", "1"]) == 2
    error = capsys.readouterr().err
    assert "the model file's annotations ask for groups of 2,2: these are 4 chips" in error
    assert "--groups" not in error
    assert main(["compile", str(annotated(tmp_path / "m.onnx", two)), *common]) == 2
    assert "'theirs', 'ours'" in capsys.readouterr().err
    assert main(["compile", "gpt2-tiny", *common, "--groups", "2"]) == 2
    assert "--use-annotations fixes the groups" in capsys.readouterr().err
