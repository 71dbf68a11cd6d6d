"""`chiplan diff --html`: one page that opens from disk, without a script and without the network.

The page is built as a tree and serialised, so that a name from a model is text wherever it stands.
"""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from .cli_diff import outcome
from .diff_table import fold_rows, headings, simulated_words, texts
from .plan_diff import PlanDiff, Section

_STYLE = """
:root { color-scheme: light dark; --line: #d0d7de; --muted: #57606a; --worse: #b35900; --better: #0550ae; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3d444d; --muted: #9198a1; --worse: #f0a35e; --better: #79b8ff; }
}
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
p, caption { color: var(--muted); }
summary { font-size: 1.15rem; font-weight: 600; cursor: pointer; margin: 1rem 0 .3rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .9rem .25rem 0; text-align: right; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
caption { text-align: left; padding-bottom: .3rem; }
.worse { color: var(--worse); } .better { color: var(--better); }
@media print { details > :not(summary) { display: block; } }
"""


def diff_html(diff: PlanDiff) -> str:
    """The page. Every section can be folded; all lines are there."""
    page = Element("html", lang="en")
    head = SubElement(page, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width")
    SubElement(head, "title").text = "chiplan diff"
    SubElement(head, "style").text = _STYLE
    body = SubElement(page, "body")
    SubElement(body, "h1").text = f"{diff.before} → {diff.after}"
    SubElement(body, "p").text = outcome(diff) or simulated_words(diff.includes_host)
    for section in diff.sections:
        _add_section(body, section)
    return f"<!DOCTYPE html>\n{tostring(page, encoding='unicode', method='html')}\n"


def _add_section(body: Element, section: Section) -> None:
    details = SubElement(body, "details", open="open")
    lines = fold_rows(section)
    SubElement(details, "summary").text = f"{section.title} ({len(section.rows):,})"
    table = SubElement(SubElement(details, "div"), "table")
    if section.note:
        SubElement(table, "caption").text = section.note
    _add_row(SubElement(table, "thead"), "th", headings(section))
    rows = SubElement(table, "tbody")
    for line in lines:
        last = _add_row(rows, "td", texts(line))
        if line.gain:
            last.set("class", "better" if line.gain > 0 else "worse")


def _add_row(above: Element, kind: str, cells: Sequence[str]) -> Element:
    """Returns the last cell."""
    row = SubElement(above, "tr")
    for text in cells:
        cell = SubElement(row, kind, {"scope": "col"} if kind == "th" else {})
        cell.text = text
    return cell
