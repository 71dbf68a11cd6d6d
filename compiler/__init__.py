"""From an ONNX model to a verified plan, and the command line.

Names are imported when they are first used, so that `chiplan --help` does not wait for a solver.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compile import Compiled, compile_model
    from .import_summary import ModelSummary, inspect_model
    from .importer import import_model
    from .numeric_check import NumericsReport, check_numerics
    from .scaling import Scaling, scale_model

__all__ = [
    "Compiled",
    "ModelSummary",
    "NumericsReport",
    "Scaling",
    "check_numerics",
    "compile_model",
    "import_model",
    "inspect_model",
    "scale_model",
]

_HOMES = {
    "Compiled": "compile",
    "ModelSummary": "import_summary",
    "NumericsReport": "numeric_check",
    "Scaling": "scaling",
    "check_numerics": "numeric_check",
    "compile_model": "compile",
    "import_model": "importer",
    "inspect_model": "import_summary",
    "scale_model": "scaling",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
