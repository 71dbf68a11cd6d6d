"""Dimensions are bound by role: names, ranks, equalities, the file's own sizes, defaults."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper, parser

from chiplan.compiler.import_assumptions import Default, assumption_lines
from chiplan.compiler.import_summary import inspect_model
from chiplan.compiler.import_symbols import Expression, parse_dimension
from chiplan.compiler.imported import StatePair
from chiplan.compiler.importer import import_model
from chiplan.ir import BadInput

HEAD = '<ir_version: 10, opset_import: ["": 20]>'
DECODE = """g (int64[s2, 1] input_ids, int64[s23, s59] attention_mask,
       float[s2, 2, s16, 4] past_key_values_0_key, float[s2, 2, s95, 4] past_key_values_0_value,
       float[s2, 2, 1, 4] new)
    => (float[s2, 2, s16plus, 4] present_0_key, float[s2, 2, p, 4] present_0_value,
        float[a, b] m, int64[c, d] i) {
        present_0_key = Concat <axis = 2> (past_key_values_0_key, new)
        present_0_value = Concat <axis = -2> (past_key_values_0_value, new)
        m = Cast <to = 1> (attention_mask)
        i = Neg (input_ids)
    }"""


def save(folder: Path, text: str, *tensors: TensorProto) -> Path:
    model = parser.parse_model(HEAD + text)
    model.graph.initializer.extend(tensors)
    file = folder / "model.onnx"
    onnx.save(model, file)
    return file


def codes(refusal: BadInput) -> list[str]:
    return [problem.code for problem in refusal.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s16 + 1", Expression(1, (("s16", 1),))),
        ("past + sequence", Expression(0, (("past", 1), ("sequence", 1)))),
        ("2*s0", Expression(0, (("s0", 2),))),
        ("s0*2 + s1 - 3", Expression(-3, (("s0", 2), ("s1", 1)))),
        ("batch-size", Expression(0, (("batch-size", 1),))),
        ("floor(s0/2)", Expression(0, (("floor(s0/2)", 1),))),
    ],
)
def test_dimensions_are_linear_expressions_or_opaque(text: str, expected: Expression) -> None:
    assert parse_dimension(text) == expected


def test_thirty_names_for_one_quantity(tmp_path: Path) -> None:
    model = import_model(save(tmp_path, DECODE), batch=3, context=100)
    assert model.bindings == {"s2": 3, "s23": 3, "s59": 100, "s16": 99, "s95": 99}
    assert (model.batch, model.sequence, model.context) == (3, 1, 100)
    assert model.tensors["present_0_value"].shape == (3, 2, 100, 4)


def test_state_pairs_and_their_axis(tmp_path: Path) -> None:
    model = import_model(save(tmp_path, DECODE))
    assert model.states == (
        StatePair("past_key_values_0_key", "present_0_key", 2),
        StatePair("past_key_values_0_value", "present_0_value", 2),
    )
    assert model.context == 2048
    assert any("2047" in line and "cached tokens" in line for line in model.assumptions)


def test_a_state_is_found_through_transposes_and_by_structure_alone(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[n, q, 2, 4] memory, float[n, 2, 1, 4] new) => (float[n, r, 2, 4] longer) {
            t = Transpose <perm = [0, 2, 1, 3]> (memory)
            c = Concat <axis = 2> (t, new)
            longer = Transpose <perm = [0, 2, 1, 3]> (c)
        }""",
    )
    model = import_model(file, context=9)
    assert model.states == (StatePair("memory", "longer", 1),)
    assert model.bindings == {"n": 1, "q": 8}


ROWS = {
    "the past itself": """g (float[4, 8] x) => (float[5, 8] z) {
        y = ReduceMean <keepdims = 1> (x, zero)
        z = Concat <axis = 0> (x, y)
    }""",
    "the past twice": "g (float[4, 8] x) => (float[8, 8] z) { z = Concat <axis = 0> (x, x) }",
    "each other's past": """g (float[4, 8] a, float[4, 8] b) => (float[5, 8] c, float[5, 8] d) {
        m = ReduceMean <keepdims = 1> (b, zero)
        n = ReduceMax <keepdims = 1> (a, zero)
        c = Concat <axis = 0> (a, m)
        d = Concat <axis = 0> (b, n)
    }""",
}


@pytest.mark.parametrize("text", ROWS.values(), ids=ROWS)
def test_rows_that_descend_from_their_past_make_no_state(tmp_path: Path, text: str) -> None:
    model = parser.parse_model('<ir_version: 9, opset_import: ["": 18]>' + text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "zero"))
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    imported = import_model(file)
    assert imported.states == ()
    assert set(imported.inputs) == {entry.name for entry in model.graph.input}


