"""The fullest cycle of a chip's SRAM: what a refusal about memory, and a page about a plan, say of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldBuffer:
    """A buffer in the fullest cycle. node: the ONNX node that makes its tensor, or the first that reads it.
    nbytes: of all `copies`, aligned."""

    tensor: str
    node: str | None
    kind: str
    nbytes: int
    copies: int


@dataclass(frozen=True)
class MemoryPeak:
    """A chip of a stage in the fullest cycle of the interval. chip, cycle: None before anything is scheduled,
    where `node` is the ONNX node with the largest activations. alive: bytes alive at once; kinds: the same by
    kind. needed: bytes with the holes between buffers, as far as addresses were found. largest: buffers of
    what is alive, the largest first."""

    chip: int | None
    cycle: int | None
    node: str | None
    alive: int
    needed: int
    available: int
    kinds: dict[str, int]
    largest: tuple[HeldBuffer, ...]
