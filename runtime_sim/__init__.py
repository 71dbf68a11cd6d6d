"""The judge of plans: checks every cycle, and executes the tiles on bytes. It imports `ir` alone."""

from .faults import Fault
from .figures import figures
from .interpreter import Interpreter, interpret, result_box
from .kernels import OPCODES, matmul_partial, run_body
from .numerics import Execution, execute
from .simulator import Report, simulate
from .tile_execution import TileExecution
from .usage import LinkUse, MemoryPeak, UnitUse

__all__ = [
    "OPCODES", "Execution", "Fault", "Interpreter", "LinkUse", "MemoryPeak", "Report", "TileExecution",
    "UnitUse", "execute", "figures", "interpret", "matmul_partial", "result_box", "run_body", "simulate",
]  # fmt: skip
