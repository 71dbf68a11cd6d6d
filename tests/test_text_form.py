"""What is printed whole reads back to the same, whatever it is; what is no text of the form is refused."""

from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chiplan.compiler import compile_model
from chiplan.compiler.canonical import build_graph
from chiplan.compiler.importer import import_model
from chiplan.ir import (
    BadInput,
    DType,
    Graph,
    Plan,
    Role,
    Stage,
    Tensor,
    graph_text,
    plan_text,
    read_graph,
    read_plan,
    read_plan_text,
    read_stages,
    stages_text,
    write_plan,
)
from chiplan.ir.text_folding import fold_lines, unfolded
from chiplan.ir.text_lexer import Line
from chiplan.ir.text_sequences import column_text, read_column
from chiplan.models import find_model, load_target

from .text_strategies import graphs, plans, same_graphs, same_plans, same_stages, stages

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHIPPED = (
    ("llama-tiny-gqa", {"chips": 2, "sequence": 8}),
    ("llama-tiny-gqa-past", {"groups": (2,)}),
    ("gpt2-tiny-qdq-int8", {"chips": 1, "sequence": 1}),
)


@lru_cache
def shipped(name: str) -> Plan:
    options = dict(SHIPPED)[name]
    return in_file(compile_model(find_model(name), target=load_target("tiny-ring"), **options).plan)


def in_file(plan: Plan) -> Plan:
    """The plan as its file has it: the compiler may use narrower columns."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "plan.chiplan"
        write_plan(plan, path)
        return read_plan(path)


@SLOW
@given(graphs())
def test_any_graph_reads_back(graph: Graph) -> None:
    text = graph_text(graph)
    assert text.isascii()
    assert text.isprintable() or set(text) - set("\n") == {c for c in text if c.isprintable()}
    assert same_graphs(read_graph(text), _as_written(graph))


def _as_written(graph: Graph) -> Graph:
    """Tensors by name, constants in the tensors' types; what a graph without lines for a value stands for."""
    return replace(graph, tensors=dict(sorted(graph.tensors.items())))


@SLOW
@given(st.data())
def test_any_stages_read_back(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    made = tuple(data.draw(st.lists(stages(graph), max_size=2)))
    again, found = read_stages(stages_text(graph, made))
    assert same_graphs(again, _as_written(graph))
    assert same_stages(found, made)


@SLOW
@given(st.data())
def test_any_columns_and_records_read_back(hand_plan: Plan, data: st.DataObject) -> None:
    plan = data.draw(plans(in_file(hand_plan)))
    assert same_plans(read_plan_text(plan_text(plan)), plan)


@pytest.mark.parametrize("name", [name for name, _ in SHIPPED])
def test_plans_of_shipped_models_read_back(name: str) -> None:
    plan = shipped(name)
    text = plan_text(plan)
    assert same_plans(read_plan_text(text), plan)
    assert plan_text(read_plan_text(text)) == text


@pytest.mark.parametrize("name", ["bert-tiny", "vit-tiny", "t5-tiny-encoder", "gpt2-tiny-fp16"])
def test_imported_graphs_read_back(name: str) -> None:
    graph = build_graph(import_model(find_model(name)))
    assert same_graphs(read_graph(graph_text(graph)), _as_written(graph))


def test_layers_print_once() -> None:
    text = plan_text(shipped("llama-tiny-gqa"))
    assert "repeat i 2 {" in text
    assert text.count(" = matrix fp32 MatMul(") == 10
    unfolded_text = "\n".join(unfolded(text.splitlines()))
    assert unfolded_text.count(" = matrix fp32 MatMul(") == 19


def test_a_thousand_tiles_are_a_line() -> None:
    start = (200 * np.arange(40)[:, None] + 4 * np.arange(25)).reshape(-1)
    assert column_text(start) == "0+4x25+200x40"
    assert column_text(np.full(1000, 7)) == "7x1000"


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(-3, 3)),
        st.lists(st.integers(-(2**61), 2**61)),
        st.lists(st.integers(0, 1)).map(lambda steps: np.cumsum(steps).tolist()),
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(-5, 5), st.integers(-5, 5)).map(
            lambda n: [n[2] * i + n[3] * j for i in range(n[0]) for j in range(n[1])] * 2
        ),
    )
)
def test_any_column_reads_back(numbers: list[int]) -> None:
    column = np.array(numbers, dtype=np.int64)
    line = Line(column_text(column), 1)
    np.testing.assert_array_equal(read_column(line), column)
    line.end()


WORDS = st.sampled_from(
    ["%x", "%x_1", "%y_07", "@op_3", "12", "7", "-4", '"a 5"', "at", "8+2x4", ", ", "x=3"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=4).map(" ".join), max_size=6), st.integers(1, 7), st.booleans())
def test_folding_loses_nothing(block: list[str], times: int, numbers: bool) -> None:
    block = [line.strip() for line in block]
    lines = [
        line.replace("_1", f"_{3 * turn + 1}").replace("12", str(turn))
        for turn in range(times)
        for line in block
    ]
    folded = fold_lines(lines, numbers)
    assert unfolded(folded) == lines
    assert len(folded) <= len(lines)


def test_names_that_count_on_fold_and_odd_ones_are_listed() -> None:
    lines = [
        f"%a_{7 * turn + 3} = Add(%{'first' if not turn else f'b_{turn}'}, %c) for m=4 @n{part}"
        for turn in range(40)
        for part in range(3)
    ]
    folded = fold_lines(lines, numbers=False)
    assert folded[:4] == [*lines[:3], "repeat i 39 {"]
    assert folded[4] == "  %a_{10+7i} = Add(%b_{1+i}, %c) for m=4 @n0"


