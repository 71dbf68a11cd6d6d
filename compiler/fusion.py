"""Fuse chains of elementwise operators, and a reduction at their end, into one vector pass.

The vector unit chains several operations on every element that streams through it, so a chain costs
one pass instead of one pass an operator, and what stays inside the chain needs no SRAM.
"""

from dataclasses import dataclass, field, replace

from chiplan.ir import Factor, Graph, Instruction, Operand, Operator, Result, Role, Unit

from .graph_edit import kept_tensors, readers_of, sorted_graph


@dataclass
class _Group:
    """Operators that become one pass. `ancestors` is a bit set of the groups that must run before,
    `followers` are groups that read what it makes. `written`: the results of its members, by tensor."""

    extents: tuple[int, ...]
    takes_more: bool
    members: list[Operator] = field(default_factory=list)
    instructions: int = 0
    ancestors: int = 0
    followers: set[int] = field(default_factory=set)
    written: dict[str, Result] = field(default_factory=dict)


_UNFUSED = frozenset({"TopKValues", "TopKIndices", "CumSum", "ArgMax", "ArgMin"})


def fuse_vector_chains(graph: Graph, chained: int) -> Graph:
    """The graph with vector operators over one iteration space fused, up to `chained` instructions."""
    groups: list[_Group] = []
    group_of: dict[str, list[int]] = {}
    readers_in: dict[Operand, list[int]] = {}
    for operator in graph.operators:
        before = sorted({g for operand in operator.operands for g in group_of.get(operand.tensor, ())})
        beside = {g for operand in operator.operands for g in readers_in.get(operand, ())}
        host = _host(operator, before, sorted(beside.union(before)), groups, chained)
        if host is None:
            host = len(groups)
            groups.append(_Group(_extents(operator), _fusible(operator)))
        _join(groups, host, operator, before)
        for result in operator.results:
            writers = group_of.setdefault(result.tensor, [])
            if host not in writers:
                writers.append(host)
        for operand in operator.operands:
            if graph.tensors[operand.tensor].role is Role.VALUE:
                readers_in.setdefault(operand, []).append(host)
    readers, kept = readers_of(graph.operators), kept_tensors(graph)
    fused = [_fused(group, graph, readers, kept) for group in groups]
    return sorted_graph(graph, fused)


def _extents(operator: Operator) -> tuple[int, ...]:
    return tuple(factor.extent for factor in operator.factors)


def _host(
    operator: Operator, before: list[int], candidates: list[int], groups: list[_Group], chained: int
) -> int | None:
    """The latest group that the operator can join: aligned, short enough, and without a detour. Candidates
    made one of its operands, or read one as it does."""
    if not _fusible(operator):
        return None
    extents, barred = _extents(operator), 0
    for other in before:
        barred |= groups[other].ancestors
    for host in reversed(candidates):
        group = groups[host]
        if barred >> host & 1 or not group.takes_more:
            continue
        if group.instructions + len(operator.body) > chained or group.extents != extents:
            continue
        if _aligned(operator, group) and _reducers_agree(operator, group):
            return host
    return None


def _fusible(operator: Operator) -> bool:
    return (
        operator.unit is Unit.VECTOR
        and not any(f.whole or f.gathered for f in operator.factors)
        and not any(instruction.opcode in _UNFUSED for instruction in operator.body)
    )


def _aligned(operator: Operator, group: _Group) -> bool:
    """Every value that the group hands over is read element by element: iteration f reads what
    iteration f wrote, and the group did not reduce it."""
    written = group.written
    return all(
        not operand.view
        and operand.axes == written[operand.tensor].axes
        and not any(written[operand.tensor].offsets)
        and _covers(operator, written[operand.tensor])
        for operand in operator.operands
        if operand.tensor in written
    )


def _covers(operator: Operator, result: Result) -> bool:
    """The result runs along every factor with extent above 1: nothing was reduced or broadcast."""
    return all(f in result.axes for f, factor in enumerate(operator.factors) if factor.extent > 1)


def _reducers_agree(operator: Operator, group: _Group) -> bool:
    for member in group.members:
        for mine, theirs in zip(operator.factors, member.factors, strict=True):
            if mine.reducer and theirs.reducer and mine.reducer is not theirs.reducer:
                return False
    return True


def _join(groups: list[_Group], host: int, operator: Operator, before: list[int]) -> None:
    group = groups[host]
    group.members.append(operator)
    group.instructions += len(operator.body)
    group.written |= {result.tensor: result for result in operator.results}
    gained = 0
    for other in before:
        if other != host:
            gained |= groups[other].ancestors | 1 << other
            groups[other].followers.add(host)
    waiting = [host]
    while waiting:
        later = groups[waiting.pop()]
        if gained & ~later.ancestors:
            later.ancestors |= gained
            waiting += later.followers


def _fused(group: _Group, graph: Graph, readers: dict[str, list[int]], kept: set[str]) -> Operator:
    if len(group.members) == 1:
        return group.members[0]
    operands, results, body = _merged_body(group.members, _visible(group, graph, readers, kept))
    nodes = dict.fromkeys(node for member in group.members for node in member.nodes)
    name, factors = group.members[-1].name, _merged_factors(group.members)
    return Operator(name, Unit.VECTOR, factors, operands, results, body, tuple(nodes))


def _merged_factors(members: list[Operator]) -> tuple[Factor, ...]:
    columns = zip(*(member.factors for member in members), strict=True)
    return tuple(replace(c[0], reducer=next((f.reducer for f in c if f.reducer), None)) for c in columns)


def _visible(group: _Group, graph: Graph, readers: dict[str, list[int]], kept: set[str]) -> set[str]:
    """Tensors of the group that somebody outside reads."""
    inside = {member.name for member in group.members}
    return {
        name
        for name in group.written
        if name in kept or any(graph.operators[r].name not in inside for r in readers.get(name, ()))
    }


def _merged_body(
    members: list[Operator], visible: set[str]
) -> tuple[tuple[Operand, ...], tuple[Result, ...], tuple[Instruction, ...]]:
    """One body out of several: an input is first ("operand" or "value", index), then a flat number."""
    operands: list[Operand] = []
    values: dict[str, int] = {}
    chain: list[tuple[Instruction, list[tuple[str, int]]]] = []
    results: list[Result] = []
    for member in members:
        base, sources = len(chain), list[tuple[str, int]]()
        for operand in member.operands:
            if operand.tensor in values:
                sources.append(("value", values[operand.tensor]))
                continue
            if operand not in operands:
                operands.append(operand)
            sources.append(("operand", operands.index(operand)))
        count = len(sources)
        for instruction in member.body:
            inputs = [sources[i] if i < count else ("value", base + i - count) for i in instruction.inputs]
            chain.append((instruction, inputs))
        for result in member.results:
            values[result.tensor] = base + result.value
            if result.tensor in visible:
                results.append(replace(result, value=base + result.value))
    return tuple(operands), tuple(results), tuple(_numbered(*link, len(operands)) for link in chain)


def _numbered(instruction: Instruction, inputs: list[tuple[str, int]], operands: int) -> Instruction:
    flat = tuple(i if kind == "operand" else operands + i for kind, i in inputs)
    return Instruction(instruction.opcode, flat, instruction.dtype, instruction.attributes)
