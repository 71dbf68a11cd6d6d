"""Values of weights, read from an ONNX file when numerics asks for them and not before."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from chiplan.ir import BadInput, DType, Origin, Problem, Tensor, apply_view

from .conversion import convert, quantisation_scales, quantise
from .import_limits import all_tensors
from .import_load import read_model
from .side_files import external_place, read_external


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Initializers and tensor-valued Constant nodes, those of inner graphs too, by name."""
    for initializer in graph.initializer:
        yield initializer.name, initializer
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], attribute.t
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _constants(attribute.g)


class WeightReader:
    """Values of weights of one model file, with embedded or external data.

    Raises BadInput: `file_broken` and its like when the file is no ONNX model, `weights_missing` when the
    external data is absent or too short, `external_data_path` when it points out of the model's folder.
    """

    def __init__(self, model_path: Path) -> None:
        self._folder = Path(model_path).parent
        model = read_model(Path(model_path))
        for tensor in all_tensors(model):
            # onnxruntime reads what it is told to: it is told of no file outside.
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                external_place(self._folder, tensor)
        self._tensors = dict(_constants(model.graph))

    def __call__(self, tensor: Tensor) -> np.ndarray:
        """The tensor's values in its own shape and type."""
        if tensor.value is not None:
            return convert(np.asarray(tensor.value), tensor.dtype).reshape(tensor.shape)
        if tensor.origin is None:
            raise ValueError(f"{tensor.name} has neither values nor an origin")
        found = self._converted(tensor.origin, self.initializer(tensor.origin.initializer), tensor.dtype)
        return np.ascontiguousarray(found).reshape(tensor.shape)

    def initializer(self, name: str) -> np.ndarray:
        """An initializer as it stands in the file."""
        stored = self._tensors.get(name)
        if stored is None:
            message = f"the model holds no initializer {name}: this is not the model that was compiled"
            raise BadInput(Problem("weights_missing", message, node=name))
        if stored.data_location == onnx.TensorProto.EXTERNAL:
            stored = read_external(self._folder, stored)
        try:
            return numpy_helper.to_array(stored)
        except (KeyError, TypeError, ValueError) as error:
            message = f"initializer {name} does not hold what its type and shape say ({error})"
            raise BadInput(Problem("file_broken", message, node=name)) from error

    def _converted(self, origin: Origin, stored: np.ndarray, dtype: DType) -> np.ndarray:
        seen = apply_view(origin.view, stored)
        match origin.conversion:
            case "cast":
                return convert(seen, dtype)
            case "quantise":
                return quantise(seen, origin.axes)
            case "scale":
                return convert(quantisation_scales(seen, origin.axes), dtype)
            case "sum":
                others = tuple(axis for axis in range(seen.ndim) if axis not in origin.axes)
                return np.asarray(seen.sum(axis=others, dtype=dtype.numpy))
        raise ValueError(f"unknown conversion {origin.conversion!r} of {origin.initializer}")
