"""Rules of the verifier: tensors, and the views through which they are read."""

from collections.abc import Iterator, Sequence
from math import prod

from .graph import Graph, Operand, Output, Role, Tensor
from .types import Shape
from .verify_broken import Broken, place_of
from .views import Own, Slice, ViewStep, Window, step_shape

MOST_ELEMENTS = 2**48
"""More elements than any tensor has; a file that claims more is refused."""
MOST_COMPUTED = 2**30
"""Elements of a tensor that is computed, or of what a view shows of one: each must lie in a chip's SRAM,
and the simulator holds a cycle for every one of them."""
MOST_AXES = 16
"""Fewer than numpy's limit on dimensions, with room for the axes that a view splits off."""


def tensor_names(graph: Graph) -> Iterator[Broken]:
    """A tensor stands under its own name."""
    for name, tensor in graph.tensors.items():
        if tensor.name != name:
            yield Broken(place_of("tensor", name), f"the name {name!a}", f"{tensor.name!a}")


def tensor_shapes(graph: Graph) -> Iterator[Broken]:
    """Extents are positive, and no tensor has more axes or elements than any machine takes."""
    for name, tensor in graph.tensors.items():
        most = most_elements(tensor)
        if not shape_fits(tensor.shape, most):
            expected = f"at most {MOST_AXES} extents of at least 1, with at most {most} elements"
            yield Broken(place_of("tensor", name), expected, f"the shape {tensor.shape}")


def most_elements(tensor: Tensor) -> int:
    """Of a tensor, and of what is seen of it: a weight is there from the start, however large."""
    return MOST_ELEMENTS if tensor.role is Role.WEIGHT else MOST_COMPUTED


def shape_fits(shape: Shape, most: int = MOST_ELEMENTS) -> bool:
    return len(shape) <= MOST_AXES and min(shape, default=1) >= 1 and prod(shape) <= most


def resident_rows(graph: Graph) -> Iterator[Broken]:
    """Rows that a state has before the run are rows of it."""
    for name, tensor in graph.tensors.items():
        if tensor.resident_rows is None:
            continue
        axis, count = tensor.resident_rows
        if not (0 <= axis < len(tensor.shape) and 0 <= count <= tensor.shape[axis]):
            expected = f"resident rows within the shape {tensor.shape}"
            yield Broken(place_of("tensor", name), expected, f"{count} along axis {axis}")


def tensor_shardings(graph: Graph) -> Iterator[Broken]:
    """Whole, atoms and cuts of a sharded tensor are about the same elements."""
    for name, tensor in graph.tensors.items():
        for expected, found in _sharding(tensor):
            yield Broken(place_of("tensor", name), expected, found)


def _sharding(tensor: Tensor) -> Iterator[tuple[str, str]]:
    sharding = tensor.sharding
    if sharding is None:
        return
    atoms = sharding.atoms
    if not (shape_fits(sharding.shape) and shape_fits(atoms) and prod(sharding.shape) == prod(atoms)):
        yield f"atoms of the shape {sharding.shape}", f"{atoms}"
    dimensions = [cut.dimension for cut in sharding.cuts]
    if len(set(dimensions)) < len(dimensions) or any(not 0 <= d < len(atoms) for d in dimensions):
        yield f"cuts of distinct dimensions of {atoms}", f"{dimensions}"
    axes = [axis for cut in sharding.cuts for axis in cut.axes]
    if not all(cut.axes for cut in sharding.cuts) or not distinct(axes):
        yield "cuts over distinct mesh axes", f"{[cut.axes for cut in sharding.cuts]}"


def distinct(axes: Sequence[int]) -> bool:
    """Whether `axes` could be axes of a mesh; which mesh it is depends on the stage."""
    return len(set(axes)) == len(axes) and min(axes, default=0) >= 0


def tensors_exist(graph: Graph) -> Iterator[Broken]:
    """Whatever is named is a tensor of the graph."""
    for place, name in _named(graph):
        if name not in graph.tensors:
            yield Broken(place, "a tensor of the graph", f"{name!a}")


def _named(graph: Graph) -> Iterator[tuple[str, str]]:
    yield from (("inputs", name) for name in graph.inputs)
    yield from ((place_of("output", output.name), output.tensor) for output in graph.outputs)
    yield from ((place_of("state", state.past), state.tensor) for state in graph.states)
    for operator in graph.operators:
        place = place_of("operator", operator.name)
        yield from ((place, operand.tensor) for operand in operator.operands)
        yield from ((place, result.tensor) for result in operator.results)


def views_apply(graph: Graph) -> Iterator[Broken]:
    """Every step of a view fits what it is applied to."""
    for place, item in _viewed(graph):
        if item.tensor in graph.tensors:
            shape, misfit = seen(item, graph)
            if misfit is not None:
                yield Broken(place, f"a step that fits {item.tensor!a} of shape {shape}", str(misfit))


def _viewed(graph: Graph) -> Iterator[tuple[str, Operand | Output]]:
    for operator in graph.operators:
        yield from ((place_of("operator", operator.name), operand) for operand in operator.operands)
    yield from ((place_of("output", output.name), output) for output in graph.outputs)


def seen(item: Operand | Output, graph: Graph) -> tuple[Shape, ViewStep | None]:
    """The shape that an operand or output has through its view; or that of the view as far as it fits,
    and the first step that does not."""
    tensor = graph.tensors[item.tensor]
    shape = tensor.whole_shape if isinstance(item, Output) else tensor.shape
    for step in item.view:
        following = _after(step, shape, most_elements(tensor))
        if following is None:
            return shape, step
        shape = following
    return shape, None


def _after(step: ViewStep, shape: Shape, most: int) -> Shape | None:
    if not _arguments_fit(step, shape):
        return None
    try:
        following = step_shape(step, shape)
    except ValueError:
        return None
    return following if shape_fits(following, most) else None


def _arguments_fit(step: ViewStep, shape: Shape) -> bool:
    """Whether a step keeps to the promises of its docstring, which `step_shape` takes for granted."""
    match step:
        case Slice(starts=starts, stops=stops, steps=steps):
            same_rank = len(starts) == len(stops) == len(steps) == len(shape)
            bounds = zip(starts, stops, steps, shape, strict=False)
            return same_rank and all(0 <= a < b <= extent and by >= 1 for a, b, by, extent in bounds)
        case Window(axis=axis, size=size, stride=stride, dilation=dilation):
            if not 0 <= axis < len(shape) or min(size, stride, dilation) < 1:
                return False
            return (size - 1) * dilation < shape[axis]
        case Own(axis=axis, ways=ways, axes=axes):
            return 0 <= axis < len(shape) and ways >= 1 and bool(axes) and distinct(axes)
    return True
