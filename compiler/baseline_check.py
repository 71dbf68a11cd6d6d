"""Is a model's plan worse than its baseline? The verdict of `chiplan check`, and what it rests on.

Exact to the cycle: plans are deterministic, so there is no noise to allow for.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chiplan.ir import Plan, Target, View, printable, view_shape

from .baseline import FORMAT, Baseline, Figures, ModelIdentity, OptionValue, TargetStick
from .cli_summary import plan_figures
from .compile import compile_model
from .node_matching import match_nodes
from .node_runs import fold_nodes, unfold_nodes
from .options import silent
from .plan_diff import changed_nodes, cycles_more
from .plan_profile import NodeCost, profile_nodes
from .stick import planning, resolved_options
from .target_numbers import target_numbers
from .tolerance import Tolerance

BLAMED = 3
"""Nodes that a verdict names."""
TOOLS = ("chiplan", "ortools")
"""What decides plans: chiplan, and the solver under it."""


class Verdict(Enum):
    """What a check comes to."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    INCOMPARABLE = "incomparable"


@dataclass(frozen=True)
class Difference:
    """Something besides the figures that is not as in the baseline."""

    name: str
    before: str
    after: str

    @property
    def part(self) -> str:
        """What `--allow` calls it: `target` for all of its numbers."""
        return self.name.split(" ")[0]

    @property
    def words(self) -> str:
        """In one line: `option batch: 1 in the baseline, now 4`."""
        return f"{self.name}: {self.before} in the baseline, now {self.after}"


@dataclass(frozen=True)
class Judgement:
    """One figure against its limit. limit: in the unit of `after`."""

    quantity: str
    before: int
    after: int
    allowed: str
    verdict: Verdict
    beyond: bool


@dataclass(frozen=True)
class Measured:
    """A model's plan: as a baseline would state it, and the rows of its nodes. includes_host: whether its
    cycles hold transfers from and to the host."""

    stated: Baseline
    nodes: tuple[NodeCost, ...]
    includes_host: bool