def test_rows_may_depend_on_the_extents_of_their_past_and_on_another_state(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        """g (float[1, p, 4] first, float[1, p, 4] second, float[1, 1, 4] new)
           => (float[1, q, 4] longer, float[1, q, 4] later) {
            n = Shape <start = 1, end = 2> (first)
            f = Cast <to = 1> (n)
            r = Add (new, f)
            longer = Concat <axis = 1> (first, r)
            s = ReduceMax <keepdims = 1> (longer)
            t = Add (new, s)
            later = Concat <axis = 1> (second, t)
        }""",
    )
    model = import_model(file, bind={"p": 5})
    assert model.states == (StatePair("first", "longer", 1), StatePair("second", "later", 1))


def test_the_attention_operator_appends_to_a_state(tmp_path: Path) -> None:
    text = """g (float[b, 2, 1, 8] q, float[b, 2, 1, 8] k, float[b, 2, 1, 8] v,
           float[b, 2, p, 8] past_key, float[b, 2, p, 8] past_value)
        => (float[b, 2, 1, 8] y, float[b, 2, x, 8] present_key, float[b, 2, x, 8] present_value) {
            y, present_key, present_value = Attention (q, k, v, , past_key, past_value)
        }"""
    model = parser.parse_model('<ir_version: 10, opset_import: ["": 23]>' + text)
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    imported = import_model(file, context=12)
    assert [(state.past, state.axis) for state in imported.states] == [("past_key", 2), ("past_value", 2)]
    assert imported.bindings["p"] == 11


def test_binding_one_layer_binds_them_all(tmp_path: Path) -> None:
    model = import_model(save(tmp_path, DECODE), bind={"s95": 7})
    assert (model.bindings["s16"], model.context) == (7, 8)


def test_bind_overrides_a_default_and_states_it(tmp_path: Path) -> None:
    file = save(tmp_path, "g (int64[batch, seq] input_ids) => (int64[a, b] y) { y = Neg (input_ids) }")
    assert import_model(file).sequence == 128
    model = import_model(file, bind={"seq": 16, "batch": 4})
    assert (model.batch, model.sequence) == (4, 16)
    assert model.assumptions == ()


def test_sizes_fixed_in_the_file_are_taken(tmp_path: Path) -> None:
    file = save(tmp_path, "g (int64[8, 32] input_ids) => (int64[a, b] y) { y = Neg (input_ids) }")
    model = import_model(file)
    assert (model.batch, model.sequence) == (8, 32)


def test_an_image_has_a_batch_alone(tmp_path: Path) -> None:
    text = "g (float[batch, 3, 4, 4] pixel_values) => (float[a, 3, 4, 4] y) { y = Neg (pixel_values) }"
    file = save(tmp_path, text)
    assert import_model(file, batch=2).tensors["y"].shape == (2, 3, 4, 4)
    with pytest.raises(BadInput) as refusal:
        import_model(file, sequence=4)
    assert codes(refusal.value) == ["unknown_binding"]


POSITIONS = """g (int64[b, s] input_ids, int64[b, s] position_ids) => (float[x, y, z] out) {
    t = Gather (tokens, input_ids)
    p = Gather (table, position_ids)
    out = Add (t, p)
}"""


def position_model(folder: Path, rows: int) -> Path:
    tables = {"tokens": np.zeros((7, 4), np.float32), "table": np.zeros((rows, 4), np.float32)}
    return save(folder, POSITIONS, *(numpy_helper.from_array(v, k) for k, v in tables.items()))


@pytest.mark.parametrize(("rows", "expected"), [(32, 32), (1024, 128)])
def test_the_default_sequence_fits_the_position_table(tmp_path: Path, rows: int, expected: int) -> None:
    file = position_model(tmp_path, rows)
    assert inspect_model(file).positions == rows
    assert import_model(file).sequence == expected


def test_an_offset_into_the_position_table_costs_positions(tmp_path: Path) -> None:
    """RoBERTa counts tokens from 1 with CumSum and adds its padding index."""
    text = """g (int64[b, s] input_ids) => (float[x, y, z] out)
    <int64 pad = {1}, int64 axis = {1}> {
        other = Equal (input_ids, pad)
        real = Not (other)
        ones = Cast <to = 7> (real)
        counted = CumSum (ones, axis)
        masked = Mul (counted, ones)
        ids = Add (masked, pad)
        t = Gather (tokens, input_ids)
        p = Gather (table, ids)
        out = Add (t, p)
    }"""
    tables = {"tokens": np.zeros((7, 4), np.float32), "table": np.zeros((34, 4), np.float32)}
    file = save(tmp_path, text, *(numpy_helper.from_array(v, k) for k, v in tables.items()))
    assert inspect_model(file).positions == 32


