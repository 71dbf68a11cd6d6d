"""Graphs of published experiments that are no exported model, written node by node.

    python -m chiplan.models.published_graphs --output DIR

The files refer to external weights that are absent: they compile and simulate, and have no numerics.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

ABSENT = "weights.absent.bin"
OPSET = 20
_SIZES = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2}


class GraphText:
    """Nodes and weights in the order in which they are written."""

    def __init__(self, element: TensorProto.DataType) -> None:
        self.element = element
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._offset = 0

    def weight(self, name: str, *shape: int) -> str:
        """A tensor whose values stand in a file that does not exist."""
        length = _SIZES[self.element]
        for extent in shape:
            length *= extent
        tensor = TensorProto(name=name, data_type=self.element, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        facts = {"location": ABSENT, "offset": str(self._offset), "length": str(length)}
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=value)
        self._offset += length
        self.weights.append(tensor)
        return name

    def shape(self, name: str, *extents: int) -> str:
        """A constant shape; 0 keeps an extent."""
        self.weights.append(helper.make_tensor(name, TensorProto.INT64, [len(extents)], extents))
        return name

    def node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, called like the node."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def model(
        self, name: str, given: Mapping[str, Sequence[int | str]], made: Mapping[str, Sequence[int | str]]
    ) -> onnx.ModelProto:
        """The whole, with its inputs and outputs by name and shape."""
        inputs, outputs = (
            [helper.make_tensor_value_info(key, self.element, list(shape)) for key, shape in values.items()]
            for values in (given, made)
        )
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def product(rows: int, inner: int, columns: int) -> onnx.ModelProto:
    """y[rows, columns] = x[rows, inner] x w[inner, columns] in fp16."""
    text = GraphText(TensorProto.FLOAT16)
    text.node("MatMul", "y", "x", text.weight("w", inner, columns))
    return text.model("product", {"x": (rows, inner)}, {"y": (rows, columns)})


def bert_encoders(layers: int, width: int = 1024, heads: int = 16) -> onnx.ModelProto:
    """`layers` encoders of BERT (attention without a mask, 4 x `width` in between, GELU), from hidden
    states to hidden states [batch, seq, width]; no embedding, no pooler. Width 1024 with 16 heads is
    that of BERT-large."""
    text = GraphText(TensorProto.FLOAT)
    text.shape("split", 0, 0, heads, width // heads)
    text.shape("join", 0, 0, width)
    text.weights.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [(width // heads) ** -0.5]))
    hidden = "hidden_states"
    for layer in range(layers):
        hidden = _encoder(text, f"layer.{layer}", hidden, width)
    text.node("Identity", "last_hidden_state", hidden)
    shape = ("batch", "seq", width)
    return text.model("bert_encoders", {"hidden_states": shape}, {"last_hidden_state": shape})


def _encoder(text: GraphText, name: str, hidden: str, width: int) -> str:
    parts = {}
    for part in ("query", "key", "value"):
        made = _linear(text, f"{name}.{part}", hidden, width, width)
        made = text.node("Reshape", f"{name}.{part}.heads", made, "split")
        order = [0, 2, 3, 1] if part == "key" else [0, 2, 1, 3]
        parts[part] = text.node("Transpose", f"{name}.{part}.t", made, perm=order)
    scores = text.node("MatMul", f"{name}.scores", parts["query"], parts["key"])
    scores = text.node("Mul", f"{name}.scaled", scores, "scale")
    shares = text.node("Softmax", f"{name}.softmax", scores, axis=-1)
    seen = text.node("MatMul", f"{name}.context", shares, parts["value"])
    seen = text.node("Transpose", f"{name}.context.t", seen, perm=[0, 2, 1, 3])
    seen = text.node("Reshape", f"{name}.context.joined", seen, "join")
    seen = _linear(text, f"{name}.output", seen, width, width)
    hidden = _closed(text, f"{name}.attention", seen, hidden, width)
    wide = _linear(text, f"{name}.up", hidden, width, 4 * width)
    wide = text.node("Gelu", f"{name}.gelu", wide)
    wide = _linear(text, f"{name}.down", wide, 4 * width, width)
    return _closed(text, f"{name}.mlp", wide, hidden, width)


def _linear(text: GraphText, name: str, value: str, inner: int, columns: int) -> str:
    product = text.node("MatMul", f"{name}.product", value, text.weight(f"{name}.weight", inner, columns))
    return text.node("Add", f"{name}.sum", product, text.weight(f"{name}.bias", columns))


def _closed(text: GraphText, name: str, made: str, before: str, width: int) -> str:
    """Residual and normalisation."""
    total = text.node("Add", f"{name}.residual", made, before)
    weights = (text.weight(f"{name}.norm.weight", width), text.weight(f"{name}.norm.shift", width))
    return text.node("LayerNormalization", f"{name}.norm", total, *weights, axis=-1, epsilon=1e-12)


GRAPHS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "bert-encoders-6": partial(bert_encoders, 6),
    "gemm-isca": partial(product, 800, 32576, 8192),
}
"""What ships, by name; the sizes are those of the experiments (docs/published.md)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes every graph of `GRAPHS` into a folder."""
    parser = argparse.ArgumentParser(prog="python -m chiplan.models.published_graphs", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="an existing folder")
    folder = parser.parse_args(arguments).output
    if not folder.is_dir():
        parser.error(f"the folder {folder} does not exist; make it first")
    for name, build in GRAPHS.items():
        onnx.save(build(), folder / f"{name}.onnx")


if __name__ == "__main__":
    main()
