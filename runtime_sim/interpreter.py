"""Runs a graph operator by operator on whole tensors: what every plan of the graph must compute."""

from collections.abc import Callable, Mapping

import numpy as np

from chiplan.ir import Graph, Operand, Operator, Result, Role, Tensor, apply_view

from .kernels import run_body

Weights = Callable[[Tensor], np.ndarray]


def fold_resident_rows(tensor: Tensor, axis: int, past: np.ndarray) -> np.ndarray:
    """A state as it is before the run: the past's rows first, zeros where the run will append."""
    whole = np.zeros(tensor.shape, tensor.dtype.numpy)
    whole[(slice(None),) * axis + (slice(0, past.shape[axis]),)] = past
    return whole


def result_box(result: Result, operator: Operator) -> tuple[slice, ...]:
    """The box of its tensor that a result writes."""
    return tuple(
        slice(offset, offset + (1 if axis is None else operator.factors[axis].extent))
        for axis, offset in zip(result.axes, result.offsets, strict=True)
    )


class Interpreter:
    """Values of all tensors of `graph` for one set of inputs, in `values`.

    weights: gives the values of a tensor with role WEIGHT that has no `value` of its own.
    states: the past of every state by the name of the model's input; it may stand in `inputs` too.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Mapping[str, np.ndarray],
        weights: Weights,
        states: Mapping[str, np.ndarray],
    ) -> None:
        self.graph = graph
        self.values: dict[str, np.ndarray] = {}
        self._weights = weights
        for name in graph.inputs:
            tensor = graph.tensors.get(name)
            if tensor is not None and tensor.role is Role.INPUT:
                self.values[name] = inputs[name].astype(tensor.dtype.numpy).reshape(tensor.shape)
        for state in graph.states:
            past = states.get(state.past, inputs.get(state.past))
            tensor = graph.tensors[state.tensor]
            if past is None:
                raise ValueError(f"no values for the state {state.past}")
            self.values[state.tensor] = fold_resident_rows(tensor, state.axis, past)

    def read(self, operand: Operand) -> np.ndarray:
        """The operand's values, seen through its view."""
        return apply_view(operand.view, self.value(operand.tensor))

    def value(self, name: str) -> np.ndarray:
        """A tensor's values; a weight's are fetched when first asked for."""
        if name not in self.values:
            tensor = self.graph.tensors[name]
            found = self._weights(tensor) if tensor.value is None else tensor.value
            self.values[name] = np.asarray(found, tensor.dtype.numpy).reshape(tensor.shape)
        return self.values[name]

    def run(self, operator: Operator) -> None:
        """Execute one operator; its operands must have been computed."""
        extents = tuple(factor.extent for factor in operator.factors)
        blocks = [self.read(operand) for operand in operator.operands]
        results = run_body(operator, blocks, extents, self.graph.tensors)
        for result, block in zip(operator.results, results, strict=True):
            tensor = self.graph.tensors[result.tensor]
            if result.tensor not in self.values:
                self.values[result.tensor] = np.zeros(tensor.shape, tensor.dtype.numpy)
            with np.errstate(all="ignore"):
                self.values[result.tensor][result_box(result, operator)] = block

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
