"""The columns of a plan file: their names, their element types, and their bytes as `.npy` members.

Every column is one-dimensional, little-endian and C-ordered, with the header that
`numpy.lib.format` version 1.0 writes, so that `numpy.load` opens it and equal columns are equal
bytes with every version of numpy.
"""

from collections.abc import Mapping
from math import prod
from typing import TypeAlias

import numpy as np

from .errors import InternalFault, Problem

Layout: TypeAlias = tuple[tuple[str, str], ...]
"""(field, numpy type string) of every column of a group."""

TILES: Layout = (
    ("operator", "<i4"), ("tile", "<i4"), ("unit", "|u1"), ("instance", "<i2"), ("start", "<i8"),
    ("end", "<i8"),
)  # fmt: skip
TRANSFERS: Layout = (
    ("tensor", "<i4"), ("source", "<i4"), ("destination", "<i4"), ("first", "<i8"), ("last", "<i8"),
    ("start", "<i8"), ("into", "<i4"), ("at", "<i8"),
)  # fmt: skip
HOPS: Layout = (("transfer", "<i4"), ("hop", "<i4"), ("link", "<i4"), ("start", "<i8"), ("end", "<i8"))
BUFFERS: Layout = (
    ("tensor", "<i4"), ("chip", "<i4"), ("address", "<i8"), ("nbytes", "<i8"), ("copies", "<i4"),
    ("birth", "<i8"), ("death", "<i8"),
)  # fmt: skip
LINKS: Layout = (("source", "<i4"), ("destination", "<i4"), ("port", "<i4"))
CHIPS: Layout = (("node", "<i4"), ("rack", "<i4"))

MOST_ROWS = 2**28
"""More rows a column than any plan has; a file that claims more is refused."""


class ColumnError(ValueError):
    """A member is not the column that the format asks for."""


def npy_bytes(array: np.ndarray) -> bytes:
    """`array` as the content of an `.npy` file."""
    return npy_header(array.dtype.str, array.shape) + np.ascontiguousarray(array).tobytes()


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """Magic, version 1.0 and the description, padded to a multiple of 64 bytes."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    padded = text + " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode("ascii")


def read_npy(data: bytes, descr: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of exactly this type and shape; raises ColumnError. Nothing is unpickled and nothing
    larger than `data` is allocated, because the header must be the expected one byte for byte."""
    header = npy_header(descr, shape)
    dtype = np.dtype(descr)
    expected = len(header) + prod(shape) * dtype.itemsize
    if not data.startswith(header) or len(data) != expected:
        raise ColumnError(f"expected {expected} bytes of {descr} with shape {shape}, found {len(data)} bytes")
    return np.frombuffer(data, dtype=dtype, offset=len(header)).reshape(shape)


def read_column(data: bytes, descr: str) -> np.ndarray:
    """A one-dimensional array of any length up to MOST_ROWS; raises ColumnError."""
    itemsize = np.dtype(descr).itemsize
    rows = (len(data) - len(npy_header(descr, (0,)))) // itemsize
    if not 0 <= rows <= MOST_ROWS:
        raise ColumnError(f"expected at most {MOST_ROWS} rows of {descr}, found {len(data)} bytes")
    return read_npy(data, descr, (rows,))


def group_members(prefix: str, layout: Layout, columns: object) -> dict[str, bytes]:
    """The members `prefix/field.npy` of a group of columns."""
    return {
        f"{prefix}/{field}.npy": npy_bytes(_exact(f"{prefix}/{field}", getattr(columns, field), descr))
        for field, descr in layout
    }


def read_group(members: Mapping[str, bytes], prefix: str, layout: Layout) -> dict[str, np.ndarray]:
    """The columns of a group, all of one length; raises ColumnError."""
    columns = {}
    for field, descr in layout:
        name = f"{prefix}/{field}.npy"
        if name not in members:
            raise ColumnError(f"{name} is missing")
        try:
            columns[field] = read_column(members[name], descr)
        except ColumnError as error:
            raise ColumnError(f"{name}: {error}") from None
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1:
        raise ColumnError(f"the columns of {prefix} have {sorted(lengths)} rows, expected one length")
    return columns


def _exact(name: str, column: np.ndarray, descr: str) -> np.ndarray:
    """`column` in the file's type; a value that does not fit is a bug of whoever made the plan."""
    array = np.asarray(column)
    exact = array.astype(descr)
    if exact.ndim != 1 or not np.array_equal(exact, array):
        message = f"column {name} of the plan does not fit the plan file's type {descr}"
        raise InternalFault(Problem("plan_column", message))
    return exact
