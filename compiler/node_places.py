"""Which stages of a plan execute a node of the ONNX file.

A plan says it of operators; a node is what several of them came from, or none. The rules, which
docs/onnx-export.md explains:

1. A node is executed by every stage that executes all of its operators.
2. Where no stage executes all of them, a cut lies inside the node: it goes whole to the last stage that
   executes any.
3. A node that no operator came from (views, constants, arithmetic on shapes) is executed by every stage that
   needs its value; but the shape of a value is taken where the value is made.
4. No node is executed before what it reads: it is moved to a later stage where that is needed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from chiplan.ir import Graph, Plan

from .file_nodes import FileNodes


@dataclass(frozen=True)
class NodePlaces:
    """stages: of every node of the file, ascending; none for a node on which no output depends.
    cut: names of nodes with a cut inside (rule 2). moved: of those that rule 4 moved."""

    stages: tuple[tuple[int, ...], ...]
    cut: tuple[str, ...]
    moved: tuple[str, ...]


def place_nodes(plan: Plan, whole: Graph, nodes: FileNodes) -> NodePlaces:
    """`whole`: the graph that was planned, before it was divided over chips."""
    planned, cut = _planned(plan, whole, nodes)
    stages, moved = settle(nodes, planned)
    return NodePlaces(
        stages,
        tuple(nodes.nodes[index].name for index in sorted(cut)),
        tuple(nodes.nodes[index].name for index in sorted(moved)),
    )


def settle(nodes: FileNodes, planned: Mapping[int, set[int]]) -> tuple[tuple[tuple[int, ...], ...], set[int]]:
    """Rules 3 and 4: the stages of every node, and the nodes that were moved. planned: stages of those nodes
    that operators came from."""
    placed, moved, home = _not_before_inputs(nodes, planned)
    return tuple(tuple(sorted(found)) for found in _as_needed(nodes, placed, home)), moved


def planned_name(name: str, stage: int, known: Collection[str]) -> str:
    """What an operator of a stage is called in the graph that was planned, whose names are `known`: one of a
    group has its stage behind an `@` where several stages execute it."""
    bare, mark, number = name.rpartition("@")
    return bare.rstrip("@") if name not in known and mark and number == str(stage) else name


def _stage_operators(plan: Plan, known: Collection[str]) -> list[frozenset[str]]:
    """Names, in the graph that was planned, of the operators of every stage."""
    operators = plan.graph.operators
    return [
        frozenset(planned_name(operators[index].name, number, known) for index in stage.program.operators)
        for number, stage in enumerate(plan.stages)
    ]


def _planned(plan: Plan, whole: Graph, nodes: FileNodes) -> tuple[dict[int, set[int]], set[int]]:
    """Rules 1 and 2: stages by node, and the nodes that are cut."""
    parts: dict[int, set[str]] = {}
    for operator in whole.operators:
        for name in operator.nodes:
            owner = nodes.owner(name)
            if owner is not None:
                parts.setdefault(owner, set()).add(operator.name)
    executed = _stage_operators(plan, frozenset(operator.name for operator in whole.operators))
    stages: dict[int, set[int]] = {}
    cut = set()
    for index, operators in parts.items():
        complete = {number for number, held in enumerate(executed) if operators <= held}
        partly = {number for number, held in enumerate(executed) if operators & held}
        if complete or partly:
            stages[index] = complete or {max(partly)}
        if partly and not complete:
            cut.add(index)
    return stages, cut


def _not_before_inputs(
    nodes: FileNodes, planned: Mapping[int, set[int]]
) -> tuple[dict[int, set[int]], set[int], list[int]]:
    """Rule 4: stages by node, those moved, and the first stage in which every node's value can be."""
    placed: dict[int, set[int]] = {}
    moved = set()
    home: list[int] = []
    for index, node in enumerate(nodes.nodes):
        makers = (nodes.maker_of[name] for name in node.needs if name in nodes.maker_of)
        first = max((home[maker] for maker in makers), default=0)
        if index in planned:
            placed[index] = {max(stage, first) for stage in planned[index]}
            if placed[index] != planned[index]:
                moved.add(index)
        home.append(min(placed.get(index, {first})))
    return placed, moved, home


def _as_needed(nodes: FileNodes, placed: dict[int, set[int]], home: Sequence[int]) -> list[set[int]]:
    """Rule 3, from the last node to the first."""
    stages: list[set[int]] = [set(placed.get(index, ())) for index in range(len(nodes.nodes))]
    for name in nodes.outputs:
        maker = nodes.maker_of.get(name)
        if maker is not None and maker not in placed:
            stages[maker].add(home[maker])
    for index in reversed(range(len(nodes.nodes))):
        node = nodes.nodes[index]
        if index not in placed and stages[index] and node.reads_shapes:
            stages[index] = {home[index]}
        for name in node.needs:
            maker = nodes.maker_of.get(name)
            if maker is not None and maker not in placed:
                stages[maker] |= stages[index]
    return stages
