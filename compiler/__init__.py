"""From an ONNX model to a verified plan, and the command line.

Names are imported when they are first used, so that `chiplan --help` does not wait for a solver.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compile import Compiled, compile_model
    from .importer import import_model

__all__ = ["Compiled", "compile_model", "import_model"]

_HOMES = {"Compiled": "compile", "compile_model": "compile", "import_model": "importer"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
