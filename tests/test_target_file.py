"""Target files: what ships, and every way in which a file can be wrong."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.ir import BadInput, DType, MatrixRule, Problem
from chiplan.models import GENERATORS, load_target, parse_target, target_names, target_text
from chiplan.models.toml_lines import key_lines

TINY = target_text("tiny-ring")


def refused(text: str, source: str = "mychip.toml") -> list[tuple[str, str]]:
    """(code, message) of everything that is wrong with `text`."""
    with pytest.raises(BadInput) as refusal:
        parse_target(text, "mychip", source)
    assert refusal.value.exit_code == 2
    return [(problem.code, problem.message) for problem in refusal.value.problems]


def line_of(text: str, start: str) -> int:
    return next(number for number, line in enumerate(text.split("\n"), 1) if line.startswith(start))


def changed(old: str, new: str) -> str:
    assert TINY.count(old) >= 1
    return TINY.replace(old, new, 1)


# What ships


@pytest.mark.parametrize("name", target_names())
def test_every_shipped_target_loads_and_keeps_its_text(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.sources == target_text(name)
    assert parse_target(target.sources, name, "again") == target
    assert target.chip.usable_bytes > 0


@pytest.mark.parametrize("name", target_names())
def test_every_number_carries_its_source(name: str) -> None:
    """On its own line, or on the one above (where a list is long)."""
    lines = target_text(name).split("\n")
    for above, line in itertools.pairwise(lines):
        if "=" in line and not line.startswith("#"):
            assert "#" in line or above.startswith("#"), line


def test_names_are_sorted_and_hold_what_is_promised() -> None:
    assert list(target_names()) == sorted(target_names())
    assert {"groq-node", "groq-rack", "groq-node-2022", "groq-rack-2022", "generic-ring", "tiny-ring"} <= set(
        target_names()
    )


def test_groq_peaks_follow_from_the_published_figures() -> None:
    chip = load_target("groq-node").chip
    fp16, int8 = chip.matrix.rules[DType.FP16], chip.matrix.rules[DType.INT8]
    peak = 2 * chip.matrix.instances * chip.clock_hz
    assert peak * fp16[0].rows * fp16[0].columns == pytest.approx(184.3e12, rel=1e-3)
    assert [peak * rule.rows * rule.columns for rule in int8] == [pytest.approx(737.3e12, rel=1e-3)] * 2
    assert set(chip.matrix.rules) == {DType.FP16, DType.INT8}
    loads = [
        rule.rows * rule.columns * dtype.itemsize / chip.matrix.load_bytes_per_cycle
        for dtype, rules in chip.matrix.rules.items()
        for rule in rules
    ]
    assert loads == [20, 40, 40]
    assert chip.vector.lanes * chip.vector.chained == 5_120


@pytest.mark.parametrize(
    ("name", "flit", "hop", "chips"),
    [
        ("groq-node", 27, 270, 8),
        ("groq-rack", 27, 270, 72),
        ("groq-node-2022", 24, 650, 8),
        ("groq-rack-2022", 24, 650, 72),
        ("groq-264-2022", 24, 650, 264),
        ("groq-576-2022", 24, 650, 576),
        ("groq-10440-2022", 24, 650, 10_440),
    ],
)
def test_groq_links(name: str, flit: int, hop: int, chips: int) -> None:
    """One flit from SRAM to SRAM takes the published hop, serialisation included."""
    target = load_target(name)
    assert target.link.cycles_per_flit == flit
    assert target.link.cycles_per_flit + target.link.hop_latency == hop
    assert target.topology.chips == chips


def test_groq_targets_share_one_chip() -> None:
    groq = [load_target(name) for name in target_names() if name.startswith("groq-")]
    assert len({str(target.chip) for target in groq}) == 1
    assert len({target.cost for target in groq}) == 1


def test_tiny_ring_is_as_promised() -> None:
    target = load_target("tiny-ring")
    assert target.topology.chips == 16
    assert target.chip.matrix.rules == dict.fromkeys(
        (DType.FP32, DType.FP16, DType.INT8), (MatrixRule(12, 20, 1),)
    )
    assert (target.chip.vector.lanes, target.chip.sram_bytes, target.link.flit_bytes) == (8, 2 * 2**20, 32)


# Finding a file


def test_a_path_is_read_as_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + TINY.replace("\n", "\r\n").encode())
    monkeypatch.chdir(tmp_path)
    expected = parse_target(TINY, "mine", "")
    for way in ("mine.toml", "./mine.toml", tmp_path / "mine.toml", Path("mine.toml")):
        assert load_target(way) == expected
    assert target_text("mine.toml") == TINY


def test_a_shipped_name_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny-ring").write_text("nothing")
    monkeypatch.chdir(tmp_path)
    assert load_target("tiny-ring").topology.chips == 16


def refused_file(path: str | Path) -> tuple[str, str]:
    with pytest.raises(BadInput) as refusal:
        load_target(path)
    (problem,) = refusal.value.problems
    return problem.code, problem.message


def test_what_is_no_target_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.toml").write_bytes(b"# a\n# \xe9\n")
    (tmp_path / "large.toml").write_bytes(b"#" * 1_000_001)
    code, message = refused_file("groq-nod")
    assert code == "target_not_found"
    assert "known: generic-ring" in message
    assert "Did you mean groq-node" in message
    assert "./groq-nod.toml" in message
    assert refused_file("nowhere.toml")[0] == "target_not_found"
    assert refused_file("./folder") == (
        "target_unreadable",
        "'./folder': cannot be read: it is a folder, not a regular file; expected a target file in TOML",
    )  # fmt: skip
    assert refused_file("latin.toml") == (
        "target_syntax", "latin.toml:2: expected UTF-8 text, found the byte 0xe9",
    )  # fmt: skip
    assert refused_file("large.toml")[0] == "target_unreadable"
    assert refused_file("latin.toml/x")[0] == "target_unreadable"
    assert refused_file("a\0b.toml")[0] == "target_unreadable"
    assert refused_file("x" * 5_000 + ".toml")[0] == "target_unreadable"
    assert refused_file("")[0] == "target_not_found"


# Syntax


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = \n", "mychip.toml:2, column 5: not valid TOML: Invalid value"),
        ("a = 1\na = 2\n", "mychip.toml:2"),
        ("[chip\n", "mychip.toml:1"),
        ('a = """x\n\n', "mychip.toml:3: not valid TOML"),
        ("a = " + "[" * 20_000, "mychip.toml: lists or tables nested too deeply"),
        ("a = " + "9" * 10_000, "mychip.toml: a number has too many digits"),
        ("\na" + ".a" * 100_000 + " = 1", "mychip.toml:2: expected at most 64 dots in a line"),
    ],
)
def test_syntax_errors_name_the_line(text: str, message: str) -> None:
    ((code, found),) = refused(text)
    assert code == "target_syntax"
    assert found.startswith(message)


