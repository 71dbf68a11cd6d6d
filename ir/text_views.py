"""Views in the text form: `%x|reshape[2, 32]|transpose[1, 0]` reads left to right, as the steps apply.

step = "|" ( "reshape" ints | "expand" ints | "transpose" ints
           | "slice" "[" [ low ":" high ":" step { "," ... } ] "]"      (the step 1 is left out)
           | "window" "[" axis "," size "," stride "," dilation "]"
           | "own" "[" axis "," ways [ "," shift ] "]" mesh )
"""

from .text_lexer import Line, integers_text, mesh_axes_text
from .views import Expand, Own, Reshape, Slice, Transpose, View, ViewStep, Window


def view_text(view: View) -> str:
    return "".join(f"|{_step_text(step)}" for step in view)


def _step_text(step: ViewStep) -> str:
    match step:
        case Reshape(shape=shape):
            return f"reshape{integers_text(shape)}"
        case Expand(shape=shape):
            return f"expand{integers_text(shape)}"
        case Transpose(permutation=permutation):
            return f"transpose{integers_text(permutation)}"
        case Slice(starts=starts, stops=stops, steps=steps):
            return f"slice[{', '.join(map(_range_text, starts, stops, steps))}]"
        case Window(axis=axis, size=size, stride=stride, dilation=dilation):
            return f"window{integers_text((axis, size, stride, dilation))}"
        case Own(axis=axis, axes=axes, ways=ways, shift=shift):
            numbers = (axis, ways, shift) if shift else (axis, ways)
            return f"own{integers_text(numbers)}{mesh_axes_text(axes)}"


def _range_text(start: int, stop: int, step: int) -> str:
    return f"{start}:{stop}" if step == 1 else f"{start}:{stop}:{step}"


def read_view(line: Line) -> View:
    """The steps at the cursor, perhaps none."""
    steps = []
    while line.accept("|"):
        steps.append(_read_step(line))
    return tuple(steps)


def _read_step(line: Line) -> ViewStep:
    kind = line.word("a step of a view")
    match kind:
        case "reshape":
            return Reshape(line.integers())
        case "expand":
            return Expand(line.integers())
        case "transpose":
            return Transpose(line.integers())
        case "slice":
            ranges = line.bracketed(lambda: _read_range(line))
            return Slice(*(tuple(bound[part] for bound in ranges) for part in range(3)))
        case "window":
            numbers = line.integers()
            if len(numbers) == 4:
                return Window(*numbers)
        case "own":
            numbers = line.integers()
            if len(numbers) in (2, 3):
                axis, ways, *shift = numbers
                return Own(axis, line.mesh_axes(), ways, *shift)
    raise line.refusal("reshape, expand, transpose, slice, window or own, with its numbers", kind)


def _read_range(line: Line) -> tuple[int, int, int]:
    start = line.integer()
    line.expect(":")
    stop = line.integer()
    return start, stop, line.integer() if line.accept(":") else 1
