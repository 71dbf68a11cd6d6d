"""Models made to harm: each is refused in one message, soon, and before anything large is made."""

import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from chiplan.compiler import import_fold_limits, import_limits
from chiplan.compiler.cli import main
from chiplan.compiler.importer import import_model
from chiplan.compiler.weights import WeightReader
from chiplan.ir import BadInput, DType, Origin, Problem, Role, Tensor

HEAD = '<ir_version: 10, opset_import: ["": 20, "own": 1]>'


def parsed(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEAD + text)


def plain() -> onnx.ModelProto:
    return parsed("g (float[4, 8] x) => (float[4, 8] y) { a = Exp (x) y = Neg (a) }")


def refusal_of(model: onnx.ModelProto | bytes, folder: Path) -> Problem:
    """The one problem of a model; it is found within five seconds and 700 MB."""
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    begin = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(BadInput) as refusal:
            import_model(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - begin < 5
    assert peak < 700e6
    (problem,) = refusal.value.problems
    assert problem.message.isprintable()
    assert len(problem.message) <= 2000
    return problem


def functions(depth: int, calls: int, *, ring: bool = False) -> onnx.ModelProto:
    """Each of `depth` functions calls the next one `calls` times in a row."""
    model = plain()
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("f0", ["x"], ["y"], domain="own"))
    for level in range(depth):
        names = ["x", *[f"v{n}" for n in range(calls - 1)], "y"]
        is_last = level == depth - 1
        called = ("f0" if ring else "Exp", "own" if ring else "") if is_last else (f"f{level + 1}", "own")
        nodes = [helper.make_node(called[0], [one], [two], domain=called[1]) for one, two in pairwise(names)]
        imports = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", f"f{level}", ["x"], ["y"], nodes, imports))
    return model


def branches(depth: int) -> onnx.ModelProto:
    """A branch in a branch in a branch."""
    inner = helper.make_node("Exp", ["x"], ["r"])
    for _ in range(depth):
        graphs = [
            helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("r", 1, [4, 8])])
            for _ in range(2)
        ]
        inner = helper.make_node("If", ["c"], ["r"], then_branch=graphs[0], else_branch=graphs[1])
    model = plain()
    del model.graph.node[:]
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    model.graph.node.extend([inner, helper.make_node("Neg", ["r"], ["y"])])
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (functions(40, 2), "more than 250,000 nodes"),
        (functions(3, 1, ring=True), "calls itself"),
        (functions(70, 1), "more than 64 of its functions"),
        (branches(17), "nested deeper than 16"),
    ],
    ids=["functions double", "recursion", "a long chain", "branches"],
)
def test_a_small_file_that_stands_for_a_large_graph(
    model: onnx.ModelProto, words: str, tmp_path: Path
) -> None:
    problem = refusal_of(model, tmp_path)
    assert problem.code == "file_too_large"
    assert words in problem.message


def test_functions_within_the_limits_are_inlined(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(functions(5, 3).SerializeToString())
    assert len(import_model(path).nodes) == 3**5


def test_messages_are_counted_before_they_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes a node, hundreds in memory. The count is the parser's own."""
    monkeypatch.setattr(import_limits, "SMALL_FILE", 0)
    monkeypatch.setattr(import_limits, "MOST_MESSAGES", 10_000)
    graph = b"\x0a\x00" * 5_000_000
    size = bytearray()
    left = len(graph)
    while left:
        size.append(left & 0x7F | (0x80 if left > 0x7F else 0))
        left >>= 7
    assert refusal_of(b"\x3a" + bytes(size) + graph, tmp_path).code == "file_too_large"
    data = plain().SerializeToString()
    monkeypatch.setattr(import_limits, "MOST_MESSAGES", messages(plain()))
    import_limits.check_messages(data)
    monkeypatch.setattr(import_limits, "MOST_MESSAGES", messages(plain()) - 1)
    with pytest.raises(import_limits.LimitExceeded):
        import_limits.check_messages(data)


def messages(message: object) -> int:
    """How many messages there are in one, itself included."""
    count = 1
    for field, value in message.ListFields():
        if field.message_type is not None:
            count += sum(map(messages, value if field.is_repeated else [value]))
    return count


def test_a_graph_of_too_many_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_limits, "MOST_NODES", 1)
    assert "more than 1 nodes" in refusal_of(plain(), tmp_path).message


