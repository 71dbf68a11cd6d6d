"""Rules of the verifier: types of what is stored, and what each unit can run."""

from collections.abc import Iterator

from .graph import Graph, Operator, Unit
from .verify_broken import Broken, place_of


def result_types(graph: Graph) -> Iterator[Broken]:
    """A tensor has the type of the value that is stored in it."""
    for operator in graph.operators:
        for result in operator.results:
            stored, dtype = operator.body[result.value].dtype, graph.tensors[result.tensor].dtype
            if stored is not dtype:
                place = place_of("operator", operator.name)
                yield Broken(place, f"a value of {dtype.value} for {result.tensor!a}", stored.value)


def unit_bodies(graph: Graph) -> Iterator[Broken]:
    """A product ends a matrix operator's body, and stands in no other; the switch and the memory unit run
    one instruction, the switch a copy."""
    for operator in graph.operators:
        opcodes = [instruction.opcode for instruction in operator.body]
        if not _runs(operator.unit, opcodes):
            yield Broken(place_of("operator", operator.name), _BODIES[operator.unit], ", ".join(opcodes))


_BODIES = {
    Unit.MATRIX: "gathers, then one MatMul",
    Unit.VECTOR: "no MatMul",
    Unit.SWITCH: "one Copy",
    Unit.MEMORY: "one instruction",
}


def _runs(unit: Unit, opcodes: list[str]) -> bool:
    match unit:
        case Unit.MATRIX:
            return opcodes[-1] == "MatMul" and set(opcodes[:-1]) <= {"Gather"}
        case Unit.VECTOR:
            return "MatMul" not in opcodes
        case Unit.SWITCH:
            return opcodes == ["Copy"]
        case Unit.MEMORY:
            return len(opcodes) == 1


def reductions_reduce(graph: Graph) -> Iterator[Broken]:
    """What an instruction reduces over are factors with a reducer."""
    for operator in graph.operators:
        for instruction in operator.body:
            factors = instruction.attribute("factors")
            if instruction.opcode.startswith("Reduce") and not _reduced(operator, factors):
                place = place_of("operator", operator.name)
                yield Broken(place, f"factors with a reducer for {instruction.opcode}", f"{factors}")


def _reduced(operator: Operator, factors: object) -> bool:
    return isinstance(factors, tuple) and all(
        isinstance(factor, int)
        and 0 <= factor < len(operator.factors)
        and operator.factors[factor].reducer is not None
        for factor in factors
    )
