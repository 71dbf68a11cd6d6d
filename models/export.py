"""Exports the models that ship, with the exporters that users have.

    pip install 'chiplan[export]'
    python -m chiplan.models.export gpt2-tiny --output DIR

Weights are random from a fixed seed. A full-size model is built of zeros that take no memory, and its
file refers to external data that is absent. The bytes depend on the versions of torch, transformers
and onnxscript; the shipped files were made with torch 2.13 and transformers 5.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch

from .export_recipes import RECIPES, SEED, Case, Recipe

ABSENT = "weights.absent.bin"
LARGEST_INLINE = 4096
"""Bytes of a tensor that a file without weights still carries itself (position ids, small scales)."""


def export(recipe: Recipe, folder: Path) -> Path:
    """Makes one model and writes `folder/NAME.onnx`; returns its path."""
    case = recipe.build()
    with torch.no_grad():
        model = _torchscript(recipe, case) if recipe.exporter == "torchscript" else _dynamo(recipe, case)
    for step in recipe.finish:
        model = _FINISHERS[step](model, case)
    path = folder / f"{recipe.name}.onnx"
    onnx.save(model, path)
    return path


def _dynamo(recipe: Recipe, case: Case) -> onnx.ModelProto:
    names = {name for axes in case.axes for name in axes.values()}
    kind = torch.export.Dim
    symbols = {name: kind(name) if case.named else kind.DYNAMIC for name in names}
    shapes = tuple({axis: symbols[name] for axis, name in axes.items()} for axes in case.axes)
    program = torch.onnx.export(
        case.module,
        case.inputs,
        dynamo=True,
        input_names=list(case.input_names),
        output_names=list(case.output_names),
        dynamic_shapes=_by_parameter(shapes),
        opset_version=recipe.opset,
        verbose=False,
    )
    if not recipe.weights:
        _drop_weights(program.model)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    proto: onnx.ModelProto = onnx_ir.to_proto(program.model)
    return proto


def _by_parameter(shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Shapes as `forward` takes its inputs: what follows the third one is `*past`."""
    return (*shapes[:3], shapes[3:]) if len(shapes) > 3 else shapes


def _drop_weights(model: onnx_ir.Model) -> None:
    """Large initializers become references into a file that does not exist."""
    offset = 0
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= LARGEST_INLINE:
            continue
        kept = onnx_ir.Shape(tuple(tensor.shape.numpy()))
        value.const_value = onnx_ir.ExternalTensor(
            ABSENT, offset, tensor.nbytes, tensor.dtype, shape=kept, name=value.name or ""
        )
        offset += tensor.nbytes


def _torchscript(recipe: Recipe, case: Case) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(
        case.module,
        case.inputs,
        buffer,
        dynamo=False,
        input_names=list(case.input_names),
        output_names=list(case.output_names),
        dynamic_axes=dict(zip(case.input_names, case.axes, strict=True)),
        opset_version=recipe.opset,
    )
    return onnx.load_from_string(buffer.getvalue())


class _RandomTokens:
    """What the quantiser calibrates on: eight batches of token ids, then None."""

    def __init__(self, names: tuple[str, ...]) -> None:
        random = np.random.default_rng(SEED)
        self._names = names
        self._left = [random.integers(0, 256, (2, 16)) for _ in range(8)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch by input name."""
        if not self._left:
            return None
        ids = self._left.pop()
        return dict(zip(self._names, (ids, np.ones_like(ids)), strict=True))


def _quantise(model: onnx.ModelProto, case: Case) -> onnx.ModelProto:
    """Static int8 quantisation with onnxruntime's quantiser, calibrated on random tokens."""
    from onnxruntime.quantization import QuantFormat, quantize_static

    with TemporaryDirectory() as folder:
        plain, quantised = Path(folder) / "plain.onnx", Path(folder) / "quantised.onnx"
        onnx.save(model, plain)
        quantize_static(plain, quantised, _RandomTokens(case.input_names), quant_format=QuantFormat.QDQ)
        return onnx.load(quantised)


_FINISHERS = {"quantise": _quantise}


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m chiplan.models.export NAME ... --output DIR`."""
    parser = argparse.ArgumentParser(prog="python -m chiplan.models.export", description=__doc__)
    recipes = {recipe.name: recipe for recipe in RECIPES}
    parser.add_argument(
        "names", nargs="+", choices=sorted(recipes), metavar="NAME", help=", ".join(sorted(recipes))
    )
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="an existing folder")
    chosen = parser.parse_args(arguments)
    if not chosen.output.is_dir():
        parser.error(f"the folder {chosen.output} does not exist; make it first")
    for name in chosen.names:
        export(recipes[name], chosen.output)


if __name__ == "__main__":
    main()
