"""What a plan's outputs are held against: the model in onnxruntime, in the types that the plan has."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from chiplan.ir import DType, Graph, Tensor
from chiplan.runtime_sim import Interpreter

from .canonical import build_graph
from .imported import ImportedModel
from .numeric_error import worst_output
from .numeric_noise import ROUNDINGS, least_scales
from .precision import apply_precision
from .reference import run_exported, run_original
from .reference_export import export_graph
from .weights import WeightReader

TOLERANCES = {"fp32": 1e-4, "fp16": 5e-3, "int8": 4e-2, "w8a16": 5e-3}
"""Largest error, as a fraction of the output's largest value. docs/numerics.md says why."""

_ON_THE_WIRE = {DType.FP16: TOLERANCES["fp16"]}
"""The same where chips send each other partial sums in this type."""

Arrays: TypeAlias = dict[str, np.ndarray]
Weights: TypeAlias = Callable[[Tensor], np.ndarray]


def in_graph_types(given: Arrays, graph: Graph) -> Arrays:
    """Inputs and pasts in the types that the graph has for them."""
    kinds = {name: graph.tensors[name].dtype for name in graph.inputs if name in graph.tensors}
    kinds |= {state.past: graph.tensors[state.tensor].dtype for state in graph.states}
    return {name: a.astype(kinds[name].numpy) if name in kinds else a for name, a in given.items()}


def model_kind(imported: ImportedModel) -> str:
    """Key of `TOLERANCES` for the model's own types."""
    kinds = {tensor.dtype.value for tensor in imported.tensors.values()}
    if kinds & {"int8", "uint8"}:
        return "int8"
    return "fp16" if kinds & {"fp16", "bf16"} else "fp32"


class Reference:
    """Outputs of a model by onnxruntime: of its file, or of an export with `precision` applied.

    The export has the plan's types, but neither its rewrites nor its fused chains.
    exchanged: types of what the chips of a group send each other.
    tolerance, own_tolerance: of the plan's outputs, and of the imported graph in the model's own types.
    """

    def __init__(
        self, model_path: Path, imported: ImportedModel, precision: str, exchanged: Iterable[DType] = ()
    ) -> None:
        self.imported, self.weights = imported, WeightReader(model_path)
        self.own_tolerance = TOLERANCES[model_kind(imported)]
        # A model that is quantised already rounds to its own steps in any type.
        self.tolerance = max(self.own_tolerance, TOLERANCES.get(precision, 0.0))
        self.tolerance = max([self.tolerance, *(_ON_THE_WIRE.get(dtype, 0.0) for dtype in exchanged)])
        self._path, self._precision = model_path, precision
        self._graph = build_graph(imported)

    def import_error(self, given: Arrays) -> tuple[float, str]:
        """Error of the imported graph, interpreted in the model's own types, and the output with it."""
        interpreter = self._interpreted(given)
        found, wanted = interpreter.outputs(), run_original(self._path, in_graph_types(given, self._graph))
        error, name = worst_output(found, wanted)
        if error > self.own_tolerance:
            rounding = ROUNDINGS[model_kind(self.imported)]
            return worst_output(found, wanted, least_scales(interpreter, rounding, self.own_tolerance))
        return error, name

    def least_scales(self, given: Arrays) -> dict[str, float]:
        """Scales of the plan's outputs that are nothing but rounding in the plan's precision."""
        kind = model_kind(self.imported)
        rounding = max(ROUNDINGS[kind], ROUNDINGS.get(self._precision, 0.0))
        return least_scales(self._interpreted(given), rounding, self.tolerance)

    def _interpreted(self, given: Arrays) -> Interpreter:
        given = in_graph_types(given, self._graph)
        interpreter = Interpreter(self._graph, given, self.weights, given)
        for operator in self._graph.operators:
            interpreter.run(operator)
        return interpreter

    def cast_error(self, given: Arrays, wanted: Arrays) -> float:
        """How far the cast model's outputs `wanted` are from those of the model file."""
        if self._precision == "model":
            return 0.0
        original = run_original(self._path, given)
        error, _ = worst_output(wanted, original)
        return (
            error if error <= self.tolerance else worst_output(wanted, original, self.least_scales(given))[0]
        )

    def outputs(self, inputs: Sequence[Arrays]) -> list[Arrays]:
        """The reference's outputs for every entry of `inputs`."""
        if self._precision == "model":
            return [run_original(self._path, given) for given in inputs]
        typed = apply_precision(self._graph, self._precision)
        model = export_graph(typed, self.weights)
        return [run_exported(model, in_graph_types(given, typed)) for given in inputs]
