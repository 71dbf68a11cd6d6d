"""What cannot be imported is refused with a stable code, node, operator and cure; all at once."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from chiplan.compiler.importer import import_model
from chiplan.ir import BadInput, ExitCode, Problem

HEAD = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>'


def save(folder: Path, text: str, *tensors: TensorProto) -> Path:
    model = parser.parse_model(HEAD + text)
    model.graph.initializer.extend(tensors)
    file = folder / "model.onnx"
    onnx.save(model, file)
    return file


def problems(file: Path, **options: int) -> tuple[Problem, ...]:
    with pytest.raises(BadInput) as refusal:
        import_model(file, **options)  # the options of one case
    assert refusal.value.exit_code is ExitCode.BAD_INPUT
    return refusal.value.problems


def refused_with(file: Path) -> set[str]:
    """Codes of what is refused, none if the file imports."""
    try:
        import_model(file)
    except BadInput as refusal:
        return {problem.code for problem in refusal.problems}
    return set()


def whole_model() -> bytes:
    text = "g (float[4, 64] x) => (float[4, 64] y) { a = Exp (x) b = Neg (a) c = Abs (b) y = Sqrt (c) }"
    return parser.parse_model(HEAD + text).SerializeToString()


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.onnx")[0].code == "file_not_found"
    assert problems(tmp_path)[0].code == "file_not_found"


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "text": lambda _data: b"This is not a model.\n" * 20,
    "noise": lambda _data: np.random.default_rng(1).bytes(500),
    "zeros": lambda _data: bytes(100),
    "damaged": lambda data: data[:30] + b"\xff\xff\xff" + data[33:],
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_file(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "broken.onnx"
    file.write_bytes(BROKEN[damage](whole_model()))
    (problem,) = problems(file)
    assert problem.code == "file_broken"
    assert "broken.onnx" in problem.message


def test_every_truncation_is_refused_in_words(tmp_path: Path) -> None:
    """A cut that falls between two fields leaves a smaller model: that may import."""
    data, file = whole_model(), tmp_path / "cut.onnx"
    for length in range(len(data)):
        file.write_bytes(data[:length])
        assert refused_with(file) <= {"file_broken"}


def test_a_file_beyond_the_limit_of_protobuf(tmp_path: Path) -> None:
    file = tmp_path / "large.onnx"
    file.touch()
    os.truncate(file, 2**31)
    (problem,) = problems(file)
    assert (problem.code, problem.needed) == ("file_too_large", 2**31)


def test_all_unknown_operators_at_once_and_what_hangs_on_them_not(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[4] x) => (float[4] y) {
            [one] a = com.microsoft.Strange (x)
            b = Exp (a)
            [two] c = Det (x2)
            [three] d = Hardmax (x)
            e = Add (b, d)
            y = Add (e, c)
        }""",
        numpy_helper.from_array(np.zeros((200, 200), np.float32), "x2"),
    )
    found = problems(file)
    assert [(p.code, p.node, p.operator) for p in found] == [
        ("unknown_operator", "one", "com.microsoft.Strange"),
        ("unknown_operator", "two", "Det"),
        ("unknown_operator", "three", "Hardmax"),
    ]
    assert all("docs/importing.md" in problem.message for problem in found)


@pytest.mark.parametrize(
    "body",
    [
        "[n] p = NonZero (x) y = Cast <to = 1> (p)",
        """m = ReduceMax <keepdims = 0> (x) i = Cast <to = 7> (m) z = Constant <value_int = 0> ()
        o = Constant <value_int = 1> () [n] r = Range (z, i, o) y = Cast <to = 1> (r)""",
        "i = Cast <to = 7> (x) [n] y = ConstantOfShape (i)",
    ],
)
def test_shapes_that_depend_on_data(tmp_path: Path, body: str) -> None:
    (problem,) = problems(save(tmp_path, f"g (float[4] x) => (float[n] y) {{ {body} }}"))
    assert (problem.code, problem.node) == ("data_dependent_shape", "n")


def test_a_branch_that_depends_on_data(tmp_path: Path) -> None:
    text = """g (float[4] x, bool c) => (float[4] y) {
        [n] y = If (c) <
            then_branch = t () => (float[4] r) { r = Exp (x) },
            else_branch = e () => (float[4] r) { r = Neg (x) }
        >
    }"""
    (problem,) = problems(save(tmp_path, text))
    assert (problem.code, problem.node, problem.dimension) == ("data_dependent_branch", "n", "c")
    assert "--bind" in problem.message


