"""Random small ONNX models: chains of products, norms, softmaxes, views and reductions, with odd extents.

Every operator takes values that are there and adds new ones; all that nobody reads are outputs. Weights
are scaled so that values stay near 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EXTENTS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16)
LARGEST = 4096
"""Elements of a value."""


class Dice:
    """Seeded choices."""

    def __init__(self, seed: int) -> None:
        self.numbers = np.random.default_rng(seed)

    def below(self, end: int) -> int:
        return int(self.numbers.integers(end))

    def choose(self, items: Sequence[Any]) -> Any:
        return items[self.below(len(items))]

    def hits(self, share: float) -> bool:
        return float(self.numbers.random()) < share

    def order(self, count: int) -> list[int]:
        return [int(i) for i in self.numbers.permutation(count)]


@dataclass
class Maker:
    """A model under construction. shapes: of the floating-point values that operators may read."""

    dice: Dice
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def input(self, shape: Sequence[int], kind: int = TensorProto.FLOAT, name: str = "x") -> str:
        name = f"{name}{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        if kind == TensorProto.FLOAT:
            self.shapes[name] = tuple(shape)
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, shape: Sequence[int], scale: float = 1.0) -> str:
        return self.constant((self.dice.numbers.normal(size=tuple(shape)) * scale).astype("f4"))

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def add(self, kind: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        """A node with one floating-point result of `shape`."""
        return self.add_many(kind, inputs, [shape], **attributes)[0]

    def add_many(
        self, kind: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], **attributes: Any
    ) -> list[str]:
        number = len(self.nodes)
        outputs = [f"v{number}_{position}" for position in range(len(shapes))]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, f"{kind}_{number}", **attributes))
        self.read.update(inputs)
        self.shapes.update(zip(outputs, map(tuple, shapes), strict=True))
        return outputs

    def pick(self, rank: int = 0) -> str:
        """A value of at least that rank, the latest ones the likeliest; one is reshaped if there is none."""
        found = [name for name, shape in self.shapes.items() if len(shape) >= rank]
        if not found:
            name = self.pick()
            shape = (*[1] * (rank - len(self.shapes[name])), *self.shapes[name])
            return self.reshape(name, shape)
        return found[max(self.dice.below(len(found)), self.dice.below(len(found)))]

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        return self.add("Reshape", [name, self.ints(shape)], shape)

    def scaled(self, name: str, scale: float) -> str:
        """A value that later operators read only scaled: products of large values are all rounding."""
        return self.add("Mul", [name, self.constant(np.float32(scale))], self.shapes.pop(name))

    def save(self, path: Path, opset: int = 18) -> None:
        outputs = [name for name in self.shapes if name not in self.read]
        graph = helper.make_graph(
            self.nodes,
            "random",
            self.inputs,
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(self.shapes[n])) for n in outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def linear(make: Maker) -> None:
    name = make.pick(2)
    shape, columns = make.shapes[name], make.dice.choose(EXTENTS)
    weight = make.weight((shape[-1], columns), shape[-1] ** -0.5)
    made = make.add("MatMul", [name, weight], (*shape[:-1], columns))
    if make.dice.hits(0.5):
        make.add("Add", [made, make.weight((columns,))], make.shapes[made])


def gemm(make: Maker) -> None:
    name = make.pick(2)
    shape, columns = make.shapes[name], make.dice.choose(EXTENTS)
    flat = make.reshape(name, (prod(shape[:-1]), shape[-1]))
    weight = make.weight((columns, shape[-1]), shape[-1] ** -0.5)
    make.add("Gemm", [flat, weight, make.weight((columns,))], (prod(shape[:-1]), columns), transB=1)


def attention(make: Maker) -> None:
    """Heads, scores, softmax, sums; the last dimension is made divisible first."""
    name, dice = make.pick(2), make.dice
    shape, heads, width = make.shapes[name], dice.choose((1, 2, 3, 5, 6)), dice.choose((2, 3, 5, 8))
    rows, batch = shape[-2], prod(shape[:-2])
    flat = make.reshape(name, (batch, rows, shape[-1]))
    parts = []
    fused = dice.hits(0.4)
    if fused:
        weight = make.weight((shape[-1], 3 * heads * width), shape[-1] ** -0.5)
        made = make.add("MatMul", [flat, weight], (batch, rows, 3 * heads * width))
        inner = [(batch, rows, heads * width)] * 3
        split = make.ints([heads * width] * 3)
        parts = make.add_many("Split", [made, split], inner, axis=2)
    else:
        for _ in range(3):
            weight = make.weight((shape[-1], heads * width), shape[-1] ** -0.5)
            parts.append(make.add("MatMul", [flat, weight], (batch, rows, heads * width)))
    apart = [make.reshape(part, (batch, rows, heads, width)) for part in parts]
    placed = (batch, heads, rows, width)
    query, value = (make.add("Transpose", [apart[i]], placed, perm=[0, 2, 1, 3]) for i in (0, 2))
    key = make.add("Transpose", [apart[1]], (batch, heads, width, rows), perm=[0, 2, 3, 1])
    square = (batch, heads, rows, rows)
    scores = make.add("MatMul", [query, key], square)
    scaled = make.scaled(scores, width**-0.5)
    weights = make.add("Softmax", [scaled], square, axis=-1)
    summed = make.add("MatMul", [weights, value], placed)
    back = make.add("Transpose", [summed], (batch, rows, heads, width), perm=[0, 2, 1, 3])
    make.reshape(back, (*shape[:-1], heads * width))


def product(make: Maker) -> None:
    """A value times its own transpose."""
    name = make.pick(2)
    shape = make.shapes[name]
    rank = len(shape)
    permutation = [*range(rank - 2), rank - 1, rank - 2]
    turned = make.add("Transpose", [name], [shape[i] for i in permutation], perm=permutation)
    made = make.add("MatMul", [name, turned], (*shape[:-1], shape[-2]))
    make.scaled(made, 1 / shape[-1])


def norm(make: Maker) -> None:
    name = make.pick(2)
    width = make.shapes[name][-1]
    inputs = [name, make.weight((width,)), make.weight((width,))]
    make.add("LayerNormalization", inputs, make.shapes[name], axis=-1, epsilon=1e-3)


def softmax(make: Maker) -> None:
    name = make.pick(1)
    shape = make.shapes[name]
    make.add("Softmax", [name], shape, axis=make.dice.below(len(shape)))


def pointwise(make: Maker) -> None:
    name = make.pick()
    make.add(make.dice.choose(("Relu", "Tanh", "Sigmoid", "Erf", "Neg", "Abs")), [name], make.shapes[name])


def residual(make: Maker) -> None:
    """Two values of equal shape, or one and a row that is repeated."""
    name = make.pick(1)
    shape = make.shapes[name]
    alike = [other for other, s in make.shapes.items() if s == shape and other != name]
    kind = make.dice.choose(("Add", "Mul", "Sub", "Max"))
    if alike:
        make.add(kind, [name, make.dice.choose(alike)], shape)
    else:
        row = tuple(extent if make.dice.hits(0.6) else 1 for extent in shape)
        make.add(kind, [name, make.weight(row)], shape)


def reshape(make: Maker) -> None:
    """Split one dimension, or merge two."""
    name = make.pick(1)
    shape = list(make.shapes[name])
    d = make.dice.below(len(shape))
    divisors = [n for n in range(2, shape[d]) if shape[d] % n == 0]
    if divisors and len(shape) < 5 and make.dice.hits(0.6):
        first = make.dice.choose(divisors)
        shape[d : d + 1] = [first, shape[d] // first]
    elif d + 1 < len(shape):
        shape[d : d + 2] = [shape[d] * shape[d + 1]]
    else:
        shape = [prod(shape)] if make.dice.hits(0.3) else [1, *shape][-5:]
    if prod(shape) == prod(make.shapes[name]):
        make.reshape(name, shape)


def transpose(make: Maker) -> None:
    name = make.pick(2)
    shape = make.shapes[name]
    order = make.dice.order(len(shape))
    make.add("Transpose", [name], [shape[i] for i in order], perm=order)


def sliced(make: Maker) -> None:
    name = make.pick(1)
    shape = list(make.shapes[name])
    d = make.dice.below(len(shape))
    low = make.dice.below(shape[d])
    high, step = low + 1 + make.dice.below(shape[d] - low), make.dice.choose((1, 1, 2, 3))
    shape[d] = len(range(low, high, step))
    bounds = [make.ints([bound]) for bound in (low, high, d, step)]
    make.add("Slice", [name, *bounds], shape)


def split(make: Maker) -> None:
    name = make.pick(1)
    shape = make.shapes[name]
    d = make.dice.below(len(shape))
    if shape[d] < 2:
        return
    first = 1 + make.dice.below(shape[d] - 1)
    parts = [first, shape[d] - first]
    shapes = [(*shape[:d], part, *shape[d + 1 :]) for part in parts]
    make.add_many("Split", [name, make.ints(parts)], shapes, axis=d)


def concat(make: Maker) -> None:
    name = make.pick(1)
    shape = make.shapes[name]
    d = make.dice.below(len(shape))
    alike = [
        other
        for other, s in make.shapes.items()
        if len(s) == len(shape) and all(i == d or s[i] == shape[i] for i in range(len(s)))
    ]
    others = [make.dice.choose(alike) for _ in range(make.dice.choose((1, 1, 2)))]
    extent = shape[d] + sum(make.shapes[other][d] for other in others)
    make.add("Concat", [name, *others], (*shape[:d], extent, *shape[d + 1 :]), axis=d)


def gather(make: Maker) -> None:
    """Rows of a weight, or of a value, by given indices."""
    dice = make.dice
    count = dice.choose(EXTENTS)
    if dice.hits(0.5):
        rows, width = dice.choose((8, 11, 16, 23)), dice.choose(EXTENTS)
        indices = make.input((count,), TensorProto.INT64, "token_type_ids" if dice.hits(0.2) else "ids")
        make.add("Gather", [make.weight((rows, width)), indices], (count, width), axis=0)
        return
    name = make.pick(1)
    shape = make.shapes[name]
    d = dice.below(len(shape))
    indices = make.ints([dice.below(shape[d]) for _ in range(count)])
    make.add("Gather", [name, indices], (*shape[:d], count, *shape[d + 1 :]), axis=d)


def reduced(make: Maker) -> None:
    name = make.pick(1)
    shape, dice = make.shapes[name], make.dice
    d, keep = dice.below(len(shape)), dice.below(2)
    left = tuple(1 if i == d else e for i, e in enumerate(shape) if keep or i != d)
    kind = dice.choose(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"))
    made = make.add(kind, [name, make.ints([d])], left, keepdims=keep)
    if kind == "ReduceSum":
        make.scaled(made, shape[d] ** -0.5)
    elif keep and dice.hits(0.6):
        make.add("Sub", [name, made], shape)


def expand(make: Maker) -> None:
    name = make.pick(1)
    shape = list(make.shapes[name])
    ones = [d for d, extent in enumerate(shape) if extent == 1]
    if ones:
        shape[make.dice.choose(ones)] = make.dice.choose(EXTENTS)
        make.add("Expand", [name, make.ints(shape)], shape)


def padded(make: Maker) -> None:
    name = make.pick(1)
    shape = list(make.shapes[name])
    before, after = ([make.dice.below(3) for _ in shape] for _ in range(2))
    total = [a + b + c for a, b, c in zip(before, shape, after, strict=True)]
    make.add("Pad", [name, make.ints([*before, *after])], total)


def scanned(make: Maker) -> None:
    name = make.pick(1)
    shape = make.shapes[name]
    axis = make.constant(np.array(make.dice.below(len(shape)), np.int64))
    made = make.add("CumSum", [name, axis], shape)
    make.scaled(made, 1 / max(shape))


def convolution(make: Maker) -> None:
    dice = make.dice
    channels, side, size = dice.choose((1, 2, 3)), dice.choose((6, 7, 9)), dice.choose((2, 3))
    made, stride = dice.choose((2, 3, 5)), dice.choose((1, 2))
    name = make.input((1, channels, side, side))
    weight = make.weight((made, channels, size, size), (channels * size * size) ** -0.5)
    extent = (side - size) // stride + 1
    make.add("Conv", [name, weight], (1, made, extent, extent), strides=[stride] * 2)


STEPS = (
    linear, linear, linear, gemm, attention, attention, product, norm, norm, softmax, pointwise, residual,
    residual, reshape, reshape, transpose, transpose, sliced, split, concat, concat, gather, reduced,
    reduced, expand, padded, scanned, convolution,
)  # fmt: skip


def random_model(path: Path, seed: int, steps: int = 10) -> None:
    """A model of about so many steps, at `path`."""
    dice = Dice(seed)
    make = Maker(dice)
    make.input([dice.choose(EXTENTS) for _ in range(dice.choose((2, 2, 3)))])
    while len(make.nodes) < steps:
        before = len(make.nodes), len(make.inputs), len(make.weights), dict(make.shapes), set(make.read)
        dice.choose(STEPS)(make)
        if any(prod(shape) > LARGEST for shape in make.shapes.values()):
            nodes, inputs, weights, make.shapes, make.read = before
            del make.nodes[nodes:], make.inputs[inputs:], make.weights[weights:]
    make.save(path)
