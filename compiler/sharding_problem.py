"""Which factors the operators of a block split over a group of chips: the way in, and the answer."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from chiplan.ir import Certificate, Graph, Infeasible, Problem, Unit
from chiplan.partitioner import ShardingSolution, sharding_frontier, solve_sharding

from .atoms import Decision
from .pins import pinned, pins_of
from .placements import Placements
from .sharding_build import BlockVariables, ShardingTask
from .sharding_choices import Choice, operator_choices
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
    the cycles that it costs more, or None where it has no other. unable: operators whose pins nothing keeps
    on this group; their decisions are as if they had none.
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
    unable: frozenset[int] = frozenset()

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
    if solution is None or _unable(built, task.pins, every=False):
        raise _pins_conflict(task)
    return _answer(built, solution)


def shard_block_frontier(task: ShardingTask) -> tuple[BlockSharding, ...]:
    """Like `shard_block`, from the fastest answer to one of fewest bytes: what several blocks of a stage
    choose from, when they share a chip's SRAM. The task has no price. Where pins contradict each other the
    group is unable to execute what they concern; nothing is raised."""
    built = _built(task)
    solutions = sharding_frontier(built.problem())
    unable = _unable(built, task.pins, every=not solutions)
    if not solutions:
        built = _built(replace(task, pins={}))
        solutions = sharding_frontier(built.problem())
    return tuple(replace(_answer(built, solution), unable=unable) for solution in solutions)


def _unable(built: BlockVariables, pins: Mapping[str, str], every: bool) -> frozenset[int]:
    """Operators whose pins no choice keeps; or `every` one that has pins."""
    operators, atoms = built.graph.operators, built.atoms.operators
    return frozenset(
        index
        for index, choices in built.choices.items()
        if pins_of(operators[index], atoms[index], pins)
        and (every or not pinned(operators[index], atoms[index], choices, pins))
    )


def _built(task: ShardingTask) -> BlockVariables:
    choices: dict[int, tuple[Choice, ...]] = {}
    for index in task.operators:
        operator, atoms = task.graph.operators[index], task.atoms.operators[index]
        every = operator_choices(task.graph, task.atoms, index, task.mesh, task.chip)
        choices[index] = pinned(operator, atoms, every, task.pins) or every
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
