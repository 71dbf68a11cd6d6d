"""A plan, or what some of its stages and chips do, in the text form (`docs/ir.md`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chiplan.ir import (
    BadInput,
    Graph,
    Plan,
    Problem,
    constant_lines,
    figures_line,
    graph_lines,
    held_lines,
    plan_text,
    record_lines,
    sent_lines,
    stages_lines,
    stages_text,
    target_lines,
)

FORMS = ("graph", "tiles", "plan")


@dataclass(frozen=True)
class Part:
    """What of a plan is shown: stages, all with no entry; chips whose transfers are shown, likewise.
    brief: without ONNX nodes, buffers, the solver's records, the target, and large constants."""

    stages: tuple[int, ...] = ()
    chips: tuple[int, ...] = ()
    brief: bool = False

    @property
    def is_whole(self) -> bool:
        return not (self.stages or self.chips or self.brief)


def part_text(plan: Plan, form: str, part: Part) -> str:
    """The text of a part of `plan`; whole, it can be read back. form: graph, tiles or plan.

    Raises BadInput (`no_such_stage`, `no_such_chip`).
    """
    if part.is_whole:
        return _whole_text(plan, form)
    stages = _stages(plan, part)
    graph = plan.graph if len(stages) == len(plan.stages) else _graph_of(plan, stages)
    lines = [figures_line(plan)] if form == "plan" else []
    lines += graph_lines(graph, part.brief)
    if form != "graph":
        lines += stages_lines(plan.graph, [(number, plan.stages[number]) for number in stages])
    if form == "plan":
        chips = part.chips or tuple(chip for number in stages for chip in plan.stages[number].chips)
        lines += sent_lines(plan, _sent(plan, chips))
    if form == "plan" and not part.brief:
        lines += [*held_lines(plan, _held(plan, stages)), *record_lines(plan), *target_lines(plan.target)]
    if not part.brief:
        lines += constant_lines(graph)
    return "\n".join([_head(plan, part, stages), *lines]) + "\n"


def _whole_text(plan: Plan, form: str) -> str:
    if form == "plan":
        return plan_text(plan)
    return stages_text(plan.graph, plan.stages if form == "tiles" else ())


def _head(plan: Plan, part: Part, stages: Sequence[int]) -> str:
    """The line that says what is not here; with it, the text is refused as that of a whole plan."""
    said = ["part"]
    if len(stages) < len(plan.stages):
        said.append(f"stages {', '.join(map(str, stages))} of {len(plan.stages)}")
    if part.chips:
        said.append(f"transfers of chips {', '.join(map(str, part.chips))}")
    if part.brief:
        said.append("without nodes, large weights, buffers, records and target")
    return f"{said[0]} {'; '.join(said[1:])}"


def _stages(plan: Plan, part: Part) -> tuple[int, ...]:
    """The stages that are shown, ascending."""
    for number in part.stages:
        if number >= len(plan.stages):
            message = f"--stage {number}: the plan has {len(plan.stages)}, from 0 on"
            raise BadInput(Problem("no_such_stage", message))
    of_chip = {int(chip): number for number, stage in enumerate(plan.stages) for chip in stage.chips}
    for chip in part.chips:
        if chip not in of_chip:
            message = f"--chip {chip}: no stage of the plan runs on it; `chiplan show` lists the chips"
            raise BadInput(Problem("no_such_chip", message))
    chosen = {*part.stages, *(of_chip[chip] for chip in part.chips)}
    return tuple(sorted(chosen)) or tuple(range(len(plan.stages)))


def _graph_of(plan: Plan, stages: Sequence[int]) -> Graph:
    """The operators of some stages, and what they read, write and exchange."""
    graph = plan.graph
    numbers = sorted({number for stage in stages for number in plan.stages[stage].program.operators})
    operators = tuple(graph.operators[number] for number in numbers)
    touched = {operand.tensor for operator in operators for operand in operator.operands}
    touched |= {result.tensor for operator in operators for result in operator.results}
    exchanges = tuple(e for e in graph.exchanges if touched.issuperset((e.source, e.target)))
    return replace(
        graph,
        tensors={name: tensor for name, tensor in graph.tensors.items() if name in touched},
        operators=operators,
        inputs=tuple(name for name in graph.inputs if name in touched),
        outputs=tuple(output for output in graph.outputs if output.tensor in touched),
        states=tuple(state for state in graph.states if state.tensor in touched),
        exchanges=exchanges,
    )


def _sent(plan: Plan, chips: Sequence[int]) -> np.ndarray:
    """Rows of the transfers that leave or reach some chips."""
    transfers = plan.transfers
    return np.flatnonzero(np.isin(transfers.source, chips) | np.isin(transfers.destination, chips))


def _held(plan: Plan, stages: Sequence[int]) -> np.ndarray:
    """Rows of the buffers of some stages."""
    return np.flatnonzero(np.isin(plan.buffers.chip, [plan.stages[number].chips[0] for number in stages]))
