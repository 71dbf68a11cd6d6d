"""Why a model does not fit, said before or after the solver, with what is missing."""

from collections.abc import Sequence

from chiplan.ir import Graph, Infeasible, Problem, Role, Target
from chiplan.partitioner import FewestStages, PartitionProblem

from .graph_edit import readers_of

_MIB = 1 << 20


def megabytes(nbytes: int) -> str:
    """Bytes for people."""
    return f"{nbytes / 1e6:,.1f} MB"


def check_tables(graph: Graph, target: Target) -> None:
    """Refuse weights and states that no single chip can hold, all at once."""
    usable = target.chip.usable_bytes
    readers = readers_of(graph.operators)
    problems = [
        Problem(
            "tensor_too_large",
            f"{tensor.role.value} {name} needs {megabytes(tensor.nbytes)}, one chip of {target.name} holds "
            f"{megabytes(usable)}: no pipeline of single chips can hold it. Use a smaller --precision or a "
            "target with more SRAM a chip.",
            node=_reader(graph, readers.get(name, ())),
            needed=tensor.nbytes,
            available=usable,
        )
        for name, tensor in graph.tensors.items()
        if tensor.role in (Role.WEIGHT, Role.STATE) and tensor.nbytes > usable
    ]
    if problems:
        raise Infeasible(problems)


def _reader(graph: Graph, readers: Sequence[int]) -> str | None:
    """The node of the first of `readers`, if there is one."""
    if not readers:
        return None
    operator = graph.operators[readers[0]]
    return operator.nodes[0] if operator.nodes else operator.name


def refuse_memory(
    problem: PartitionProblem, chips: int, fewest: FewestStages | None, target: Target
) -> Infeasible:
    """The refusal when no cut into the chips asked for fits into SRAM."""
    total = sum(resident.nbytes for resident in problem.resident)
    active = int(problem.activations.max(initial=0))
    spare = target.chip.usable_bytes - problem.capacity
    needed, available = total + active + spare * chips, target.chip.usable_bytes * chips
    message = (
        f"{chips} chip{'s' if chips > 1 else ''} of {target.name} hold{'' if chips > 1 else 's'} "
        f"{megabytes(available)}; weights and states take "
        f"{megabytes(total)}, the activations of the largest operator {megabytes(active)}: "
        + (f"{megabytes(needed - available)} short. " if needed > available else "no cut fits. ")
        + _cure(fewest, target)
    )
    smallest = fewest.count if fewest else None
    return Infeasible(
        Problem("sram_too_small", message, needed=needed, available=available, smallest_chips=smallest)
    )


def _cure(fewest: FewestStages | None, target: Target) -> str:
    if fewest is None:
        return "No number of chips fits, one chip a stage: use a smaller --batch, --sequence or --precision."
    there = target.topology.chips
    missing = f", but {target.name} has {there}" if fewest.count > there else ""
    return f"The smallest number of chips that fits is {fewest.count}{missing}."
