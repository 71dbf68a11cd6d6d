"""`chiplan targets` and `chiplan models`: what ships."""

from rich.console import Console

from chiplan.models import SHIPPED, load_target, target_names, target_text

from .cli_tables import print_table, table
from .quantities import grouped, size


def targets_document() -> dict[str, object]:
    """The shipped targets, a few numbers each."""
    return {"ok": True, "targets": [_target_entry(name) for name in target_names()]}


def _target_entry(name: str) -> dict[str, object]:
    target = load_target(name)
    return {
        "name": name,
        "chips": target.topology.chips,
        "topology": target.topology.generator,
        "links": len(target.topology.links),
        "sram_bytes": int(target.chip.sram_bytes),
        "clock_hz": target.chip.clock_hz,
    }


def print_targets(console: Console) -> None:
    """The shipped targets as a table."""
    rows = []
    for name in target_names():
        target = load_target(name)
        chip, topology = target.chip, target.topology
        figures = (grouped(len(topology.links)), size(chip.sram_bytes), f"{chip.clock_hz / 1e6:,.0f} MHz")
        rows.append((name, topology.generator, grouped(topology.chips), *figures))
    columns = ("name", "topology", "chips", "links", "SRAM a chip", "clock")
    print_table(console, "Targets", table(columns, rows, words=2))
    console.print("chiplan targets show NAME prints the file, every number with its source.")


def target_document(name: str) -> dict[str, object]:
    """A target file's text. Raises BadInput when there is no such target or it is wrong."""
    load_target(name)
    return {"ok": True, "name": name, "toml": target_text(name)}


def models_document() -> dict[str, object]:
    """The shipped models."""
    models = [
        {"name": model.name, "description": model.description, "weights": model.weights} for model in SHIPPED
    ]
    return {"ok": True, "models": models}


def print_models(console: Console) -> None:
    """The shipped models as a table."""
    rows = ((model.name, "yes" if model.weights else "no", model.description) for model in SHIPPED)
    print_table(console, "Models", table(("name", "weights", "<description"), rows, words=2))
    console.print("Without weights a model compiles and simulates, but has no numerics.")
