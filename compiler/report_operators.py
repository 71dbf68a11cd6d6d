"""The operators of a report: those of repeated layers and equal stages folded into one, and where each stands
in the picture of the graph."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np

from chiplan.ir import Operator, Role, ShardingChoice, Stage, Unit

from .cli_sharding import axes_words
from .quantities import counted, grouped, size
from .report_source import Segment, Source, shown_name

COLUMNS = 12
"""Operators that stand beside each other in a line of the picture."""
PITCH, ROW, BOX_WIDTH, BOX_HEIGHT = 4.0, 1.5, 3.3, 1.0
"""Distances and sizes of the picture, in its own units."""
SENT_SHOWN = 2
"""Stages that a band's title names of those that it sends to, those with most bytes."""
_TITLE, _GAP, _BAND = 2.0, 1.6, 1.4


@dataclass(frozen=True)
class Instance:
    """One of the operators that are folded: its stage, its repeat there, and its place in the graph."""

    stage: int
    repeat: int
    position: int
    operator: int


@dataclass(frozen=True)
class Folded:
    """Operators that are shown as one, in program order; x and y: the middle of its box."""

    number: int
    run: int
    segment: int
    instances: tuple[Instance, ...]
    x: float
    y: float


@dataclass(frozen=True)
class Frame:
    """A box around a segment, or around a run (segment -1): its corners and its words."""

    run: int
    segment: int
    left: float
    right: float
    bottom: float
    top: float
    title: str


@dataclass
class Picture:
    """All that is drawn. links: (folded source, folded destination, tensor, whether chips exchange it)."""

    operators: list[Folded] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    links: list[tuple[int, int, str, bool]] = field(default_factory=list)


def lay_out_operators(source: Source) -> Picture:
    """Runs of stages as bands from top to bottom, their segments below each other, operators from left to
    right by what they wait for, lines wrapped."""
    picture, top = Picture(), 0.0
    for run in range(len(source.runs)):
        begin, top = top, top - _TITLE
        for number, segment in enumerate(source.segments[run]):
            top = _place_segment(source, picture, (run, number, segment), top) - _GAP
        title = _run_title(source, run)
        frame = Frame(run, -1, -_BAND, COLUMNS * PITCH + _BAND, top + _GAP - _BAND, begin, title)
        picture.frames.append(frame)
        top -= _BAND + _GAP
    _link(source, picture)
    return picture


def _run_title(source: Source, run: int) -> str:
    """Which stages, on how many chips, and what they send on."""
    stages = source.runs[run].stages
    chips = counted(len(source.plan.stages[stages[0]].chips), "chip")
    alone = len(stages) == 1
    who = f"stage {stages[0]}" if alone else f"stages {stages[0]} to {stages[-1]}, alike (×{len(stages)})"
    sent = [edge for edge in source.edges if edge.source == stages[0] and edge.destination != stages[0]]
    largest = sorted(sent, key=lambda edge: (-edge.nbytes, edge.destination))[:SENT_SHOWN]
    words = [
        f"to stage {edge.destination}: {size(edge.nbytes)}, {grouped(edge.cycles)} cycles" for edge in largest
    ]
    inside = [edge for edge in source.edges if edge.source == edge.destination == stages[0]]
    words += [f"inside: {size(edge.nbytes)}, {grouped(edge.cycles)} cycles" for edge in inside]
    more = [f"and {len(sent) - SENT_SHOWN} more"] if len(sent) > SENT_SHOWN else []
    return " · ".join([f"{who}, {chips}{'' if alone else ' each'}", *words, *more])


def _place_segment(source: Source, picture: Picture, where: tuple[int, int, Segment], top: float) -> float:
    """Places a segment's operators below `top`; gives its lower end."""
    run, number, segment = where
    stage = source.plan.stages[source.runs[run].first]
    order = stage.program.operators[segment.first : segment.last]
    begin = top
    top -= _TITLE
    for line in _lines(_generations([source.plan.graph.operators[index] for index in order])):
        height = max(map(len, line))
        for column, members in enumerate(line):
            for row, member in enumerate(members):
                y = top - ROW * (row + (height - len(members)) / 2) - BOX_HEIGHT / 2
                instances = _instances(source, run, segment, segment.first + member)
                place = (column + 0.5) * PITCH, y
                picture.operators.append(Folded(len(picture.operators), run, number, instances, *place))
        top -= ROW * height + 0.5
    title = counted(segment.length, "operator") + (f", ×{segment.times}" if segment.times > 1 else "")
    picture.frames.append(Frame(run, number, 0.0, COLUMNS * PITCH, top, begin, title))
    return top


