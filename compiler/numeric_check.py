"""`simulate --numerics`: does the plan, executed tile by tile, compute what the model computes?"""

from dataclasses import dataclass, replace
from pathlib import Path

from chiplan.ir import ChipId, Incomparable, Plan, Problem
from chiplan.runtime_sim import Execution, Group, GroupInterpreter, TileExecution, execute

from .import_load import load_graph_file
from .imported import ImportedModel
from .importer import import_model
from .numeric_error import largest, relative_error, worst_output
from .numeric_reference import Arrays, Reference, Weights, in_graph_types
from .reference_inputs import random_inputs

_MOST_MICRO_BATCHES = 3


@dataclass(frozen=True)
class Divergence:
    """The first place where a plan goes wrong; None where a coordinate has no meaning.

    cycle: start of the tile, in cycles of the micro-batch. error: relative to the tensor's scale.
    """

    message: str
    tensor: str
    error: float
    operator: str | None = None
    chip: ChipId | None = None
    tile: int | None = None
    cycle: int | None = None
    micro_batch: int = 0


@dataclass(frozen=True)
class NumericsReport:
    """max_error: over all outputs and micro-batches, relative to each output's scale.
    cast_error: how far the reference, cast to the plan's precision, is from the model file; that is
    what the precision costs, and no fault of the plan. None where it was not found out."""

    ok: bool
    max_error: float
    tolerance: float
    micro_batches: int
    first_divergence: Divergence | None = None
    cast_error: float | None = None


class _Check:
    """A plan's execution against the reference's outputs."""

    def __init__(self, plan: Plan, weights: Weights, tolerance: float) -> None:
        self._plan, self._weights, self._tolerance = plan, weights, tolerance

    def execute(self, inputs: list[Arrays], recorded: int = 0) -> Execution:
        return execute(
            self._plan, [in_graph_types(g, self._plan.graph) for g in inputs], self._weights, recorded
        )

    def explain(self, inputs: list[Arrays], wanted: list[Arrays], micro_batch: int) -> Divergence:
        """Where micro-batch `micro_batch` first goes wrong."""
        interpreter = self._interpreted(inputs[micro_batch])
        if isinstance(interpreter, Divergence):
            return replace(interpreter, micro_batch=micro_batch)
        error, name = worst_output(interpreter.outputs(), wanted[micro_batch])
        if not error <= self._tolerance:
            return Divergence(self._wrong_graph(name), name, error, micro_batch=micro_batch)
        execution = self.execute(inputs, micro_batch)
        places = self._places()
        for (number, chip), tiles in sorted(execution.tiles.items(), key=lambda item: item[0]):
            found = self._diverging_tile(number, chip, tiles, interpreter.values(*places[chip]), micro_batch)
            if found is not None:
                return found
        error, name = worst_output(execution.outputs[micro_batch], wanted[micro_batch])
        message = f"every tile is right, but output {name} was not there, or no longer, at the end"
        return Divergence(message, name, error, micro_batch=micro_batch)

    def _interpreted(self, inputs: Arrays) -> GroupInterpreter | Divergence:
        """What every chip must compute, or why the plan's graph cannot be computed."""
        graph, given = self._plan.graph, in_graph_types(inputs, self._plan.graph)
        groups = [Group(stage.program.operators, stage.mesh) for stage in self._plan.stages]
        interpreter = GroupInterpreter(graph, groups, given, self._weights)
        try:
            interpreter.run_all()
            interpreter.outputs()
        except ValueError as error:
            message = f"the plan's graph has no meaning: {error}; a fault before any scheduling"
            return Divergence(message, "", float("inf"))
        return interpreter

    def _wrong_graph(self, output: str) -> str:
        if all(len(stage.chips) == 1 for stage in self._plan.stages):
            return f"the graph itself does not compute the model's {output}: a fault before any planning"
        return (
            f"the graph that the groups of chips execute does not compute the model's {output}: a fault of "
            "its pieces or exchanges, before any scheduling"
        )

    def _places(self) -> dict[ChipId, tuple[int, int]]:
        """Stage and rank of every chip."""
        return {
            chip: (index, rank)
            for index, stage in enumerate(self._plan.stages)
            for rank, chip in enumerate(stage.chips)
        }

    def _diverging_tile(
        self, number: int, chip: ChipId, tiles: TileExecution, values: Arrays, micro_batch: int
    ) -> Divergence | None:
        operator = tiles.operator
        stored = zip(operator.results, tiles.written, tiles.boxes, tiles.is_stored, strict=True)
        for result, written, region, is_stored in stored:
            wanted = values[result.tensor][region]
            if not is_stored or relative_error(written, wanted) <= self._tolerance:
                continue
            scale = largest(wanted)
            for tile, where in enumerate(tiles.tiles):
                box = tuple(slice(None) if axis is None else where[axis] for axis in result.axes)
                # The tile's error by its own scale, brought back to the tensor's.
                part = largest(wanted[box])
                error = relative_error(written[box], wanted[box]) * part / scale
                if error > self._tolerance:
                    cycle = self._start(number, chip, tile)
                    message = (
                        f"operator {operator.name}, tile {tile} on chip {chip} at cycle {cycle} stores "
                        f"a wrong {result.tensor} (off by {error:.2g} of its largest value)"
                    )
                    place = (operator.name, chip, tile, cycle, micro_batch)
                    return Divergence(message, result.tensor, error, *place)
        return None

    def _start(self, number: int, chip: ChipId, tile: int) -> int | None:
        for stage in self._plan.stages:
            if chip in stage.chips and number in stage.program.operators:
                columns = stage.program.tiles
                row = (columns.operator == stage.program.operators.index(number)) & (columns.tile == tile)
                return int(columns.start[row][0])
        return None


