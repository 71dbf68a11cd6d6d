"""Does what each chip holds and executes fit the mesh of its group?"""

from collections.abc import Iterator
from math import ceil, prod
from typing import TypeAlias

from chiplan.ir import MeshPlace, Operator, Own, Result, Role, Tensor, View, mesh_ways

from .faults import Fault
from .timeline import Timeline

Mesh: TypeAlias = tuple[int, ...]


def check_shardings(timeline: Timeline) -> Iterator[Fault]:
    """wrong_sharding: pieces of factors, tensors and views are as large as the mesh makes them."""
    tensors = timeline.graph.tensors
    for number, stage in enumerate(timeline.plan.stages):
        for index in stage.program.operators:
            operator = timeline.graph.operators[index]
            for problem in _operator_problems(operator, tensors, stage.mesh):
                yield Fault("wrong_sharding", f"operator {operator.name}: {problem}",
                            chip=int(stage.chips[0]), stage=number, operator=operator.name)  # fmt: skip
    held = zip(timeline.plan.buffers.tensor.tolist(), timeline.plan.buffers.chip.tolist(), strict=True)
    for position, chip in held:
        name, number = timeline.plan.tensor_names[position], int(timeline.groups.stage[chip])
        if tensors[name].sharding is None or number < 0:
            continue
        misfit = _tensor_problem(tensors[name], timeline.groups.mesh(number))
        if misfit is not None:
            yield Fault("wrong_sharding", f"tensor {name}: {misfit}", chip=chip, stage=number, tensor=name)


def on_mesh(axes: tuple[int, ...], mesh: Mesh) -> bool:
    """Whether `axes` are distinct axes of a mesh."""
    return len(set(axes)) == len(axes) and all(0 <= axis < len(mesh) for axis in axes)


def _operator_problems(operator: Operator, tensors: dict[str, Tensor], mesh: Mesh) -> Iterator[str]:
    for split in operator.splits:
        factor = operator.factors[split.factor]
        if not on_mesh(split.axes, mesh):
            yield f"factor {factor.name} is split over the axes {split.axes}, which the mesh {mesh} lacks"
        elif factor.extent < (part := ceil(split.extent / mesh_ways(mesh, split.axes))):
            yield (
                f"factor {factor.name} has {factor.extent} iterations, but {split.extent} over the axes "
                f"{split.axes} of the mesh {mesh} take {part} or more"
            )
    for operand in operator.operands:
        yield from _view_problems(operand.view, mesh)
    for result in operator.results:
        tensor = tensors[result.tensor]
        problems = list(_result_problems(result, tensor, mesh))
        yield from problems
        if not problems and result.only and tensor.role is Role.STATE:
            yield from _append_problems(result, tensor, mesh)


def _view_problems(view: View, mesh: Mesh) -> Iterator[str]:
    for step in view:
        if isinstance(step, Own) and not (
            on_mesh(step.axes, mesh) and mesh_ways(mesh, step.axes) == step.ways
        ):
            yield f"one of {step.ways} pieces over the axes {step.axes} is read on the mesh {mesh}"


def _result_problems(result: Result, tensor: Tensor, mesh: Mesh) -> Iterator[str]:
    if result.own and not (on_mesh(result.own, mesh) and mesh_ways(mesh, result.own) == tensor.shape[0]):
        yield (
            f"{result.tensor} has {tensor.shape[0]} pieces, one for each chip along the axes {result.own} of "
            f"the mesh {mesh}"
        )
    if any(not (axis < len(mesh) and coordinate < mesh[axis]) for axis, coordinate in result.only):
        yield f"{result.tensor} is written by the chips {result.only}, which the mesh {mesh} lacks"


def _append_problems(result: Result, tensor: Tensor, mesh: Mesh) -> Iterator[str]:
    """Rows that some chips alone append: those that hold the last rows of a state whose rows are cut. All
    other chips have their rows before the run."""
    coordinates, sharding = dict(result.only), tensor.sharding
    cuts = [] if sharding is None else [c for c in sharding.cuts if set(c.axes) == coordinates.keys()]
    if sharding is None or not cuts or tensor.resident_rows is None:
        yield f"the chips {result.only} alone append to {tensor.name}, which is not cut over these axes"
        return
    (cut,) = cuts
    piece, axis = sharding.piece_shape(mesh), tensor.resident_rows[0]
    if prod(piece[: cut.dimension]) != prod(tensor.shape[:axis]):
        yield f"the chips {result.only} alone append to {tensor.name}, of which not the rows are cut"
        return
    place = MeshPlace(mesh, tuple(coordinates.get(axis, 0) for axis in range(len(mesh))))
    last = (sharding.atoms[cut.dimension] - 1) // piece[cut.dimension]
    if place.piece(cut.axes) != last:
        yield f"the chips {result.only} append to {tensor.name}, but its last rows are in piece {last}"


def _tensor_problem(tensor: Tensor, mesh: Mesh) -> str | None:
    sharding = tensor.sharding
    if sharding is None:
        return None
    if not on_mesh(tuple(axis for cut in sharding.cuts for axis in cut.axes), mesh):
        return f"it is cut over axes that the mesh {mesh} lacks"
    piece = sharding.piece_shape(mesh)
    if prod(piece) != tensor.elements:
        return f"a piece on the mesh {mesh} has the extents {piece}, but its shape is {tensor.shape}"
    return None
