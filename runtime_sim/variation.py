"""Which tensors differ from chip to chip of a group, and along which axes of its mesh.

A chip has a piece of a weight, a term of a sum, its own part of an axis: all that is made of such a
tensor differs as well, until every chip has written its own piece of a gathered tensor. The one that
is whole again may go anywhere, and be read by the host; the others may not.
"""

from collections.abc import Iterator

from chiplan.ir import ExchangeKind, Operator, Own, Role, Tensor, View

from .faults import Fault
from .timeline import Timeline


class Variation:
    """Mesh axes along which tensors differ; an axis of one chip makes no difference."""

    def __init__(self, timeline: Timeline) -> None:
        self._graph = timeline.graph
        self._moved = {
            exchange.target: exchange
            for exchange in timeline.graph.exchanges
            if exchange.kind is not ExchangeKind.GATHER
        }
        self._axes: dict[str, frozenset[int]] = {}
        meshes: dict[int, list[tuple[int, ...]]] = {}
        for stage in timeline.plan.stages:
            for index in stage.program.operators:
                meshes.setdefault(index, []).append(stage.mesh)
        for index in sorted(meshes):
            wide = {axis for mesh in meshes[index] for axis, ways in enumerate(mesh) if ways > 1}
            self._note(self._graph.operators[index], wide)

    def axes(self, name: str) -> frozenset[int]:
        """Axes along which the chips of a group hold different values of a tensor."""
        exchange = self._moved.get(name)
        if exchange is not None:
            return self.axes(exchange.source) | frozenset(exchange.axes)
        return self._axes.get(name, frozenset()) | cut_axes(self._graph.tensors[name])

    def _note(self, operator: Operator, wide: set[int]) -> None:
        differs = {axis for split in operator.splits for axis in split.axes}
        for operand in operator.operands:
            differs |= self.axes(operand.tensor) | _own_axes(operand.view)
        for result in operator.results:
            tensor = self._graph.tensors[result.tensor]
            some = {axis for axis, _ in result.only} if tensor.role is not Role.STATE else set()
            here = ((differs | some) & wide) - set(result.own)
            self._axes[result.tensor] = self._axes.get(result.tensor, frozenset()) | here


def cut_axes(tensor: Tensor) -> frozenset[int]:
    """Mesh axes over which a given tensor, a state or an output is cut."""
    cuts = tensor.sharding.cuts if tensor.sharding is not None else ()
    return frozenset(axis for cut in cuts for axis in cut.axes)


def _own_axes(view: View) -> set[int]:
    return {axis for step in view if isinstance(step, Own) for axis in step.axes}


def check_variation(timeline: Timeline, variation: Variation) -> Iterator[Fault]:
    """wrong_sharding: what the host reads is equal on all chips but for the pieces that it is cut into."""
    graph = timeline.graph
    read = [(output.name, output.tensor) for output in graph.outputs]
    read += [(state.present, state.tensor) for state in graph.states]
    for name, stored in read:
        tensor = graph.tensors[stored]
        beyond = sorted(variation.axes(stored) - cut_axes(tensor))
        if beyond and tensor.role is not Role.WEIGHT:
            message = (
                f"output {name} differs from chip to chip along the mesh axes {beyond}, but its tensor "
                f"{stored} is not cut over them"
            )
            yield Fault("wrong_sharding", message, tensor=stored)
