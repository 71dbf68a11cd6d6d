"""What stands in a target file: each section, its keys and their limits. See `docs/targets.md`."""

from chiplan.ir import (
    Bytes,
    Chip,
    CopyUnit,
    Cost,
    Cycle,
    DType,
    LinkRule,
    MatrixRule,
    MatrixUnit,
    Topology,
    VectorUnit,
)

from .cabling import MOST_CHIPS, ParameterRefused
from .toml_reader import Table
from .topology import GENERATORS, Generator, Kind, Parameter, build_topology, find_generator

MOST_HERTZ = 10**12
MOST_BYTES = 2**50
MOST_CYCLES = 1_000_000
MOST_EXTENT = 65_536
"""Of a matrix block, of the instances of a unit, of lanes."""

_DEPTH = " (cycles; a latency may not be zero)"
_BLOCKS = "a list of blocks [rows (k), columns (n)], such as [[160, 320]]"


def read_chip(table: Table) -> Chip:
    """`[chip]` and the tables below it."""
    sram, reserved, alignment = _read_sram(table)
    dram = table.optional_table("dram")
    chip = Chip(
        clock_hz=table.whole("clock_hz", MOST_HERTZ),
        sram_bytes=Bytes(sram),
        reserved_bytes=Bytes(reserved),
        alignment=Bytes(alignment),
        matrix=_read_matrix(table.table("matrix")),
        vector=_read_vector(table.table("vector")),
        switch=_read_copy_unit(table.table("switch")),
        memory=_read_copy_unit(table.table("memory")),
        dram_bytes=Bytes(dram.whole("bytes", MOST_BYTES) if dram else 0),
        dram_bytes_per_cycle=dram.whole("bytes_per_cycle", MOST_BYTES) if dram else 0,
    )
    if dram:
        dram.close()
    table.close()
    return chip


def read_link(table: Table) -> LinkRule:
    """`[link]`."""
    link = LinkRule(
        flit_bytes=Bytes(table.whole("flit_bytes", MOST_CYCLES)),
        cycles_per_flit=Cycle(table.whole("cycles_per_flit", MOST_CYCLES)),
        hop_latency=Cycle(table.whole("hop_latency", MOST_CYCLES, note=_DEPTH)),
    )
    table.close()
    return link


def read_topology(system: Table) -> Topology | None:
    """`[system]`; None where the topology could not be built, which has been noted."""
    chips_per_node = system.whole("chips_per_node", MOST_CHIPS)
    nodes_per_rack = system.whole("nodes_per_rack", MOST_CHIPS)
    table = system.table("topology")
    generator = find_generator(table.text("generator", [entry.name for entry in GENERATORS]))
    system.close()
    if generator is None:
        return None
    values = {
        parameter.name: _read_parameter(table, parameter)
        for parameter in generator.parameters
        if parameter.default is None or table.has(parameter.name)
    }
    table.close()
    return _build(table, generator, values, chips_per_node, nodes_per_rack)


def read_cost(table: Table | None) -> Cost:
    """`[cost]`, all of it optional."""
    if table is None:
        return Cost()
    cost = Cost(
        chip_price_usd=table.amount("chip_price_usd"),
        host_price_usd=table.amount("host_price_usd"),
        chip_watts=table.amount("chip_watts"),
        host_watts=table.amount("host_watts"),
    )
    table.close()
    return cost


def _read_sram(table: Table) -> tuple[int, int, int]:
    """(size, reserved, alignment), each in bytes."""
    sram = table.whole("sram_bytes", MOST_BYTES)
    reserved = table.whole("reserved_bytes", MOST_BYTES, least=0)
    alignment = table.whole("alignment", MOST_BYTES)
    if sram > 1 and reserved >= sram:
        table.wrong("reserved_bytes", f"less than sram_bytes ({sram:,})")
    elif sram > 1 and alignment > sram - reserved:
        table.wrong("alignment", f"at most sram_bytes - reserved_bytes ({sram - reserved:,})")
    return sram, reserved, alignment


def _read_matrix(table: Table) -> MatrixUnit:
    unit = MatrixUnit(
        instances=table.whole("instances", MOST_EXTENT),
        load_bytes_per_cycle=table.whole("load_bytes_per_cycle", MOST_BYTES),
        depth=Cycle(table.whole("depth", MOST_CYCLES, note=_DEPTH)),
        rules={dtype: _read_rules(table.table(dtype.value)) for dtype in table.dtypes()},
    )
    if table.present and not unit.rules:
        example = "blocks = [[rows, columns]] and cycles_per_row"
        message = f"expected a table of at least one dtype, such as [chip.matrix.fp16] with {example}"
        table.findings.add("target_key_missing", table.path, message)
    table.close()
    return unit


def _read_rules(table: Table) -> tuple[MatrixRule, ...]:
    """`[chip.matrix.DTYPE]`."""
    cycles = table.whole("cycles_per_row", MOST_CYCLES)
    each = f"[rows (k), columns (n)], whole numbers from 1 to {MOST_EXTENT:,}"
    blocks = table.pairs("blocks", _BLOCKS, 1, MOST_EXTENT, each)
    table.close()
    return tuple(MatrixRule(rows, columns, cycles) for rows, columns in blocks)


def _read_vector(table: Table) -> VectorUnit:
    unit = VectorUnit(
        instances=table.whole("instances", MOST_EXTENT),
        lanes=table.whole("lanes", MOST_EXTENT),
        chained=table.whole("chained", MOST_EXTENT),
        depth=Cycle(table.whole("depth", MOST_CYCLES, note=_DEPTH)),
        cycles=_read_vector_cycles(table.table("cycles")),
    )
    table.close()
    return unit


def _read_vector_cycles(table: Table) -> dict[DType, int]:
    """`[chip.vector.cycles]`: cycles between two vectors of `lanes` elements, by dtype."""
    cycles = {dtype: table.whole(dtype.value, MOST_CYCLES) for dtype in table.dtypes()}
    if table.present and not cycles:
        message = "expected at least one dtype and its cycles, such as fp16 = 1"
        table.findings.add("target_key_missing", table.path, message)
    table.close()
    return cycles


def _read_copy_unit(table: Table) -> CopyUnit:
    unit = CopyUnit(
        instances=table.whole("instances", MOST_EXTENT),
        bytes_per_cycle=table.whole("bytes_per_cycle", MOST_BYTES),
        depth=Cycle(table.whole("depth", MOST_CYCLES, note=_DEPTH)),
    )
    table.close()
    return unit


def _read_parameter(table: Table, parameter: Parameter) -> object:
    match parameter.kind:
        case Kind.COUNT:
            return table.whole(parameter.name, MOST_CHIPS, note=f" ({parameter.meaning})")
        case Kind.EXTENTS:
            return table.wholes(parameter.name, parameter.kind.value, MOST_CHIPS)
        case Kind.CABLES:
            each = "two chip numbers of 0 or more, such as [0, 1]"
            return table.pairs(parameter.name, parameter.kind.value, 0, MOST_CHIPS - 1, each)


def _build(
    table: Table, generator: Generator, values: dict[str, object], chips_per_node: int, nodes_per_rack: int
) -> Topology | None:
    if table.findings.inside(table.path[:1]):
        return None
    try:
        return build_topology(generator.name, values, chips_per_node, nodes_per_rack)
    except ParameterRefused as refusal:
        table.findings.add("target_value", (*table.path, *refusal.path), refusal.message)
        return None
