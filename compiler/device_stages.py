"""What the operators of each stage need and give, before anything is said of how it is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chiplan.ir import Graph, Role

from .atoms import Decision, GraphAtoms, TensorAtom
from .device_forms import Cuts, cuts_of
from .device_operators import LocalFactors, effective, local_factors, tensor_fronts
from .device_storage import Stored, Written
from .graph_edit import writers_of
from .placements import Placements, placements


@dataclass(frozen=True)
class GroupStage:
    """What a group of chips executes.

    operators: indices into the whole graph, ascending; cheap ones may be in several stages.
    mesh: extents of the group's mesh. decisions: for each operator, what it splits along each mesh axis.
    """

    operators: tuple[int, ...]
    mesh: tuple[int, ...]
    decisions: Mapping[int, Decision]


@dataclass
class DeviceStage:
    """One stage: what each operator needs of its operands and gives of its results; who reads and writes
    a tensor (`writes`: by tensor, the (operator, result) that write it); and, as it is decided, how
    tensors are stored where they are read and written."""

    number: int
    stage: GroupStage
    needs: dict[int, tuple[Cuts, ...]] = field(default_factory=dict)
    gives: dict[int, tuple[Placements, ...]] = field(default_factory=dict)
    local: dict[int, LocalFactors] = field(default_factory=dict)
    reads: dict[str, list[Cuts]] = field(default_factory=dict)
    writes: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)
    written: dict[str, Written] = field(default_factory=dict)

    @property
    def mesh(self) -> tuple[int, ...]:
        return self.stage.mesh

    def given(self, tensor: str) -> list[Placements]:
        """The placements that the operators give that write a tensor."""
        return [self.gives[index][position] for index, position in self.writes.get(tensor, ())]


def survey_stage(graph: Graph, atoms: GraphAtoms, number: int, stage: GroupStage) -> DeviceStage:
    """What the operators of stage `number` need and give under its decisions.

    Raises ValueError for a decision that no operator can carry out.
    """
    found = DeviceStage(number, stage)
    for index in stage.operators:
        operator = graph.operators[index]
        decision = effective(stage.decisions[index], stage.mesh)
        needs, gives = placements(graph, atoms, index, decision)
        found.needs[index], found.gives[index] = tuple(map(cuts_of, needs)), gives
        found.local[index] = local_factors(operator, atoms.operators[index], decision, stage.mesh)
        for operand, cuts in zip(operator.operands, found.needs[index], strict=True):
            found.reads.setdefault(operand.tensor, []).append(cuts)
        for position, result in enumerate(operator.results):
            found.writes.setdefault(result.tensor, []).append((index, position))
    return found


def stage_fronts(graph: Graph, atoms: GraphAtoms, stage: DeviceStage, tensor: str) -> set[TensorAtom]:
    """The atoms at whose front the dimensions of a tensor are taken apart by those that write it."""
    fronts = set()
    for index, position in stage.writes.get(tensor, ()):
        operator, entry = graph.operators[index], atoms.operators[index].results[position]
        fronts |= tensor_fronts(operator, operator.results[position], entry, stage.local[index])
    return fronts


def find_homes(graph: Graph, stages: Sequence[DeviceStage]) -> dict[str, int]:
    """By tensor, the first stage that computes it.

    Raises ValueError where a stage has but some of the operators that write a tensor, or reads what no
    stage before it computes.
    """
    homes: dict[str, int] = {}
    counts = {name: len(set(found)) for name, found in writers_of(graph.operators).items()}
    for stage in stages:
        for name, writers in stage.writes.items():
            homes.setdefault(name, stage.number)
            if len({index for index, _ in writers}) != counts[name]:
                raise ValueError(f"stage {stage.number} has some of the operators that write {name}")
    for stage in stages:
        for name in stage.reads:
            is_value = graph.tensors[name].role is Role.VALUE
            if is_value and homes.get(name, stage.number + 1) > stage.number:
                raise ValueError(f"stage {stage.number} reads {name}, which no stage before it computes")
    return homes


def find_crossing(stages: Sequence[DeviceStage], homes: Mapping[str, int]) -> set[str]:
    """The tensors that some stage reads from an earlier one."""
    return {
        name
        for stage in stages
        for name in stage.reads
        if homes.get(name, stage.number) != stage.number and name not in stage.writes
    }
