"""What stands in a target file: each section, its keys and their limits. See `docs/targets.md`."""

from chiplan.ir import (
    Bytes,
    Chip,
    CopyUnit,
    Cost,
    Cycle,
    DType,
    HostRule,
    LinkRule,
    MatrixRule,
    MatrixUnit,
    Rules,
    Streams,
    Topology,
    VectorUnit,
    streams_taken,
)

from .cabling import MOST_CHIPS, ParameterRefused
from .toml_reader import Table
from .topology import GENERATORS, Generator, Kind, Parameter, build_topology, find_generator

MOST_HERTZ = 10**12
MOST_BYTES = 2**50
MOST_CYCLES = 1_000_000
MOST_NANOSECONDS = 10**12
MOST_EXTENT = 65_536
"""Of a matrix block, of the instances of a unit, of lanes."""

_DEPTH = " (cycles; a latency may not be zero)"
_SHARE = " (streams of each instance)"
_BLOCKS = "a list of blocks [rows (k), columns (n)], such as [[160, 320]]"


def read_chip(table: Table, rules: Rules) -> Chip:
    """`[chip]` and the tables below it."""
    sram, reserved, alignment = _read_sram(table)
    dram, streams = table.optional_table("dram"), table.optional_table("streams")
    has_streams = streams is not None
    chip = Chip(
        clock_hz=table.whole("clock_hz", MOST_HERTZ),
        sram_bytes=Bytes(sram),
        reserved_bytes=Bytes(reserved),
        alignment=Bytes(alignment),
        matrix=_read_matrix(table.table("matrix"), has_streams),
        vector=_read_vector(table.table("vector"), has_streams),
        switch=_read_copy_unit(table.table("switch"), has_streams),
        memory=_read_copy_unit(table.table("memory"), has_streams),
        dram_bytes=Bytes(dram.whole("bytes", MOST_BYTES) if dram else 0),
        dram_bytes_per_cycle=dram.whole("bytes_per_cycle", MOST_BYTES) if dram else 0,
        sram_bytes_per_cycle=table.whole_if_there("sram_bytes_per_cycle", MOST_BYTES),
        streams=_read_streams(streams) if streams else Streams(),
        rules=rules,
    )
    _check_streams(table, chip)
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


def _read_matrix(table: Table, has_streams: bool) -> MatrixUnit:
    unit = MatrixUnit(
        instances=table.whole("instances", MOST_EXTENT),
        load_bytes_per_cycle=table.whole("load_bytes_per_cycle", MOST_BYTES),
        depth=Cycle(table.whole("depth", MOST_CYCLES, note=_DEPTH)),
        rules={dtype: _read_rules(table.table(dtype.value)) for dtype in table.dtypes()},
        streams=_read_share(table, has_streams),
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


def _read_vector(table: Table, has_streams: bool) -> VectorUnit:
    unit = VectorUnit(
        instances=table.whole("instances", MOST_EXTENT),
        lanes=table.whole("lanes", MOST_EXTENT),
        chained=table.whole("chained", MOST_EXTENT),
        depth=Cycle(table.whole("depth", MOST_CYCLES, note=_DEPTH)),
        cycles=_read_vector_cycles(table.table("cycles")),
        streams=_read_share(table, has_streams),
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


def _read_copy_unit(table: Table, has_streams: bool) -> CopyUnit:
    unit = CopyUnit(
        instances=table.whole("instances", MOST_EXTENT),
        bytes_per_cycle=table.whole("bytes_per_cycle", MOST_BYTES),
        depth=Cycle(table.whole("depth", MOST_CYCLES, note=_DEPTH)),
        streams=_read_share(table, has_streams),
    )
    table.close()
    return unit


def _read_share(table: Table, has_streams: bool) -> int:
    """Streams of each instance, which only a chip that counts them gives."""
    return table.whole("streams", MOST_EXTENT, note=_SHARE) if has_streams else 0


def _read_streams(table: Table) -> Streams:
    """`[chip.streams]`."""
    streams = Streams(
        count=table.whole("count", MOST_EXTENT),
        nbytes=Bytes(table.whole("bytes", MOST_EXTENT)),
        sides=table.whole("sides", MOST_EXTENT),
        links=table.whole("links", MOST_EXTENT),
    )
    table.close()
    return streams


def _check_streams(table: Table, chip: Chip) -> None:
    """No rule without its numbers, and no more streams dealt out than there are."""
    rules, streams = chip.rules, chip.streams
    if (rules.stream_budget or rules.sram_bandwidth) and not table.has("streams"):
        _ask_for(table, "streams", "stream_budget" if rules.stream_budget else "sram_bandwidth")
    if rules.sram_bandwidth and not table.has("sram_bytes_per_cycle"):
        _ask_for(table, "sram_bytes_per_cycle", "sram_bandwidth")
    taken, there = streams_taken(chip), streams.count * streams.sides
    if taken > there and table.has("streams") and not table.findings.inside(table.path):
        message = f"units, loads and links take {taken:,} streams of {there:,}: lower `streams` of the units"
        table.findings.add("target_value", (*table.path, "streams"), message)


def _ask_for(table: Table, key: str, rule: str) -> None:
    """Note that a rule is on whose numbers are missing."""
    message = f"missing; expected since rules.{rule} is true: give it, or set rules.{rule} = false"
    table.findings.add("target_key_missing", (*table.path, key), message)


def read_rules(document: Table) -> Rules:
    """`[rules]`: what it leaves out is on where the file has the rule's numbers, and the host is left out."""
    chip, system = document.values.get("chip"), document.values.get("system")
    chip, system = (part if isinstance(part, dict) else {} for part in (chip, system))
    defaults = {
        "stream_budget": "streams" in chip,
        "shared_load_port": True,
        "sram_bandwidth": "sram_bytes_per_cycle" in chip and "streams" in chip,
        "instruction_memory": True,
        "deskew": "deskew_cycles" in system,
        "host": False,
    }
    table = document.optional_table("rules")
    if table is None:
        return Rules(**defaults)
    rules = Rules(**{name: table.truth(name, default) for name, default in defaults.items()})
    table.close()
    return rules


def read_deskew(system: Table, rules: Rules) -> Cycle:
    """`deskew_cycles` of `[system]`; 0 where it is left out."""
    if rules.deskew and not system.has("deskew_cycles"):
        _ask_for(system, "deskew_cycles", "deskew")
    return Cycle(system.whole_if_there("deskew_cycles", MOST_CYCLES))


def read_host(document: Table, rules: Rules) -> HostRule:
    """`[host]`, which may be left out."""
    table = document.optional_table("host")
    if table is None:
        if rules.host:
            _ask_for(document, "host", "host")
        return HostRule()
    host = HostRule(
        latency_ns=table.whole("latency_ns", MOST_NANOSECONDS),
        bytes_per_second=table.whole("bytes_per_second", MOST_BYTES),
    )
    table.close()
    return host


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
