"""Which factors the operators of a block split over a group of chips: the way in, and the answer."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from chiplan.ir import BadInput, Certificate, Graph, Infeasible, Problem, Unit
from chiplan.partitioner import ShardingSolution, sharding_frontier, solve_sharding

from .atoms import Decision, GraphAtoms, splittable
from .placements import Placements
from .sharding_build import BlockVariables, ShardingTask
from .sharding_choices import operator_choices, pin_names, pinned
from .sharding_costs import PieceCost
from .sharding_tensors import Held

UNITS = tuple(Unit)


@dataclass(frozen=True)
class BlockSharding:
    """What every operator of a block splits on a group, by operator index.

    cycles: estimated latency, one operator after the other, collectives included. unit_work: int64[units],
    cycles of one instance of one chip, in the order of `ir.Unit`. resident_bytes: weights and states a
    chip. link_cycles: of the busiest link. pieces: what each operator takes on one chip. held: how every
    value stands in the group, by name; residents: how states, and weights of several readers, lie. fits:
    whether the residents are within the capacity. alternatives: the best other decision of an operator and
    the cycles that it costs more, or None where it has no other.
    """

    decisions: dict[int, Decision]
    cycles: int
    unit_work: np.ndarray
    resident_bytes: int
    link_cycles: int
    pieces: dict[int, PieceCost]
    held: dict[str, Held]
    residents: dict[str, Placements]
    fits: bool
    certificate: Certificate
    alternatives: Callable[[int], tuple[Decision, int] | None]

    def converted(self, graph: Graph) -> Iterator[tuple[str, Held, int]]:
        """(value, how it is held, operator) of values that are converted: at the operator that makes the
        value, or, where it enters the block, at the first that reads it. What enters a repeated block
        leaves the one before it unconverted, so every value is converted once."""
        operators = graph.operators
        at = {o.tensor: index for index in reversed(self.decisions) for o in operators[index].operands}
        at |= {r.tensor: index for index in self.decisions for r in operators[index].results}
        for name, held in self.held.items():
            if held.conversions:
                yield name, held, at[name]


def shard_block(task: ShardingTask) -> BlockSharding:
    """Choose what each operator of a block splits. When nothing fits, the answer is that of fewest bytes.

    Raises Infeasible (`pins_conflict`) when the pins leave no choice.
    """
    built = _built(task)
    solution = solve_sharding(built.problem())
    if solution is None:
        raise _pins_conflict(task)
    return _answer(built, solution)


def shard_block_frontier(task: ShardingTask) -> tuple[BlockSharding, ...]:
    """Like `shard_block`, from the fastest answer to one of fewest bytes: what several blocks of a stage
    choose from, when they share a chip's SRAM. The task has no price."""
    built = _built(task)
    solutions = sharding_frontier(built.problem())
    if not solutions:
        raise _pins_conflict(task)
    return tuple(_answer(built, solution) for solution in solutions)


def _built(task: ShardingTask) -> BlockVariables:
    graph = task.graph
    choices = {
        index: pinned(
            graph.operators[index],
            operator_choices(graph, task.atoms, index, task.mesh, task.chip),
            task.pins,
        )
        for index in task.operators
    }
    return BlockVariables(task, choices)


def _pins_conflict(task: ShardingTask) -> Infeasible:
    asked = ", ".join(f"{node}={factor}" for node, factor in sorted(task.pins.items()))
    message = f"on a group of {' x '.join(map(str, task.mesh))} chips the pins {asked or '(none)'} contradict"
    return Infeasible(Problem("pins_conflict", f"{message} each other; leave one of them out"))


def _answer(built: BlockVariables, solution: ShardingSolution) -> BlockSharding:
    chosen = {index: built.choices[index][solution.values[v]] for index, v in built.item.items()}
    held = {name: states[solution.values[v]] for name, (v, states) in built.held.items()}
    work = np.zeros(len(UNITS), dtype=np.int64)
    for index, choice in chosen.items():
        work[UNITS.index(built.graph.operators[index].unit)] += choice.cost.work
    work[UNITS.index(Unit.VECTOR)] += sum(state.cost.vector for state in held.values())

    def alternatives(index: int) -> tuple[Decision, int] | None:
        found = solution.next_best(built.item[index])
        return None if found is None else (built.choices[index][found[0]].decision, found[1])

    return BlockSharding(
        decisions={index: choice.decision for index, choice in chosen.items()},
        cycles=solution.cycles,
        unit_work=work,
        resident_bytes=solution.nbytes,
        link_cycles=sum(state.cost.link for state in held.values()),
        pieces={index: choice.cost for index, choice in chosen.items()},
        held=held,
        residents={n: placements[solution.values[v]] for n, (v, placements) in built.resident.items()},
        fits=solution.fits,
        certificate=solution.certificate,
        alternatives=alternatives,
    )


def check_pins(graph: Graph, atoms: GraphAtoms, pins: Mapping[str, str]) -> None:
    """Refuse pins of nodes that no operator came from, and of factors that none of them can split.

    Raises BadInput (`unknown_pin_node`, `unknown_pin_factor`), naming what there is.
    """
    offered: dict[str, set[str]] = {}
    for operator, own in zip(graph.operators, atoms.operators, strict=True):
        names = {operator.factors[factor].name for factor, _ in splittable(operator, own)}
        for node in pin_names(operator):
            offered.setdefault(node, {"none"}).update(names)
    problems = []
    for node, factor in sorted(pins.items()):
        if node not in offered:
            message = f"--pin {node}={factor}: no planned operator comes from a node {node}"
            message += _near(node, offered)
            problems.append(Problem("unknown_pin_node", message, node=node))
        elif not offered[node].issuperset(factor.split(",")):
            names_text = ", ".join(sorted(offered[node]))
            message = f"--pin {node}={factor}: expected one of the factors of {node}: {names_text}"
            problems.append(Problem("unknown_pin_factor", message, node=node, dimension=factor))
    if problems:
        raise BadInput(problems)


def _near(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, sorted(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else "; `chiplan show --sharding` lists them"
