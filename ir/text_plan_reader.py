"""Reads what `text_plan` writes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .codec import CodecError
from .graph import Graph
from .plan import HopColumns, Plan, Stage, TransferColumns
from .plan_columns import CHIPS, HOPS, LINKS, TRANSFERS, Layout
from .plan_validity import first_problem
from .target import Link, Target
from .text_buffers import BufferReader
from .text_columns import complete, read_raw
from .text_graph import GraphReader, lines_of
from .text_lexer import Line, broken
from .text_plan import CODECS, FIGURES, RECORDS, TARGET, WRITTEN
from .text_stages import OperatorNames, StageReader, read_stage
from .text_transfers import TransferReader, Wiring
from .text_values import for_codec, read_fields, read_value
from .types import ChipId

_WRITTEN = {WRITTEN.get(name, name): name for name in FIGURES}
"""Figures of a plan by their names in the text."""
_TABLES: dict[str, Layout] = {"transfers": TRANSFERS, "hops": HOPS, "wires": LINKS, "chips": CHIPS}


def read_plan_text(text: str) -> Plan:
    """The plan that a text describes. Raises BadInput (`text_broken`), also where a part was left out, and
    where the plan refers to what is not there."""
    reader = _PlanReader()
    for line in lines_of(text):
        reader.read(line)
    plan = reader.plan()
    problem = first_problem(plan)
    if problem is not None:
        raise broken(f"the text is no whole plan: {problem}")
    return plan


def read_stages(text: str) -> tuple[Graph, tuple[Stage, ...]]:
    """A graph and the stages that execute it. Raises BadInput (`text_broken`)."""
    reader = _PlanReader()
    for line in lines_of(text):
        reader.read(line)
    return reader.graph.graph(), reader.stages()


class _PlanReader:
    """Takes the lines of a plan one by one; transfers wait for the target, which comes behind them."""

    def __init__(self) -> None:
        self.graph = GraphReader()
        self._names: OperatorNames | None = None
        self._stages: list[StageReader] = []
        self._sent: list[Line] = []
        self._held: list[Line] = []
        self._figures: dict[str, Any] = {}
        self._target: dict[str, Any] = {}
        self._source: list[str] = []
        self._records: dict[str, list[Any]] = {name: [] for name in RECORDS}
        self._columns: dict[str, dict[str, np.ndarray]] = {table: {} for table in _TABLES}
        self._readers: dict[str, Callable[[Line], None]] = {
            "plan": lambda line: self._figures.update(read_fields(line)),
            "target": lambda line: self._target.update(read_fields(line)),
            "source": lambda line: self._source.append(line.string()),
            "send": self._sent.append,
            "hold": self._held.append,
            "column": self._read_column,
        }

    def read(self, line: Line) -> None:
        first = line.peek()
        if first.text == "stage":
            self._stages.append(read_stage(line, len(self._stages), self._operator_names()))
        elif first.kind == "at" and self._stages:
            self._stages[-1].read_program(line)
        elif first.text in self._records:
            line.word("the field of a plan")
            self._records[first.text].append(for_codec(read_value(line)))
            line.end()
        elif first.text in self._readers:
            line.word("what the line is")
            self._readers[first.text](line)
        elif not self.graph.accept(line):
            raise line.refusal("a line of a plan")

    def _operator_names(self) -> OperatorNames:
        if self._names is None:
            self._names = OperatorNames(self.graph.operators)
        return self._names

    def _read_column(self, line: Line) -> None:
        table = line.word("the name of a table")
        if table == "tiles" and self._stages:
            self._stages[-1].read_column(line)
        elif table in _TABLES:
            read_raw(line, _TABLES[table], self._columns[table])
        else:
            raise line.refusal(f"one of the tables tiles, {', '.join(_TABLES)}", table)

    def stages(self) -> tuple[Stage, ...]:
        return tuple(stage.stage() for stage in self._stages)

    def plan(self) -> Plan:
        """Everything, put together."""
        graph, target = self.graph.graph(), self._read_target()
        names = tuple(sorted(graph.tensors))
        numbers = {name: number for number, name in enumerate(names)}
        buffers = BufferReader(numbers, graph.tensors)
        for line in self._held:
            buffers.read(line)
        transfers, hops = self._read_transfers(graph, target, numbers)
        if missing := set(_WRITTEN) - set(self._figures):
            raise broken(f"expected the figure {min(missing)} in the line plan, found none")
        return Plan(
            target=target,
            graph=graph,
            stages=self.stages(),
            transfers=transfers,
            hops=hops,
            buffers=buffers.columns(),
            tensor_names=names,
            **self._decoded(),
        )

    def _decoded(self) -> dict[str, Any]:
        try:
            figures = {
                _WRITTEN[name]: CODECS[_WRITTEN[name]].decode(for_codec(value))
                for name, value in self._figures.items()
            }
            records = {
                name: tuple(map(CODECS[name].decode, entries)) for name, entries in self._records.items()
            }
        except KeyError as error:
            raise broken(f"expected the figures {', '.join(_WRITTEN)}, found {error}") from None
        except CodecError as error:
            raise broken(f"a figure or record is not as it should be: {error}") from None
        return figures | records

    def _read_transfers(
        self, graph: Graph, target: Target, numbers: dict[str, int]
    ) -> tuple[TransferColumns, HopColumns]:
        raw = self._columns
        if raw["transfers"] or raw["hops"]:
            transfers = TransferColumns(**complete("transfers", TRANSFERS, raw["transfers"]))
            return transfers, HopColumns(**complete("hops", HOPS, raw["hops"]))
        reader = TransferReader(numbers, Wiring(target, [graph.tensors[name].dtype for name in numbers]))
        for line in self._sent:
            reader.read(line)
        return reader.columns()

    def _read_target(self) -> Target:
        links = complete("wires", LINKS, self._columns["wires"])
        chips = complete("chips", CHIPS, self._columns["chips"])
        try:
            target: Target = TARGET.decode(
                {name: for_codec(value) for name, value in self._target.items()}
                | {"sources": "\n".join(self._source)}
            )
        except CodecError as error:
            raise broken(f"the target is not as it should be: {error}") from None
        ends = zip(*(links[name].tolist() for name, _ in LINKS), strict=True)
        topology = replace(
            target.topology,
            links=tuple(Link(ChipId(source), ChipId(end), port) for source, end, port in ends),
            node_of=tuple(chips["node"].tolist()),
            rack_of=tuple(chips["rack"].tolist()),
        )
        return replace(target, topology=topology)
