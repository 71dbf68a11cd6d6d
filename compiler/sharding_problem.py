"""Which factors the operators of a block split over a group of chips: the way in, and the answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chiplan.ir import Certificate, Chip, Graph, Infeasible, Problem, Unit
from chiplan.partitioner import ShardingSolution, sharding_frontier, solve_sharding

from .atoms import Decision, GraphAtoms
from .collective_costs import CollectiveCosts
from .pins import pinned, pins_of
from .placements import Placements
from .sharding_build import BlockVariables
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


def shard_block(
    graph: Graph,
    atoms: GraphAtoms,
    operators: Sequence[int],
    mesh: tuple[int, ...],
    costs: CollectiveCosts,
    chip: Chip,
    users: int,
    pins: Mapping[str, str],
    ends: Sequence[tuple[str, str]] | None = None,
    *,
    boundary: Mapping[str, Placements] | None = None,
    capacity: int | None = None,
    price: int = 0,
) -> BlockSharding:
    """Choose what each of `operators` (indices into the graph) splits over `mesh`.

    costs: for the chips of the group, in the mesh's row-major order. ends: pairs (value that enters, value
    that leaves) of a repeated block: both are placed alike. boundary: placements of other values that
    cross the block's ends; whole on every chip if not given. capacity: bytes a chip for weights and states
    (default: all of the chip's usable SRAM); when nothing fits, the answer is that of fewest bytes.
    price: cycles that a MiB of them is worth, where chips are scarce.
    Raises Infeasible (`pins_conflict`) when the pins leave no choice.
    """
    built = _built(graph, atoms, operators, mesh, costs, chip, users, pins, ends, boundary)
    limit = int(chip.usable_bytes) if capacity is None else capacity
    solution = solve_sharding(built.problem(limit, price))
    if solution is None or _unable(built, pins, every=False):
        raise _pins_conflict(pins, mesh)
    return _answer(built, solution)


def shard_block_frontier(
    graph: Graph,
    atoms: GraphAtoms,
    operators: Sequence[int],
    mesh: tuple[int, ...],
    costs: CollectiveCosts,
    chip: Chip,
    users: int,
    pins: Mapping[str, str],
    ends: Sequence[tuple[str, str]] | None = None,
    *,
    boundary: Mapping[str, Placements] | None = None,
    capacity: int | None = None,
) -> tuple[BlockSharding, ...]:
    """Like `shard_block`, from the fastest answer to one of fewest bytes: what several blocks of a stage
    choose from, when they share a chip's SRAM. Where pins contradict each other the group is unable to
    execute what they concern; nothing is raised."""
    limit = int(chip.usable_bytes) if capacity is None else capacity
    built = _built(graph, atoms, operators, mesh, costs, chip, users, pins, ends, boundary)
    solutions = sharding_frontier(built.problem(limit, price=0))
    unable = _unable(built, pins, every=not solutions)
    if not solutions:
        built = _built(graph, atoms, operators, mesh, costs, chip, users, {}, ends, boundary)
        solutions = sharding_frontier(built.problem(limit, price=0))
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


def _built(
    graph: Graph,
    atoms: GraphAtoms,
    operators: Sequence[int],
    mesh: tuple[int, ...],
    costs: CollectiveCosts,
    chip: Chip,
    users: int,
    pins: Mapping[str, str],
    ends: Sequence[tuple[str, str]] | None,
    boundary: Mapping[str, Placements] | None,
) -> BlockVariables:
    choices: dict[int, tuple[Choice, ...]] = {}
    for index in operators:
        every = operator_choices(graph, atoms, index, mesh, chip)
        choices[index] = pinned(graph.operators[index], atoms.operators[index], every, pins) or every
    return BlockVariables(graph, atoms, choices, mesh, costs, users, ends or (), boundary or {})


def _pins_conflict(pins: Mapping[str, str], mesh: tuple[int, ...]) -> Infeasible:
    asked = ", ".join(f"{node}={factor}" for node, factor in sorted(pins.items()))
    message = f"on a group of {' x '.join(map(str, mesh))} chips the pins {asked or '(none)'} contradict"
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
