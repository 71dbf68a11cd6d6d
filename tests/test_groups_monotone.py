"""More chips never give a worse plan: the solver may leave chips unused."""

from itertools import pairwise
from pathlib import Path

import pytest

from chiplan.compiler import compile_model
from chiplan.models import find_model, load_target
from chiplan.runtime_sim import figures

from .small_models import attention, chain

EVERY = range(1, 9)


def sweep(model: Path, target: str, objective: str, counts: range, **options: int) -> list[tuple[int, ...]]:
    """(what the objective minimises, chips used, latency) at every count, as reported."""
    found = []
    for count in counts:
        compiled = compile_model(
            model, target=load_target(target), chips=count, objective=objective, **options
        )
        reported = figures(compiled.plan, compiled.report)
        chips = sum(len(stage.chips) for stage in compiled.plan.stages)
        cycles = {name: reported[f"{name}_cycles"] for name in ("latency", "interval")}
        merit = {"latency": cycles["latency"], "throughput": cycles["interval"], "chips": chips}
        assert chips <= count
        found.append((merit[objective], chips, cycles["latency"]))
    return found


def check(found: list[tuple[int, ...]], objective: str) -> None:
    """Never worse; where the objective is speed, more chips are used somewhere, and are strictly faster."""
    merits = [merit for merit, *_ in found]
    assert merits == sorted(merits, reverse=True), found
    if objective != "chips":
        assert any(now[1] > before[1] and now[0] < before[0] for before, now in pairwise(found)), found


@pytest.mark.parametrize("objective", ["latency", "throughput", "chips"])
@pytest.mark.parametrize(
    ("target", "rows", "width"), [("tiny-ring", 64, 256), ("groq-node", 320, 1024)], ids=["ring", "node"]
)
def test_a_chain_of_layers(target: str, rows: int, width: int, objective: str, tmp_path: Path) -> None:
    model = chain(tmp_path / "chain.onnx", 3, rows, width)
    check(sweep(model, target, objective, EVERY), objective)


@pytest.mark.parametrize("objective", ["latency", "throughput", "chips"])
def test_attention(objective: str, tmp_path: Path) -> None:
    check(sweep(attention(tmp_path / "attention.onnx"), "tiny-ring", objective, EVERY), objective)


def test_a_model_with_state() -> None:
    found = sweep(find_model("llama-tiny-gqa-past"), "tiny-ring", "latency", range(1, 4), context=64)
    check(found, "latency")
