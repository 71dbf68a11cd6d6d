"""The whole way: models with weights, planned on real targets, executed, compared with onnxruntime."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from chiplan.compiler import compile_model
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.importer import import_model
from chiplan.compiler.numeric_check import check_numerics
from chiplan.compiler.numeric_noise import least_scales
from chiplan.compiler.numeric_reference import TOLERANCES, Reference
from chiplan.ir import BadInput, DType, Incomparable, Unit
from chiplan.models import find_model, load_target
from chiplan.runtime_sim import Interpreter

CASES = [
    ("bert-tiny", "tiny-ring", 2, None),
    ("gpt2-tiny", "tiny-ring", 4, "int8"),
    ("gpt2-tiny-fp16", "groq-node", 2, None),
    ("gpt2-tiny-qdq-int8", "tiny-ring", 1, None),
    ("llama-tiny-gqa", "groq-node", 2, "w8a16"),
    ("mixtral-tiny", "groq-node", 1, "fp16"),
    ("t5-tiny-encoder", "tiny-ring", 4, None),
    ("vit-tiny", "tiny-ring", 2, "int8"),
]


def planned(model: str, target: str, chips: int, precision: str | None, **options):
    """A plan of a shipped model with few tokens, so that each takes a fraction of a second."""
    path = find_model(model)
    if model != "vit-tiny" and "past" not in model:
        options |= {"sequence": 20}
    compiled = compile_model(path, target=load_target(target), chips=chips, precision=precision, **options)
    return compiled.plan, path


@pytest.mark.parametrize(("model", "target", "chips", "precision"), CASES)
def test_plans_compute_what_models_compute(model, target, chips, precision):
    plan, path = planned(model, target, chips, precision)
    report = check_numerics(plan, path)
    assert report.ok, report.first_divergence
    assert report.max_error <= report.tolerance
    assert report.micro_batches >= 2
    assert report.cast_error == 0 if plan.precision == "model" else 0 < report.cast_error < 0.05


@pytest.mark.parametrize(("target", "users"), [("tiny-ring", 1), ("groq-node", 2)])
def test_users_in_rotation(target, users):
    plan, path = planned("llama-tiny-gqa-past", target, 2, None, users=users, context=40)
    report = check_numerics(plan, path)
    assert report.ok, report.first_divergence
    assert report.micro_batches == users + 1


@pytest.fixture(scope="module")
def plan_and_path():
    return planned("gpt2-tiny", "tiny-ring", 2, None)


def with_earlier_tile(plan, stage: int, row: int, cycles: int):
    """One tile starts too early: it reads what is not there yet."""
    program = plan.stages[stage].program
    shift = np.zeros_like(program.tiles.start)
    shift[row] = cycles
    tiles = replace(program.tiles, start=program.tiles.start - shift, end=program.tiles.end - shift)
    moved = replace(plan.stages[stage], program=replace(program, tiles=tiles))
    stages = (*plan.stages[:stage], moved, *plan.stages[stage + 1 :])
    return replace(plan, stages=stages)


def test_the_first_wrong_tile_is_named(plan_and_path):
    plan, path = plan_and_path
    program = plan.stages[1].program
    # A vector tile: on the matrix unit a block's first tile would be named for any tile of its sum.
    rows = np.flatnonzero(program.tiles.unit == list(Unit).index(Unit.VECTOR))
    row = int(rows[len(rows) // 2])
    position, start = int(program.tiles.operator[row]), int(program.tiles.start[row])
    report = check_numerics(with_earlier_tile(plan, 1, row, start), path)
    assert not report.ok
    wrong = report.first_divergence
    assert wrong is not None
    assert wrong.operator == plan.graph.operators[program.operators[position]].name
    assert wrong.chip == plan.stages[1].chips[0]
    assert wrong.tile == program.tiles.tile[row]
    assert wrong.cycle == 0
    assert f"tile {wrong.tile} on chip {wrong.chip}" in wrong.message


def test_a_buffer_with_too_few_copies_is_found(plan_and_path):
    """Micro-batch 0 is right, one of its successors is not, or the other way round."""
    plan, path = plan_and_path
    single = replace(plan, buffers=replace(plan.buffers, copies=np.ones_like(plan.buffers.copies)))
    report = check_numerics(single, path)
    assert not report.ok
    assert report.first_divergence is not None
    assert report.first_divergence.operator is not None


def test_a_graph_that_is_another_is_no_fault_of_the_plan(plan_and_path):
    plan, path = plan_and_path
    operators = list(plan.graph.operators)
    opcodes = [{instruction.opcode for instruction in operator.body} for operator in operators]
    index = next(i for i, found in enumerate(opcodes) if "Tanh" in found)
    body = tuple(replace(i, opcode="Sin") if i.opcode == "Tanh" else i for i in operators[index].body)
    operators[index] = replace(operators[index], body=body)
    report = check_numerics(replace(plan, graph=replace(plan.graph, operators=tuple(operators))), path)
    assert not report.ok
    assert report.first_divergence is not None
    assert "before any planning" in report.first_divergence.message


CANCELS = """g (float[1, 17, 17] x) => (float[1, 17, 1] nothing, float[1, 17, 17] rest) {
    mean = ReduceMean (x, axis)
    rest = Sub (x, mean)
    left = ReduceMean (rest, axis)
    nothing = Neg (left)
}"""


def saved(folder, text: str):
    model = parser.parse_model('<ir_version: 9, opset_import: ["": 18]>' + text)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "axis"))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("precision", ["model", "fp16"])
def test_an_output_that_is_nothing_but_rounding(tmp_path, precision):
    path = saved(tmp_path, CANCELS)
    plan = compile_model(path, target=load_target("tiny-ring"), chips=1, precision=precision).plan
    report = check_numerics(plan, path)
    assert report.ok, report.first_divergence
    assert report.max_error <= report.tolerance


def test_only_noise_gets_another_scale(tmp_path):
    """Neither small values nor sums that are exact are noise, and noise has the scale of its terms."""
    text = """g (float[1, 17, 17] x)
    => (float[1, 17, 1] nothing, float[1, 17, 17] small, float[1, 17, 17] zero) {
        mean = ReduceMean (x, axis)
        rest = Sub (x, mean)
        nothing = ReduceMean (rest, axis)
        tiny = Constant <value_float = 1e-9> ()
        small = Mul (rest, tiny)
        whole = Round (x)
        zero = Sub (whole, whole)
    }"""
    graph = build_graph(import_model(saved(tmp_path, text)))
    x = np.random.default_rng(0).normal(size=(1, 17, 17)).astype(np.float32)
    interpreter = Interpreter(graph, {"x": x}, lambda tensor: tensor.value, {})
    for operator in graph.operators:
        interpreter.run(operator)
    scales = least_scales(interpreter, 2.0**-23, 1e-4)
    assert set(scales) == {"nothing"}
    rest = np.abs(x - x.mean(axis=2, keepdims=True))
    assert scales["nothing"] == pytest.approx(rest.mean(axis=2).max() * 4 * 2**-23 / 1e-4, rel=1e-5)


def test_partial_sums_in_fp16_widen_the_tolerance():
    path = find_model("bert-tiny")
    imported = import_model(path)
    assert Reference(path, imported, "model").tolerance == TOLERANCES["fp32"]
    assert Reference(path, imported, "model", [DType.FP16]).tolerance == TOLERANCES["fp16"]
    assert Reference(path, imported, "int8", [DType.FP16, DType.INT32]).tolerance == TOLERANCES["int8"]


def test_another_model_is_refused(plan_and_path):
    plan, _ = plan_and_path
    with pytest.raises(Incomparable, match="another model"):
        check_numerics(plan, find_model("gpt2-tiny-fp16"))


def test_a_model_without_weights_is_refused():
    plan, path = planned("bert-base", "groq-node", 1, None)
    with pytest.raises(BadInput) as refusal:
        check_numerics(plan, path)
    assert refusal.value.problems[0].code == "weights_missing"
