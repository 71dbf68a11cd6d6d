"""The plots of a report, as Bokeh documents without data: columns are filled in by the report's own script.

So nothing that comes from a model is in them, and they are the same for every plan.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from bokeh.embed import json_item
from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    Image,
    LinearColorMapper,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.plotting import figure

_COLUMNS = {
    "racks": "x y width height label",
    "nodes": "x y width height label",
    "links": "x0 y0 x1 y1 width color alpha ends busy use transfers",
    "flows": "x0 y0 x1 y1 ends bytes cycles when width alpha",
    "arrows": "x y angle",
    "chips": "x y chip stage label fill line text place matrix vector links sram",
    "frames": "left right bottom top line",
    "titles": "x y label",
    "wires": "x0 y0 x1 y1 dash color ends bytes cycles",
    "operators": "x y width fill line label text name unit times cycles path",
    "cycles": "x y width height fill",
    "use": "image x y dw dh",
    "bars": "left right bottom top fill line name cycles busy batch",
    "marks": "x y label text",
    "path": "x0 y0 x1 y1",
    "buffers": "left right bottom top fill hatch name role address bytes copies alive",
    "points": "x y fill marker label chips latency interval",
}


def figure_documents(*, frontier: bool) -> dict[str, Any]:
    """Every plot by its name, ready for `Bokeh.embed.embed_item`. The same bytes every time."""
    made: dict[str, Callable[[], figure]] = {
        "system": _system, "operators": _operators, "timeline": _timeline, "memory": _memory,
    }  # fmt: skip
    if frontier:
        made["frontier"] = _frontier
    return {name: _plain(json_item(make())) for name, make in made.items()}


def _plain(item: Any) -> Any:
    """Models are numbered through the whole process; here, from 1 in order of appearance."""
    numbers: dict[str, str] = {}

    def renamed(found: re.Match[str]) -> str:
        return f'"m{numbers.setdefault(found.group(1), str(len(numbers) + 1))}"'

    return json.loads(re.sub(r'"(p\d+)"', renamed, json.dumps(item)))


def _source(name: str) -> ColumnDataSource:
    return ColumnDataSource({column: [] for column in _COLUMNS[name].split()}, name=name)


def _figure(height: int, *, axes: bool) -> figure:
    plot = figure(
        height=height, sizing_mode="stretch_width", toolbar_location=None, name="plot",
        x_range=Range1d(start=0, end=1), y_range=Range1d(start=0, end=1), tools="pan,wheel_zoom,tap",
        active_scroll=None, output_backend="canvas",
        background_fill_color=None, border_fill_color=None, outline_line_color=None,
    )  # fmt: skip
    plot.grid.visible = axes
    plot.axis.visible = axes
    plot.ygrid.visible = False
    plot.min_border = 4
    plot.axis.axis_line_color = None
    plot.axis.minor_tick_line_color = None
    return plot


def _hover(plot: figure, renderer: Any, *fields: str) -> None:
    """A tip of the columns; Bokeh escapes their values."""
    tips = [(field.replace("_", " "), f"@{field}") for field in fields]
    plot.add_tools(HoverTool(renderers=[renderer], tooltips=tips, attachment="right"))


def _boxes(plot: figure, name: str, **style: Any) -> None:
    plot.rect(
        x="x", y="y", width="width", height="height", source=_source(name), name=f"{name}-boxes", **style
    )


def _system() -> figure:
    plot = _figure(440, axes=False)
    _boxes(plot, "racks", fill_alpha=0.0, border_radius=4)
    _boxes(plot, "nodes", fill_alpha=0.06, line_alpha=0.5, border_radius=3)
    links = plot.segment("x0", "y0", "x1", "y1", line_width="width", line_color="color", line_alpha="alpha",
                         source=_source("links"), name="links-lines")  # fmt: skip
    flows = plot.segment("x0", "y0", "x1", "y1", line_width="width", line_alpha="alpha", line_cap="round",
                         source=_source("flows"), name="flows-lines")  # fmt: skip
    plot.scatter("x", "y", marker="triangle", size=9, angle="angle", source=_source("arrows"), name="arrows")
    source = _source("chips")
    chips = plot.circle("x", "y", radius=1.0, fill_color="fill", line_color="line", line_width=1.5,
                        source=source, name="chips-circles", nonselection_fill_alpha=1.0,
                        nonselection_line_alpha=1.0)  # fmt: skip
    plot.text("x", "y", text="label", text_color="text", text_align="center", text_baseline="middle",
              source=source, name="chips-labels", nonselection_text_alpha=1.0)  # fmt: skip
    _hover(plot, links, "ends", "busy", "use", "transfers")
    _hover(plot, flows, "ends", "bytes", "cycles", "when")
    _hover(plot, chips, "chip", "stage", "place", "matrix", "vector", "links", "sram")
    return plot


def _operators() -> figure:
    plot = _figure(560, axes=False)
    plot.quad("left", "right", "bottom", "top", fill_alpha=0.04, line_color="line", line_width=1.2,
              source=_source("frames"), name="frames-boxes")  # fmt: skip
    wires = plot.segment("x0", "y0", "x1", "y1", line_color="color", line_dash="dash", line_width=1.3,
                         line_alpha=0.8, source=_source("wires"), name="wires-lines")  # fmt: skip
    source = _source("operators")
    boxes = plot.rect("x", "y", width="width", height=1.0, fill_color="fill", line_color="line",
                      line_width=1.2, source=source, name="operators-boxes", nonselection_fill_alpha=1.0,
                      nonselection_line_alpha=1.0)  # fmt: skip
    plot.rect("x", "y", width="width", height="height", fill_color="fill", line_color=None,
              source=_source("cycles"), name="cycles-bars")  # fmt: skip
    plot.text("x", "y", text="label", text_color="text", text_align="center", text_baseline="middle",
              source=source, name="operators-labels", nonselection_text_alpha=1.0)  # fmt: skip
    plot.text("x", "y", text="label", text_baseline="top", source=_source("titles"), name="titles-labels")
    _hover(plot, wires, "ends", "bytes", "cycles")
    _hover(plot, boxes, "name", "unit", "times", "cycles", "path")
    return plot


def _timeline() -> figure:
    plot = _figure(360, axes=True)
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.xaxis.axis_label = "cycle"
    plot.yaxis.ticker = FixedTicker(ticks=[])
    mapper = LinearColorMapper(palette=["#000000", "#ffffff"], low=1, high=100, low_color="rgba(0,0,0,0)")
    image = Image(image="image", x="x", y="y", dw="dw", dh="dh", color_mapper=mapper)
    use = plot.add_glyph(_source("use"), image, name="use-image")
    bars = plot.quad("left", "right", "bottom", "top", fill_color="fill", line_color="line", line_width=1.6,
                     source=_source("bars"), name="bars-boxes", nonselection_fill_alpha=1.0,
                     nonselection_line_alpha=1.0)  # fmt: skip
    plot.text("x", "y", text="label", text_color="text", text_align="center", text_baseline="middle",
              text_font_size="10px", source=_source("marks"), name="marks-labels")  # fmt: skip
    plot.segment("x0", "y0", "x1", "y1", line_width=3, source=_source("path"), name="path-lines")
    plot.add_tools(HoverTool(renderers=[use], tooltips=[("cycle", "$x{0,0}"), ("use", "@image %")]))
    _hover(plot, bars, "name", "cycles", "busy", "batch")
    return plot


def _memory() -> figure:
    plot = _figure(380, axes=True)
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.yaxis.ticker = FixedTicker(ticks=[])
    plot.xaxis.axis_label, plot.yaxis.axis_label = "cycle", "address"
    buffers = plot.quad("left", "right", "bottom", "top", fill_color="fill", line_width=0.5, line_alpha=0.6,
                        hatch_pattern="hatch", hatch_alpha=0.35, hatch_scale=7, source=_source("buffers"),
                        name="buffers-boxes", nonselection_fill_alpha=1.0)  # fmt: skip
    _hover(plot, buffers, "name", "role", "address", "bytes", "copies", "alive")
    return plot


def _frontier() -> figure:
    plot = _figure(320, axes=True)
    plot.ygrid.visible = True
    plot.xaxis.axis_label = "chips"
    plot.axis.formatter = NumeralTickFormatter(format="0,0.[0]")
    points = plot.scatter("x", "y", size=12, marker="marker", fill_color="fill", source=_source("points"),
                          name="points")  # fmt: skip
    _hover(plot, points, "label", "chips", "latency", "interval")
    return plot
