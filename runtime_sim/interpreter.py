"""Runs a graph operator by operator on whole tensors: what every plan of the graph must compute."""

from collections.abc import Mapping

import numpy as np

from chiplan.ir import Graph, MeshPlace, Operand, Operator, Role, apply_view

from .kernels import run_body
from .pieces import (
    ALONE,
    Weights,
    cut_piece,
    is_idle,
    poisoned,
    real_extents,
    result_box,
    whole_past,
    whole_weight,
    writes_here,
)


class Interpreter:
    """Values of all tensors of `graph` for one set of inputs, in `values`, as they come into being.

    weights: gives the values of a tensor with role WEIGHT that has no `value` of its own.
    states: the past of every state by the name of the model's input; it may stand in `inputs` too.
    place: the chip of a group that executes the graph; it holds its pieces of the tensors.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Mapping[str, np.ndarray],
        weights: Weights,
        states: Mapping[str, np.ndarray],
        place: MeshPlace = ALONE,
    ) -> None:
        self.graph, self.place = graph, place
        self.values: dict[str, np.ndarray] = {}
        self._inputs, self._weights = inputs, weights
        self._pasts: dict[str, tuple[int, np.ndarray]] = {}
        for state in graph.states:
            past = states.get(state.past, inputs.get(state.past))
            if past is None:
                raise ValueError(f"no values for the state {state.past}")
            self._pasts[state.tensor] = (state.axis, past)

    def read(self, operand: Operand) -> np.ndarray:
        """The operand's values, seen through its view."""
        return apply_view(operand.view, self.value(operand.tensor), self.place)

    def value(self, name: str) -> np.ndarray:
        """A tensor's values; those that are there before the run are fetched when first asked for.

        Raises ValueError for a tensor that no operator has written yet.
        """
        if name not in self.values:
            if self.graph.tensors[name].role is Role.VALUE:
                raise ValueError(f"tensor {name} is read before any operator writes it")
            self.values[name] = self._resident(name)
        return self.values[name]

    def _resident(self, name: str) -> np.ndarray:
        tensor = self.graph.tensors[name]
        if tensor.role is Role.WEIGHT:
            whole = whole_weight(tensor, self._weights)
        elif tensor.role is Role.INPUT:
            whole = self._inputs[name].astype(tensor.dtype.numpy).reshape(tensor.whole_shape)
        else:
            whole = whole_past(tensor, *self._pasts[name])
        return cut_piece(tensor, whole, self.place)

    def _stored(self, name: str) -> np.ndarray:
        """The tensor as it is before an operator writes a box of it."""
        tensor = self.graph.tensors[name]
        if tensor.role is Role.VALUE and name not in self.values:
            self.values[name] = poisoned(tensor.shape, tensor.dtype)
        return self.value(name)

    def run(self, operator: Operator) -> None:
        """Execute one operator; its operands must have been computed."""
        extents = real_extents(operator, self.place)
        targets = [self._stored(result.tensor) for result in operator.results]
        if is_idle(operator, extents):
            return
        blocks = [self._block(operand, extents) for operand in operator.operands]
        results = run_body(operator, blocks, extents, self.graph.tensors, self.place)
        for target, result, block in zip(targets, operator.results, results, strict=True):
            if writes_here(result, self.place):
                with np.errstate(all="ignore"):
                    target[result_box(result, operator, self.place)] = block

    def _block(self, operand: Operand, extents: tuple[int, ...]) -> np.ndarray:
        """The operand's values for the iterations that are executed."""
        ranges = [slice(None) if axis is None else slice(extents[axis]) for axis in operand.axes]
        return self.read(operand)[(*ranges, ...)]

    def outputs(self) -> dict[str, np.ndarray]:
        """The model's outputs by name; the presents of states are among them."""
        found = {state.present: self.value(state.tensor) for state in self.graph.states}
        for output in self.graph.outputs:
            found[output.name] = apply_view(output.view, self.value(output.tensor))
        return found


def interpret(
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    weights: Weights,
    states: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """The model's outputs by name (presents of states included), computed on whole operators.

    Raises ValueError for an opcode without a kernel or a state without values.
    """
    interpreter = Interpreter(graph, inputs, weights, states)
    for operator in graph.operators:
        interpreter.run(operator)
    return interpreter.outputs()