GOOD = """\
graph "g" reads %x
  input %x fp32 [4, 8]
  weight %w fp32 [8, 2] from "w"
  %y[m, n] = matrix fp32 MatMul(%x[m, k], %w[k, n]) for m=4, n=2, k=8 sum @proj
  output "y" = %y
"""
REFUSED = {
    "no graph": ("", "expected a line such as: graph"),
    "a word that is no line": ("grap", "line 1: expected a line of a graph, found 'grap'"),
    "no tensor of the role": ('graph "g"\nweigh %w fp32 [8]', "line 2: expected a line of a graph"),
    "a type that is none": (GOOD.replace("[4, 8]", "[4, 8").replace("8\n", "8;\n"), "line 2"),
    "an unknown dtype": (GOOD.replace("%x fp32", "%x fp31"), "expected one of fp64, fp32"),
    "an unknown factor": (GOOD.replace("%y[m", "%y[q"), "a factor of the operator (m, n, k), found 'q'"),
    "an unknown unit": (GOOD.replace("matrix fp32", "tensor fp32"), "one of the units matrix, vector"),
    "more on the line": (GOOD.replace("@proj", "@proj @more"), "expected the end of the line, found '@more'"),
    "no closing brace": ("repeat i 2 {\n" + GOOD, "expected a } that ends the repetition"),
    "too many turns": ("repeat i 99999999 {\n" + GOOD + "}", "at most 1048576 times"),
    "too many lines": ("repeat i 1000 {\n" + "#\n" * 1100 + "}", "at most 1048576 lines once unfolded"),
    "turns of nothing": ("repeat i 1000000 {\nrepeat j 1000000 {\n}\n}", "1048576 turns in all"),
    "a letter twice": ("repeat i 2 {\nrepeat i 2 {\n}\n}", "another letter"),
    "more digits than any number": (GOOD.replace("[4, 8]", f"[4, {'0' * 5000}8]"), "a number of 64 bits"),
    "an open hole": (GOOD.replace("%w fp", "%{w fp"), "expected a hole"),
    "a hole of no loop": (GOOD.replace("%w fp", "%w{i} fp"), "holes of the loops around the line"),
    "a choice too few": ("repeat i 2 {\n# {i:a}\n}", "with a choice for each turn"),
    "a huge number": (GOOD.replace("[4, 8]", f"[4, {2**64}]"), "a number of 64 bits"),
    "an escape that is none": (GOOD.replace('"g"', '"\\q"'), "with the escapes of JSON"),
    "a stray character": (GOOD.replace("for m", "~ m"), "a name, a number or a mark"),
    "values that do not fit": (GOOD.replace('from "w"', "= [1, 2]"), "values for fp32 [8, 2]"),
    "values that never come": (GOOD.replace('from "w"', "= elsewhere"), "a constant line for"),
    "a tensor twice": (GOOD.replace("%w fp32 [8, 2]", "%x fp32 [8, 2]"), "not yet declared"),
    "brackets beyond reason": (
        GOOD.replace("MatMul(", "A(" * 9999).replace("n])", "n]" + ")" * 9999),
        "at most 100 brackets inside each other",
    ),
    "choices beyond reason": ("repeat i 2 {\n" + "{i:" * 9999 + "}" * 9999 + "\n}", "expected a hole"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_text_of_the_form_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read_graph(text)
    assert refusal.value.problems[0].code == "text_broken"
    assert words in str(refusal.value)
    assert len(str(refusal.value)) < 300


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_text_is_read_or_refused(hand_plan: Plan, data: st.DataObject) -> None:
    text = plan_text(hand_plan)
    place = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.text('0179-+x%@"{}[]|,;$& \nabz', max_size=3))
    changed = text[:place] + put + text[place + data.draw(st.integers(0, 5)) :]
    with suppress(BadInput):
        plan_text(read_plan_text(changed))


def test_constants_keep_every_bit() -> None:
    odd = np.array([0x7FC00001, 0xFFC00000, 0x80000000], dtype=np.uint32).view(np.float32)
    kinds = {"odd": (DType.FP32, odd), "small": (DType.BF16, np.array([1, -0.0, 0.125]))}
    tensors = {
        name: Tensor(name, (3,), dtype, Role.WEIGHT, np.asarray(values, dtype.numpy))
        for name, (dtype, values) in kinds.items()
    }
    graph = Graph("constants", tensors, (), (), ())
    text = graph_text(graph)
    assert "= elsewhere" in text  # a NaN with a payload
    assert "= [1.0, -0.0, 0.125]" in text
    assert same_graphs(read_graph(text), graph)


def test_equal_plans_are_equal_texts_without_paths(tmp_path: Path) -> None:
    path = find_model("gpt2-tiny-qdq-int8")
    copied = tmp_path / "copy.onnx"
    copied.write_bytes(path.read_bytes())
    options = dict(SHIPPED)["gpt2-tiny-qdq-int8"]
    plan = in_file(compile_model(copied, target=load_target("tiny-ring"), name=path.stem, **options).plan)
    text = plan_text(plan)
    assert text == plan_text(shipped("gpt2-tiny-qdq-int8"))
    assert str(tmp_path) not in text


def test_stages_of_any_plan(hand_plan: Plan) -> None:
    text = stages_text(hand_plan.graph, hand_plan.stages)
    assert "stage 1 chips 1 mesh [1]\n@second m:2 n:8 k:8 at 70, 72 for 2x2\n" in text
    found: tuple[Stage, ...] = read_stages(text)[1]
    assert [stage.program.operators for stage in found] == [(0, 1), (2,)]