# Keys and values


def test_an_empty_file_misses_three_tables() -> None:
    assert refused("") == [
        ("target_key_missing", f"mychip.toml:1: {key}: missing; expected a table")
        for key in ("chip", "link", "system")
    ]


GENERATOR_NAMES = "clique, ring, mesh, torus, dragonfly, quadfour, edges"
WHOLE = "expected a whole number above 0"


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "message"),
    [
        ("lanes = 8", 'lanes = "x"', "target_value", "chip.vector.lanes", f'{WHOLE}, found "x"'),
        ("lanes = 8", "lanes = true", "target_value", "chip.vector.lanes", f"{WHOLE}, found true"),
        ("lanes = 8", "lanes = 8.0", "target_value", "chip.vector.lanes", f"{WHOLE}, found 8.0"),
        ("lanes = 8", "lanes = -8", "target_value", "chip.vector.lanes", f"{WHOLE}, found -8"),
        (
            "lanes = 8", "lanes = 70000", "target_value", "chip.vector.lanes",
            "expected a whole number of at most 65,536, found 70000",
        ),
        (
            "lanes = 8", f"lanes = 0x{'f' * 9_000}", "target_value", "chip.vector.lanes",
            "expected a whole number of at most 65,536, found a number of 36,000 bits",
        ),
        (
            "depth = 7", "depth = 0", "target_value", "chip.matrix.depth",
            f"{WHOLE} (cycles; a latency may not be zero), found 0",
        ),
        (
            "depth = 2 ", "depth = 0 ", "target_value", "chip.memory.depth",
            f"{WHOLE} (cycles; a latency may not be zero), found 0",
        ),
        (
            "hop_latency = 11", "hop_latency = 0", "target_value", "link.hop_latency",
            f"{WHOLE} (cycles; a latency may not be zero), found 0",
        ),
        (
            "lanes = 8", "lane = 8\nlanes = 8", "target_key_unknown", "chip.vector.lane",
            "unknown key; did you mean lanes?; known here: instances, lanes, chained, depth, cycles, streams",
        ),
        (
            "int8 = 1", "int88 = 1", "target_key_unknown", "chip.vector.cycles.int88",
            f"unknown key; did you mean int8?; known here: {', '.join(dtype.value for dtype in DType)}",
        ),
        (
            "reserved_bytes = 16_384", "reserved_bytes = 2_097_152", "target_value", "chip.reserved_bytes",
            "expected less than sram_bytes (2,097,152), found 2097152",
        ),
        (
            "reserved_bytes = 16_384", "reserved_bytes = -1", "target_value", "chip.reserved_bytes",
            "expected a whole number of 0 or more, found -1",
        ),
        (
            "alignment = 32", "alignment = 4_000_000", "target_value", "chip.alignment",
            "expected at most sram_bytes - reserved_bytes (2,080,768), found 4000000",
        ),
        (
            "blocks = [[12, 20]]", "blocks = []", "target_value", "chip.matrix.fp32.blocks",
            "expected a list of blocks [rows (k), columns (n)], such as [[160, 320]], found []",
        ),
        (
            "blocks = [[12, 20]]", "blocks = [[12, 20], [0, 20]]", "target_value",
            "chip.matrix.fp32.blocks[1]",
            "expected [rows (k), columns (n)], whole numbers from 1 to 65,536, found [0, 20]",
        ),
        (
            'generator = "ring"', 'generator = "rings"', "target_value", "system.topology.generator",
            f'expected one of {GENERATOR_NAMES}, found "rings"; did you mean ring?',
        ),
        (
            "chips = 16", "chips = 70_000", "target_value", "system.topology.chips",
            "expected a whole number of at most 65,536 (chips in the system), found 70000",
        ),
        (
            "chips = 16", "nodes = 16", "target_key_missing", "system.topology.chips",
            "missing; expected a whole number above 0 (chips in the system)",
        ),
        ("[link]", "link = 3\n[other]", "target_value", "chip.memory.link", ""),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named_with_line_and_expectation(
    old: str, new: str, code: str, key: str, message: str
) -> None:
    text = changed(old, new)
    problems = refused(text)
    if key == "chip.memory.link":
        codes = {found for found, _ in problems}
        assert codes == {"target_key_unknown", "target_key_missing"}
        return
    line = line_of(text, "[system.topology]" if code == "target_key_missing" else new.split("\n")[0])
    assert (code, f"mychip.toml:{line}: {key}: {message}") in problems


NUMBERS = [line for line in TINY.split("[rules]")[0].split("\n") if "=" in line and line[0] != "#"]


@pytest.mark.parametrize("line", NUMBERS)
def test_every_key_but_a_dtype_is_needed(line: str) -> None:
    """Leaving one line out is refused and names the key; a dtype may go."""
    key = line.split()[0]
    text = changed(f"{line}\n", "")
    if key in {dtype.value for dtype in DType}:
        parse_target(text, "t", "t")
        return
    problems = refused(text)
    assert [code for code, _ in problems] == ["target_key_missing"]
    assert f".{key}: missing; expected" in problems[0][1]


@pytest.mark.parametrize("line", NUMBERS)
@pytest.mark.parametrize("value", ["0.5", "-1", "{}", "[]", "1979-05-27", '"ring "', "true"])
def test_every_value_is_checked(line: str, value: str) -> None:
    text = changed(line, f"{line.split()[0]} = {value}")
    problems = refused(text)
    assert problems[0][0] == "target_value"
    assert problems[0][1].startswith(f"mychip.toml:{TINY.split(chr(10)).index(line) + 1}: ")


def test_rules_are_true_or_false_and_may_be_left_out() -> None:
    told, untold = parse_target(TINY, "t", "t"), parse_target(TINY.split("[rules]")[0], "t", "t")
    assert told.chip.rules == untold.chip.rules
    off = parse_target(changed("stream_budget = true", "stream_budget = false"), "t", "t")
    assert not off.chip.rules.stream_budget
    problems = refused(changed("deskew = true", "deskew = 1"))
    assert problems[0][1].endswith("rules.deskew: expected true or false, found 1")


def test_no_more_streams_are_dealt_out_than_there_are() -> None:
    text = changed("streams = 9 ", "streams = 12 ")
    message = "units, loads and links take 50 streams of 48: lower `streams` of the units"
    place = f"mychip.toml:{line_of(text, '[chip.streams]')}: chip.streams"
    assert refused(text) == [("target_value", f"{place}: {message}")]


def test_a_host_that_a_rule_asks_for_must_be_there() -> None:
    text = changed("host = false ", "host = true ").replace("[host]", "").replace("latency_ns", "#")
    text = text.replace("bytes_per_second", "#")
    assert "rules.host is true" in refused(text)[0][1]


def test_tables_must_be_tables() -> None:
    assert ("target_value", "mychip.toml:1: chip: expected a table, found 3") in refused("chip = 3")
    assert ("target_value", "mychip.toml:1: chip: expected a table, found [a table]") in refused("[[chip]]")


def test_a_unit_without_any_dtype_is_refused() -> None:
    start, end = TINY.index("[chip.matrix.fp32]"), TINY.index("[chip.vector]")
    ((code, message),) = refused(TINY[:start] + TINY[end:])
    assert code == "target_key_missing"
    assert "chip.matrix: expected a table of at least one dtype" in message
    start, end = TINY.index("fp32 = 1"), TINY.index("[chip.switch]")
    ((code, message),) = refused(TINY[:start] + TINY[end:])
    assert "chip.vector.cycles: expected at least one dtype" in message


def test_all_problems_come_at_once_in_the_order_of_lines() -> None:
    text = changed("lanes = 8", "lanes = 0")
    text = text.replace("flit_bytes = 32", 'flit_bytes = "x"').replace("alignment = 32", "align = 32")
    problems = refused(text + "[spare]\n")
    assert [code for code, _ in problems] == [
        "target_key_missing", "target_key_unknown", "target_value", "target_value", "target_key_unknown",
    ]  # fmt: skip
    lines = [int(message.split(":")[1]) for _, message in problems]
    assert lines == sorted(lines)


def test_many_problems_are_cut_short() -> None:
    text = TINY + "".join(f"key{number} = 1\n" for number in range(200))
    problems = refused(text)
    assert len(problems) == 51
    assert problems[-1][1] == "mychip.toml: and 150 more problems"


def test_a_topology_that_cannot_be_wired_names_its_key() -> None:
    text = TINY.replace('generator = "ring"', 'generator = "edges"')
    text = text.replace("chips = 16 ", "chips = 3\nedges = [\n  [0, 1],\n  [1, 3],\n]\n")
    line = line_of(text, "  [1, 3]")
    where = f"mychip.toml:{line}: system.topology.edges[1]"
    expected = "expected two chips from 0 to 2 (chips = 3), found [1, 3]"
    assert refused(text) == [("target_value", f"{where}: {expected}")]


def test_optional_tables() -> None:
    extra = "[cost]\nchip_watts = 1.5\n[chip.dram]\nbytes = 1_000\nbytes_per_cycle = 4\n"
    target = parse_target(TINY + extra, "t", "t")
    assert target.cost.chip_watts == 1.5
    assert target.cost.host_watts == 0
    assert (target.chip.dram_bytes, target.chip.dram_bytes_per_cycle) == (1_000, 4)
    wrong = extra.replace("1.5", "nan").replace("bytes = 1_000\n", "")
    assert [message.split(": ", 1)[1] for _, message in refused(TINY + wrong)] == [
        "cost.chip_watts: expected a number of 0 or more, at most 10^15, found nan",
        "chip.dram.bytes: missing; expected a whole number above 0",
    ]


# Lines


def test_key_lines() -> None:
    text = """# a = 1
a = 1 # = [
"b.c".d = \"\"\"x
y ] \"\"\"
[chip]
x = [
  [1, 2], # one
  [3,
   4], "[", ]
[chip.'m x'.y]
[[t]]
[[t]]
n = []
[t.sub]
z = {q = 1}
"""
    lines = key_lines(text)
    assert lines == {
        (): 1, ("a",): 2, ("b.c",): 3, ("b.c", "d"): 3, ("chip",): 5, ("chip", "x"): 6,
        ("chip", "x", 0): 7, ("chip", "x", 1): 8, ("chip", "x", 2): 9,
        ("chip", "m x"): 10, ("chip", "m x", "y"): 10, ("t",): 11, ("t", 0): 11, ("t", 1): 12,
        ("t", 1, "n"): 13, ("t", 1, "sub"): 14, ("t", 1, "sub", "z"): 15, ("t", 1, "sub", "z", 0): 15,
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_and_never_crashes(data: st.DataObject) -> None:
    """Any line replaced, doubled, cut or moved: a target, or a refusal."""
    lines = TINY.split("\n")
    index = data.draw(st.integers(0, len(lines) - 1))
    junk = st.sampled_from(["[", "]", '"', "'''", "=", ".", "[[x]]", "{", "a = [1,", "\\", "0x", "inf", "#"])
    match data.draw(st.sampled_from(["cut", "double", "insert", "replace"])):
        case "cut":
            lines[index] = lines[index][: data.draw(st.integers(0, len(lines[index])))]
        case "double":
            lines.insert(data.draw(st.integers(0, len(lines))), lines[index])
        case "insert":
            lines.insert(index, data.draw(junk))
        case _:
            lines[index] = "".join(data.draw(st.lists(junk, max_size=4)))
    text = "\n".join(lines)
    problems: tuple[Problem, ...] = ()
    try:
        parse_target(text, "t", "t.toml")
    except BadInput as refusal:
        problems = refusal.problems
    assert all(problem.message.startswith("t.toml") for problem in problems)


# What the documentation says


def test_the_documented_example_is_a_target(repository: Path) -> None:
    page = (repository / "docs/targets.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    target = parse_target(example, "example", "docs/targets.md")
    assert target.topology.chips == 8
    assert len(target.topology.links) == 24
    assert all(f"`{name}`" in page for name in target_names())
    assert all(f"| `{generator.name}` |" in page for generator in GENERATORS)
