"""Why a model does not fit, said before or after the solver, with what is missing."""

from chiplan.ir import Graph, Infeasible, Problem, Role, Target
from chiplan.partitioner import PartitionProblem

_MIB = 1 << 20


def megabytes(nbytes: int) -> str:
    """Bytes for people."""
    return f"{nbytes / 1e6:,.1f} MB"


def check_tables(graph: Graph, target: Target) -> None:
    """Refuse weights and states that no single chip can hold, all at once."""
    usable = target.chip.usable_bytes
    problems = [
        Problem(
            "tensor_too_large",
            f"{tensor.role.value} {name} needs {megabytes(tensor.nbytes)}, one chip of {target.name} holds "
            f"{megabytes(usable)}: no pipeline of single chips can hold it. Use a smaller --precision or a "
            "target with more SRAM a chip.",
            node=_reader(graph, name),
            needed=tensor.nbytes,
            available=usable,
        )
        for name, tensor in graph.tensors.items()
        if tensor.role in (Role.WEIGHT, Role.STATE) and tensor.nbytes > usable
    ]
    if problems:
        raise Infeasible(problems)


def _reader(graph: Graph, name: str) -> str | None:
    for operator in graph.operators:
        if any(operand.tensor == name for operand in operator.operands):
            return operator.nodes[0] if operator.nodes else operator.name
    return None


def refuse_memory(problem: PartitionProblem, smallest: int | None, target: Target) -> Infeasible:
    """The refusal when no cut into the chips asked for fits into SRAM."""
    total = sum(resident.nbytes for resident in problem.resident)
    reserve = target.chip.usable_bytes - problem.capacity
    needed, available = total + reserve * problem.stages, target.chip.usable_bytes * problem.stages
    cure = (
        f"The smallest number of chips that fits is {smallest}"
        + (f", but {target.name} has {target.topology.chips}." if smallest > target.topology.chips else ".")
        if smallest is not None
        else "No number of chips fits, one chip a stage: use a smaller --batch, --sequence or --precision."
    )
    message = (
        f"{problem.stages} chips of {target.name} hold {megabytes(available)}; weights and states take "
        f"{megabytes(total)} and activations at least {megabytes(reserve)} a chip: "
        + (f"{megabytes(needed - available)} short. " if needed > available else "no cut fits. ")
        + cure
    )
    return Infeasible(
        Problem("sram_too_small", message, needed=needed, available=available, smallest_chips=smallest)
    )
