"""A small picture of the system: its chips, and the links that carry something.

Up to 16 chips stand on one circle, with their idle links. More stand node by node, each node a box
with its chips on a circle in it; then idle links, and what is far from anything used, are left out,
and where nodes are many all links. A chip that runs a stage carries the stage's number where that fits;
stages have two colours in turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, pi, sin, sqrt
from xml.etree import ElementTree as ET

from chiplan.ir import ChipId, Plan

from .plan_summary import summarise_links
from .quantities import counted

TOPOLOGY_SIZE = 200
"""Width of the picture in pixels; its caption stands below."""
_FEW_CHIPS = 16
_WHOLE_NODE = 12
"""Chips of a node up to which its idle ones are drawn too."""
_ALL_NODES = 4
"""Nodes of a system up to which idle ones are drawn too."""
_MOST_NODES = 100
_LINKED_NODES = 16
"""Nodes up to which links are drawn."""
_LARGEST_DOT, _NUMBERED = 10.0, 5.5
"""Radius of a chip, at most, and from which on a number fits in."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """Where everything stands, in pixels: centres of chips, boxes (corner and side) of nodes."""

    chips: dict[ChipId, Point]
    boxes: tuple[tuple[float, float, float], ...]
    radius: float
    caption: str


def draw_topology(root: ET.Element, plan: Plan, left: int, top: int) -> None:
    """Draws the system. A used link is as wide as its share of the interval.

    A system of which too many nodes are in use for boxes is left out.
    """
    picture = lay_out(plan)
    if picture is None:
        return
    group = ET.SubElement(root, "g", transform=f"translate({left} {top})")
    for x, y, side in picture.boxes:
        frame = {"class": "node", "x": f"{x:.1f}", "y": f"{y:.1f}", "rx": "4"}
        ET.SubElement(group, "rect", frame, width=f"{side:.1f}", height=f"{side:.1f}")
    if len(picture.boxes) <= _LINKED_NODES:
        _draw_links(group, plan, picture)
    stage_of = {chip: index for index, stage in enumerate(plan.stages) for chip in stage.chips}
    for chip, place in picture.chips.items():
        _draw_chip(group, place, picture.radius, stage_of.get(chip))
    centre = {"x": str(TOPOLOGY_SIZE // 2), "y": str(TOPOLOGY_SIZE + 14), "text-anchor": "middle"}
    ET.SubElement(group, "text", {"class": "faint", **centre}).text = picture.caption


def lay_out(plan: Plan) -> Picture | None:
    """The places of all that is drawn; None for a system that is too large."""
    topology = plan.target.topology
    everyone = [ChipId(chip) for chip in range(topology.chips)]
    if topology.chips <= _FEW_CHIPS:
        radius = TOPOLOGY_SIZE / 2 - _LARGEST_DOT - 4
        places = _circle(everyone, (TOPOLOGY_SIZE / 2, TOPOLOGY_SIZE / 2), radius)
        return Picture(places, (), _LARGEST_DOT, "numbers: stages")
    used = _involved(plan)
    members: dict[int, list[ChipId]] = {}
    for chip in everyone:
        members.setdefault(topology.node_of[chip], []).append(chip)
    total = len(members)
    if total > _ALL_NODES:
        members = {node: chips for node, chips in members.items() if used.intersection(chips)}
    if len(members) > _MOST_NODES:
        return None
    shown = [
        chips if len(chips) <= _WHOLE_NODE else [chip for chip in chips if chip in used]
        for chips in members.values()
    ]
    return _boxed(shown, f"{len(shown)} of {counted(total, 'node')}")


def _involved(plan: Plan) -> set[ChipId]:
    """Chips that run a stage or pass something on."""
    ends = {chip for used in summarise_links(plan) for chip in used.link[:2]}
    return ends | {chip for stage in plan.stages for chip in stage.chips}


def _boxed(nodes: Sequence[Sequence[ChipId]], caption: str) -> Picture:
    """A square of boxes, row by row, each with the chips of one node on a circle."""
    columns = ceil(sqrt(len(nodes)))
    cell = TOPOLOGY_SIZE / columns
    side = cell - max(2.0, cell / 12)
    most = max(map(len, nodes))
    # On a circle of radius r inside the box, dots of radius d must neither touch nor leave the box.
    ratio = sin(pi / max(most, 2)) * 0.65
    radius = min(_LARGEST_DOT, (side / 2 - 1) * ratio / (1 + ratio))
    places: dict[ChipId, Point] = {}
    boxes = []
    for position, chips in enumerate(nodes):
        x, y = (position % columns) * cell, (position // columns) * cell
        boxes.append((x, y, side))
        places |= _circle(chips, (x + side / 2, y + side / 2), side / 2 - radius - 2)
    told = "numbers" if radius >= _NUMBERED else "colours in turn"
    return Picture(places, tuple(boxes), radius, f"{told}: stages; {caption}")


def _circle(chips: Sequence[ChipId], centre: Point, radius: float) -> dict[ChipId, Point]:
    angles = (2 * pi * position / len(chips) - pi / 2 for position in range(len(chips)))
    points = ((centre[0] + radius * cos(angle), centre[1] + radius * sin(angle)) for angle in angles)
    return dict(zip(chips, points, strict=True))


def _draw_links(group: ET.Element, plan: Plan, picture: Picture) -> None:
    """Idle links only where chips are few."""
    topology = plan.target.topology
    if topology.chips <= _FEW_CHIPS:
        for pair in sorted({(min(link[:2]), max(link[:2])) for link in topology.links}):
            _draw_link(group, picture, pair, "wire", 1.0)
    busy: dict[tuple[ChipId, ChipId], int] = {}
    for used in summarise_links(plan):
        ends = (min(used.link[:2]), max(used.link[:2]))
        busy[ends] = max(busy.get(ends, 0), used.busy)
    for ends, cycles in sorted(busy.items()):
        width = (1.2 + 3.0 * cycles / max(1, plan.interval)) * picture.radius / _LARGEST_DOT
        _draw_link(group, picture, ends, "used", width)


def _draw_link(
    group: ET.Element, picture: Picture, ends: tuple[ChipId, ChipId], style: str, width: float
) -> None:
    (x1, y1), (x2, y2) = (picture.chips[chip] for chip in ends)
    line = {"class": style, "x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    ET.SubElement(group, "line", {**line, "stroke-width": f"{width:.2f}"})


def _draw_chip(group: ET.Element, place: Point, radius: float, stage: int | None) -> None:
    x, y = place
    numbered = radius >= _NUMBERED
    # An idle chip is smaller, so that it does not compete with the numbers.
    size = radius if stage is not None else max(radius / 2, min(radius, 2.5))
    style = "chip" if stage is None else "busy odd" if stage % 2 else "busy"
    dot = {"class": style, "cx": f"{x:.1f}", "cy": f"{y:.1f}"}
    ET.SubElement(group, "circle", dot, r=f"{size:.1f}")
    if numbered and stage is not None:
        letters = 1.2 * radius if stage < 100 else 0.9 * radius
        label = {"class": "on", "x": f"{x:.1f}", "y": f"{y + 0.36 * letters:.1f}", "text-anchor": "middle"}
        ET.SubElement(group, "text", label, style=f"font-size: {letters:.1f}px").text = str(stage)
