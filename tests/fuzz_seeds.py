"""What is mutated: small models with something of everything, targets, and plans."""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, parser

from chiplan.compiler import compile_model
from chiplan.compiler.baseline import baseline_text
from chiplan.compiler.baseline_check import measure
from chiplan.ir import plan_bytes
from chiplan.models import find_model, load_target, target_names, target_text

_HEAD = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1, "own": 1]>'
_MODELS = {
    "block": """g (float[batch, seq, 16] x) => (float[batch, seq, 16] y)
        <float[16] b = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}> {
        n = LayerNormalization <axis = -1> (x, b, b)
        q = MatMul (n, w) k = Transpose <perm = [0, 2, 1]> (n) s = MatMul (q, k)
        p = Softmax <axis = -1> (s) v = MatMul (p, n) a = Add (v, x) g = Gelu (a) y = Add (g, b) }""",
    "shapes": """g (int64[batch, seq] ids) => (float[batch, seq, 8] y) {
        shape = Shape (ids) zero = Constant <value_int = 0> () one = Constant <value_int = 1> ()
        axis = Constant <value_ints = [0]> () length = Gather (shape, one)
        positions = Range (zero, length, one) cast = Cast <to = 1> (positions)
        wide = Unsqueeze (cast, axis) size = Constant <value_ints = [2, 1]> ()
        tiled = Tile (wide, size) filled = ConstantOfShape <value = float[1] {0.5}> (shape)
        padded = Constant <value_ints = [0, 0, 0, 1]> () more = Pad (tiled, padded)
        sum = ReduceSum <keepdims = 0> (more) taken = Gather (table, ids)
        half = Mul (taken, sum) last = Constant <value_ints = [2]> ()
        grown = Unsqueeze (filled, last) y = Add (half, grown) }""",
    "branch": """g (float[4, 8] x) => (float[4, 8] y) <bool c = {1}> {
        y = If (c) <then_branch = t () => (float[4, 8] r) { r = Exp (x) },
                    else_branch = e () => (float[4, 8] r) { q = Neg (x) r = Abs (q) }> }""",
}
_FUNCTIONS = """
    g (float[4, 8] x) => (float[4, 8] y) { a = own.twice (x) y = own.once (a) }
    <domain: "own", opset_import: ["": 20]> twice (x) => (y) { h = own.once (x) y = own.once (h) }
    <domain: "own", opset_import: ["": 20]> once (x) => (y) {
        two = Constant <value_float = 2.0> () y = Mul (x, two) }
"""
_WEIGHTS = {"w": (16, 16), "table": (32, 8)}
_SHIPPED = ("bert-tiny", "llama-tiny-gqa-past", "gpt2-tiny-qdq-int8")
TARGET = "tiny-ring"


def model_seeds() -> dict[str, bytes]:
    """Models by name: written by hand, and the graphs of shipped ones."""
    seeds = {}
    for name, text in (*_MODELS.items(), ("functions", _FUNCTIONS)):
        model = parser.parse_model(_HEAD + text)
        used = {value for node in model.graph.node for value in node.input}
        for weight, shape in _WEIGHTS.items():
            if weight in used:
                model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), weight))
        seeds[name] = model.SerializeToString()
    for name in _SHIPPED:
        seeds[name] = _without_weights(onnx.load(str(find_model(name)))).SerializeToString()
    return seeds


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large weights in a side file that is not there: bytes of weights teach nothing."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 1024:
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": "weights.bin", "offset": "0", "length": str(len(tensor.raw_data))}
            tensor.external_data.extend([_entry(key, value) for key, value in place.items()])
            tensor.ClearField("raw_data")
    return model


def _entry(key: str, value: str) -> onnx.StringStringEntryProto:
    return onnx.StringStringEntryProto(key=key, value=value)


def target_seeds() -> dict[str, bytes]:
    """The targets that ship."""
    return {name: target_text(name).encode() for name in target_names()}


def baseline_seeds() -> dict[str, bytes]:
    """One of a small model on a small target."""
    options = {"chips": 1, "batch": 1, "sequence": 8, "users": 1}
    measured = measure(find_model("bert-tiny"), load_target(TARGET), TARGET, options)
    return {"bert": baseline_text(measured.stated, "perf.toml").encode()}


def plan_seeds(models: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """Plans of one chip, of a pipeline, of a group, and of a model with a state."""
    cases: dict[str, tuple[str, dict[str, object]]] = {
        "one": ("block", {"chips": 1}),
        "pipeline": ("block", {"groups": (1, 1)}),
        "group": ("block", {"groups": (4,), "sequence": 16}),
        "state": ("llama-tiny-gqa-past", {"groups": (2,), "context": 16}),
    }
    plans = {}
    for name, (model, options) in cases.items():
        path = folder / f"{model}.onnx"
        path.write_bytes(models[model])
        plans[name] = plan_bytes(compile_model(path, target=load_target(TARGET), **options).plan)
        path.unlink()
    return plans


def write_seeds(folder: Path) -> None:
    """All seeds as files: FAMILY-NAME."""
    models = model_seeds()
    families = {
        "model": models,
        "target": target_seeds(),
        "baseline": baseline_seeds(),
        "plan": plan_seeds(models, folder),
    }
    for family, seeds in families.items():
        for name, data in seeds.items():
            (folder / f"{family}-{name}").write_bytes(data)


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
