"""The report in a browser: it loads without an error, finds, shows, and listens to keys. Needs Chromium."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from chiplan.compiler import compile_model
from chiplan.compiler.report_page import report_html
from chiplan.ir import Plan
from chiplan.models import find_model, load_target

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium here")
HOSTILE = "</script><img src=x onerror=document.title='owned'>\u202e\"'"


@pytest.fixture(scope="module")
def plan() -> Plan:
    path = find_model("llama-tiny-gqa-past")
    options: dict[str, Any] = {"objective": "latency", "groups": (2, 2), "context": 8}
    plan = compile_model(path, name=path.stem, target=load_target("groq-node"), **options).plan
    first, *others = plan.graph.operators
    named = (replace(first, nodes=(HOSTILE,)), *others)
    return replace(plan, graph=replace(plan.graph, name=HOSTILE, operators=named))


@pytest.fixture(scope="module")
def browser(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(report_html(plan, "0" * 64), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    driver.set_script_timeout(120)
    driver.get(file.as_uri())
    WebDriverWait(driver, 120).until(
        lambda d: d.execute_script("return document.documentElement.dataset.ready")
    )
    yield driver
    driver.quit()


def _errors(browser: webdriver.Chrome) -> list[str]:
    return [
        entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")
    ]


def test_it_loads_without_an_error_and_draws(browser: webdriver.Chrome) -> None:
    assert _errors(browser) == []
    assert HOSTILE.replace("\u202e", "\\u{202e}") in browser.title
    assert not browser.find_elements(By.TAG_NAME, "img")
    drawn = browser.execute_script(
        "return Object.values(chiplanReport.plots)"
        ".map(({size, model}) => [size[0], model.x_range.end - model.x_range.start])"
    )
    assert all(width > 300 and span > 1 for width, span in drawn)
    assert len(browser.get_screenshot_as_png()) > 20_000


def test_search_finds_a_node_and_shows_what_is_known_of_it(browser: webdriver.Chrome, plan: Plan) -> None:
    node = plan.graph.operators[-1].nodes[0]
    box = browser.find_element(By.ID, "search")
    box.send_keys(node, Keys.ARROW_DOWN, Keys.ENTER)
    detail = browser.find_element(By.ID, "detail").text
    for expected in (node, "cycles", "memory", "sharding", "critical path"):
        assert expected in detail
    box.send_keys(Keys.ESCAPE)
    assert browser.find_element(By.ID, "detail").text == ""
    box.send_keys("onerror", Keys.ENTER)
    assert "<img src=x" in browser.find_element(By.ID, "detail").text
    box.send_keys(Keys.ESCAPE)
    assert _errors(browser) == []


def test_clicks_and_keys_reach_the_plots(browser: webdriver.Chrome) -> None:
    browser.find_element(By.CSS_SELECTOR, "#stages button[data-stage='1']").click()
    assert "stage 1" in browser.find_element(By.ID, "detail").text
    for selector in ("[data-heat=links]", "[data-heat=sram]", "[data-time=steady]", "[data-time=once]"):
        button = browser.find_element(By.CSS_SELECTOR, selector)
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
    host = browser.find_element(By.ID, "host-operators")
    span = "const {x_range} = chiplanReport.plots.operators.model; return x_range.end - x_range.start"
    before = browser.execute_script(span)
    host.send_keys("+", Keys.ARROW_RIGHT, Keys.ENTER)
    assert browser.execute_script(span) != before
    assert "cycles" in browser.find_element(By.ID, "detail").text
    assert _errors(browser) == []


def test_a_graph_of_ten_thousand_operators_is_drawn_and_searched(browser: webdriver.Chrome) -> None:
    browser.execute_script(
        """
        const {data} = chiplanReport, first = data.operators[0];
        for (let i = data.operators.length; i < 10000; i++) {
          data.operators.push({...first, x: 4 * (i % 100), y: -1.5 * Math.floor(i / 100) - 200});
          data.links.push([i - 1, i, "t", 0, 0, 0]);
        }
        chiplanReport.draw();
        """
    )
    drawn = browser.execute_async_script(
        """
        const done = arguments[0], plot = chiplanReport.plots.operators, counts = [];
        const views = [[0, 400, -360, -190], [0, 40, -240, -225], [300, 340, -330, -320]];
        const next = () => {
          if (counts.length === views.length) { done(counts); return; }
          plot.show(...views[counts.length]);
          requestAnimationFrame(() => requestAnimationFrame(() => {
            counts.push([plot.shown.length, plot.renderer("operators-boxes").data_source.data.x.length]);
            next();
          }));
        };
        next();
        """
    )
    # From afar rows of operators, near each of those around what is in view, and never so many that it drags.
    assert drawn[0][0] == 0
    assert 100 <= drawn[0][1] <= 1200
    assert all(0 < shown == boxes <= 1200 for shown, boxes in drawn[1:])
    assert _errors(browser) == []


def test_it_stands_on_a_narrow_and_a_dark_page(browser: webdriver.Chrome) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert (
        browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 22)"
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert _errors(browser) == []
