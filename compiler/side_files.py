"""Data of tensors in side files. The model names the file, so it is made sure that it lies in its folder."""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnx import TensorProto, helper

from chiplan.ir import BadInput, Problem, open_regular, printable


@dataclass(frozen=True)
class ExternalPlace:
    """Where a tensor's bytes lie; `length` None: as many as the tensor takes."""

    path: Path
    location: str
    offset: int
    length: int | None


def external_path(folder: Path, name: str, location: str) -> Path:
    """Where the external bytes of tensor `name` are. Raises BadInput (`external_data_path`) for a place
    outside of the model's folder, also behind a symbolic link."""
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    outside = posix.is_absolute() or bool(windows.anchor) or ".." in (*posix.parts, *windows.parts)
    if not location or "\0" in location or outside or not _is_inside(folder, folder / posix):
        raise _refusal(
            name,
            "external_data_path",
            "its external data must lie in the model's folder, but the model names "
            f"{printable(location, 200)!r}. Save the model again with its data beside it.",
        )
    return folder / posix


def external_place(folder: Path, tensor: TensorProto) -> ExternalPlace:
    """The same with offset and length. Raises BadInput (`external_data_path`) where one is no number."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    path = external_path(folder, tensor.name, location)
    length = _number(tensor, "length", entries["length"]) if "length" in entries else None
    return ExternalPlace(path, location, _number(tensor, "offset", entries.get("offset", "0")), length)


def read_external(folder: Path, tensor: TensorProto) -> TensorProto:
    """The tensor with its external bytes embedded. Raises BadInput as `external_place` does, and
    `weights_missing` where the file is absent, no regular file, or too short."""
    place = external_place(folder, tensor)
    needed = _needed(tensor)
    if place.length is not None and place.length != needed:
        raise _missing(tensor, f"the model gives {place.length} bytes to its {needed}")
    try:
        with open_regular(place.path) as file:
            # Before reading: a reader makes room for all that it is asked for.
            there = max(0, os.fstat(file.fileno()).st_size - place.offset)
            if there < needed:
                raise _missing(tensor, f"{place.location} ends after {there} of its {needed} bytes")
            file.seek(place.offset)
            raw = file.read(needed)
    except FileNotFoundError:
        raise _missing(tensor, f"the file {place.location} is not beside the model") from None
    except OSError as error:
        raise _missing(tensor, f"{place.location} cannot be read: {error.strerror}") from None
    return TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=raw, name=tensor.name)


def _needed(tensor: TensorProto) -> int:
    """Bytes of a tensor."""
    try:
        itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        raise _missing(tensor, f"its type {tensor.data_type} is unknown") from None
    return int(itemsize) * int(prod(tensor.dims))


def _is_inside(folder: Path, path: Path) -> bool:
    """Whether a file is in the folder once all symbolic links are followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return False


def _number(tensor: TensorProto, key: str, value: str) -> int:
    if value.isascii() and value.isdecimal() and len(value) < 20 and int(value) < 2**63:
        return int(value)
    message = (
        f"its external data has the {key} {printable(value, 60)!r}; expected a whole number of 0 or more."
    )
    raise _refusal(tensor.name, "external_data_path", message)


def _missing(tensor: TensorProto, reason: str) -> BadInput:
    return _refusal(
        tensor.name, "weights_missing", f"its values are needed, but {reason}. Put the weights there."
    )


def _refusal(name: str, code: str, message: str) -> BadInput:
    return BadInput(Problem(code, f"initializer {name}: {message}", node=name))
