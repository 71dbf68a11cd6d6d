"""Values of weights, read from an ONNX file when numerics asks for them and not before."""

from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from onnx import helper, numpy_helper

from chiplan.ir import BadInput, DType, Origin, Problem, Tensor, apply_view

from .conversion import convert, quantisation_scales, quantise


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


def external_path(folder: Path, name: str, location: str) -> Path:
    """Where an external tensor's bytes are; refuses a place outside the model's folder."""
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    outside = posix.is_absolute() or bool(windows.anchor) or ".." in (*posix.parts, *windows.parts)
    if not location or outside:
        raise BadInput(
            Problem(
                "external_data_path",
                f"initializer {name}: its external data must lie in the model's folder, but the model "
                f"names {location!r}. Save the model again with its data beside it.",
                node=name,
            )
        )
    return folder / posix


class WeightReader:
    """Values of weights of one model file, with embedded or external data.

    Raises BadInput: `model_file` when the file is no ONNX model, `weights_missing` when the external
    data is absent or too short, `external_data_path` when it points out of the model's folder.
    """

    def __init__(self, model_path: Path) -> None:
        self._folder = Path(model_path).parent
        try:
            model = onnx.load(str(model_path), load_external_data=False)
        except Exception as error:
            message = f"{Path(model_path).name}: cannot be read as an ONNX model ({error})"
            raise BadInput(Problem("model_file", message)) from error
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
            stored = self._fetch(stored)
        return numpy_helper.to_array(stored)

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

    def _fetch(self, stored: onnx.TensorProto) -> onnx.TensorProto:
        """The tensor with its external bytes embedded."""
        place = {entry.key: entry.value for entry in stored.external_data}
        location = place.get("location", "")
        path = external_path(self._folder, stored.name, location)
        if not path.is_file():
            raise self._missing(stored.name, f"the file {location} is not beside the model")
        needed = prod(stored.dims) * helper.tensor_dtype_to_np_dtype(stored.data_type).itemsize
        with path.open("rb") as file:
            file.seek(int(place.get("offset", 0)))
            raw = file.read(needed)
        if len(raw) < needed:
            raise self._missing(stored.name, f"{location} ends after {len(raw)} of its {needed} bytes")
        return onnx.TensorProto(dims=stored.dims, data_type=stored.data_type, raw_data=raw, name=stored.name)

    @staticmethod
    def _missing(name: str, reason: str) -> BadInput:
        message = f"initializer {name}: its values are needed, but {reason}. Put the weights there."
        return BadInput(Problem("weights_missing", message, node=name))
