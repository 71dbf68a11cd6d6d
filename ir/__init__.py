"""The data structures that every layer shares: types, loop nests, graph, target, tiles, plan."""

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
    Link,
    LinkRule,
    MatrixRule,
    MatrixUnit,
    Target,
    Topology,
    VectorUnit,
)
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
    unit_instances,
)
from .types import Bytes, ChipId, Cycle, DType, Lines, LinkId, Shape, dtype_of
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
    "Chip", "ChipId", "ChiplanError", "CopyUnit", "Cost", "Cut", "Cycle", "DType", "Exchange",
    "ExchangeKind", "ExitCode", "Expand", "Factor", "Graph", "HopColumns", "Incomparable", "Infeasible",
    "Instruction", "InternalFault", "Link", "LinkId", "LinkRule", "LoopNest", "MatrixFactors",
    "MatrixRule", "MatrixUnit", "MeshPlace", "Operand", "Operator", "Origin", "Output", "Own", "Plan",
    "PlannedCollective", "Problem", "Reducer", "Reshape", "Result", "Role", "Shape", "Sharding",
    "ShardingChoice", "Slice", "Split", "Stage", "State", "Target", "Tensor", "TileColumns",
    "Lines", "NotRegular", "TooLarge", "first_difference", "is_name", "open_regular", "printable",
    "read_regular", "whole_file",
    "TileProgram", "TileTiming", "Tiling",
    "Topology", "TransferColumns", "Transpose", "Unit", "VectorUnit", "View", "ViewStep", "Window",
    "apply_step", "apply_view", "assemble", "block_extents", "dtype_of", "is_plan_file", "load_index",
    "matrix_factors", "matrix_rules", "mesh_peers", "mesh_places", "mesh_ways", "missing_rule",
    "plan_bytes", "read_plan", "shard", "simplify_view", "step_shape", "tile_extents", "tile_timing",
    "unit_instances", "view_shape", "write_plan",
]  # fmt: skip
