"""A plan: what every chip does in every cycle. Columns, never an object a tile.

Times are absolute cycles of micro-batch 0, whose inputs are resident at cycle 0. Micro-batch n does
the same n * interval cycles later (later still when it must wait for a resident state, see
`docs/plan-format.md`).
"""

from dataclasses import dataclass, field

import numpy as np

from .graph import Graph
from .target import Target
from .tiling import Tiling
from .types import ChipId, Cycle, DType


@dataclass(frozen=True)
class Certificate:
    """What a solver proved. `gap` = (objective - bound) / bound in fractions; 0 is optimal."""

    problem: str
    status: str
    objective: int
    bound: int
    gap: float
    deterministic_time: float


@dataclass(frozen=True)
class Bound:
    """A proven lower bound of `quantity` (interval, latency or chips), and what sets it."""

    quantity: str
    value: int
    binding: str


@dataclass(frozen=True)
class PlannedCollective:
    """What brings a value to its readers in a group, by the solver's estimate.

    made, used: how the chips hold `tensor`, an entry a mesh axis: Replicate, Shard(factor), Partial(reducer).
    kind: all_reduce, reduce_scatter or all_gather. dtype: on the links. nbytes: of what every chip has
    before a reduction, and of the whole after a gather. hidden: those of its cycles that pass while the
    operator that makes the value still computes.
    """

    tensor: str
    made: tuple[str, ...]
    used: tuple[str, ...]
    kind: str
    algorithm: str
    dtype: DType
    nbytes: int
    cycles: int
    hidden: int = 0


@dataclass(frozen=True)
class ShardingChoice:
    """What the operators like one operator split on a mesh, and what the next best choice would cost.

    block: number of the distinct block (repeated layers are one); -1: nothing was decided, every stage that
    needs the operator executes it whole on every chip, which costs count as 0. stages: those that execute it
    so. node: the operator's first ONNX node. mesh: extents. factors, next_factors: one factor a mesh axis
    (`n:32`: its part of extent 32), "none" where all chips do all. gives: how the chips hold its result, as
    in `PlannedCollective.made`. cycles: estimate of the operator on one chip. collectives: of values that it
    makes, or is the first to read in the block. next_cost: cycles of the block more than with `factors`; -1
    where there is no other.
    """

    block: int
    stages: tuple[int, ...]
    node: str
    operator: str
    mesh: tuple[int, ...]
    factors: tuple[str, ...]
    gives: tuple[str, ...]
    cycles: int
    collectives: tuple[PlannedCollective, ...]
    next_factors: tuple[str, ...]
    next_cost: int
    pinned: bool = False


@dataclass(frozen=True)
class TileColumns:
    """One row a tile, sorted by (operator, tile). All arrays have one entry a tile.

    operator: int32, position in the program's `operators`.   tile: int32, number in its tiling.
    unit: uint8, position of the operator's unit in `ir.Unit`. instance: int16.
    start, end: int64, cycles; end - start is the occupancy.
    """

    operator: np.ndarray
    tile: np.ndarray
    unit: np.ndarray
    instance: np.ndarray
    start: np.ndarray
    end: np.ndarray


@dataclass(frozen=True)
class TileProgram:
    """What the chips of one stage execute: `operators` are indices into the graph, ascending;
    `tilings[i]` cuts operator `operators[i]`. The tiles of `operators[i]` are contiguous rows."""

    operators: tuple[int, ...]
    tilings: tuple[Tiling, ...]
    tiles: TileColumns


@dataclass(frozen=True)
class Stage:
    """A stage runs `program` on the chips of a group: a mesh of one or two axes, `chips` in its row-major
    order; one chip is the mesh (1,). All chips of a group run the same tiles at the same cycles and
    hold the same buffers at the same addresses. `recomputed` are those of its operators that other
    stages execute as well."""

    chips: tuple[ChipId, ...]
    mesh: tuple[int, ...]
    program: TileProgram
    recomputed: tuple[int, ...] = ()


@dataclass(frozen=True)
class TransferColumns:
    """One row a transfer, sorted by (start, source, destination, tensor, first).

    tensor: int32, position in `Plan.tensor_names`. source, destination: int32 chips.
    first, last: int64, the half-open range of elements of the row-major tensor that it carries.
    start: int64, cycle in which its first flit enters the first link.
    into, at: int32 and int64, the tensor at the destination and its first element that is written;
        `tensor` and `first` unless an exchange of the graph says otherwise.
    """

    tensor: np.ndarray
    source: np.ndarray
    destination: np.ndarray
    first: np.ndarray
    last: np.ndarray
    start: np.ndarray
    into: np.ndarray
    at: np.ndarray


@dataclass(frozen=True)
class HopColumns:
    """One row a link that a transfer crosses, sorted by (transfer, hop).

    The link is busy in [start, end), end - start = flits x cycles a flit. There are no buffers on the
    way: start of hop h + 1 = start of hop h + cycles a flit + hop latency. The transfer is in the
    destination's SRAM at (end + hop latency) of its last hop.
    """

    transfer: np.ndarray
    hop: np.ndarray
    link: np.ndarray
    start: np.ndarray
    end: np.ndarray


@dataclass(frozen=True)
class BufferColumns:
    """One row a buffer, sorted by (chip, address, tensor).

    tensor: int32, position in `Plan.tensor_names`.
    chip: int32, the first chip of a stage; all other chips of its group have the same buffers.
    address, nbytes: int64; copy c is at address + c * stride, where stride is nbytes rounded up to
        the alignment; copy (n mod copies) belongs to micro-batch n. Weights have one copy and live
        for ever: birth 0, death -1. States have one copy a user and live for ever.
    birth, death: int64, micro-batch 0 uses the buffer in [birth, death).
    """

    tensor: np.ndarray
    chip: np.ndarray
    address: np.ndarray
    nbytes: np.ndarray
    copies: np.ndarray
    birth: np.ndarray
    death: np.ndarray


@dataclass(frozen=True)
class Plan:
    """Everything that the simulator needs, and what the compiler claims about it."""

    target: Target
    graph: Graph
    stages: tuple[Stage, ...]
    transfers: TransferColumns
    hops: HopColumns
    buffers: BufferColumns
    latency: Cycle
    interval: Cycle
    users: int
    batch: int
    sequence: int
    precision: str
    objective: str
    model_fingerprint: str
    bounds: tuple[Bound, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    assumptions: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    sharding: tuple[ShardingChoice, ...] = ()
    tensor_names: tuple[str, ...] = field(default=())
    """Sorted names of the graph's tensors; columns refer to positions in it."""
