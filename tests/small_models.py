"""Models of few operators whose plans are found at once, large enough that several chips help."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser


def chain(path: Path, layers: int = 4, rows: int = 64, width: int = 256) -> Path:
    """Matrix products with a Relu between them, each by weights of its own."""
    steps = [
        f"h{layer} = MatMul(y{layer}, w{layer})\n y{layer + 1} = Relu(h{layer})" for layer in range(layers)
    ]
    return _saved(path, rows, width, steps, f"y{layers}", [f"w{layer}" for layer in range(layers)])


def attention(path: Path, rows: int = 64, width: int = 256) -> Path:
    """One head over all columns, and what it sees added to its input."""
    steps = [
        "q = MatMul(y0, wq)",
        "k = MatMul(y0, wk)",
        "t = Transpose<perm = [1, 0]>(k)",
        "s = MatMul(q, t)",
        "p = Softmax<axis = -1>(s)",
        "v = MatMul(y0, wv)",
        "a = MatMul(p, v)",
        "o = MatMul(a, wo)",
        "z = Add(o, y0)",
    ]
    return _saved(path, rows, width, steps, "z", ["wq", "wk", "wv", "wo"])


def _saved(path: Path, rows: int, width: int, steps: list[str], output: str, weights: list[str]) -> Path:
    body = "\n ".join(steps)
    model = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 18]>
        small (float[{rows},{width}] y0) => (float[{rows},{width}] {output}) {{
        {body}
        }}"""
    )
    random = np.random.default_rng(0)
    for name in weights:
        values = (random.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    onnx.save(model, path)
    return path
