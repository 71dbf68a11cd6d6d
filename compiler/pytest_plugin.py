"""The pytest plugin: `chip_plan`, a fixture that compiles a model once a session and hands out its figures.

    def test_latency(chip_plan):
        plan = chip_plan("model.onnx", target="groq-node", chips=4)
        assert plan.latency_us < 300

pytest imports this module at every start, so what a plan needs is imported when the first one is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from chiplan.ir import ChiplanError, Plan
    from chiplan.runtime_sim import Report


@dataclass(frozen=True, repr=False)
class ChipPlan:
    """A plan that the simulator has accepted, and its figures; all simulated, without the host's transfers.

    figures: what `chiplan compile --json` prints, for those that have no property here.
    """

    plan: "Plan"
    report: "Report"
    figures: Mapping[str, Any]

    def __repr__(self) -> str:
        """What a failed assertion shows."""
        name, target = self.plan.graph.name, self.plan.target.name
        latency, interval = f"latency {self.latency_us:.1f} us", f"interval {self.interval_us:.1f} us"
        from chiplan.ir import printable

        return f"<plan of {printable(name)} on {target}: {latency}, {interval}, {self.chips} chips>"

    @property
    def latency_cycles(self) -> int:
        """First input to last output of one micro-batch, in cycles."""
        return int(self.figures["latency_cycles"])

    @property
    def latency_us(self) -> float:
        """The same in microseconds."""
        return float(self.figures["latency_us"])

    @property
    def interval_cycles(self) -> int:
        """Cycles between two micro-batches in steady state."""
        return int(self.figures["interval_cycles"])

    @property
    def interval_us(self) -> float:
        """The same in microseconds."""
        return 1e6 * self.interval_cycles / self.plan.target.chip.clock_hz

    @property
    def chips(self) -> int:
        """Chips that the plan uses."""
        return int(self.figures["chips"])

    @property
    def stages(self) -> int:
        """Stages of the pipeline."""
        return int(self.figures["stages"])

    @property
    def sram_bytes(self) -> int:
        """Bytes in use on the fullest chip, at most."""
        return max(self.figures["peak_sram_bytes"].values(), default=0)

    @property
    def inferences_per_second(self) -> float | None:
        """Of a model without state; None for one with a KV cache."""
        rate: float | None = self.figures["inferences_per_second"]
        return rate

    @property
    def tokens_per_second(self) -> float | None:
        """Of all users of a model with a KV cache, or read by one that reads several a run; else None."""
        total: float | None = self.figures["tokens_per_second_total"]
        read: float | None = self.figures["tokens_per_second_read"]
        return read if total is None else total

    @property
    def tokens_per_second_user(self) -> float | None:
        """Of one user of a model with a KV cache; else None."""
        rate: float | None = self.figures["tokens_per_second_user"]
        return rate


_PLANS = pytest.StashKey[dict[tuple[object, ...], "ChipPlan | ChiplanError"]]()


@dataclass(frozen=True, repr=False)
class ChipPlans:
    """Compiles models for tests. Paths count from the test's folder, then from where pytest runs."""

    folder: Path
    plans: dict[tuple[object, ...], "ChipPlan | ChiplanError"]

    def __call__(self, model: str | Path, *, target: str | Path, **options: Any) -> ChipPlan:
        """The plan of a model file or shipped model on a target file or shipped target.

        options: those of `chiplan compile`, with underscores (`chips=4`, `objective="latency"`,
        `max_latency=300`, `bind={"images": 4}`); one that there is not, or a value of the wrong
        kind, is refused. Equal calls of a session compile once. What chiplan refuses fails the test with the
        refusal's message.
        """
        from chiplan.ir import ChiplanError

        key = (self._found(model), self._found(target), repr(sorted(options.items())))
        if key not in self.plans:
            try:
                self.plans[key] = _compiled(*key[:2], options)
            except ChiplanError as refusal:
                self.plans[key] = refusal
        plan = self.plans[key]
        if isinstance(plan, ChiplanError):
            pytest.fail(f"chiplan: {plan}", pytrace=False)
        return plan

    def _found(self, name: str | Path) -> str:
        beside = self.folder / name
        return str(beside) if beside.is_file() else str(name)


def _compiled(model: str, target: str, options: Mapping[str, Any]) -> ChipPlan:
    """Raises ChiplanError as the command line does."""
    from chiplan.models import load_target

    from .cli_inputs import model_file
    from .cli_summary import plan_figures
    from .compile import compile_model
    from .python_options import planning_arguments

    planning = planning_arguments(options)
    source = model_file(model)
    compiled = compile_model(source, name=source.stem, target=load_target(target), **planning)
    return ChipPlan(compiled.plan, compiled.report, plan_figures(compiled.plan, compiled.report, ""))


@pytest.fixture
def chip_plan(request: pytest.FixtureRequest) -> ChipPlans:
    """Compile a model with chiplan: `plan = chip_plan("model.onnx", target="groq-node", chips=4)`."""
    plans = request.config.stash.setdefault(_PLANS, {})
    return ChipPlans(request.path.parent, plans)