def test_shapes_that_do_not_fit_name_node_operator_and_shapes(tmp_path: Path) -> None:
    text = """g (float[batch, seq] x) => (float[a, b] y) <float[3] w = {1, 2, 3}> {
        [first] a = Add (x, w)
        y = Exp (a)
    }"""
    (problem,) = problems(save(tmp_path, text), sequence=5)
    assert (problem.code, problem.node, problem.operator) == ("shape_mismatch", "first", "Add")
    assert problem.dimension == "[1, 5], [3]"


def test_a_reshape_to_another_number_of_elements(tmp_path: Path) -> None:
    text = "g (float[4, 2] x) => (float[a] y) <int64[1] s = {9}> { [n] y = Reshape (x, s) }"
    (problem,) = problems(save(tmp_path, text))
    assert (problem.code, problem.node) == ("shape_mismatch", "n")


def test_a_constant_index_out_of_range(tmp_path: Path) -> None:
    text = "g (float[4, 2] x) => (float[a, b] y) <int64[3] i = {0, 2, 4}> { [n] y = Gather (x, i) }"
    (problem,) = problems(save(tmp_path, text))
    assert (problem.code, problem.node) == ("index_out_of_range", "n")


def test_a_tensor_beyond_all_bounds(tmp_path: Path) -> None:
    text = "g (float[batch, seq, 64] hidden_states) => (float[a, b, c] y) { [n] y = Exp (hidden_states) }"
    (problem,) = problems(save(tmp_path, text), batch=2**20, sequence=2**20)
    assert (problem.code, problem.dimension) == ("tensor_too_large", "hidden_states")
    text = """g (float[batch, 1] x, float[1, seq] y) => (float[a, b] z) { [n] z = Mul (x, y) }"""
    (problem,) = problems(save(tmp_path, text), batch=2**21, sequence=2**21)
    assert (problem.code, problem.node) == ("tensor_too_large", "n")


def test_numbers_that_no_axis_can_have(tmp_path: Path) -> None:
    """They are refused before anything is computed with them, also where printing them would fail."""
    text = "g (int64[batch, seq] input_ids) => (int64[a, b] y) { y = Neg (input_ids) }"
    file = save(tmp_path, text)
    found = problems(file, batch=10**22, sequence=2**31)
    assert [(p.code, p.dimension) for p in found] == [
        ("dimension_too_large", "batch"),
        ("dimension_too_large", "sequence"),
    ]
    with pytest.raises(BadInput) as refusal:
        import_model(file, bind={"seq": 10**5000})
    assert refusal.value.problems[0].dimension == "seq"


def test_a_value_that_nothing_defines(tmp_path: Path) -> None:
    (problem,) = problems(save(tmp_path, "g (float[4] x) => (float[4] y) { [n] y = Add (x, ghost) }"))
    assert (problem.code, problem.node) == ("file_broken", "n")
    assert "ghost" in problem.message


def test_an_output_that_nothing_defines(tmp_path: Path) -> None:
    (problem,) = problems(save(tmp_path, "g (float[4] x) => (float[4] z) { y = Neg (x) }"))
    assert problem.code == "file_broken"


def test_a_value_defined_twice(tmp_path: Path) -> None:
    (problem,) = problems(save(tmp_path, "g (float[4] x) => (float[4] y) { y = Neg (x) y = Exp (x) }"))
    assert problem.code == "file_broken"
    assert "'y'" in problem.message


def test_an_initializer_with_too_few_bytes(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.raw_data = tensor.raw_data[:-3]
    (problem,) = problems(save(tmp_path, "g (float[4] x) => (float[4] y) { y = Add (x, w) }", tensor))
    assert (problem.code, problem.dimension) == ("file_broken", "w")


def test_types_that_no_chip_stores(tmp_path: Path) -> None:
    (problem,) = problems(save(tmp_path, "g (string[4] x) => (string[4] y) { y = Identity (x) }"))[:1]
    assert problem.code == "unsupported_type"
    assert "string" in problem.message


def test_inputs_that_are_no_tensors(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceAt", ["s", "i"], ["y"])],
        "g",
        [helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), file)
    assert problems(file)[0].code == "unsupported_type"


@pytest.mark.parametrize(
    "node",
    [
        "[n] y = Concat <axis = 0> (x, , x)",
        "[n] y = Gather (x)",
        "[n] y = Concat (x, x)",
        "[n] y = GatherND <batch_dims = -4> (x, i)",
    ],
)
def test_malformed_nodes(tmp_path: Path, node: str) -> None:
    text = f"g (float[4] x) => (float[4] y) <int64[1, 1] i = {{0}}> {{ {node} }}"
    (problem,) = problems(save(tmp_path, text))
    assert (problem.code, problem.node) == ("file_broken", "n")
    assert "malformed" in problem.message


def test_an_operator_set_of_the_future(tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(whole_model())
    model.opset_import[0].version = 999
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    (problem,) = problems(file)
    assert problem.code == "unsupported_opset"
