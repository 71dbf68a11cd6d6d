"""`chiplan show --sharding`: what every operator splits, what it costs, and the next best choice."""

from collections.abc import Sequence

from rich.console import Console

from chiplan.ir import Plan, ShardingChoice

from .cli_tables import print_table, print_text, table
from .quantities import grouped


def print_sharding(console: Console, plan: Plan) -> None:
    """One table for every distinct block and mesh; all cycles are estimates of one chip."""
    if not plan.sharding:
        print_text(console, "Every stage is a single chip: no operator is split.")
        return
    print_text(
        console,
        "What every operator splits over the axes of its group's mesh. Cycles are the solver's estimates for "
        "one chip: the operator's own, the exchanges that its operands need, and how many more the block "
        "takes with the next best choice. Repeated layers are one block. A * marks what was pinned.",
    )
    console.print()
    for block, mesh in dict.fromkeys((choice.block, choice.mesh) for choice in plan.sharding):
        chosen = [c for c in plan.sharding if (c.block, c.mesh) == (block, mesh)]
        _print_block(console, f"Block {block} on a mesh of {' x '.join(map(str, mesh))} chips", chosen)


def _print_block(console: Console, title: str, choices: Sequence[ShardingChoice]) -> None:
    rows = (
        (
            choice.node or choice.operator,
            _factors(choice.factors) + ("*" if choice.pinned else ""),
            grouped(choice.cycles),
            grouped(choice.conversion_cycles) if choice.conversion_cycles else "",
            _factors(choice.next_factors) if choice.next_cost >= 0 else "no other",
            f"+{grouped(choice.next_cost)}" if choice.next_cost >= 0 else "",
        )
        for choice in choices
    )
    columns = ("<ONNX node", "<splits", "cycles", "exchanges", "<next best", "costs")
    print_table(console, title, table(columns, rows, words=2))


def _factors(names: Sequence[str]) -> str:
    return " x ".join(names)