def test_a_sequence_beyond_the_position_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        import_model(position_model(tmp_path, 32), sequence=33)
    (problem,) = refusal.value.problems
    assert (problem.code, problem.needed, problem.available) == ("position_table_exceeded", 33, 32)
    assert problem.operator == "Gather"


def test_unknown_names_get_a_suggestion(tmp_path: Path) -> None:
    file = save(tmp_path, "g (int64[batch, seq] input_ids) => (int64[a, b] y) { y = Neg (input_ids) }")
    with pytest.raises(BadInput) as refusal:
        import_model(file, bind={"batsch": 2, "foo": 1})
    assert codes(refusal.value) == ["unknown_binding", "unknown_binding"]
    assert "did you mean batch?" in str(refusal.value)


def test_everything_unbound_is_listed_at_once(tmp_path: Path) -> None:
    text = "g (float[u, v] left, float[v, ?] right) => (float[a, b] y) { y = MatMul (left, right) }"
    with pytest.raises(BadInput) as refusal:
        import_model(save(tmp_path, text))
    assert codes(refusal.value) == ["unbound_dimension"] * 3
    assert [problem.dimension for problem in refusal.value.problems] == ["u", "v", "right.1"]
    assert "axis 1 of input left" in refusal.value.problems[1].message
    model = import_model(tmp_path / "model.onnx", bind={"u": 2, "v": 3, "right.1": 4})
    assert model.tensors["y"].shape == (2, 4)


def test_contradictory_bindings_are_refused(tmp_path: Path) -> None:
    file = save(tmp_path, DECODE)
    for options, named in (
        ({"sequence": 4}, "--sequence 4"),
        ({"bind": {"s16": 5, "s95": 6}}, "--bind s95=6"),
        ({"context": 9, "bind": {"s16": 5}}, "--context 9"),
        ({"batch": 2, "bind": {"s2": 3}}, "--bind s2=3"),
    ):
        with pytest.raises(BadInput) as refusal:
            import_model(file, **options)  # each set of options by keyword
        assert codes(refusal.value) == ["contradictory_binding"]
        assert named in str(refusal.value)


def test_a_cache_of_no_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        import_model(save(tmp_path, DECODE), context=1)
    assert codes(refusal.value) == ["zero_dimension"]
    assert refusal.value.problems[0].needed == 2


def test_dimensions_must_be_positive(tmp_path: Path) -> None:
    file = save(tmp_path, "g (int64[batch, seq] input_ids) => (int64[a, b] y) { y = Neg (input_ids) }")
    with pytest.raises(BadInput) as refusal:
        import_model(file, batch=0, sequence=-3)
    assert codes(refusal.value) == ["zero_dimension", "zero_dimension"]


def test_every_fact_is_told_once(tmp_path: Path) -> None:
    file = save(tmp_path, DECODE)
    assert import_model(file, batch=3).assumptions == (
        "context = 2048 (default; no position table found; --context changes it; s59 in the file)",
        "s2, s23 = 3 (batch)",
        "s16, s95 = 2047 (number of cached tokens)",
    )
    file = save(tmp_path, "g (int64[batch, seq] input_ids) => (int64[a, b] y) { y = Neg (input_ids) }")
    assert import_model(file).assumptions == (
        "batch = 1 (default; --batch changes it)",
        "sequence = 128 (default; --sequence changes it; seq in the file)",
    )
    assert import_model(file, batch=2, bind={"seq": 3}).assumptions == ()


def test_many_symbols_of_one_role_are_one_line() -> None:
    symbols = [f"s{number}" for number in range(62)]
    meanings = {("past", 2047): symbols, ("batch", 1): ["batch", *symbols]}
    assert list(assumption_lines([Default("batch", 1, "")], meanings)) == [
        "batch = 1 (default; --batch changes it; 62 dimensions in the file)",
        "62 cache dimensions = 2047 (past)",
    ]


def test_a_multiple_of_a_symbol_may_be_too_large(tmp_path: Path) -> None:
    file = save(tmp_path, "g (int64[u, 4] x) => (int64[a, b] y) { y = Neg (x) }")
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "2*u"
    onnx.save(model, file)
    assert import_model(file, bind={"u": 3}).tensors["x"].shape == (6, 4)
    with pytest.raises(BadInput) as refusal:
        import_model(file, bind={"u": 2**31 - 1})
    assert codes(refusal.value) == ["dimension_too_large"]
    assert refusal.value.problems[0].dimension == "u"


def test_context_needs_a_cache(tmp_path: Path) -> None:
    file = save(tmp_path, "g (int64[batch, seq] input_ids) => (int64[a, b] y) { y = Neg (input_ids) }")
    with pytest.raises(BadInput) as refusal:
        import_model(file, context=4)
    assert codes(refusal.value) == ["unknown_binding"]
