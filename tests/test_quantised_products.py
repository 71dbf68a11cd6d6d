"""Models that are quantised already: products on codes, own scales, zero points, no idle conversions."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from chiplan.compiler import compile_model
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.compile import prepare_graph
from chiplan.compiler.importer import import_model
from chiplan.compiler.numeric_check import check_numerics
from chiplan.compiler.precision import apply_precision, default_precision
from chiplan.compiler.quantised_products import fold_quantised_products
from chiplan.compiler.reference import run_original
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.compiler.weights import WeightReader
from chiplan.ir import DType, Graph, Operator, Role, Unit
from chiplan.models import find_model, load_target
from chiplan.runtime_sim.interpreter import interpret

HEAD = '<ir_version: 10, opset_import: ["": 20]>'
ROWS, DEPTH, COLUMNS = 10, 24, 14

STATIC = """g (float[ROWS, DEPTH] x) => (float[ROWS, COLUMNS] y) {
    xq = QuantizeLinear (x, sx, zx)
    xd = DequantizeLinear (xq, sx, zx)
    wd = DequantizeLinear <axis = AXIS> (w, sw, zw)
    y = MatMul (xd, wd)
}"""
DYNAMIC = """g (float[2, ROWS, DEPTH] x) => (float[2, ROWS, COLUMNS] y) {
    xq, sx, zx = DynamicQuantizeLinear (x)
    sums = MatMulInteger (xq, w, zx, zw)
    wide = Cast <to = 1> (sums)
    s = Mul (sx, sw)
    y = Mul (wide, s)
}"""
BOTH_COMPUTED = """g (float[2, ROWS, DEPTH] x, float[2, COLUMNS, DEPTH] k) => (float[2, ROWS, COLUMNS] y) {
    xq = QuantizeLinear (x, sx, zx)
    xd = DequantizeLinear (xq, sx, zx)
    kq = QuantizeLinear (k, sx, zk)
    kd = DequantizeLinear (kq, sx, zk)
    kt = Transpose <perm = [0, 2, 1]> (kd)
    y = MatMul (xd, kt)
}"""
LOOKUP = """g (int64[1, ROWS] ids) => (float[1, ROWS, COLUMNS] y) {
    rows = DequantizeLinear (table, st, zt)
    e = Gather (rows, ids)
    eq = QuantizeLinear (e, st, zt)
    ed = DequantizeLinear (eq, st, zt)
    wd = DequantizeLinear <axis = 1> (w, sw, zw)
    y = MatMul (ed, wd)
}"""


def save(folder: Path, text: str, **arrays: np.ndarray) -> Path:
    """The model of an ONNX text, with `arrays` as initializers."""
    for name, number in (("ROWS", ROWS), ("DEPTH", DEPTH), ("COLUMNS", COLUMNS)):
        text = text.replace(name, str(number))
    model = parser.parse_model(HEAD + text)
    used = {name for node in model.graph.node for name in node.input}
    for name, array in arrays.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return path


def weights(
    kind: type = np.int8, zero: int = 0, channels: bool = True, depth: int = DEPTH, columns: int = COLUMNS
) -> dict[str, np.ndarray]:
    """Codes, scales and zero points of a weight."""
    random = np.random.default_rng(5)
    limits = np.iinfo(kind)
    scales = random.uniform(0.01, 0.03, columns if channels else ()).astype(np.float32)
    codes = random.integers(limits.min, limits.max, (depth, columns), endpoint=True)
    return {"w": codes.astype(kind), "sw": np.array(scales), "zw": np.full(scales.shape, zero, kind)}


def activation(kind: type = np.int8, zero: int = 0, scale: float = 0.02) -> dict[str, np.ndarray]:
    return {"sx": np.array(scale, np.float32), "zx": np.array(zero, kind), "zk": np.array(zero + 3, kind)}


def products(graph: Graph) -> list[Operator]:
    return [operator for operator in graph.operators if operator.unit is Unit.MATRIX]


def streamed(graph: Graph) -> Counter[DType]:
    return Counter(graph.tensors[operator.operands[0].tensor].dtype for operator in products(graph))


def check(path: Path, folded_products: int = 1) -> Graph:
    """Folds; the result is what the model and the graph before compute, with so many int8 products."""
    imported = import_model(path)
    before = build_graph(imported)
    after = fold_quantised_products(before)
    inputs, reader = random_inputs(imported, 3), WeightReader(path)
    wanted = interpret(before, inputs, reader, {})["y"]
    scale = np.abs(wanted).max()
    for found in (interpret(after, inputs, reader, {})["y"], run_original(path, inputs)["y"]):
        np.testing.assert_allclose(found, wanted, atol=2e-6 * scale)
    assert streamed(after)[DType.INT8] == folded_products
    return after


def test_every_product_of_the_quantised_model_is_int8() -> None:
    graph = build_graph(import_model(find_model("gpt2-tiny-qdq-int8"), sequence=20))
    folded = fold_quantised_products(graph)
    assert streamed(graph) == {DType.FP32: 13}
    assert streamed(folded) == {DType.INT8: 13}
    for operator in products(folded):
        assert {folded.tensors[operand.tensor].dtype for operand in operator.operands} == {DType.INT8}
        assert folded.tensors[operator.results[0].tensor].dtype is DType.INT32
    resident = [t for t in folded.tensors.values() if t.role is Role.WEIGHT and t.elements > 1024]
    assert {tensor.dtype for tensor in resident} == {DType.INT8}


def test_the_fold_is_exact_on_the_quantised_model() -> None:
    path = find_model("gpt2-tiny-qdq-int8")
    imported = import_model(path, sequence=20)
    graph = build_graph(imported)
    inputs, reader = random_inputs(imported, 1), WeightReader(path)
    wanted = interpret(graph, inputs, reader, {})
    found = interpret(fold_quantised_products(graph), inputs, reader, {})
    np.testing.assert_allclose(found["logits"], wanted["logits"], atol=1e-6)


def test_views_between_equal_scales_need_no_conversion() -> None:
    graph = build_graph(import_model(find_model("gpt2-tiny-qdq-int8"), sequence=20))
    conversions = [
        sum(folded.tensors[o.results[0].tensor].dtype is DType.INT8 for o in folded.operators)
        for folded in (graph, fold_quantised_products(graph))
    ]
    assert conversions[1] < conversions[0] / 1.5


@pytest.mark.parametrize("target", ["groq-node", "tiny-ring"])
def test_the_models_own_precision_is_the_default(target: str) -> None:
    chip = load_target(target).chip
    graph = build_graph(import_model(find_model("gpt2-tiny-qdq-int8"), sequence=20))
    assert default_precision(fold_quantised_products(graph), chip) == "model"


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 0), (np.int8, -9), (np.uint8, 128), (np.uint8, 17)])
def test_zero_points_of_activations(tmp_path: Path, kind: type, zero: int, channels: bool) -> None:
    text = STATIC.replace("AXIS", "1")
    graph = check(save(tmp_path, text, **activation(kind, zero), **weights(channels=channels)))
    # A column's sum is a constant: no pass reduces anything.
    assert not any(f.reducer for o in graph.operators if o.unit is Unit.VECTOR for f in o.factors)
    (rescale,) = [o for o in graph.operators if o.name.endswith("/rescale")]
    shift = 128 if kind is np.uint8 else 0
    assert [i.opcode for i in rescale.body] == ["Sub"] * (zero != shift) + ["Cast", "Mul"]


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 3), (np.uint8, 128), (np.uint8, 100)])
def test_zero_points_of_weights(tmp_path: Path, kind: type, zero: int) -> None:
    check(save(tmp_path, STATIC.replace("AXIS", "1"), **activation(np.int8, -9), **weights(kind, zero)))


def test_zero_points_that_vary_by_column(tmp_path: Path) -> None:
    arrays = weights() | {"zw": np.arange(COLUMNS, dtype=np.int8) - 4}
    check(save(tmp_path, STATIC.replace("AXIS", "1"), **activation(np.int8, -9), **arrays))


def test_both_operands_computed(tmp_path: Path) -> None:
    check(save(tmp_path, BOTH_COMPUTED, **activation(np.int8, -9)))


def test_a_transposed_weight(tmp_path: Path) -> None:
    text = STATIC.replace("MatMul (xd, wd)", "Gemm <transB = 1> (xd, wd)").replace("AXIS", "0")
    arrays = weights()
    check(save(tmp_path, text, **activation(np.int8, -9), **arrays | {"w": arrays["w"].T.copy()}))


def test_a_scale_along_the_reduced_dimension_stays_a_float_product(tmp_path: Path) -> None:
    arrays = weights(channels=False) | {
        "sw": np.linspace(0.01, 0.02, DEPTH, dtype=np.float32),
        "zw": np.zeros(DEPTH, np.int8),
    }
    check(save(tmp_path, STATIC.replace("AXIS", "0"), **activation(), **arrays), folded_products=0)


@pytest.mark.parametrize("zero", [0, 17])
def test_weights_on_disk(tmp_path: Path, zero: int) -> None:
    depth, columns = 300, 260
    text = STATIC.replace("AXIS", "1").replace("DEPTH", str(depth)).replace("COLUMNS", str(columns))
    arrays = weights(depth=depth, columns=columns)
    graph = check(save(tmp_path, text, **activation(np.uint8, zero), **arrays))
    (sums,) = [t for t in graph.tensors.values() if t.origin is not None and t.origin.conversion == "sum"]
    assert (sums.shape, sums.dtype, sums.value) == ((columns,), DType.INT32, None)
    assert not any(f.reducer for o in graph.operators if o.unit is Unit.VECTOR for f in o.factors)


def test_tables_are_dequantised_after_the_lookup(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    table = random.integers(-128, 127, (50, DEPTH)).astype(np.int8)
    arrays = {"table": table, "st": np.array(0.02, np.float32), "zt": np.array(5, np.int8)}
    graph = check(save(tmp_path, LOOKUP, **arrays, **weights()))
    # Codes are gathered and multiplied as they are: only the product's scale is left.
    assert Counter(o.unit for o in graph.operators) == {Unit.MEMORY: 1, Unit.MATRIX: 1, Unit.VECTOR: 1}


def test_dynamic_quantisation_adds_up_no_weight(tmp_path: Path) -> None:
    graph = check(save(tmp_path, DYNAMIC, **weights(channels=False)))
    weight_readers = [o for o in graph.operators if any(p.tensor == "w" for p in o.operands)]
    assert [operator.unit for operator in weight_readers] == [Unit.MATRIX]


@pytest.mark.parametrize("precision", ["fp16", "int8", "w8a16"])
def test_own_scales_and_weights_are_kept_under_any_precision(tmp_path: Path, precision: str) -> None:
    path = save(tmp_path, STATIC.replace("AXIS", "1"), **activation(np.int8, -9, 6e-6), **weights())
    planned = prepare_graph(build_graph(import_model(path)), precision, load_target("tiny-ring"))
    assert planned.tensors["sx"].dtype is DType.FP32
    assert planned.tensors["w"].dtype is DType.INT8
    assert planned.tensors["x"].dtype is planned.tensors["y"].dtype is DType.FP16
    assert streamed(planned) == {DType.INT8: 1}


def test_scales_beyond_fp16_still_quantise_a_mask(tmp_path: Path) -> None:
    text = """g (float[ROWS] x) => (float[ROWS] y) {
        xq = QuantizeLinear (x, sx, zx)
        y = DequantizeLinear (xq, sx, zx)
    }"""
    path = save(tmp_path, text, sx=np.array(1.3e36, np.float32), zx=np.array(127, np.int8))
    graph = apply_precision(build_graph(import_model(path)), "fp16")
    mask = {"x": np.array([0, -65504] * (ROWS // 2), np.float16)}
    assert interpret(graph, mask, WeightReader(path), {})["y"].tolist() == mask["x"].tolist()


@pytest.mark.parametrize(
    ("target", "chips", "precision"),
    [
        ("tiny-ring", 1, "model"),
        ("tiny-ring", 2, "fp16"),
        ("tiny-ring", 4, "w8a16"),
        ("groq-node", 2, "int8"),
    ],
)
def test_plans_of_the_quantised_model(target: str, chips: int, precision: str) -> None:
    path = find_model("gpt2-tiny-qdq-int8")
    compiled = compile_model(path, target=load_target(target), chips=chips, precision=precision, sequence=20)
    report = check_numerics(compiled.plan, path)
    assert report.ok, report.first_divergence
    assert streamed(compiled.plan.graph) == {DType.INT8: 13}


@pytest.mark.parametrize("target", ["tiny-ring", "groq-node"])
@pytest.mark.parametrize("precision", [None, "fp16"])
def test_plans_of_a_dynamically_quantised_model(tmp_path: Path, target: str, precision: str | None) -> None:
    path = save(tmp_path, DYNAMIC, **weights(channels=False))
    compiled = compile_model(path, target=load_target(target), chips=2, precision=precision)
    report = check_numerics(compiled.plan, path)
    assert report.ok, report.first_divergence
    assert report.max_error < 1e-3
    assert report.cast_error is not None
    assert report.cast_error < 2e-2
    assert compiled.plan.precision == (precision or "model")