@dataclass(frozen=True)
class Check:
    """The verdict. refused: differences of the stick that make the two incomparable. allowed: those that the
    user waved through. changed: the model and the tool, where they did. blamed: nodes that cost most more."""

    model: str
    target: str
    baseline: Baseline
    verdict: Verdict
    refused: tuple[Difference, ...] = ()
    allowed: tuple[Difference, ...] = ()
    changed: tuple[Difference, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    blamed: tuple[tuple[NodeCost | None, NodeCost | None], ...] = ()
    measured: Measured | None = None


@dataclass(frozen=True)
class Demand:
    """What is asked of a check. options: those given on the command line; allow: names of differences that
    do not matter; same: what besides is part of the stick (model, tool); tolerances: by figure."""

    options: Mapping[str, OptionValue]
    allow: Collection[str]
    same: Collection[str]
    tolerances: Mapping[str, Tolerance]


def measure(
    model: Path,
    target: Target,
    named: str,
    options: Mapping[str, OptionValue],
    progress: Callable[[str], None] = silent,
) -> Measured:
    """Compile a model with a stick; `named` is the target's name in a baseline. Raises as `compile_model`."""
    compiled = compile_model(model, name=model.stem, target=target, progress=progress, **planning(options))
    nodes = profile_nodes(compiled.plan)
    found = plan_figures(compiled.plan, compiled.report, "")
    stated = Baseline(
        format=FORMAT,
        figures=_figures(found, target),
        target=TargetStick(named, target_numbers(target)),
        options=resolved_options(options, compiled.plan),
        model=_identity(compiled.plan),
        tool=_tool(),
        nodes=fold_nodes(nodes),
    )
    return Measured(stated, nodes, found["latency_includes_host"])


def _tool() -> dict[str, str]:
    return {name: version(name) for name in TOOLS}


def _figures(found: Mapping[str, Any], target: Target) -> Figures:
    return Figures(
        latency_cycles=found["latency_cycles"],
        interval_cycles=found["interval_cycles"],
        chips=found["chips"],
        sram_bytes=max(found["peak_sram_bytes"].values(), default=0),
        clock_hz=target.chip.clock_hz,
    )


def _identity(plan: Plan) -> ModelIdentity:
    graph = plan.graph
    inputs = [_described(plan, name, name) for name in graph.inputs]
    inputs += [_described(plan, state.past, state.tensor) for state in graph.states]
    outputs = [_described(plan, output.name, output.tensor, output.view) for output in graph.outputs]
    outputs += [_described(plan, state.present, state.tensor) for state in graph.states]
    return ModelIdentity(plan.model_fingerprint, tuple(inputs), tuple(outputs))


def _described(plan: Plan, name: str, tensor: str, view: View = ()) -> str:
    """`input_ids int64 [1, 128]`; of a state the extents with the new rows."""
    held = plan.graph.tensors[tensor]
    shape = view_shape(view, held.whole_shape)
    return f"{printable(name)} {held.dtype.value} {list(shape)}"


def check_model(
    model: Path,
    target: Target,
    baseline: Baseline,
    demand: Demand,
    progress: Callable[[str], None] = silent,
) -> Check:
    """The verdict on a model. `target` is the one given, or the baseline's own file. Raises as
    `compile_model` does where there is no plan."""
    found = [*_of_target(baseline, target), *_of_options(baseline, demand.options)]
    tool = _differences("tool ", baseline.tool, _tool())
    found += tool if "tool" in demand.same else []
    refused, allowed = _sorted_out(found, demand.allow)
    named = printable(model.stem), printable(target.name)
    if refused:
        return Check(*named, baseline, Verdict.INCOMPARABLE, refused, allowed)
    measured = measure(model, target, baseline.target.name, {**baseline.options, **demand.options}, progress)
    now = measured.stated
    # Another batch, where it is allowed, is other extents; what then still counts is which tensors there are.
    names_only = any(difference.part in demand.options for difference in allowed)
    found += _lists("inputs", baseline.model.inputs, now.model.inputs, names_only)
    found += _lists("outputs", baseline.model.outputs, now.model.outputs, names_only)
    changed = _differences("", {"model": baseline.model.sha256}, {"model": now.model.sha256})
    found += changed if "model" in demand.same else []
    refused, allowed = _sorted_out(found, demand.allow)
    if refused:
        return Check(*named, baseline, Verdict.INCOMPARABLE, refused, allowed)
    judgements = judge(baseline.figures, now.figures, demand.tolerances)
    return Check(
        *named,
        baseline,
        _verdict(judgements),
        allowed=allowed,
        changed=(*changed, *tool),
        judgements=judgements,
        blamed=blame(unfold_nodes(baseline.nodes), measured.nodes),
        measured=measured,
    )


def _sorted_out(
    found: Sequence[Difference], allow: Collection[str]
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Those that are not allowed, and those that are."""
    return (
        tuple(difference for difference in found if difference.part not in allow),
        tuple(difference for difference in found if difference.part in allow),
    )


def _of_target(baseline: Baseline, target: Target) -> list[Difference]:
    """`target link.hop_latency` and its like."""
    return _differences("target ", baseline.target.numbers, target_numbers(target))


def _of_options(baseline: Baseline, given: Mapping[str, OptionValue]) -> list[Difference]:
    """Options on the command line that are not the baseline's."""
    stated = {name: baseline.options[name] for name in given if name in baseline.options}
    return _differences("", stated, given)


def _differences(
    kind: str, before: Mapping[str, OptionValue], after: Mapping[str, OptionValue]
) -> list[Difference]:
    names = dict.fromkeys((*before, *after))
    pairs = ((name, _shown(before.get(name)), _shown(after.get(name))) for name in names)
    return [Difference(f"{kind}{name}", old, new) for name, old, new in pairs if old != new]


def _shown(value: OptionValue | None) -> str:
    if value is None:
        return "not set"
    if isinstance(value, tuple):
        return printable(", ".join(value))
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else printable(str(value))


def _lists(name: str, before: Sequence[str], after: Sequence[str], names_only: bool) -> list[Difference]:
    """At most one difference of inputs or outputs: what is only in one of the two."""
    if names_only:
        before, after = (
            [line.rsplit(" [")[0].rsplit(" ", 1)[0] for line in lines] for lines in (before, after)
        )
    gone = ", ".join(line for line in before if line not in after)
    new = ", ".join(line for line in after if line not in before)
    return [Difference(name, gone or "none besides", new or "none besides")] if gone or new else []


def _name_of(described: str) -> str:
    """The name in what `_described` wrote; it may hold blanks itself."""
    return described.rsplit(" [", 1)[0].rsplit(" ", 1)[0]


def judge(before: Figures, after: Figures, tolerances: Mapping[str, Tolerance]) -> tuple[Judgement, ...]:
    """Every figure against its limit. Cycles of other clocks are compared as time."""
    clocks = Fraction(after.clock_hz, before.clock_hz)
    return tuple(
        _judgement(name, getattr(before, name), getattr(after, name), tolerances[name], unit)
        for name, unit in (
            ("latency_cycles", clocks),
            ("interval_cycles", clocks),
            ("chips", Fraction(1)),
            ("sram_bytes", Fraction(1)),
        )
    )


def _judgement(quantity: str, before: int, after: int, allowed: Tolerance, unit: Fraction) -> Judgement:
    """unit: units of `after` in one of `before`."""
    grew = after - before * unit
    verdict = Verdict.SAME if not grew else Verdict.WORSE if grew > 0 else Verdict.BETTER
    return Judgement(quantity, before, after, allowed.text, verdict, after > allowed.limit(before) * unit)


def _verdict(judgements: Sequence[Judgement]) -> Verdict:
    """Worse where a figure is beyond its limit; better where one is lower and none is higher."""
    if any(judgement.beyond for judgement in judgements):
        return Verdict.WORSE
    found = {judgement.verdict for judgement in judgements}
    return Verdict.BETTER if Verdict.BETTER in found and Verdict.WORSE not in found else Verdict.SAME


def blame(
    before: Sequence[NodeCost], after: Sequence[NodeCost]
) -> tuple[tuple[NodeCost | None, NodeCost | None], ...]:
    """The nodes that cost most more than before, at most three; none where none costs more."""
    changed = changed_nodes(before, after, match_nodes(before, after))
    return tuple(pair for pair in changed if cycles_more(*pair) > 0)[:BLAMED]
