"""What the solver splits in a layer: `python -m benchmarks.shardings [--corpus DIR] [--write]`.

One row a model and shape of group: the layer that most blocks are like, its fastest split or its smallest.
`--write` puts the table into docs/sharding.md, between its marks; rows of models that only a corpus has stay
out without one. All are estimates of the solver, the same on every machine.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from math import prod
from pathlib import Path

import click

from chiplan.compiler.blocks import find_blocks
from chiplan.compiler.collective_costs import CollectiveCosts, representative_group
from chiplan.compiler.compile import prepare
from chiplan.compiler.group_costs import GroupCosts
from chiplan.compiler.group_planner import GroupPlanner
from chiplan.compiler.importer import import_model
from chiplan.compiler.options import Options, silent
from chiplan.compiler.sharding_choices import factor_names
from chiplan.compiler.sharding_problem import BlockSharding
from chiplan.compiler.sharding_tensors import collectives_of
from chiplan.ir import Graph, Unit
from chiplan.models import find_model, load_target

PAGE = Path(__file__).parents[1] / "docs" / "sharding.md"
MARKS = ("<!-- table: python -m benchmarks.shardings --write -->\n", "<!-- end of table -->\n")
HEAD = """| model | group | products split | collectives | cycles | MB a chip |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Case:
    """A model on groups of each mesh. corpus: its file, where it does not ship."""

    words: str
    model: str
    meshes: tuple[tuple[int, ...], ...]
    precision: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    corpus: str | None = None


_SEVENTY = "llama2-70b-decode.dynamo.onnx"
CASES = (
    Case("Llama-2-7B decode, fp16, 2,048", "llama2-7b-decode", ((2,), (4,), (8,), (2, 8))),
    Case("Llama-2-70B decode, fp16, 4,096", "", ((8,),), sizes={"context": 4096}, corpus=_SEVENTY),
    Case("Llama-2-70B decode, int8, 4,096", "", ((8,), (2, 8)), "int8", {"context": 4096}, _SEVENTY),
    Case("BERT-large, 384 tokens, fp16", "bert-large", ((4,), (8,)), sizes={"sequence": 384}),
    Case("GPT-2, 128 tokens, fp16", "gpt2", ((4,), (8,)), sizes={"sequence": 128}),
)


def rows(case: Case, corpus: Path | None) -> Iterator[str]:
    """Lines of the table: the fastest split on each mesh, and where it is another the smallest."""
    if case.corpus is not None and corpus is None:
        return
    path = corpus / case.corpus if case.corpus and corpus else find_model(case.model)
    target = load_target("groq-rack")
    prepared = prepare(import_model(path, **case.sizes), target, Options(precision=case.precision))
    planner = GroupPlanner(prepared.graph, target, prepared.options, silent)
    for mesh in case.meshes:
        found = layer(planner, mesh)
        ends = [("", found[0])] if len(found) == 1 else [(", fastest", found[0]), (", smallest", found[-1])]
        for words, sharding in ends:
            group = " x ".join(map(str, mesh)) + words
            yield f"| {case.words} | {group} | {described(planner, mesh, sharding)} |\n"


def layer(planner: GroupPlanner, mesh: tuple[int, ...]) -> tuple[BlockSharding, ...]:
    """Splits of the block that most are like, the fastest first."""
    graph, target = planner.graph, planner.target
    blocks, pins = find_blocks(graph), dict(planner.options.pins)
    costs = GroupCosts(
        graph, planner.atoms, blocks, planner.planned, target, planner.options.users, pins, planner.wire
    )
    group = CollectiveCosts(target, representative_group(target, prod(mesh)), planner.wire)
    return costs.solve(max(costs.instances.values(), key=len), mesh, group)[1]


def described(planner: GroupPlanner, mesh: tuple[int, ...], sharding: BlockSharding) -> str:
    """products | collectives | cycles | MB."""
    kinds = Counter(
        wanted.kind.replace("_", "-")
        for name, held, _ in sharding.converted(planner.graph)
        for wanted in collectives_of(planner.atoms.tensors[name], held, mesh)
    )
    sent = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"
    split, nbytes = products(planner.graph, sharding), sharding.resident_bytes / 1e6
    return f"{split} | {sent} | {sharding.cycles:,} | {nbytes:,.1f}"


def products(graph: Graph, sharding: BlockSharding) -> str:
    """What the layer's products split, in order."""
    splits = (
        " x ".join(factor_names(graph.operators[index], decision))
        for index, decision in sharding.decisions.items()
        if graph.operators[index].unit is Unit.MATRIX
    )
    runs = ((name, len(list(alike))) for name, alike in groupby(splits))
    return ", ".join(name if count == 1 else f"{count} of {name}" for name, count in runs)


@click.command()
@click.option("--corpus", type=click.Path(path_type=Path, exists=True, file_okay=False), help="More models.")
@click.option("--write", is_flag=True, help="Write the table into docs/sharding.md as well.")
def main(corpus: Path | None, write: bool) -> None:
    """Print the table."""
    text = HEAD + "".join(line for case in CASES for line in rows(case, corpus))
    click.echo(text)
    if write:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(MARKS[0])
        PAGE.write_text(before + MARKS[0] + text + MARKS[1] + rest.split(MARKS[1])[1], encoding="utf-8")


if __name__ == "__main__":
    main()
