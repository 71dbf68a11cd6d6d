"""The judge of plans: checks every cycle, and executes the tiles on bytes. It imports `ir` alone."""

from .faults import Fault
from .figures import figures
from .group_interpreter import Group, GroupInterpreter, run_device_graph
from .groups import Place
from .interpreter import Interpreter, interpret
from .kernels import OPCODES, matmul_partial, run_body
from .numerics import Execution, execute
from .outputs import output_places
from .pieces import result_box
from .readiness import Readiness
from .ready_times import operand_needs
from .simulator import Report, simulate, structural_faults
from .steady_state import user_rhythm
from .tile_execution import TileExecution
from .timeline import OperatorRun, Timeline
from .usage import LinkUse, MemoryPeak, UnitUse, covered_bytes

__all__ = [
    "Execution", "Fault", "Group", "GroupInterpreter", "Interpreter", "LinkUse", "MemoryPeak",
    "OPCODES", "OperatorRun", "Place", "Readiness", "Report", "TileExecution", "Timeline", "UnitUse",
    "covered_bytes", "execute", "figures", "interpret", "matmul_partial", "operand_needs", "output_places",
    "result_box", "run_body", "run_device_graph", "simulate", "structural_faults", "user_rhythm",
]  # fmt: skip