def first_divergence(
    plan: Plan,
    weights: Weights,
    tolerance: float,
    inputs: list[Arrays],
    wanted: list[Arrays],
    micro_batch: int,
) -> Divergence:
    """Where a plan that does not give the outputs `wanted` goes wrong first in one micro-batch."""
    return _Check(plan, weights, tolerance).explain(inputs, wanted, micro_batch)


def import_for_plan(plan: Plan, model_path: Path) -> ImportedModel:
    """The plan's model, bound as it was compiled. Raises Incomparable (`other_model`) for another one."""
    # The bindings alone fix every shape; --sequence would be refused by a model without that axis.
    prefix = "bind "
    bind = {name[len(prefix) :]: int(value) for name, value in plan.options if name.startswith(prefix)}
    fingerprint = load_graph_file(model_path).fingerprint
    if fingerprint != plan.model_fingerprint:
        message = (
            f"the plan was made from another model than {model_path.name}: fingerprint "
            f"{plan.model_fingerprint[:12]}, not {fingerprint[:12]}. Give the model that was compiled."
        )
        raise Incomparable(Problem("other_model", message))
    return import_model(model_path, bind=bind)


def check_numerics(
    plan: Plan, model_path: Path, imported: ImportedModel | None = None, seed: int = 0
) -> NumericsReport:
    """Execute the plan for a few overlapping micro-batches, and compare all outputs with onnxruntime.

    The reference is the model file, or with another `--precision` the model cast the same way.
    Raises Incomparable when MODEL is not the plan's, BadInput when it has no weights or cannot run.
    """
    exchanged = {plan.graph.tensors[exchange.source].dtype for exchange in plan.graph.exchanges}
    reference = Reference(
        model_path, imported or import_for_plan(plan, model_path), plan.precision, exchanged
    )
    tolerance = reference.tolerance
    in_flight = -(-int(plan.latency) // max(1, int(plan.interval)))
    copies = plan.users if plan.graph.states else in_flight
    count = min(copies + 1, _MOST_MICRO_BATCHES)
    inputs = [random_inputs(reference.imported, seed + n) for n in range(count)]
    error, name = reference.import_error(inputs[0])
    if error > reference.own_tolerance:
        message = f"the imported graph does not compute the model's {name}: a fault of the importer"
        return NumericsReport(False, error, tolerance, count, Divergence(message, name, error))
    wanted = reference.outputs(inputs)
    check = _Check(plan, reference.weights, tolerance)
    execution = check.execute(inputs)
    errors = [
        _plan_error(reference, given, found, right)
        for given, found, right in zip(inputs, execution.outputs, wanted, strict=True)
    ]
    wrong = [n for n, error in enumerate(errors) if not error <= tolerance]
    divergence = check.explain(inputs, wanted, wrong[0]) if wrong else None
    cast_error = reference.cast_error(inputs[0], wanted[0])
    return NumericsReport(not wrong, max(errors), tolerance, count, divergence, cast_error)


def _plan_error(reference: Reference, given: Arrays, found: Arrays, wanted: Arrays) -> float:
    """The largest error of a micro-batch's outputs; only when it is too large is it worth finding out
    which outputs are nothing but rounding."""
    error, _ = worst_output(found, wanted)
    if error > reference.tolerance:
        error, _ = worst_output(found, wanted, reference.least_scales(given))
    return error
