"""The report in a browser: `python -m benchmarks.report [--corpus DIR] [--write]`.

Sizes and times of the report for GPT-2 on 8 chips and, with `--corpus`, Llama-2-70B on 576, and how fast a
graph of 10,000 operators moves. `--write` puts the table into docs/report-results.md and screenshots beside
it. Needs Chromium and its driver.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time, sleep
from typing import Any

import click
from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

from chiplan.compiler import compile_model
from chiplan.compiler.report_page import report_html
from chiplan.ir import BadInput, Plan, Problem
from chiplan.models import find_model, load_target

DOCS = Path(__file__).parents[1] / "docs"
WIDTH, HEIGHT = 1440, 900
HEAD = """# Sizes and load times of the report

Made by `python -m benchmarks.report --write` in headless Chromium, without a graphics processor, opened from
disk. First paint: headline, figures and what binds. Ready: all plots drawn. docs/report.md says what the
report shows. Times differ from machine to machine.

| plan | tiles | transfers | made in (CPU) | size | first paint | ready |
|---|---:|---:|---:|---:|---:|---:|
"""


@dataclass(frozen=True)
class Case:
    """corpus: the file of a model that does not ship."""

    name: str
    title: str
    target: str
    model: str = ""
    corpus: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case("gpt2", "GPT-2 on 8 chips", "groq-node", model="gpt2", options={"chips": 8}),
    Case(
        "llama2-70b", "Llama-2-70B on 576 chips", "groq-576", corpus="llama2-70b-decode.dynamo.onnx",
        options={"precision": "int8", "objective": "latency", "context": 4096},
    ),
)  # fmt: skip

FRAMES = """
const done = arguments[0], plot = chiplanReport.plots.operators, times = [];
let last = performance.now();
const frame = () => {
  const now = performance.now();
  times.push(now - last);
  last = now;
  if (times.length > 30) { times.shift(); done(times.sort((a, b) => a - b)[15]); return; }
  plot.move(times.length % 2 ? 0.02 : -0.02, 0);
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""
"""Median milliseconds a frame while the graph is dragged."""

STEADY = """
const {data} = chiplanReport, stage = document.getElementById("timeline-stage");
if (data.interval < data.latency) {
  document.querySelector("[data-time=steady]").click();
  stage.value = String(data.runs.length - 1);
  stage.dispatchEvent(new Event("change"));
}
"""
"""Where micro-batches overlap, the picture is of the last stage in steady state."""

GROW = """
const {data} = chiplanReport, first = data.operators[0];
for (let i = data.operators.length; i < 10000; i++) {
  data.operators.push({...first, x: 4 * (i % 100), y: -1.5 * Math.floor(i / 100) - 200});
  data.links.push([i - 1, i, "t", 0, 0, 0]);
}
chiplanReport.draw();
chiplanReport.plots.operators.show(0, 400, -360, -195);
"""


@contextmanager
def browser(*, dark: bool = False, width: int = WIDTH, height: int = HEIGHT) -> Iterator[webdriver.Chrome]:
    """Headless Chromium. Raises BadInput where there is none."""
    found, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if found is None or driver is None:
        raise BadInput(Problem("no_browser", "this needs `chromium` and `chromedriver` on the path"))
    options = webdriver.ChromeOptions()
    options.binary_location = found
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        made.set_script_timeout(300)
        resize(made, width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        made.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield made
    finally:
        made.quit()


def resize(driver: webdriver.Chrome, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def load(driver: webdriver.Chrome, page: Path) -> dict[str, float]:
    """Opens a report, waits until all is drawn, and says when that was, in milliseconds."""
    driver.get(page.as_uri())
    ready = "return document.documentElement.dataset.ready"
    WebDriverWait(driver, 120).until(lambda d: d.execute_script(ready))
    sleep(1)
    return dict(
        driver.execute_script(
            "return {paint: performance.getEntriesByName('first-paint')[0]?.startTime ?? NaN,"
            " ready: performance.getEntriesByName('ready')[0].startTime}"
        )
    )


def make_plan(case: Case, corpus: Path) -> Plan:
    path = corpus / case.corpus if case.corpus else find_model(case.model)
    return compile_model(path, name=case.name, target=load_target(case.target), **case.options).plan


def measure(case: Case, plan: Plan, folder: Path) -> tuple[Path, str]:
    """Writes the report, and gives its row of the table."""
    begin = process_time()
    text = report_html(plan, "0" * 64)
    made = process_time() - begin
    page = folder / f"{case.name}.html"
    page.write_text(text, encoding="utf-8")
    with browser() as driver:
        load(driver, page)
        times = load(driver, page)
    tiles = sum(len(stage.program.tiles.start) for stage in plan.stages)
    row = (
        f"| {case.title} | {tiles:,} | {len(plan.transfers.start):,} | {made:.1f} s "
        f"| {page.stat().st_size / 1e6:.2f} MB | {times['paint']:.0f} ms | {times['ready']:.0f} ms |\n"
    )
    return page, row


def ten_thousand(page: Path) -> str:
    """How long a frame takes while graphs are dragged, in words."""
    with browser() as driver:
        load(driver, page)
        few = driver.execute_async_script(FRAMES)
        driver.execute_script(GROW)
        sleep(1)
        all_in_view = driver.execute_async_script(FRAMES)
        driver.execute_script("chiplanReport.plots.operators.show(0, 40, -240, -225)")
        sleep(1)
        near = driver.execute_async_script(FRAMES)
    return (
        f"\nA frame while the graph is dragged takes {few:.0f} ms at the median as it opens; with 10,000 "
        f"operators and as many links {all_in_view:.0f} ms when all are in view, and {near:.0f} ms when "
        "some hundreds are.\n"
    )


def save(driver: webdriver.Chrome, name: str) -> None:
    """A screenshot in 256 colours, which is a third of the bytes."""
    image = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(DOCS / f"{name}.png", optimize=True)


def photograph(case: Case, page: Path) -> None:
    """The first screen, light and dark, and what is below it."""
    with browser() as driver:
        load(driver, page)
        save(driver, f"report-{case.name}")
        driver.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
        driver.execute_script(STEADY)
        for part in ("operators", "timeline"):
            driver.execute_script(f"document.getElementById('{part}').scrollIntoView()")
            sleep(0.5)
            save(driver, f"report-{case.name}-{part}")
    with browser(dark=True) as driver:
        load(driver, page)
        save(driver, f"report-{case.name}-dark")


@click.command()
@click.option("--corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", is_flag=True, help="Put table and screenshots into docs.")
def main(corpus: Path | None, write: bool) -> None:
    """Print the table."""
    text, frames = HEAD, ""
    with TemporaryDirectory() as folder:
        for case in CASES:
            if case.corpus and corpus is None:
                continue
            page, row = measure(case, make_plan(case, corpus or Path()), Path(folder))
            text += row
            frames = frames or ten_thousand(page)
            if write:
                photograph(case, page)
    text += frames
    click.echo(text)
    if write:
        (DOCS / "report-results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
