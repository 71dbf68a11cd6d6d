"""The partition graph as an SVG picture, laid out here: a column of boxes, one a stage, or, where there
are many, one for neighbours that are alike.

An edge to the next box runs in the gap below the box, with its label beside it. Any other edge
leaves at the right, runs down a lane of its own, and enters its box at a port whose label stands
inside the box; so nothing overlaps, however many edges there are. Boxes grow with their ports.
What the chips of a group send each other is a bar and some words in their box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from chiplan.ir import Plan, Unit, plan_elapsed

from .drawing import bound_lines
from .drawing_boxes import (
    BoxEdge,
    StageBox,
    box_title,
    edge_details,
    edge_words,
    inside_words,
    nodes_words,
    partition,
)
from .drawing_topology import TOPOLOGY_SIZE, draw_topology
from .plan_summary import precision_words, state_words, wire_types
from .quantities import counted, duration, share, size

MARGIN, BOX_WIDTH, GAP = 28, 780, 54
TITLE, LINE = 44, 18
ROW, PORT_TOP, LANE = 17, 34, 16
TITLE_ROOM = 34
BAR_LEFT, BAR_WIDTH, PORT_ROOM = 340, 140, 220
HEADER_ROOM = BOX_WIDTH - TOPOLOGY_SIZE - 20
LETTER = 6.3
"""Pixels that a letter of the text may take."""

STYLE = """
.page { fill: #ffffff } .box { fill: #f6f8fa; stroke: #8c959f } .track { fill: #d8dee4 }
.text { fill: #1f2328 } .faint { fill: #59636e } .bar { fill: #0969da } .full { fill: #bc4c00 }
.edge { stroke: #57606a; fill: none } .head { fill: #57606a } .wire { stroke: #d0d7de }
.used { stroke: #0969da } .chip { fill: #f6f8fa; stroke: #8c959f } .busy { fill: #0969da; stroke: #0969da }
.odd { fill: #8250df; stroke: #8250df }
.on { fill: #ffffff } .node { fill: none; stroke: #d0d7de }
text { font-family: Helvetica, Arial, sans-serif; font-size: 12px }
.title { font-size: 18px; font-weight: bold } .stage { font-size: 13px; font-weight: bold }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .box { fill: #161b22; stroke: #6e7681 } .track { fill: #30363d }
.text { fill: #e6edf3 } .faint { fill: #9198a1 } .bar { fill: #4493f8 } .full { fill: #f0883e }
.edge { stroke: #9198a1 } .head { fill: #9198a1 } .wire { stroke: #30363d } .used { stroke: #4493f8 }
.chip { fill: #161b22; stroke: #6e7681 } .on { fill: #0d1117 }
.node { stroke: #30363d } .busy { fill: #4493f8; stroke: #4493f8 } .odd { fill: #ab7df8; stroke: #ab7df8 }
}
"""


@dataclass(frozen=True)
class Box:
    """A place in the column: what stands there, its top and height, and the edges that enter at ports."""

    content: StageBox
    top: int
    height: int
    ports: tuple[BoxEdge, ...]

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def first_port(self) -> int:
        """Below the words about what moves inside."""
        return self.top + PORT_TOP + ROW * len(inside_words(self.content))

    def port(self, edge: BoxEdge) -> int:
        """Vertical position at which `edge` enters."""
        return self.first_port + ROW * self.ports.index(edge)


def partition_svg(plan: Plan) -> str:
    """The partition graph as an SVG document, legible on light and on dark pages."""
    content, edges = partition(plan)
    header = _header_lines(plan)
    top = max(TITLE + LINE * (len(header) + 2), TOPOLOGY_SIZE + 54)
    boxes = _place(content, edges, top)
    lanes = _lanes(boxes, [edge for edge in edges if not _is_step(edge)])
    width = 2 * MARGIN + BOX_WIDTH + LANE * (1 + max(lanes.values(), default=-1))
    height = boxes[-1].bottom + MARGIN
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}")
    root.attrib.update(width=str(width), height=str(height), role="img")
    ET.SubElement(root, "title").text = f"{plan.graph.name} on {plan.target.name}"
    ET.SubElement(root, "style").text = STYLE
    ET.SubElement(root, "rect", {"class": "page", "width": str(width), "height": str(height)})
    _draw_header(root, plan, header)
    draw_topology(root, plan, MARGIN + BOX_WIDTH - TOPOLOGY_SIZE, 14)
    for edge in edges:
        if _is_step(edge):
            _draw_step(root, boxes[edge.source], boxes[edge.destination], edge)
        else:
            _draw_detour(root, boxes[edge.source], boxes[edge.destination], edge, lanes[edge])
    for box in boxes:
        _draw_box(root, plan, box)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _is_step(edge: BoxEdge) -> bool:
    return edge.destination == edge.source + 1


def _place(content: Sequence[StageBox], edges: Sequence[BoxEdge], top: int) -> list[Box]:
    boxes = []
    for shown in content:
        ports = tuple(e for e in edges if e.destination == shown.number and not _is_step(e))
        rows = len(ports) + len(inside_words(shown))
        height = max(TITLE_ROOM + 18 * (6 if shown.inside else 5) + 4, PORT_TOP + ROW * rows + 8)
        boxes.append(Box(shown, top, height, ports))
        top += height + GAP
    return boxes


def _lanes(boxes: list[Box], detours: list[BoxEdge]) -> dict[BoxEdge, int]:
    """A lane for each detour such that no two share a lane at the same height."""
    spans = {edge: _span(boxes, edge) for edge in detours}
    lanes: dict[BoxEdge, int] = {}
    for edge in sorted(detours, key=lambda e: (spans[e][1] - spans[e][0], spans[e])):
        low, high = spans[edge]
        taken = {lanes[o] for o in lanes if spans[o][0] <= high and low <= spans[o][1]}
        lanes[edge] = min(set(range(len(taken) + 1)) - taken)
    return lanes


def _leaving(box: Box) -> int:
    return box.bottom - 14


def _span(boxes: list[Box], edge: BoxEdge) -> tuple[int, int]:
    ends = (_leaving(boxes[edge.source]), boxes[edge.destination].port(edge))
    return min(ends), max(ends)


def _text(
    parent: ET.Element, x: int, y: int, words: str, style: str = "text", anchor: str = "start", room: int = 0
) -> None:
    """One line of text at its baseline; `room` pixels is what it may take (0: no limit)."""
    letters = int(room / LETTER) if room else len(words)
    shown = words if len(words) <= letters else f"{words[: letters - 2]}.."
    element = ET.SubElement(parent, "text", {"class": style, "x": str(x), "y": str(y), "text-anchor": anchor})
    element.text = "".join(c if c.isprintable() else " " for c in shown)


def _header_lines(plan: Plan) -> tuple[str, ...]:
    clock, passed = plan.target.chip.clock_hz, plan_elapsed(plan)
    hosted = "included" if plan.target.chip.rules.host else "excluded"
    chips = sum(len(stage.chips) for stage in plan.stages)
    placed = f"{counted(len(plan.stages), 'stage')} on {counted(chips, 'chip')}"
    return (
        f"{placed}, {precision_words(plan)}, batch {plan.batch}, sequence {plan.sequence}{state_words(plan)}",
        f"interval {counted(passed.interval, 'cycle')}, {duration(passed.interval, clock)}",
        f"latency {counted(passed.latency, 'cycle')}, {duration(passed.latency, clock)}",
        *bound_lines(plan, int(HEADER_ROOM / LETTER)),
        *((f"partial sums travel as {', '.join(wires)}",) if (wires := wire_types(plan)) else ()),
        f"simulated, host transfers {hosted}; bars: busiest instance, share of the interval",
    )


def _draw_header(root: ET.Element, plan: Plan, lines: Sequence[str]) -> None:
    title = f"{plan.graph.name} on {plan.target.name}"
    _text(root, MARGIN, TITLE, title, "text title", room=int(HEADER_ROOM * 0.7))
    for row, line in enumerate(lines):
        _text(root, MARGIN, TITLE + 24 + LINE * row, line, "faint", room=HEADER_ROOM)


def _draw_box(root: ET.Element, plan: Plan, box: Box) -> None:
    group = ET.SubElement(root, "g")
    for behind in range(min(3, len(box.content.stages)) - 1, -1, -1):
        outline = {"class": "box", "x": str(MARGIN + 5 * behind), "y": str(box.top + 5 * behind), "rx": "8"}
        ET.SubElement(group, "rect", outline, width=str(BOX_WIDTH), height=str(box.height))
    _draw_words(group, plan, box)
    for row, (name, part, whole) in enumerate(_uses(plan, box.content)):
        _draw_bar(group, box.top + TITLE_ROOM + 18 * row, name, part, whole)
    right = MARGIN + BOX_WIDTH - 12
    for row, words in enumerate(inside_words(box.content)):
        _text(group, right, box.top + PORT_TOP + ROW * row + 4, words, "faint", "end", room=PORT_ROOM)
    for edge in box.ports:
        label = f"from {edge.edges[0].source}: {edge_words(edge)}"
        _text(group, right, box.port(edge) + 4, label, "faint", "end", room=PORT_ROOM)


def _draw_words(group: ET.Element, plan: Plan, box: Box) -> None:
    """The title over the whole box, and what the stage is at its left."""
    stage, left, room = box.content.first, MARGIN + 14, BAR_LEFT - 100
    title = f"{box_title(box.content)} ({nodes_words(plan, box.content)})"
    _text(group, left, box.top + 22, title, "text stage", room=BOX_WIDTH - 28)
    counts = f"{counted(stage.operators, 'operator')}, {counted(stage.tiles, 'tile')}"
    held = f"weights {size(stage.weight_bytes)}"
    held += f", state {size(stage.state_bytes)}" if stage.state_bytes else ""
    again = f", {stage.recomputed} recomputed" if stage.recomputed else ""
    ends = f"from {stage.first_node}", f"to {box.content.stages[-1].last_node}"
    for row, line in enumerate((counts, *ends, held + again)):
        _text(group, left, box.top + 45 + ROW * row, line, "faint", room=room)


def _uses(plan: Plan, content: StageBox) -> list[tuple[str, int, int]]:
    """(name, part, whole) of the bars of a box."""
    uses = [(unit.value, content.first.busy[unit], int(plan.interval)) for unit in Unit]
    if content.inside:
        uses.append(("links inside", max(edge.cycles for edge in content.inside), int(plan.interval)))
    return [*uses, ("SRAM", content.first.sram_bytes, int(plan.target.chip.usable_bytes))]


def _draw_bar(group: ET.Element, y: int, name: str, part: int, whole: int) -> None:
    left = MARGIN + BAR_LEFT
    _text(group, left - 8, y + 9, name, "faint", "end")
    filled = min(1.0, part / whole) if whole else 0.0
    frame = {"x": str(left), "y": str(y), "height": "10", "rx": "3"}
    ET.SubElement(group, "rect", {"class": "track", **frame, "width": str(BAR_WIDTH)})
    style = "full" if filled > 0.95 else "bar"
    ET.SubElement(group, "rect", {"class": style, **frame, "width": f"{BAR_WIDTH * filled:.1f}"})
    _text(group, left + BAR_WIDTH + 8, y + 9, share(part, whole), "text")


def _arrow(root: ET.Element, path: str, x: int, y: int, head: str) -> None:
    ET.SubElement(root, "path", {"class": "edge", "d": path, "stroke-width": "1.5"})
    ET.SubElement(root, "path", {"class": "head", "d": f"M {x} {y} {head} z"})


def _draw_step(root: ET.Element, source: Box, destination: Box, edge: BoxEdge) -> None:
    x = MARGIN + BOX_WIDTH // 2 - 120
    _arrow(root, f"M {x} {source.bottom} V {destination.top - 8}", x, destination.top, "l -5 -9 h 10")
    _text(root, x + 14, source.bottom + 24, edge_words(edge))
    _text(root, x + 14, source.bottom + 40, edge_details(edge), "faint")


def _draw_detour(root: ET.Element, source: Box, destination: Box, edge: BoxEdge, lane: int) -> None:
    side, down = MARGIN + BOX_WIDTH, destination.port(edge)
    path = f"M {side} {_leaving(source)} H {side + LANE * (lane + 1)} V {down} H {side + 8}"
    _arrow(root, path, side, down, "l 9 -5 v 10")
