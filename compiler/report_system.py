"""The picture of the system in a report: racks, nodes and chips in place, links, and what stages send."""

from dataclasses import dataclass
from math import ceil, cos, pi, sin, sqrt
from typing import Any

import numpy as np

from chiplan.ir import ChipId, Unit

from .plan_summary import summarise_links
from .report_source import Source

MOST_NODES = 240
"""Nodes up to which idle ones are drawn too."""
_CIRCLE = 12
"""Chips of a node up to which they stand on a circle; more stand in rows."""
_NODE, _NODE_GAP, _RACK_GAP = 10.0, 1.2, 3.0
_ASPECT = 2.0
"""Width of the picture over its height, about."""


@dataclass(frozen=True)
class Box:
    """A rack or a node: lower left corner, width, height, and its number."""

    x: float
    y: float
    width: float
    height: float
    number: int


@dataclass(frozen=True)
class SystemPicture:
    """radius: of a chip. chips: centre of every chip that is drawn."""

    racks: tuple[Box, ...]
    nodes: tuple[Box, ...]
    chips: dict[ChipId, tuple[float, float]]
    radius: float


def lay_out_system(source: Source) -> SystemPicture:
    """Racks side by side, nodes of a rack in a square, chips of a node on a circle.

    In a system of very many nodes, those that have no part in the plan are left out."""
    topology = source.plan.target.topology
    members: dict[int, dict[int, list[ChipId]]] = {}
    for chip in range(topology.chips):
        rack = members.setdefault(topology.rack_of[chip], {})
        rack.setdefault(topology.node_of[chip], []).append(ChipId(chip))
    if sum(map(len, members.values())) > MOST_NODES:
        used = _used_chips(source)
        members = {
            rack: kept
            for rack, nodes in members.items()
            if (kept := {node: chips for node, chips in nodes.items() if used.intersection(chips)})
        }
    return _placed(members)


def _used_chips(source: Source) -> set[ChipId]:
    ends = {chip for used in summarise_links(source.plan) for chip in used.link[:2]}
    return ends | {chip for stage in source.plan.stages for chip in stage.chips}


