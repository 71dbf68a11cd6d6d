"""The `.chiplan` file: an uncompressed zip of `plan.json` and one `.npy` a column.

Equal plans are equal bytes. `docs/plan-format.md` describes the schema for readers.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .codec import Codec, CodecError
from .errors import BadInput, Problem
from .graph import Tensor
from .input_file import TooLarge
from .plan import BufferColumns, HopColumns, Plan, Stage, TileColumns, TileProgram, TransferColumns
from .plan_columns import (
    BUFFERS,
    CHIPS,
    HOPS,
    LINKS,
    TILES,
    TRANSFERS,
    ColumnError,
    Layout,
    group_members,
    npy_bytes,
    read_group,
    read_npy,
)
from .plan_container import (
    HOSTILE,
    LARGEST_DOCUMENT,
    ContainerError,
    container_bytes,
    pack,
    unpack,
)
from .plan_validity import first_problem
from .target import Link, Topology
from .types import ChipId, DType
from .whole_file import whole_file

FORMAT = "chiplan"
VERSION = 3
_SECOND_FIELDS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


def plan_bytes(plan: Plan) -> bytes:
    """The content of the plan's file: the same bytes for equal plans."""
    return pack(_members(plan))


def write_plan(plan: Plan, path: str | Path) -> str:
    """Write the plan and return the file's sha256 in hex. It is written whole or not at all.

    Raises BadInput (`plan_not_written`), also where something lies that is no regular file: a device
    would be replaced by the plan."""
    path = Path(path)
    if path.exists() and not path.is_file():
        message = f"cannot write the plan to {path}: it is no regular file. Choose another place with -o."
        raise BadInput(Problem("plan_not_written", message))
    data = plan_bytes(plan)
    try:
        with whole_file(path) as beside:
            beside.write_bytes(data)
    except OSError as error:
        message = f"cannot write the plan to {path}: {error.strerror or error}. Choose another place with -o."
        raise BadInput(Problem("plan_not_written", message)) from None
    return hashlib.sha256(data).hexdigest()


def read_plan(path: str | Path) -> Plan:
    """The plan in a file.

    Raises BadInput: `plan_not_found`, `not_a_plan` (a model), `plan_broken` or `plan_version`.
    """
    data = _file_bytes(Path(path))
    if _begins_as_model(data):
        message = f"{path} is a model, not a plan. Compile it first: chiplan compile {path} --target NAME"
        raise BadInput(Problem("not_a_plan", message))
    try:
        members = unpack(data)
    except ContainerError as error:
        raise _broken(str(path), str(error)) from None
    return _decode_plan(members, str(path))


def _begins_as_model(data: bytes) -> bool:
    """An ONNX file begins with its field 1, the version as a small number, then a field of 2 to 8
    of type bytes (field 5, the model's own version, is a number)."""
    return len(data) > 2 and data[0] == 0x08 and data[1] < 0x80 and data[2] in _SECOND_FIELDS


