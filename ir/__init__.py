"""The data structures that every layer shares: types, loop nests, graph, target, tiles, plan."""

from .bandwidth import load_rate, moved_bytes, streams_taken, unit_instances, unit_rate
from .codec import Codec, CodecError
from .elapsed import Elapsed, elapsed_cycles, plan_elapsed
from .errors import (
    BadInput,
    ChiplanError,
    ExitCode,
    Incomparable,
    Infeasible,
    InternalFault,
    Problem,
)
from .graph import (
    Attribute,
    Graph,
    Instruction,
    Operand,
    Operator,
    Origin,
    Output,
    Result,
    Role,
    State,
    Tensor,
    Unit,
)
from .input_file import NotRegular, TooLarge, open_regular, read_regular
from .memory_peak import HeldBuffer, MemoryPeak
from .mesh import (
    Cut,
    Exchange,
    ExchangeKind,
    MeshPlace,
    Sharding,
    Split,
    assemble,
    mesh_peers,
    mesh_places,
    mesh_ways,
    shard,
)
from .nest import Axis, AxisMap, Factor, LoopNest, Reducer
from .plan import (
    Bound,
    BufferColumns,
    Certificate,
    HopColumns,
    Plan,
    PlannedCollective,
    ShardingChoice,
    Stage,
    TileColumns,
    TileProgram,
    TransferColumns,
)
from .plan_container import is_plan_file
from .plan_difference import first_difference
from .plan_file import plan_bytes, read_plan, write_plan
from .printable import is_name, printable
from .target import (
    Chip,
    CopyUnit,
    Cost,
    HostRule,
    Link,
    LinkRule,
    MatrixRule,
    MatrixUnit,
    Rules,
    Streams,
    Target,
    Topology,
    VectorUnit,
)
from .text_graph import constant_lines, graph_lines, graph_text, read_graph
from .text_plan import (
    figures_line,
    held_lines,
    plan_text,
    record_lines,
    sent_lines,
    stages_lines,
    stages_text,
    target_lines,
)
from .text_plan_reader import read_plan_text, read_stages
from .tiling import (
    MatrixFactors,
    TileTiming,
    Tiling,
    block_extents,
    load_index,
    matrix_factors,
    matrix_rules,
    missing_rule,
    tile_extents,
    tile_timing,
)
from .types import Bytes, ChipId, Cycle, DType, Lines, LinkId, Shape, dtype_of
from .verify import verify_plan
from .verify_graph import Finding, verify_graph
from .views import (
    Expand,
    Own,
    Reshape,
    Slice,
    Transpose,
    View,
    ViewStep,
    Window,
    apply_step,
    apply_view,
    simplify_view,
    step_shape,
    view_shape,
)
from .whole_file import whole_file

__all__ = [
    "Attribute", "Axis", "AxisMap", "BadInput", "Bound", "BufferColumns", "Bytes", "Certificate",
    "Chip", "ChipId", "ChiplanError", "Codec", "CodecError", "CopyUnit", "Cost", "Cut", "Cycle",
    "DType", "Elapsed", "Exchange", "ExchangeKind", "ExitCode", "Expand", "Factor", "Finding", "Graph",
    "HeldBuffer", "HopColumns", "HostRule", "Incomparable", "Infeasible", "Instruction",
    "InternalFault", "Lines", "Link", "LinkId", "LinkRule", "LoopNest", "MatrixFactors", "MatrixRule",
    "MatrixUnit", "MemoryPeak", "MeshPlace", "NotRegular", "Operand", "Operator", "Origin", "Output",
    "Own", "Plan", "PlannedCollective", "Problem", "Reducer", "Reshape", "Result", "Role", "Rules",
    "Shape", "Sharding", "ShardingChoice", "Slice", "Split", "Stage", "State", "Streams", "Target",
    "Tensor", "TileColumns", "TileProgram", "TileTiming", "Tiling", "TooLarge", "Topology",
    "TransferColumns", "Transpose", "Unit", "VectorUnit", "View", "ViewStep", "Window", "apply_step",
    "apply_view", "assemble", "block_extents", "constant_lines", "dtype_of", "elapsed_cycles",
    "figures_line", "first_difference", "graph_lines", "graph_text", "held_lines", "is_name",
    "is_plan_file", "load_index", "load_rate", "matrix_factors", "matrix_rules", "mesh_peers",
    "mesh_places", "mesh_ways", "missing_rule", "moved_bytes", "open_regular", "plan_bytes",
    "plan_elapsed", "plan_text", "printable", "read_graph", "read_plan", "read_plan_text",
    "read_regular", "read_stages", "record_lines", "sent_lines", "shard", "simplify_view",
    "stages_lines", "stages_text", "step_shape", "streams_taken", "target_lines", "tile_extents",
    "tile_timing", "unit_instances", "unit_rate", "verify_graph", "verify_plan", "view_shape",
    "whole_file", "write_plan",
]  # fmt: skip