GROWING = {
    "an einsum of everything": """a = Range (zero, few, one) f = Cast <to = 1> (a)
        s = Einsum <equation = "a,b,c,d->"> (f, f, f, f) y = Add (x, s)""",
    "many large tables": "\n".join(
        ["a0 = Range (zero, n, one)"]
        + [f"a{k + 1} = CumSum (a{k}, zero)" for k in range(300)]
        + ["m = ReduceMax <keepdims = 0> (a300) f = Cast <to = 1> (m) y = Add (x, f)"]
    ),
}


@pytest.mark.parametrize("body", GROWING.values(), ids=GROWING)
def test_constants_that_would_take_for_ever(body: str, tmp_path: Path) -> None:
    text = f"""g (float[4, 8] x) => (float[4, 8] y)
        <int64 zero = {{0}}, int64 one = {{1}}, int64 few = {{16000}}, int64 n = {{500000}}> {{ {body} }}"""
    assert refusal_of(parsed(text), tmp_path).code == "constants_too_large"


@pytest.mark.parametrize(
    "body",
    [
        "y = ConstantOfShape (big)",
        "z = ConstantOfShape (big) f = ReduceSum <keepdims = 0> (z) y = Add (x, f)",
        "o = Constant <value_float = 1.0> () z = Expand (o, big) y = Mul (z, z)",
        "o = Constant <value_floats = [1.0]> () r = Slice (big, zeros, ones) z = Tile (o, r) y = Exp (z)",
        "p = Constant <value_ints = [0, 0, 2147483647, 2147483647]> () z = Pad (x, p) y = Exp (z)",
    ],
)
def test_shapes_beyond_all_bounds(body: str, tmp_path: Path) -> None:
    """Nothing of that size is made: they are refused, or stay shapes."""
    text = f"""g (float[4, 8] x) => (float[a, b] y) <int64[2] big = {{2199023255552, 2199023255552}},
        int64[1] zeros = {{0}}, int64[1] ones = {{1}}> {{ {body} }}"""
    assert refusal_of(parsed(text), tmp_path).code in ("tensor_too_large", "shape_mismatch", "file_broken")


def test_loops_are_never_run(tmp_path: Path) -> None:
    text = """g (float[4] x) => (float[4] y)
        <int64 n = {9223372036854775807}, bool c = {1}, float[4] s = {1, 1, 1, 1}> {
        r = Loop (n, c, s) <body = b (int64 i, bool k, float[4] v) => (bool k2, float[4] w)
            { k2 = Identity (k) w = Exp (v) }> y = Add (x, r) }"""
    assert refusal_of(parsed(text), tmp_path).code == "unknown_operator"


def with_weight(**changes: object) -> onnx.ModelProto:
    model = parsed("g (float[4, 8] x) => (float[4, 8] y) { y = Add (x, w) }")
    weight = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[8], raw_data=bytes(32))
    for name, value in changes.items():
        if name == "dims":
            weight.dims[:] = value
        else:
            setattr(weight, name, value)
    return model


@pytest.mark.parametrize(
    "dims",
    [[-1], [2**62, 2**62], [1] * 65, [2**31], [2**40] * 1000, [0, -5]],
    ids=lambda dims: str(dims)[:20],
)
def test_extents_that_cannot_be(dims: list[int], tmp_path: Path) -> None:
    assert refusal_of(with_weight(dims=dims), tmp_path).code == "file_broken"