def _file_bytes(path: Path) -> bytes:
    try:
        return container_bytes(path)
    except TooLarge as error:
        raise _broken(str(path), str(error.strerror)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"cannot read the plan {path}: {reason}. Make one with chiplan compile."
        raise BadInput(Problem("plan_not_found", message)) from None


def _broken(name: str, reason: str) -> BadInput:
    message = f"{name} is not a whole chiplan plan: {reason}. Make it again with chiplan compile."
    return BadInput(Problem("plan_broken", message))


def _members(plan: Plan) -> dict[str, bytes]:
    """Every file in the container, by name."""
    topology = plan.target.topology
    links = np.array(topology.links, dtype=np.int64).reshape(-1, 3)
    groups: list[tuple[str, Layout, object]] = [
        ("transfers", TRANSFERS, plan.transfers),
        ("hops", HOPS, plan.hops),
        ("buffers", BUFFERS, plan.buffers),
        ("topology", LINKS, _Columns(source=links[:, 0], destination=links[:, 1], port=links[:, 2])),
        ("topology", CHIPS, _Columns(node=np.array(topology.node_of), rack=np.array(topology.rack_of))),
    ]
    groups += [(_stage_name(i), TILES, stage.program.tiles) for i, stage in enumerate(plan.stages)]
    members = {}
    for prefix, layout, columns in groups:
        members.update(group_members(prefix, layout, columns))
    constants = _constants(plan)
    for number, tensor in enumerate(constants):
        members[_constant_name(number)] = npy_bytes(_stored(tensor))
    members["plan.json"] = _document(plan, [tensor.name for tensor in constants])
    return members


class _Columns:
    """A bare bundle of columns, for groups that are no dataclass of arrays in memory."""

    def __init__(self, **columns: np.ndarray) -> None:
        self.__dict__.update(columns)


def _document(plan: Plan, constants: list[str]) -> bytes:
    content = {"format": FORMAT, "version": VERSION, "constants": constants, "plan": _CODEC.encode(plan)}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _stage_name(number: int) -> str:
    return f"stage{number:04d}"


def _constant_name(number: int) -> str:
    return f"constants/{number:04d}.npy"


def _constants(plan: Plan) -> list[Tensor]:
    """Tensors whose values travel in the plan, sorted by name."""
    tensors = plan.graph.tensors
    return [tensors[name] for name in sorted(tensors) if tensors[name].value is not None]


def _storage(dtype: DType) -> str:
    """Type string of a constant's member; bfloat16, which numpy lacks, is stored as its 16 bits."""
    return "<u2" if dtype is DType.BF16 else dtype.numpy.newbyteorder("<").str


def _stored(tensor: Tensor) -> np.ndarray:
    value = np.ascontiguousarray(tensor.value, dtype=tensor.dtype.numpy).reshape(tensor.whole_shape)
    return value.view(_storage(tensor.dtype)) if tensor.dtype is DType.BF16 else value


def _decode_plan(members: dict[str, bytes], name: str) -> Plan:
    if len(members.get("plan.json", b"")) > LARGEST_DOCUMENT:
        raise _broken(name, f"plan.json has more than {LARGEST_DOCUMENT:,} bytes")
    try:
        document = json.loads(members["plan.json"])
    except HOSTILE:
        raise _broken(name, "plan.json is missing or is no JSON") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _broken(name, "plan.json does not say that it is a chiplan plan")
    if (version := document.get("version")) != VERSION or type(version) is not int:
        message = (
            f"{name} has plan format {str(version)[:20]}, this chiplan reads {VERSION}. Compile it again."
        )
        raise BadInput(Problem("plan_version", message))
    try:
        plan = _assemble(document, members)
    except (CodecError, ColumnError) as error:
        raise _broken(name, str(error)) from None
    except RecursionError:
        raise _broken(name, "plan.json is nested too deep") from None
    problem = first_problem(plan)
    if problem is not None:
        raise _broken(name, problem)
    return plan


def _assemble(document: dict[str, Any], members: dict[str, bytes]) -> Plan:
    """The plan with its columns and constants put back. Raises CodecError and ColumnError."""
    if document.keys() != {"format", "version", "constants", "plan"}:
        raise CodecError("plan.json must hold format, version, constants and plan")
    plan: Plan = _CODEC.decode(document["plan"])
    plan = replace(
        plan,
        target=replace(plan.target, topology=_read_topology(plan.target.topology, members)),
        graph=replace(plan.graph, tensors=_read_constants(plan, document["constants"], members)),
        stages=tuple(_read_stage(i, stage, members) for i, stage in enumerate(plan.stages)),
        transfers=TransferColumns(**read_group(members, "transfers", TRANSFERS)),
        hops=HopColumns(**read_group(members, "hops", HOPS)),
        buffers=BufferColumns(**read_group(members, "buffers", BUFFERS)),
    )
    unknown = members.keys() - _expected_members(plan, len(document["constants"]))
    if unknown:
        raise ColumnError(f"the member {min(unknown)!r:.60} is unknown")
    return plan


def _expected_members(plan: Plan, constants: int) -> set[str]:
    groups = [("transfers", TRANSFERS), ("hops", HOPS), ("buffers", BUFFERS), ("topology", LINKS + CHIPS)]
    groups += [(_stage_name(number), TILES) for number in range(len(plan.stages))]
    columns = {f"{prefix}/{field}.npy" for prefix, layout in groups for field, _ in layout}
    return columns | {_constant_name(number) for number in range(constants)} | {"plan.json"}


def _read_stage(number: int, stage: Stage, members: Mapping[str, bytes]) -> Stage:
    tiles = TileColumns(**read_group(members, _stage_name(number), TILES))
    return replace(stage, program=replace(stage.program, tiles=tiles))


def _read_topology(topology: Topology, members: Mapping[str, bytes]) -> Topology:
    links = read_group(members, "topology", LINKS)
    chips = read_group(members, "topology", CHIPS)
    ends = zip(links["source"].tolist(), links["destination"].tolist(), links["port"].tolist(), strict=True)
    return replace(
        topology,
        links=tuple(Link(ChipId(source), ChipId(destination), port) for source, destination, port in ends),
        node_of=tuple(chips["node"].tolist()),
        rack_of=tuple(chips["rack"].tolist()),
    )


def _read_constants(plan: Plan, names: object, members: Mapping[str, bytes]) -> dict[str, Tensor]:
    """The graph's tensors, those in `names` with their values."""
    tensors = dict(plan.graph.tensors)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CodecError("constants must be an array of tensor names")
    if names != sorted(set(names)) or not set(names) <= tensors.keys():
        raise CodecError("constants must be distinct tensors of the graph, sorted")
    for number, name in enumerate(names):
        tensor, member = tensors[name], _constant_name(number)
        if member not in members:
            raise ColumnError(f"{member} is missing")
        value = read_npy(members[member], _storage(tensor.dtype), tensor.whole_shape)
        tensors[name] = replace(tensor, value=value.view(tensor.dtype.numpy))
    return tensors


def _empty_codec() -> Codec:
    """The coder of plan.json: a plan without what lies in columns, which decode as empty ones."""
    empty = np.zeros(0, dtype=np.int64)

    def nothing(layout: Layout) -> dict[str, np.ndarray]:
        return {field: empty for field, _ in layout}

    return Codec(
        Plan,
        checked_text=True,
        omitted={
            Tensor: {"value": None},
            Topology: {"links": (), "node_of": (), "rack_of": ()},
            TileProgram: {"tiles": TileColumns(**nothing(TILES))},
            Plan: {
                "transfers": TransferColumns(**nothing(TRANSFERS)),
                "hops": HopColumns(**nothing(HOPS)),
                "buffers": BufferColumns(**nothing(BUFFERS)),
            },
        },
    )


_CODEC = _empty_codec()
