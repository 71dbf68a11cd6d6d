"""`chiplan show --sharding`: what every operator splits, what it costs, and the next best choice."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

from rich.console import Console

from chiplan.ir import Plan, PlannedCollective, ShardingChoice

from .cli_tables import print_table, print_text, table
from .quantities import counted, grouped, ranges, size

INTRODUCTION = (
    "What every operator splits over the axes of its group's mesh, and how the chips hold its result. "
    "Cycles are the solver's estimates for one chip; the last column is what the block takes more with the "
    "next best choice. Repeated layers are one block; one word stands for all axes; n:32 is the part of "
    "factor n that counts 32; (4) is that many operators in a row, cycles added. A * marks what was pinned. "
    "Hidden are cycles of a collective that pass while the operator that makes the value still computes."
)


def print_sharding(console: Console, plan: Plan) -> None:
    """Two tables for every distinct block and mesh; all cycles are estimates of one chip."""
    if not plan.sharding:
        print_text(console, "Every stage is a single chip: no operator is split.")
        return
    print_text(console, INTRODUCTION)
    console.print()
    for choices in blocks(plan.sharding):
        if choices[0].block < 0:
            _print_undecided(console, choices)
        else:
            _print_block(console, choices)


def blocks(choices: Sequence[ShardingChoice]) -> Iterator[list[ShardingChoice]]:
    """Choices of one block on one mesh, as they stand in a plan; a block may be split in several ways."""
    seen: list[ShardingChoice] = []
    for choice in choices:
        if seen and (choice.block, choice.mesh) != (seen[-1].block, seen[-1].mesh):
            yield seen
            seen = []
        seen.append(choice)
    if seen:
        yield seen


def _print_block(console: Console, choices: Sequence[ShardingChoice]) -> None:
    first = choices[0]
    stages = sorted({stage for choice in choices for stage in choice.stages})
    where = f"{'stage' if len(stages) == 1 else 'stages'} {ranges(stages)}"
    title = f"Block {first.block} on {' x '.join(map(str, first.mesh))} chips, {where}"
    columns = ("<ONNX node", "<splits", "<result", "cycles", "<next best", "costs")
    print_table(console, title, table(columns, map(_row, folded(choices)), words=3))
    found = [row for choice in choices for row in _collective_rows(choice)]
    title = f"Collectives of block {first.block}"
    headings = ("<collective", "<of", "<algorithm", "bytes", "cycles", "hidden")
    print_table(console, title, table(headings, found, words=3))
    print_text(console, totals(choices))
    console.print()


def totals(choices: Sequence[ShardingChoice]) -> str:
    """How the cycles of a block add up to those of its certificate."""
    collectives = [collective for choice in choices for collective in choice.collectives]
    computed = sum(choice.cycles for choice in choices)
    sent, hidden = sum(c.cycles for c in collectives), sum(c.hidden for c in collectives)
    return (
        f"Cycles of the block by estimate: operators {grouped(computed)} + collectives {grouped(sent)} - "
        f"hidden behind compute {grouped(hidden)} = {grouped(computed + sent - hidden)}."
    )


def _print_undecided(console: Console, choices: Sequence[ShardingChoice]) -> None:
    """Operators that have no line, by the stages that execute them."""
    counts = Counter(stage for choice in choices for stage in choice.stages)
    for count in sorted(set(counts.values())):
        stages = sorted(stage for stage in counts if counts[stage] == count)
        who = f"{'Stage' if len(stages) == 1 else 'Each of the stages'} {ranges(stages)}"
        print_text(
            console,
            f"{who} executes {counted(count, 'operator')} that {'is' if count == 1 else 'are'} cheaper to "
            "recompute than to send, whole on every chip: not split, and not counted above.",
        )
    console.print()


def folded(choices: Sequence[ShardingChoice]) -> Iterator[tuple[ShardingChoice, str]]:
    """(choice, whom it stands for): neighbours of one node that split alike, cycles added, with the least
    cost of another choice; then neighbouring nodes with equal figures, cycles added."""
    nodes = [_together(list(group)) for _, group in groupby(choices, key=_of_one_node)]
    for _, group in groupby(nodes, key=lambda entry: (replace(entry[0], **_NAMELESS), entry[1])):
        alike = list(group)
        (first, count), (last, _) = alike[0], alike[-1]
        words = _name(first) if len(alike) == 1 else f"{_name(first)} .. {_name(last)}"
        total = len(alike) * count
        cycles = sum(choice.cycles for choice, _ in alike)
        yield replace(first, cycles=cycles), words + (f" ({total})" if total > 1 else "")


_NAMELESS: dict[str, Any] = {"node": "", "operator": "", "collectives": ()}


def _of_one_node(choice: ShardingChoice) -> tuple[object, ...]:
    return _name(choice), choice.factors, choice.gives, choice.pinned


def _together(alike: Sequence[ShardingChoice]) -> tuple[ShardingChoice, int]:
    others = [choice for choice in alike if choice.next_cost >= 0]
    nearest = min(others, key=lambda choice: choice.next_cost, default=alike[0])
    return replace(nearest, cycles=sum(choice.cycles for choice in alike)), len(alike)


def _name(choice: ShardingChoice) -> str:
    return choice.node or choice.operator


def _row(entry: tuple[ShardingChoice, str]) -> tuple[str, ...]:
    choice, words = entry
    return (
        words,
        axes_words(choice.factors) + ("*" if choice.pinned else ""),
        axes_words(choice.gives),
        grouped(choice.cycles),
        axes_words(choice.next_factors) if choice.next_cost >= 0 else "no other",
        f"+{grouped(choice.next_cost)}" if choice.next_cost >= 0 else "",
    )


def _collective_rows(choice: ShardingChoice) -> Iterator[tuple[str, ...]]:
    for collective in choice.collectives:
        yield (
            collective.kind.replace("_", "-"),
            f"{_name(choice)}: {_change(collective)}",
            f"{collective.algorithm}, {collective.dtype.value}",
            size(collective.nbytes),
            grouped(collective.cycles),
            grouped(collective.hidden),
        )


def _change(collective: PlannedCollective) -> str:
    return f"{axes_words(collective.made)} -> {axes_words(collective.used)}"


def axes_words(names: Sequence[str]) -> str:
    """One entry a mesh axis; once where all are alike."""
    return names[0] if len(set(names)) == 1 else " x ".join(names)


def choice_document(choice: ShardingChoice) -> dict[str, object]:
    """An entry of `sharding` of `show --json`."""
    collectives = [
        asdict(collective) | {"dtype": collective.dtype.value} for collective in choice.collectives
    ]
    return asdict(choice) | {"collectives": collectives}
