"""How a plan is changed in one place: columns with a cell replaced, rows dropped, repeated or sorted anew."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from chiplan.ir import Plan, Stage

Break = Callable[[Plan, np.random.Generator], Plan | None]
"""A plan broken at random, None where it has nothing of the kind."""


@dataclass(frozen=True)
class Kind:
    """One way to break a plan. names: the faults that may be found of it, by whichever comes first.
    model: the change is one of the graph itself, which only the numbers of the model can show.
    reason: why more than a tenth of these mutants are harmless, where that is so."""

    title: str
    change: Break
    names: frozenset[str]
    model: bool = False
    reason: str = ""


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def pick(random: np.random.Generator, count: int) -> int:
    return int(random.integers(count))


def amount(random: np.random.Generator) -> int:
    """A few cycles, bytes or elements, either way; never 0."""
    size = int(random.choice([1, 1, 2, 3, 7, 20, 60]))
    return size if random.random() < 0.5 else -size


def column_names(columns: object) -> list[str]:
    return [field.name for field in fields(columns)]


def cells(columns: object, row: int, **values: int) -> object:
    """`columns` with entries of one row replaced."""
    changed = {name: getattr(columns, name).copy() for name in values}
    for name, value in values.items():
        changed[name][row] = value
    return replace(columns, **changed)


def rows(columns: object, index: np.ndarray) -> object:
    """The rows `index` of `columns`, in that order."""
    return replace(columns, **{name: getattr(columns, name)[index] for name in column_names(columns)})


def with_stage(plan: Plan, number: int, **changes: object) -> Plan:
    stages = list(plan.stages)
    stages[number] = replace(stages[number], **changes)
    return replace(plan, stages=tuple(stages))


def with_program(plan: Plan, number: int, **changes: object) -> Plan:
    return with_stage(plan, number, program=replace(plan.stages[number].program, **changes))


def some_stage(plan: Plan, random: np.random.Generator) -> tuple[int, Stage]:
    number = pick(random, len(plan.stages))
    return number, plan.stages[number]


def with_operator(plan: Plan, index: int, **changes: object) -> Plan:
    operators = list(plan.graph.operators)
    operators[index] = replace(operators[index], **changes)
    return replace(plan, graph=replace(plan.graph, operators=tuple(operators)))


def with_tensor(plan: Plan, name: str, **changes: object) -> Plan:
    tensors = {**plan.graph.tensors, name: replace(plan.graph.tensors[name], **changes)}
    return replace(plan, graph=replace(plan.graph, tensors=tensors))


def hops_of(plan: Plan, transfer: int) -> np.ndarray:
    return np.flatnonzero(plan.hops.transfer == transfer)


def canonical(plan: Plan) -> Plan:
    """Rows in the order that the plan file asks for, so that a mutant is not found by its order alone."""
    b, t = plan.buffers, plan.transfers
    plan = replace(plan, buffers=rows(b, np.lexsort((b.tensor, b.address, b.chip))))
    order = np.lexsort((t.first, t.tensor, t.destination, t.source, t.start))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    hops = replace(plan.hops, transfer=place[plan.hops.transfer] if len(order) else plan.hops.transfer)
    hops = rows(hops, np.lexsort((hops.hop, hops.transfer)))
    return replace(plan, transfers=rows(t, order), hops=hops)
