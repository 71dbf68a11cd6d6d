"""A small picture of the system: chips on a circle, the links that carry something drawn in."""

from math import cos, pi, sin
from xml.etree import ElementTree as ET

from chiplan.ir import ChipId, Plan

from .plan_summary import summarise_links

TOPOLOGY_SIZE = 156
"""Width and height of the picture in pixels, with its caption."""
_MOST_CHIPS = 288
_MOST_IDLE_LINKS = 400


def draw_topology(root: ET.Element, plan: Plan, left: int, top: int) -> None:
    """Draws the system's links (idle ones only where they are few) and its chips.

    A used link is as wide as its share of the interval. Systems too large for dots are left out.
    """
    topology = plan.target.topology
    if topology.chips > _MOST_CHIPS:
        return
    group = ET.SubElement(root, "g")
    if len(topology.links) <= _MOST_IDLE_LINKS:
        for pair in sorted({(min(link[:2]), max(link[:2])) for link in topology.links}):
            _draw_link(group, plan, left, top, pair, "wire", 1.0)
    busy: dict[tuple[ChipId, ChipId], int] = {}
    for used in summarise_links(plan):
        ends = (min(used.link[:2]), max(used.link[:2]))
        busy[ends] = max(busy.get(ends, 0), used.busy)
    for ends, cycles in sorted(busy.items()):
        _draw_link(group, plan, left, top, ends, "used", 1.2 + 3.0 * cycles / max(1, plan.interval))
    stage_of = {chip: index for index, stage in enumerate(plan.stages) for chip in stage.chips}
    for chip in range(topology.chips):
        _draw_chip(group, plan, left, top, ChipId(chip), stage_of.get(ChipId(chip)))


def _position(plan: Plan, left: int, top: int, chip: ChipId) -> tuple[float, float]:
    angle = 2 * pi * chip / plan.target.topology.chips - pi / 2
    centre, radius = TOPOLOGY_SIZE / 2, TOPOLOGY_SIZE / 2 - 12
    return left + centre + radius * cos(angle), top + centre + radius * sin(angle)


def _draw_link(
    group: ET.Element, plan: Plan, left: int, top: int, ends: tuple[ChipId, ChipId], style: str, width: float
) -> None:
    (x1, y1), (x2, y2) = (_position(plan, left, top, chip) for chip in ends)
    line = {"class": style, "x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    ET.SubElement(group, "line", {**line, "stroke-width": f"{width:.2f}"})


def _draw_chip(group: ET.Element, plan: Plan, left: int, top: int, chip: ChipId, stage: int | None) -> None:
    x, y = _position(plan, left, top, chip)
    few = plan.target.topology.chips <= 16
    style = "chip" if stage is None else "busy"
    dot = {"class": style, "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "10" if few else "2.5"}
    ET.SubElement(group, "circle", dot)
    if few and stage is not None:
        label = {"class": "on", "x": f"{x:.1f}", "y": f"{y + 4:.1f}", "text-anchor": "middle"}
        ET.SubElement(group, "text", label).text = str(stage)
