"""The partition graph as an SVG picture, laid out here: stages in a column, one box each.

An edge to the next stage runs in the gap below the box, with its label beside it. Any other edge
leaves at the right, runs down a lane of its own, and enters its box at a port whose label stands
inside the box; so nothing overlaps, however many edges there are. Boxes grow with their ports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from chiplan.ir import Plan, Unit

from .drawing import bound_lines, edge_label, stage_title
from .drawing_topology import TOPOLOGY_SIZE, draw_topology
from .plan_summary import EdgeSummary, StageSummary, precision_words, summarise_edges, summarise_stages
from .quantities import counted, duration, grouped, share, size

MARGIN, BOX_WIDTH, GAP = 28, 780, 54
TITLE, LINE = 44, 18
ROW, PORT_TOP, LANE = 17, 34, 16
BAR_LEFT, BAR_WIDTH, PORT_ROOM = 372, 140, 170
HEADER_ROOM = BOX_WIDTH - TOPOLOGY_SIZE - 20
LETTER = 6.3
"""Pixels that a letter of the text may take."""

STYLE = """
.page { fill: #ffffff } .box { fill: #f6f8fa; stroke: #8c959f } .track { fill: #d8dee4 }
.text { fill: #1f2328 } .faint { fill: #59636e } .bar { fill: #0969da } .full { fill: #bc4c00 }
.edge { stroke: #57606a; fill: none } .head { fill: #57606a } .wire { stroke: #d0d7de }
.used { stroke: #0969da } .chip { fill: #f6f8fa; stroke: #8c959f } .busy { fill: #0969da; stroke: #0969da }
.on { fill: #ffffff } .node { fill: none; stroke: #d0d7de }
text { font-family: Helvetica, Arial, sans-serif; font-size: 12px }
.title { font-size: 18px; font-weight: bold } .stage { font-size: 13px; font-weight: bold }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .box { fill: #161b22; stroke: #6e7681 } .track { fill: #30363d }
.text { fill: #e6edf3 } .faint { fill: #9198a1 } .bar { fill: #4493f8 } .full { fill: #f0883e }
.edge { stroke: #9198a1 } .head { fill: #9198a1 } .wire { stroke: #30363d } .used { stroke: #4493f8 }
.chip { fill: #161b22; stroke: #6e7681 } .busy { fill: #4493f8; stroke: #4493f8 } .on { fill: #0d1117 }
.node { stroke: #30363d }
}
"""


@dataclass(frozen=True)
class Box:
    """A stage's place: its top and height, and the edges that enter through ports."""

    stage: StageSummary
    top: int
    height: int
    ports: tuple[EdgeSummary, ...]

    @property
    def bottom(self) -> int:
        return self.top + self.height

    def port(self, edge: EdgeSummary) -> int:
        """Vertical position at which `edge` enters."""
        return self.top + PORT_TOP + ROW * self.ports.index(edge)


def partition_svg(plan: Plan) -> str:
    """The partition graph as an SVG document, legible on light and on dark pages."""
    edges = summarise_edges(plan)
    header = _header_lines(plan)
    top = max(TITLE + LINE * (len(header) + 2), TOPOLOGY_SIZE + 54)
    boxes = _place(summarise_stages(plan), edges, top)
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


def _is_step(edge: EdgeSummary) -> bool:
    return edge.destination == edge.source + 1


def _place(stages: tuple[StageSummary, ...], edges: tuple[EdgeSummary, ...], top: int) -> list[Box]:
    boxes = []
    for stage in stages:
        ports = tuple(e for e in edges if e.destination == stage.index and not _is_step(e))
        height = max(112, PORT_TOP + ROW * len(ports) + 8)
        boxes.append(Box(stage, top, height, ports))
        top += height + GAP
    return boxes


def _lanes(boxes: list[Box], detours: list[EdgeSummary]) -> dict[EdgeSummary, int]:
    """A lane for each detour such that no two share a lane at the same height."""
    spans = {edge: _span(boxes, edge) for edge in detours}
    lanes: dict[EdgeSummary, int] = {}
    for edge in sorted(detours, key=lambda e: (spans[e][1] - spans[e][0], spans[e])):
        low, high = spans[edge]
        taken = {lanes[o] for o in lanes if spans[o][0] <= high and low <= spans[o][1]}
        lanes[edge] = min(set(range(len(taken) + 1)) - taken)
    return lanes


def _leaving(box: Box) -> int:
    return box.bottom - 14


def _span(boxes: list[Box], edge: EdgeSummary) -> tuple[int, int]:
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
    clock = plan.target.chip.clock_hz
    chips = sum(len(stage.chips) for stage in plan.stages)
    placed = f"{counted(len(plan.stages), 'stage')} on {counted(chips, 'chip')}"
    return (
        f"{placed}, {precision_words(plan)}, batch {plan.batch}, sequence {plan.sequence}",
        f"interval {grouped(plan.interval)} cycles, {duration(plan.interval, clock)}",
        f"latency {grouped(plan.latency)} cycles, {duration(plan.latency, clock)}",
        *bound_lines(plan, int(HEADER_ROOM / LETTER)),
        "simulated; host transfers excluded; bars: busiest instance, share of the interval",
    )


def _draw_header(root: ET.Element, plan: Plan, lines: Sequence[str]) -> None:
    title = f"{plan.graph.name} on {plan.target.name}"
    _text(root, MARGIN, TITLE, title, "text title", room=int(HEADER_ROOM * 0.7))
    for row, line in enumerate(lines):
        _text(root, MARGIN, TITLE + 24 + LINE * row, line, "faint", room=HEADER_ROOM)


def _draw_box(root: ET.Element, plan: Plan, box: Box) -> None:
    stage = box.stage
    group = ET.SubElement(root, "g")
    outline = {"class": "box", "x": str(MARGIN), "y": str(box.top), "rx": "8"}
    ET.SubElement(group, "rect", outline, width=str(BOX_WIDTH), height=str(box.height))
    node = plan.target.topology.node_of[stage.chips[0]]
    left, room = MARGIN + 14, BAR_LEFT - 100
    _text(group, left, box.top + 24, f"{stage_title(stage)} (node {node})", "text stage", room=room)
    counts = f"{counted(stage.operators, 'operator')}, {counted(stage.tiles, 'tile')}"
    held = f"weights {size(stage.weight_bytes)}"
    held += f", state {size(stage.state_bytes)}" if stage.state_bytes else ""
    again = f", {stage.recomputed} recomputed" if stage.recomputed else ""
    lines = (counts, f"from {stage.first_node}", f"to {stage.last_node}", held + again)
    for row, line in enumerate(lines):
        _text(group, left, box.top + 45 + ROW * row, line, "faint", room=room)
    uses = [(unit.value, stage.busy[unit], int(plan.interval)) for unit in Unit]
    uses.append(("SRAM", stage.sram_bytes, int(plan.target.chip.usable_bytes)))
    for row, (name, part, whole) in enumerate(uses):
        _draw_bar(group, box.top + 17 + 18 * row, name, part, whole)
    for edge in box.ports:
        label = f"from stage {edge.source}: {size(edge.nbytes)}"
        _text(group, MARGIN + BOX_WIDTH - 12, box.port(edge) + 4, label, "faint", "end", room=PORT_ROOM)


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


def _draw_step(root: ET.Element, source: Box, destination: Box, edge: EdgeSummary) -> None:
    x = MARGIN + BOX_WIDTH // 2 - 120
    _arrow(root, f"M {x} {source.bottom} V {destination.top - 8}", x, destination.top, "l -5 -9 h 10")
    carried, links = edge_label(edge)
    _text(root, x + 14, source.bottom + 24, carried)
    routes = counted(edge.routes, "route")
    _text(
        root, x + 14, source.bottom + 40, f"{links}, {routes}, {counted(edge.transfers, 'transfer')}", "faint"
    )


def _draw_detour(root: ET.Element, source: Box, destination: Box, edge: EdgeSummary, lane: int) -> None:
    side, down = MARGIN + BOX_WIDTH, destination.port(edge)
    path = f"M {side} {_leaving(source)} H {side + LANE * (lane + 1)} V {down} H {side + 8}"
    _arrow(root, path, side, down, "l 9 -5 v 10")
