"""A target: chips, their units and the links between them. The only source of hardware numbers.

Instances are made from TOML by `chiplan.models.load_target` and travel inside the plan.
"""

from dataclasses import dataclass
from typing import NamedTuple

from .types import Bytes, ChipId, Cycle, DType, Lines


@dataclass(frozen=True)
class MatrixRule:
    """One dtype on one matrix instance.

    A block is `rows` (k) x `columns` (n) stationary elements. While it streams, one row (m) enters
    every `cycles_per_row` cycles. Loading a block of r x c elements takes
    ceil(r * c * itemsize / load_bytes_per_cycle) cycles and overlaps the block before it.
    """

    rows: int
    columns: int
    cycles_per_row: int = 1


@dataclass(frozen=True)
class MatrixUnit:
    instances: int
    load_bytes_per_cycle: int
    """An instance's fixed share of the port through which all of them load."""
    depth: Cycle
    """Cycles from the last row in to the result in SRAM (pipeline latency, not occupancy)."""
    rules: dict[DType, tuple[MatrixRule, ...]]
    """By dtype of the streamed operand: the block shapes an instance can take (a pair of square
    planes works side by side or on top of each other). A tile must fit one of them."""
    streams: int = 0
    """Streams of an instance's own for operands and results, besides those of its load."""


@dataclass(frozen=True)
class VectorUnit:
    """`lanes` elements enter every `cycles[dtype]` cycles and pass `chained` operations."""

    instances: int
    lanes: int
    chained: int
    depth: Cycle
    cycles: dict[DType, int]
    streams: int = 0


@dataclass(frozen=True)
class CopyUnit:
    """Switch or memory unit: bytes moved a cycle, and the latency behind the last byte."""

    instances: int
    bytes_per_cycle: int
    depth: Cycle
    streams: int = 0


@dataclass(frozen=True)
class Streams:
    """What carries operands and results between SRAM and units: `count` streams of `nbytes` a cycle pass
    any point of a chip, whose units sit in `sides` parts with streams of their own. `links` are taken by
    flits. Zero where a target does not say."""

    count: int = 0
    nbytes: Bytes = Bytes(0)
    sides: int = 1
    links: int = 0


@dataclass(frozen=True)
class Rules:
    """Which rules of the machine hold; `docs/machine-model.md` has each with its source and an example."""

    stream_budget: bool = False
    """A tile moves no more bytes a cycle than its instance's streams carry."""
    shared_load_port: bool = True
    """Matrix instances share one port for weights; else each has the whole of it."""
    sram_bandwidth: bool = False
    """Units, loads and links together move no more bytes a cycle than SRAM reads and writes."""
    instruction_memory: bool = True
    """Reserved bytes hold instructions; else tensors may lie there."""
    deskew: bool = False
    """Several chips align their clocks once an interval, and do nothing else meanwhile."""
    host: bool = False
    """Figures include transfers from and to the host."""


@dataclass(frozen=True)
class Chip:
    clock_hz: int
    sram_bytes: Bytes
    reserved_bytes: Bytes
    alignment: Bytes
    matrix: MatrixUnit
    vector: VectorUnit
    switch: CopyUnit
    memory: CopyUnit
    dram_bytes: Bytes = Bytes(0)
    dram_bytes_per_cycle: int = 0
    sram_bytes_per_cycle: int = 0
    streams: Streams = Streams()
    rules: Rules = Rules()

    @property
    def usable_bytes(self) -> Bytes:
        reserved = self.reserved_bytes if self.rules.instruction_memory else 0
        return Bytes(self.sram_bytes - reserved)


@dataclass(frozen=True)
class LinkRule:
    """A directed link carries one flit of `flit_bytes` payload every `cycles_per_flit`; a flit that
    enters at cycle t is in the next chip, or in its SRAM, at t + cycles_per_flit + hop_latency."""

    flit_bytes: Bytes
    cycles_per_flit: Cycle
    hop_latency: Cycle


class Link(NamedTuple):
    """A directed physical link; parallel cables between two chips are distinct links."""

    source: ChipId
    destination: ChipId
    port: int = 0


@dataclass(frozen=True)
class Topology:
    """`node_of[c]` is the node (card cage) of chip c, `rack_of[c]` its rack."""

    generator: str
    chips: int
    links: tuple[Link, ...]
    node_of: tuple[int, ...]
    rack_of: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Prices and watts, for sizing; zero where not given."""

    chip_price_usd: float = 0.0
    host_price_usd: float = 0.0
    chip_watts: float = 0.0
    host_watts: float = 0.0


@dataclass(frozen=True)
class HostRule:
    """A chip's way from and to its host, each direction by itself: `latency_ns` once a transfer, and
    its bytes at `bytes_per_second`. Zero where a target does not say."""

    latency_ns: int = 0
    bytes_per_second: int = 0


@dataclass(frozen=True)
class Target:
    name: str
    chip: Chip
    link: LinkRule
    topology: Topology
    cost: Cost = Cost()
    deskew_cycles: Cycle = Cycle(0)
    """What aligning all chips' clocks takes."""
    host: HostRule = HostRule()
    sources: Lines = Lines("")
    """The TOML text that it came from, so that a plan carries its numbers' sources."""
