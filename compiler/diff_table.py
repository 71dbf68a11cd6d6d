"""How the rows of a diff are read: alike rows folded, cells as `before -> after`, what a figure grew by."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .plan_diff import Cell, Cells, Row, Section
from .quantities import grouped, rate

ARROW = "→"


def simulated_words(includes_host: Collection[bool]) -> str:
    """What figures are. includes_host: of each plan, whether transfers from and to the host are in them."""
    transfers = "transfers from and to the host"
    if len(set(includes_host)) > 1:
        return f"All figures are simulated; those of one of the two include {transfers}."
    verb = "include" if any(includes_host) else "exclude"
    return f"All figures are simulated and {verb} {transfers}."


@dataclass(frozen=True)
class Line:
    """Rows with equal figures, as one. name: of the first; alike: how many others. gain: above 0 where the
    change is for the better, below where it is for the worse."""

    name: str
    alike: int
    cells: tuple[str, ...]
    change: str
    gain: int


def fold_rows(section: Section) -> list[Line]:
    """The lines of a section: rows of equal figures are one, at the place of the first."""
    if not section.folds:
        return [_line(section, [row]) for row in section.rows]
    together: dict[tuple[Cells | None, Cells | None], list[Row]] = {}
    for row in section.rows:
        together.setdefault((row.before, row.after), []).append(row)
    return [_line(section, rows) for rows in together.values()]


def _line(section: Section, rows: Sequence[Row]) -> Line:
    first = rows[0]
    nothing: Cells = (None,) * len(section.columns)
    pairs = list(zip(first.before or nothing, first.after or nothing, strict=True))
    cells = tuple(_cell(before, after, first) for before, after in pairs)
    return Line(first.label or first.name, len(rows) - 1, cells, *_change(*pairs[-1], first))


def _cell(before: Cell, after: Cell, row: Row) -> str:
    if row.before is None or row.after is None:
        return (
            f"{'gone' if row.after is None else 'new'}: {cell_text(before if row.after is None else after)}"
        )
    return cell_text(after) if before == after else f"{cell_text(before)} {ARROW} {cell_text(after)}"


def cell_text(value: Cell) -> str:
    """A figure for people: whole ones grouped, others to three digits or more; a dash where there is none."""
    if value is None or value == "":
        return "-"
    if isinstance(value, int):
        return grouped(value)
    return rate(value) if isinstance(value, float) else value


def _change(before: Cell, after: Cell, row: Row) -> tuple[str, int]:
    """By how much the last figure grew, and whether that is a gain (1), a loss (-1) or neither."""
    if row.before is None or row.after is None or isinstance(before, str) or isinstance(after, str):
        return "", 0
    old, now = before or 0, after or 0
    return growth(old, now), row.better.value * ((now > old) - (now < old))


def growth(before: float, after: float) -> str:
    """By how much a figure grew: `+5.0 %`, to as many places as show that it did; empty where it did not."""
    if before == after:
        return ""
    if not before:
        return f"{after - before:+,}"
    places = next((n for n in (1, 2, 3) if abs(after - before) / abs(before) >= 0.5 * 10 ** -(n + 2)), 4)
    return f"{100 * (after - before) / abs(before):+,.{places}f} %"


def headings(section: Section) -> tuple[str, ...]:
    """Names of the columns of `texts`."""
    return section.thing, *section.columns, "change"


def texts(line: Line) -> tuple[str, ...]:
    """A line as the cells of a table."""
    more = f" and {line.alike} alike" if line.alike else ""
    return f"{line.name}{more}", *line.cells, line.change
