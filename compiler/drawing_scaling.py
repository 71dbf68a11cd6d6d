"""Scaling as an SVG picture: simulated speed-up against the linear ideal, and below it what was lost.

Both axes of the curve are logarithmic in chips, so that linear scaling is a straight line whatever the
counts. Below, a bar a count: the share of the chips' cycles that does the baseline's work, and the
shares of what was lost, stacked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from xml.etree import ElementTree as ET

from .quantities import rate
from .scaling import Point, Scaling, Standing
from .scaling_loss import PARTS

WIDTH, MARGIN, LEFT = 760, 28, 86
CURVE_TOP, CURVE_HEIGHT = 104, 280
BARS_TOP, BARS_HEIGHT = CURVE_TOP + CURVE_HEIGHT + 78, 150
LEGEND_TOP = BARS_TOP + BARS_HEIGHT + 44
HEIGHT = LEGEND_TOP + 36

STYLE = """
.page { fill: #ffffff } .axis { stroke: #8c959f } .grid { stroke: #d8dee4 } .text { fill: #1f2328 }
.faint { fill: #59636e } .ideal { stroke: #57606a; fill: none } .line { stroke: #0969da; fill: none }
.dot { fill: #0969da } .useful { fill: #0969da } .work { fill: #8250df } .imbalance { fill: #bc4c00 }
.links { fill: #1a7f37 } .memory { fill: #bf3989 } .schedule { fill: #9a6700 } .fill { fill: #57606a }
.unused { fill: #afb8c1 } text { font-family: Helvetica, Arial, sans-serif; font-size: 12px }
.title { font-size: 18px; font-weight: bold }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .axis { stroke: #6e7681 } .grid { stroke: #30363d } .text { fill: #e6edf3 }
.faint { fill: #9198a1 } .ideal { stroke: #9198a1 } .line { stroke: #4493f8 } .dot { fill: #4493f8 }
.useful { fill: #4493f8 } .work { fill: #ab7df8 } .imbalance { fill: #f0883e } .links { fill: #3fb950 }
.memory { fill: #db61a2 } .schedule { fill: #d29922 } .fill { fill: #9198a1 } .unused { fill: #484f58 }
}
"""

NAMES: Mapping[str, str] = {
    "useful": "baseline's work",
    **{part: part for part in PARTS},
    "work": "more work",
}


@dataclass(frozen=True)
class Plot:
    """The points that were measured, and where they stand on the page."""

    scaling: Scaling
    points: tuple[tuple[Point, Standing], ...]

    def x(self, count: int) -> float:
        low, high = log2(self.points[0][0].allowed), log2(self.points[-1][0].allowed)
        share = (log2(count) - low) / (high - low) if high > low else 0.5
        return LEFT + 24 + share * (WIDTH - LEFT - MARGIN - 48)

    def y(self, speed_up: float) -> float:
        top = log2(max(1.0, *(max(s.ideal, s.speed_up) for _, s in self.points))) or 1.0
        low = min(0.0, *(log2(s.speed_up) for _, s in self.points))
        share = (log2(speed_up) - low) / (top - low)
        return CURVE_TOP + CURVE_HEIGHT * (1 - share)


def scaling_svg(scaling: Scaling) -> str:
    """The figure as an SVG document, legible on light and on dark pages."""
    pairs = ((point, scaling.standing(point)) for point in scaling.points)
    plot = Plot(scaling, tuple((point, found) for point, found in pairs if found))
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {HEIGHT}")
    root.attrib.update(width=str(WIDTH), height=str(HEIGHT), role="img")
    ET.SubElement(root, "title").text = f"Scaling of {scaling.model} on {scaling.target}"
    ET.SubElement(root, "style").text = STYLE
    ET.SubElement(root, "rect", {"class": "page", "width": str(WIDTH), "height": str(HEIGHT)})
    _draw_header(root, scaling)
    _draw_axes(root, plot)
    _draw_curves(root, plot)
    _draw_bars(root, plot)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _text(
    root: ET.Element, x: float, y: float, words: str, style: str = "text", anchor: str = "start"
) -> None:
    place = {"class": style, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    ET.SubElement(root, "text", place).text = words


def _line(root: ET.Element, style: str, *ends: float, dashes: str = "") -> None:
    names = ("x1", "y1", "x2", "y2")
    place = {name: f"{end:.1f}" for name, end in zip(names, ends, strict=True)}
    ET.SubElement(root, "line", {"class": style, **place, **({"stroke-dasharray": dashes} if dashes else {})})


def _draw_header(root: ET.Element, scaling: Scaling) -> None:
    growing = {"layers": ", layers in proportion to chips", "batch": ", batch in proportion to chips"}
    _text(root, MARGIN, 34, f"{scaling.model} on {scaling.target}", "text title")
    words = f"{scaling.objective}, {scaling.precision}{growing.get(scaling.weak or '', '')}"
    _text(root, MARGIN, 54, f"{words}; all figures are simulated and exclude the host", "faint")


def _draw_axes(root: ET.Element, plot: Plot) -> None:
    bottom = CURVE_TOP + CURVE_HEIGHT
    count = plot.points[0][0].allowed
    _text(root, MARGIN, CURVE_TOP - 14, f"speed-up over {count:,} chip{'' if count == 1 else 's'}", "faint")
    _text(root, WIDTH - MARGIN, CURVE_TOP - 14, "dashed: linear ideal; dots: simulated", "faint", "end")
    heights = [(plot.y(standing.ideal), f"{standing.ideal:.3g}") for _, standing in plot.points]
    for y, words in _apart(heights, 16):
        _line(root, "grid", LEFT, y, WIDTH - MARGIN, y)
        _text(root, LEFT - 8, y + 4, words, "faint", "end")
    _line(root, "axis", LEFT, bottom, WIDTH - MARGIN, bottom)
    for x, words in _apart([(plot.x(p.allowed), f"{p.allowed:,}") for p, _ in plot.points], 34):
        _text(root, x, bottom + 18, words, "text", "middle")
    _text(root, WIDTH - MARGIN, bottom + 38, "chips allowed", "faint", "end")


def _apart(labels: list[tuple[float, str]], room: float) -> list[tuple[float, str]]:
    """The labels that stand at least `room` pixels from the one before; the last one always stands."""
    kept: list[tuple[float, str]] = []
    for place, words in reversed(labels):
        if all(abs(place - other) >= room for other, _ in kept):
            kept.append((place, words))
    return kept


def _draw_curves(root: ET.Element, plot: Plot) -> None:
    scaling = plot.scaling
    ideal = [(plot.x(p.allowed), plot.y(s.ideal)) for p, s in plot.points]
    found = [(plot.x(p.allowed), plot.y(s.speed_up)) for p, s in plot.points]
    for style, line, dashes in (("ideal", ideal, "5 4"), ("line", found, "none")):
        ends = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        shape = {"class": style, "points": ends, "stroke-width": "2", "stroke-dasharray": dashes}
        ET.SubElement(root, "polyline", shape)
    for (point, standing), (x, y) in zip(plot.points, found, strict=True):
        dot = ET.SubElement(root, "circle", {"class": "dot", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4.5"})
        ET.SubElement(dot, "title").text = _described(scaling, point, standing)


def _described(scaling: Scaling, point: Point, standing: Standing) -> str:
    measured = point.measured
    name = "tokens_per_second_total" if scaling.has_state else "inferences_per_second"
    unit = "tokens a second" if scaling.has_state else "inferences a second"
    amount = rate(measured.rates[name]) if measured else "-"
    return f"{point.allowed:,} chips: {amount} {unit}, efficiency {standing.efficiency:.1%}"


def _draw_bars(root: ET.Element, plot: Plot) -> None:
    """One stacked bar a count. A part that shrank against the baseline is left out of the stack."""
    _text(root, MARGIN, BARS_TOP - 14, "where the chips' cycles go", "faint")
    nearest = min(
        (
            plot.x(b.allowed) - plot.x(a.allowed)
            for (a, _), (b, _) in zip(plot.points, plot.points[1:], strict=False)
        ),
        default=60.0,
    )
    width = max(4.0, min(44.0, 0.7 * nearest))
    for point, standing in plot.points:
        shares = _shares(standing)
        top, x = float(BARS_TOP), plot.x(point.allowed)
        for part in reversed(shares):
            height = BARS_HEIGHT * shares[part]
            place = {"x": f"{x - width / 2:.1f}", "y": f"{top:.2f}", "width": f"{width:.1f}"}
            bar = ET.SubElement(root, "rect", {"class": part, **place, "height": f"{height:.2f}"})
            ET.SubElement(bar, "title").text = f"{NAMES[part]}: {shares[part]:.1%}"
            top += height
    bottom = BARS_TOP + BARS_HEIGHT + 18
    for x, words in _apart([(plot.x(p.allowed), f"{s.efficiency:.0%}") for p, s in plot.points], 38):
        _text(root, x, bottom, words, "text", "middle")
    _text(root, LEFT - 8, bottom, "of ideal", "faint", "end")
    _draw_legend(root, [part for part in NAMES if any(_shares(s).get(part) for _, s in plot.points)])


def _shares(standing: Standing) -> dict[str, float]:
    """Shares of a bar that sum to 1, the baseline's work first."""
    lost = {part: max(0, cycles) for part, cycles in standing.parts.items()}
    useful = min(1.0, standing.efficiency)
    total = sum(lost.values())
    scale = (1.0 - useful) / total if total else 0.0
    shares = {"useful": useful, **{part: cycles * scale for part, cycles in lost.items()}}
    return {part: share for part, share in shares.items() if share > 0}


def _draw_legend(root: ET.Element, parts: list[str]) -> None:
    x = float(LEFT)
    for part in parts:
        ET.SubElement(
            root,
            "rect",
            {"class": part, "x": f"{x:.1f}", "y": str(LEGEND_TOP), "width": "11", "height": "11"},
        )
        _text(root, x + 16, LEGEND_TOP + 10, NAMES[part])
        x += 34 + 6.6 * len(NAMES[part])
