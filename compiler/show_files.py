"""The files that `chiplan show` writes of a plan."""

from dataclasses import dataclass
from pathlib import Path

from chiplan.ir import Plan

from .cli_output import file_sha256, replacing_folder, write_chunks, write_text
from .output_places import STANDARD_OUTPUT, Output, outputs


@dataclass(frozen=True)
class Wanted:
    """Where each file goes; None where it was not asked for. frontier: a file that the report shows.
    micro_batches, chips, stages: what is traced."""

    html: Path | None
    svg: Path | None
    dot: Path | None
    trace: Path | None
    explorer: Path | None
    tables: Path | None
    frontier: Path | None
    micro_batches: int
    chips: tuple[int, ...]
    stages: tuple[int, ...]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """All places that are written."""
        cycles = self.explorer and self.explorer != STANDARD_OUTPUT and _cycles_beside(self.explorer)
        texts = {"--html": self.html, "--svg": self.svg, "--dot": self.dot, "--model-explorer": self.explorer}
        files = {"--trace": self.trace, "the cycles of --model-explorer": cycles or None}
        return outputs(files, texts, {"--csv": self.tables})

    @property
    def printed(self) -> tuple[str, ...]:
        """Options whose text goes to standard output."""
        return tuple(
            place.option for place in self.outputs if place.is_text and place.path == STANDARD_OUTPUT
        )


def write_files(plan: Plan, plan_path: Path, wanted: Wanted) -> None:
    """Writes all that was asked for, each whole or not at all. Raises BadInput for a place that cannot be
    written."""
    if wanted.dot is not None:
        from .drawing import partition_dot

        write_text(wanted.dot, partition_dot(plan))
    if wanted.svg is not None:
        from .drawing_svg import partition_svg

        write_text(wanted.svg, partition_svg(plan))
    if wanted.html is not None:
        _write_report(plan, plan_path, wanted.html, wanted.frontier)
    if wanted.trace is not None:
        from .trace import TraceChoice, choose_chips, trace_chunks

        choice = TraceChoice(choose_chips(plan, wanted.chips, wanted.stages), wanted.micro_batches)
        write_chunks(wanted.trace, trace_chunks(plan, choice))
    if wanted.tables is not None:
        from .plan_tables import write_tables

        with replacing_folder(wanted.tables) as beside:
            write_tables(plan, beside)
    if wanted.explorer is not None:
        _write_explorer(plan, wanted.explorer)


def _write_report(plan: Plan, plan_path: Path, html: Path, frontier: Path | None) -> None:
    """Bokeh and Jinja are imported for nothing else."""
    from .report_frontier import read_frontier
    from .report_page import report_html

    points = read_frontier(frontier, plan) if frontier is not None else ()
    write_text(html, report_html(plan, file_sha256(plan_path), points))


def _write_explorer(plan: Plan, path: Path) -> None:
    """FILE is the graph; its node data lies beside it, as FILE with `.cycles` before the last suffix."""
    from .model_explorer import explorer_cycles, explorer_graph

    write_text(path, explorer_graph(plan))
    if path != STANDARD_OUTPUT:
        write_text(_cycles_beside(path), explorer_cycles(plan))


def _cycles_beside(path: Path) -> Path:
    return path.with_suffix(f".cycles{path.suffix}")
