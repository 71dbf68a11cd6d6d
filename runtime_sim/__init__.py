"""The judge of plans: checks every cycle, and executes the tiles on bytes. It imports `ir` alone."""

from .faults import Fault
from .figures import figures
from .group_interpreter import Group, GroupInterpreter, run_device_graph
from .interpreter import Interpreter, interpret
from .kernels import OPCODES, matmul_partial, run_body
from .numerics import Execution, execute
from .pieces import result_box
from .simulator import Report, simulate, structural_faults
from .tile_execution import TileExecution
from .usage import LinkUse, MemoryPeak, UnitUse

__all__ = [
    "OPCODES", "Execution", "Fault", "Group", "GroupInterpreter", "Interpreter", "LinkUse", "MemoryPeak",
    "Report", "TileExecution", "UnitUse", "execute", "figures", "interpret", "matmul_partial", "result_box",
    "run_body", "run_device_graph", "simulate", "structural_faults",
]  # fmt: skip