def _instances(source: Source, run: int, segment: Segment, position: int) -> tuple[Instance, ...]:
    places = [position + repeat * segment.length for repeat in range(segment.times)]
    return tuple(
        Instance(stage, repeat, place, source.plan.stages[stage].program.operators[place])
        for stage in source.runs[run].stages
        for repeat, place in enumerate(places)
    )


def _generations(operators: Sequence[Operator]) -> list[list[int]]:
    """Positions of operators by how many steps of the segment are before them."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(operators)))
    made: dict[str, list[int]] = defaultdict(list)
    for position, operator in enumerate(operators):
        for operand in operator.operands:
            graph.add_edges_from((before, position) for before in made[operand.tensor])
        for result in operator.results:
            made[result.tensor].append(position)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    return [sorted(members) for members in nx.topological_generations(graph)]


def _lines(generations: Sequence[list[int]]) -> Iterator[Sequence[list[int]]]:
    for first in range(0, len(generations), COLUMNS):
        yield generations[first : first + COLUMNS]


def _link(source: Source, picture: Picture) -> None:
    """Links between operators of one run: of values, and of what the chips of a group send each other."""
    graph = source.plan.graph
    sent: dict[str, list[str]] = defaultdict(list)
    for exchange in graph.exchanges:
        sent[exchange.target].append(exchange.source)
    makers: dict[tuple[int, str], list[int]] = defaultdict(list)
    seen: set[tuple[int, int]] = set()
    first = {folded.number: graph.operators[folded.instances[0].operator] for folded in picture.operators}
    for folded in picture.operators:
        for result in first[folded.number].results:
            makers[folded.run, result.tensor].append(folded.number)
    for folded in picture.operators:
        for operand in first[folded.number].operands:
            tensors = [(operand.tensor, False), *((name, True) for name in sent[operand.tensor])]
            for tensor, exchanged in tensors:
                for maker in makers[folded.run, tensor]:
                    if maker != folded.number and (maker, folded.number) not in seen:
                        seen.add((maker, folded.number))
                        picture.links.append((maker, folded.number, tensor, exchanged))


class OperatorDetails:
    """What is known of each folded operator, for the panel beside the picture."""

    def __init__(self, source: Source) -> None:
        self._source = source
        table = source.timeline.tiles
        firsts = np.array([run.first for run in source.timeline.runs], dtype=np.int64)
        self._rows = {(run.stage, run.operator): run for run in source.timeline.runs}
        reduce = np.add.reduceat if len(firsts) else None
        self._work = reduce(table.occupancy, firsts) if reduce else firsts
        self._load = reduce(table.load, firsts) if reduce else firsts
        self._numbers = {key: number for number, key in enumerate(self._rows)}
        self._choices: dict[tuple[object, int], ShardingChoice] = {}
        forms = {
            operator.name: int(form)
            for operator, form in zip(source.plan.graph.operators, source.structures, strict=True)
        }
        # A choice stands for the operators like one: by name first, else for those of equal structure.
        for choice in source.plan.sharding:
            for stage in choice.stages:
                self._choices[choice.operator, stage] = choice
                self._choices.setdefault((forms.get(choice.operator), stage), choice)
        self._on_path = Counter[tuple[int, int]]()
        for step in source.path:
            if step.operator >= 0:
                self._on_path[step.stage, step.operator] += step.load + step.work + step.travel

    def of(self, folded: Folded) -> dict[str, Any]:
        """One object of plain values; cycles are those of the first instance, but on the path of all."""
        source, first = self._source, folded.instances[0]
        operator = source.plan.graph.operators[first.operator]
        run = self._rows[first.stage, first.operator]
        number = self._numbers[first.stage, first.operator]
        work, load = int(self._work[number]), int(self._load[number])
        table = source.timeline.tiles
        held = np.maximum(table.occupancy[run.first : run.last], table.load[run.first : run.last])
        on = np.bincount(table.instance[run.first : run.last], weights=held, minlength=1)
        factors = ", ".join(_factor_words(operator, index) for index in range(len(operator.factors)))
        blocks = " × ".join(str(run.tiling.blocks[index]) for index in run.tiling.order)
        return {
            "name": shown_name(operator.name),
            "does": " ".join(dict.fromkeys(i.opcode for i in operator.body)),
            "unit": operator.unit.value,
            "factors": factors,
            "tiles": f"{counted(run.last - run.first, 'tile')} of at most {blocks}",
            "cycles": int(on.max()),
            "instances": int(np.count_nonzero(on)),
            "why": _why(operator, work, load, int(on.max())),
            "memory": self._memory(operator),
            "path": sum(self._on_path[i.stage, i.operator] for i in folded.instances),
            "sharding": self._sharding(folded, source.plan.stages[first.stage]),
        }

    def span(self, instance: Instance) -> tuple[int, int]:
        """First and last cycle of an instance's tiles."""
        run, table = self._rows[instance.stage, instance.operator], self._source.timeline.tiles
        rows = slice(run.first, run.last)
        return int(table.start[rows].min()), int(table.ready[rows].max())

    def _memory(self, operator: Operator) -> str:
        tensors = self._source.plan.graph.tensors
        held: Counter[str] = Counter()
        for name in sorted({operand.tensor for operand in operator.operands}):
            role = tensors[name].role
            held["reads" if role in (Role.VALUE, Role.INPUT) else role.value] += tensors[name].nbytes
        for name in sorted({result.tensor for result in operator.results}):
            held["makes"] += tensors[name].nbytes
        words = {"reads": "reads", "weight": "weights", "state": "state", "makes": "makes"}
        return ", ".join(f"{words[key]} {size(held[key])}" for key in words if held[key])

    def _sharding(self, folded: Folded, stage: Stage) -> list[str]:
        """The choice in words, what it brings about, and the next best."""
        graph, stages = self._source.plan.graph, {i.stage for i in folded.instances}
        keys = [(graph.operators[i.operator].name, i.stage) for i in folded.instances]
        form = int(self._source.structures[folded.instances[0].operator])
        alike = [(form, stage) for stage in sorted(stages)]
        found = [self._choices[key] for key in (*keys, *alike) if key in self._choices]
        if len(stage.chips) == 1:
            return ["a single chip: nothing to split"]
        if not found:
            splits = graph.operators[folded.instances[0].operator].splits
            return [] if splits else ["every chip of the group does all of it"]
        return list(_choice_words(found[0]))