HOSTILE_NAMES = ["\x1b[31mred", "two\nlines", "\u202eright to left", "bell\a", "\x9b2J", "x" * 70_000]
PLACES: dict[str, Callable[[onnx.ModelProto, str], None]] = {
    "value": lambda model, name: setattr(model.graph.input[0], "name", name),
    "node": lambda model, name: setattr(model.graph.node[0], "name", name),
    "operator": lambda model, name: setattr(model.graph.node[0], "op_type", name),
    "dimension": lambda model, name: setattr(
        model.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", name
    ),
    "producer": lambda model, name: setattr(model, "producer_name", name),
    "attribute": lambda model, name: model.graph.node[0].attribute.append(helper.make_attribute("a", name)),
}


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
@pytest.mark.parametrize("place", PLACES)
def test_names_that_a_terminal_would_obey(
    name: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = plain()
    PLACES[place](model, name)
    assert refusal_of(model, tmp_path).code == "file_broken"
    assert main(["inspect", str(tmp_path / "model.onnx")]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.count("\n") == 1
    assert errors.strip().isprintable()


def test_a_file_name_that_a_terminal_would_obey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "\x1b[2J\n.onnx"
    path.write_bytes(b"nothing")
    assert main(["inspect", str(path)]) == 2
    assert capsys.readouterr().err.strip().isprintable()


def test_a_hundred_thousand_problems_are_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = plain()
    model.graph.node.extend(helper.make_node(f"No{n}", ["x"], [f"n{n}"]) for n in range(3000))
    model.graph.output.extend(helper.make_tensor_value_info(f"n{n}", 1, [4, 8]) for n in range(3000))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    with pytest.raises(BadInput) as refusal:
        import_model(path)
    assert len(refusal.value.problems) == 1000
    assert main(["compile", str(path), "--target", "tiny-ring", "-o", str(tmp_path / "x")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 50
    assert lines[-1] == "error: and 951 lines more (--json lists them all)"


def test_values_named_alike_in_many_branches(tmp_path: Path) -> None:
    """Each gets a name of its own, in a time that grows with their number alone."""
    body = "then_branch = t () => (float[4] r) { r = Exp (x) }"
    body += ", else_branch = e () => (float[4] r) { r = Neg (x) }"
    nodes = " ".join(f"v{n} = If (c) <{body}>" for n in range(400))
    model = parsed(f"g (float[4] x) => (float[4] y) <bool c = {{1}}> {{ {nodes} y = Sum (v0, v399) }}")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert max(len(name) for name in import_model(path).tensors) < 20


def test_two_outputs_of_one_name_and_a_ring_of_copies(tmp_path: Path) -> None:
    model = plain()
    model.graph.output.append(model.graph.output[0])
    assert "two of its 2 outputs" in refusal_of(model, tmp_path).message
    ring = plain()
    del ring.graph.node[:]
    ring.graph.node.extend(
        [helper.make_node("Transpose", ["a"], ["y"]), helper.make_node("Transpose", ["y"], ["a"])]
    )
    assert refusal_of(ring, tmp_path).code == "file_broken"


# Side files


def external(folder: Path, **place: str) -> WeightReader:
    model = with_weight(raw_data=b"", data_location=TensorProto.EXTERNAL)
    for key, value in place.items():
        model.graph.initializer[0].external_data.add(key=key, value=value)
    (folder / "model").mkdir(exist_ok=True)
    path = folder / "model/model.onnx"
    path.write_bytes(model.SerializeToString())
    return WeightReader(path)


WEIGHT = Tensor("w", (8,), DType.FP32, Role.WEIGHT, origin=Origin("w"))


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    (tmp_path / "model/link.bin").symlink_to(tmp_path / "secret.bin")
    (tmp_path / "model/up").symlink_to(tmp_path)
    (tmp_path / "model/own.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    (tmp_path / "model/inside.bin").symlink_to("own.bin")
    for location in ("link.bin", "up/secret.bin", "nul\0.bin", "/dev/zero", "../secret.bin"):
        with pytest.raises(BadInput, match="must lie in the model's folder") as refusal:
            external(tmp_path, location=location)
        assert refusal.value.problems[0].message.isprintable()
    assert external(tmp_path, location="inside.bin")(WEIGHT).tolist() == list(range(8))


@pytest.mark.parametrize(
    "place",
    [{"offset": "-8"}, {"offset": "x"}, {"offset": "9" * 30}, {"length": "1e9"}, {"length": "-1"}],
    ids=str,
)
def test_places_that_are_none(place: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        external(tmp_path, location="own.bin", **place)
    assert refusal.value.problems[0].code == "external_data_path"


@pytest.mark.parametrize("place", [{"offset": "8"}, {"offset": str(2**62)}, {"length": "64"}], ids=str)
def test_places_beyond_the_file(place: dict[str, str], tmp_path: Path) -> None:
    reader = external(tmp_path, location="own.bin", **place)
    (tmp_path / "model/own.bin").write_bytes(bytes(32))
    with pytest.raises(BadInput) as refusal:
        reader(WEIGHT)
    assert refusal.value.problems[0].code == "weights_missing"


def test_folding_is_counted_alike_on_every_machine() -> None:
    spent = import_fold_limits.Spent()
    spent.add(import_fold_limits.MOST_WORK, import_fold_limits.MOST_BYTES)
    with pytest.raises(BadInput):
        spent.add(1)
