"""Inputs, weights and states of a device graph: which piece of them each chip holds."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from chiplan.ir import Graph, Role, Tensor

from .atoms import GraphAtoms
from .device_forms import Form, Groups, grouped, plain_form, sharding_of
from .device_operators import groups_at
from .device_stages import DeviceStage, stage_fronts
from .device_storage import Stored, Written, resident_cuts, store_state


class Residents:
    """Decides how what is there before the run is cut; `tensors` are those of the device graph.

    outputs: tensors that the model gives out: they stay whole. copied: the name of a stage's own copy.
    """

    def __init__(
        self,
        graph: Graph,
        atoms: GraphAtoms,
        outputs: Collection[str],
        copied: Callable[[str, int], str],
    ) -> None:
        self._graph, self._atoms, self._outputs, self._copied = graph, atoms, outputs, copied
        self.tensors: dict[str, Tensor] = {}

    def store_inputs(self, stages: Sequence[DeviceStage]) -> None:
        """An input is cut only where all stages that read it agree: it has one tensor in the model."""
        for name, tensor in self._graph.tensors.items():
            if tensor.role is not Role.INPUT:
                continue
            readers = [stage for stage in stages if name in stage.reads]
            needs = [cuts for stage in readers for cuts in stage.reads[name]]
            is_alike = len({stage.mesh for stage in readers}) == 1 and name not in self._outputs
            for stage in readers:
                atoms = self._atoms.tensors[name]
                cuts = resident_cuts(atoms, stage.mesh, needs) if is_alike else ()
                form = plain_form(atoms, stage.mesh, cuts)
                stage.stored[name] = Stored(name, form)
                self._declare(tensor, name, form)

    def store_others(self, stage: DeviceStage) -> None:
        """The weights and states of a stage."""
        for name in dict.fromkeys((*stage.reads, *stage.writes)):
            tensor = self._graph.tensors[name]
            if tensor.role is Role.WEIGHT:
                self._store_weight(stage, tensor)
            elif tensor.role is Role.STATE:
                self._store_state(stage, tensor)

    def _store_weight(self, stage: DeviceStage, tensor: Tensor) -> None:
        """A weight has another name where another stage has other pieces of it."""
        atoms, needs = self._atoms.tensors[tensor.name], stage.reads[tensor.name]
        cuts = () if tensor.name in self._outputs else resident_cuts(atoms, stage.mesh, needs)
        form = plain_form(atoms, stage.mesh, cuts)
        known = self.tensors.get(tensor.name)
        is_shared = known is None or (known.shape == form.shape and known.sharding == sharding_of(form))
        name = tensor.name if is_shared else self._copied(tensor.name, stage.number)
        stage.stored[tensor.name] = Stored(name, form)
        self._declare(tensor, name, form)

    def _store_state(self, stage: DeviceStage, tensor: Tensor) -> None:
        name, atoms = tensor.name, self._atoms.tensors[tensor.name]
        if name in self.tensors:
            raise ValueError(f"state {name} is used in stage {stage.number} and in one before it")
        form = store_state(tensor, atoms, stage.mesh, stage.reads.get(name, []), stage.given(name))
        groups = groups_at(atoms, stage_fronts(self._graph, self._atoms, stage, name))
        form = replace(form, body=grouped(form.piece, groups))
        stage.stored[name] = Stored(name, form)
        stage.written[name] = Written(name, form, groups, tensor.dtype)
        self._declare(tensor, name, form, groups)

    def _declare(self, tensor: Tensor, name: str, form: Form, groups: Groups | None = None) -> None:
        if form.cuts or name != tensor.name:
            rows = None if groups is None else _local_rows(tensor, form, groups)
            sharding = sharding_of(form)
            tensor = replace(tensor, name=name, shape=form.shape, resident_rows=rows, sharding=sharding)
        self.tensors[name] = tensor


def _local_rows(tensor: Tensor, form: Form, groups: Groups) -> tuple[int, int] | None:
    """The resident rows of the chip that appends the next one. Raises ValueError where a piece's rows are
    no rows of the state."""
    if tensor.resident_rows is None:
        return None
    axis, count = tensor.resident_rows
    if len(groups[axis]) > 1:
        raise ValueError(f"the rows of state {tensor.name} are cut unevenly within other rows")
    stored_axis = sum(map(len, groups[:axis]))
    part = form.shape[stored_axis]
    return stored_axis, count - min(count, tensor.shape[axis] - 1) // part * part
