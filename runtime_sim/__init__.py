"""The judge of plans: checks every cycle, and executes the tiles on bytes. It imports `ir` alone."""

from .interpreter import Interpreter, interpret, result_box
from .kernels import OPCODES, matmul_partial, run_body
from .numerics import Execution, execute
from .tile_execution import TileExecution

__all__ = [
    "OPCODES", "Execution", "Interpreter", "TileExecution", "execute", "interpret", "matmul_partial",
    "result_box", "run_body",
]  # fmt: skip
