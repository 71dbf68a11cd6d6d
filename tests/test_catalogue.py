"""Shipped models: the table equals the folder, and every name is found."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from chiplan.ir import BadInput
from chiplan.models import SHIPPED, ShippedModel, find_model, model_names
from chiplan.models.published_graphs import GRAPHS, bert_encoders

EXTERNAL = onnx.TensorProto.EXTERNAL


def test_the_table_is_sorted_and_equals_the_files() -> None:
    assert list(model_names()) == sorted(model_names())
    files = sorted(path.stem for path in SHIPPED[0].path.parent.glob("*.onnx"))
    assert list(model_names()) == files


@pytest.mark.parametrize("model", SHIPPED, ids=lambda model: model.name)
def test_weights_are_there_if_and_only_if_the_table_says_so(model: ShippedModel) -> None:
    graph = onnx.load(model.path, load_external_data=False).graph
    absent = [tensor.name for tensor in graph.initializer if tensor.data_location == EXTERNAL]
    assert bool(absent) is not model.weights


def test_a_name_and_a_path_are_found(tmp_path: Path) -> None:
    assert find_model("gpt2").name == "gpt2.onnx"
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(b"")
    assert find_model(str(mine)) == mine


def test_a_file_wins_over_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gpt2").write_bytes(b"")
    assert find_model("gpt2") == Path("gpt2")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("gtp2", "Did you mean gpt2"),
        ("no-such-thing-at-all.onnx", "is neither a file nor a shipped model. Give the path"),
        (".", "is a folder"),
    ],
)
def test_an_unknown_model_is_refused_with_the_way_out(wanted: str, expected: str) -> None:
    with pytest.raises(BadInput, match=expected) as refusal:
        find_model(wanted)
    (problem,) = refusal.value.problems
    assert problem.code == "model_not_found"
    assert all(name in problem.message for name in model_names())


def test_every_shipped_model_has_a_recipe(repository: Path) -> None:
    """Read as text: the exporters are an optional extra."""
    source = (repository / "models/export_recipes.py").read_text(encoding="utf-8")
    recipes = re.findall(r'^    Recipe\(\s*"([^"]+)"', source, flags=re.MULTILINE)
    assert recipes == [name for name in model_names() if name not in GRAPHS]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_shipped_graphs_are_what_their_source_makes(name: str) -> None:
    assert GRAPHS[name]().SerializeToString() == find_model(name).read_bytes()


def test_the_encoders_of_a_published_experiment_are_valid_onnx() -> None:
    """Values for the absent weights, and the checker and the reference agree to run it."""
    model = bert_encoders(2, width=32, heads=4)
    for tensor in model.graph.initializer:
        if tensor.data_location == EXTERNAL:
            values = np.full(tuple(tensor.dims), 0.01, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.checker.check_model(model, full_check=True)
    hidden = np.linspace(-1, 1, 2 * 3 * 32, dtype=np.float32).reshape(2, 3, 32)
    (made,) = ReferenceEvaluator(model).run(None, {"hidden_states": hidden})
    assert made.shape == hidden.shape
    assert np.isfinite(made).all()