def _factor_words(operator: Operator, index: int) -> str:
    factor = operator.factors[index]
    split = next((s for s in operator.splits if s.factor == index), None)
    reduced = f" ({factor.reducer.value})" if factor.reducer else ""
    of = f" of {grouped(split.extent)}, split over mesh axes {list(split.axes)}" if split else ""
    return f"{shown_name(factor.name)} = {grouped(factor.extent)}{of}{reduced}"


def _why(operator: Operator, work: int, load: int, held: int) -> str:
    """What sets an operator's cycles, in words."""
    if operator.unit is Unit.MATRIX:
        if load > work:
            return (
                f"loading its blocks binds: {grouped(load)} cycles of loads against {grouped(work)} of "
                f"streaming; {grouped(held)} on the busiest instance"
            )
        return f"streaming rows binds: {grouped(work)} cycles against {grouped(load)} of loads"
    if operator.unit is Unit.VECTOR:
        return f"lanes bind: {grouped(work)} cycles for {counted(len(operator.body), 'chained operation')}"
    return f"bytes a cycle bind: {grouped(work)} cycles"


def _choice_words(choice: ShardingChoice) -> Iterator[str]:
    mesh = " × ".join(map(str, choice.mesh))
    pinned = " (pinned)" if choice.pinned else ""
    gives = shown_name(axes_words(choice.gives))
    yield f"splits {shown_name(axes_words(choice.factors))} over {mesh} chips{pinned}; {gives}"
    for sent in choice.collectives:
        kind, cycles = sent.kind.replace("_", "-"), grouped(sent.cycles)
        yield f"{kind} ({sent.algorithm}): {size(sent.nbytes)}, {cycles} cycles by estimate"
    if choice.next_cost < 0:
        yield "no other choice"
    else:
        other = shown_name(axes_words(choice.next_factors))
        yield f"next best: {other}, {grouped(choice.next_cost)} cycles more for the block"
