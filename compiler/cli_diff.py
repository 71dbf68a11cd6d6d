"""`chiplan diff` as a page of tables, as Markdown, or as one object."""

from rich.console import Console

from .cli_tables import print_table, print_text, table
from .diff_table import fold_rows, headings, simulated_words, texts
from .markdown import markdown_code, markdown_table
from .plan_diff import PlanDiff, Row, Section

LINES_SHOWN = 20
"""Lines of a section on a page; files and --json have all."""
ONLY_DETAILS = (
    "The files differ, but nothing that is compared here does: names of tensors, or cycles of single tiles."
)


def outcome(diff: PlanDiff) -> str:
    """What is said before any table."""
    if diff.identical:
        return "No difference: the files are equal, byte for byte."
    return "" if diff.sections else ONLY_DETAILS


def print_diff(console: Console, diff: PlanDiff) -> None:
    """Sections that have a row, in tables that fit 80 columns at usual sizes."""
    print_text(console, f"{diff.before} → {diff.after}", style="bold")
    if words := outcome(diff):
        print_text(console, words)
        return
    console.print(simulated_words(diff.includes_host))
    console.print()
    for section in diff.sections:
        _print_section(console, section)


def _print_section(console: Console, section: Section) -> None:
    lines = fold_rows(section)
    columns = [f"<{name}" for name in headings(section)[:-1]]
    made = table((*columns, "change"), (texts(line) for line in lines[:LINES_SHOWN]))
    if not any(line.change for line in lines):
        made = table(columns, (texts(line)[:-1] for line in lines[:LINES_SHOWN]))
    more = f", the first {LINES_SHOWN} lines of {len(lines)}" if len(lines) > LINES_SHOWN else ""
    print_table(console, f"{section.title}{more}", made)


def diff_markdown(diff: PlanDiff) -> str:
    """The page for a pull request."""
    parts = [f"### chiplan diff {markdown_code(diff.before)} → {markdown_code(diff.after)}\n"]
    parts.append(outcome(diff) or simulated_words(diff.includes_host))
    for section in diff.sections:
        lines = fold_rows(section)
        more = f"\n\nThe first {LINES_SHOWN} lines of {len(lines)}." if len(lines) > LINES_SHOWN else ""
        shown = [texts(line) for line in lines[:LINES_SHOWN]]
        parts.append(f"\n#### {section.title}\n\n{markdown_table(headings(section), shown)}{more}")
    return "\n".join(parts) + "\n"


def diff_document(diff: PlanDiff) -> dict[str, object]:
    """What `diff --json` prints: every section, those without a row left out."""
    return {
        "ok": True,
        "identical": diff.identical,
        "latency_includes_host": list(diff.includes_host),
        "before": diff.before,
        "after": diff.after,
        "sections": {section.key: _section_document(section) for section in diff.sections},
    }


def _section_document(section: Section) -> list[dict[str, object]]:
    return [_row_document(section, row) for row in section.rows]


def _row_document(section: Section, row: Row) -> dict[str, object]:
    names = [name.replace(" ", "_") or "value" for name in section.columns]
    sides = (cells and dict(zip(names, cells, strict=True)) for cells in (row.before, row.after))
    before, after = sides
    return {"name": row.name, "before": before, "after": after}