def _placed(members: dict[int, dict[int, list[ChipId]]]) -> SystemPicture:
    most = max(len(nodes) for nodes in members.values())
    across = ceil(sqrt(most))
    down = ceil(most / across)
    pitch = _NODE + _NODE_GAP
    width, height = across * pitch + _NODE_GAP, down * pitch + _NODE_GAP
    columns = min(len(members), max(1, round(sqrt(_ASPECT * len(members) * height / width))))
    largest = max(len(chips) for nodes in members.values() for chips in nodes.values())
    radius = _radius(largest)
    if most == len(members) == 1:
        return _alone(*members.popitem()[1].popitem(), radius)
    racks, boxes = [], []
    places: dict[ChipId, tuple[float, float]] = {}
    for position, (rack, nodes) in enumerate(members.items()):
        left = (position % columns) * (width + _RACK_GAP)
        top = -(position // columns) * (height + _RACK_GAP)
        racks.append(Box(left, top - height, width, height, rack))
        for place, (node, chips) in enumerate(nodes.items()):
            x = left + _NODE_GAP + (place % across) * pitch
            y = top - _NODE_GAP - (place // across) * pitch - _NODE
            boxes.append(Box(x, y, _NODE, _NODE, node))
            places |= _chips(chips, x + _NODE / 2, y + _NODE / 2, radius)
    return SystemPicture(tuple(racks), tuple(boxes), places, radius)


def _alone(node: int, chips: list[ChipId], radius: float) -> SystemPicture:
    """A system of one node has the whole width: its chips are further apart across."""
    places = {chip: (x * _ASPECT, y) for chip, (x, y) in _chips(chips, 0.0, 0.0, radius).items()}
    box = Box(-_ASPECT * _NODE / 2, -_NODE / 2, _ASPECT * _NODE, _NODE, node)
    return SystemPicture((), (box,), places, radius)


def _radius(most: int) -> float:
    if most == 1:
        return _NODE * 0.36
    if most > _CIRCLE:
        return _NODE / ceil(sqrt(most)) * 0.4
    ratio = sin(pi / most) * 0.82
    return float(_NODE / 2 * 0.94 * ratio / (1 + ratio))


def _chips(chips: list[ChipId], x: float, y: float, radius: float) -> dict[ChipId, tuple[float, float]]:
    if len(chips) == 1:
        return {chips[0]: (x, y)}
    if len(chips) > _CIRCLE:
        side = ceil(sqrt(len(chips)))
        step = _NODE / side
        first = -_NODE / 2 + step / 2
        return {
            chip: (x + first + (place % side) * step, y - first - (place // side) * step)
            for place, chip in enumerate(chips)
        }
    ring = _NODE / 2 * 0.94 - radius
    angles = [pi / 2 - 2 * pi * (place + 0.5) / len(chips) for place in range(len(chips))]
    return {
        chip: (x + ring * cos(angle), y + ring * sin(angle))
        for chip, angle in zip(chips, angles, strict=True)
    }


def system_data(source: Source) -> dict[str, Any]:
    """The picture as columns, with the use of every chip and link over the interval."""
    picture, plan = lay_out_system(source), source.plan
    stage_of = {chip: index for index, stage in enumerate(plan.stages) for chip in stage.chips}
    stages = source.stages
    chips = list(picture.chips)
    interval = max(1, int(plan.interval))
    held = [stages[stage_of[chip]] if chip in stage_of else None for chip in chips]
    use = {
        unit.value: [round(stage.busy[unit] / interval, 4) if stage else 0 for stage in held] for unit in Unit
    }
    usable = int(plan.target.chip.usable_bytes)
    return {
        "radius": round(picture.radius, 3),
        "racks": _boxes(picture.racks),
        "nodes": _boxes(picture.nodes),
        "chips": {
            "chip": [int(chip) for chip in chips],
            "x": [round(picture.chips[chip][0], 2) for chip in chips],
            "y": [round(picture.chips[chip][1], 2) for chip in chips],
            "stage": [stage_of.get(chip, -1) for chip in chips],
            "node": [plan.target.topology.node_of[chip] for chip in chips],
            "rack": [plan.target.topology.rack_of[chip] for chip in chips],
            "sram": [round(stage.sram_bytes / usable, 4) if stage else 0 for stage in held],
            **use,
        },
        "links": _links(source, picture),
        "flows": _flows(source, picture),
    }


def _boxes(boxes: tuple[Box, ...]) -> dict[str, list[Any]]:
    rows = [
        (round(box.x, 2), round(box.y, 2), round(box.width, 2), round(box.height, 2), box.number)
        for box in boxes
    ]
    return {
        name: [row[at] for row in rows] for at, name in enumerate(("x", "y", "width", "height", "number"))
    }


def _links(source: Source, picture: SystemPicture) -> dict[str, list[Any]]:
    """Used links; the busier way of a pair of chips, and all its cables' busiest."""
    interval = max(1, int(source.plan.interval))
    used = [row for row in summarise_links(source.plan) if set(row.link[:2]) <= picture.chips.keys()]
    busiest: dict[tuple[int, int], tuple[int, int, int, int]] = {}
    for row in used:
        pair = min(row.link[:2]), max(row.link[:2])
        busiest.setdefault(pair, (int(row.link.source), int(row.link.destination), row.busy, row.transfers))
    rows = list(busiest.values())
    return {
        "source": [row[0] for row in rows],
        "destination": [row[1] for row in rows],
        "busy": [row[2] for row in rows],
        "transfers": [row[3] for row in rows],
        "use": [round(row[2] / interval, 4) for row in rows],
    }


def _flows(source: Source, picture: SystemPicture) -> dict[str, list[Any]]:
    """What stages send each other, between the middles of their chips."""
    middle = [
        np.mean([picture.chips[chip] for chip in stage.chips], axis=0).round(2).tolist()
        for stage in source.plan.stages
    ]
    shown = [edge for edge in source.edges if edge.source >= 0 and edge.destination >= 0]
    flows = [edge for edge in shown if edge.source != edge.destination]
    return {
        "source": [edge.source for edge in flows],
        "destination": [edge.destination for edge in flows],
        "x0": [middle[edge.source][0] for edge in flows],
        "y0": [middle[edge.source][1] for edge in flows],
        "x1": [middle[edge.destination][0] for edge in flows],
        "y1": [middle[edge.destination][1] for edge in flows],
        "nbytes": [edge.nbytes for edge in flows],
        "cycles": [edge.cycles for edge in flows],
        "start": [edge.start for edge in flows],
        "end": [edge.end for edge in flows],
        "links": [edge.links for edge in flows],
    }
