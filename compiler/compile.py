"""From a model file to a simulated plan: the verb `compile`, and the Python way to it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from chiplan.ir import BadInput, Cycle, Graph, InternalFault, Plan, Problem, ShardingChoice, Target
from chiplan.partitioner import watching
from chiplan.runtime_sim import Report, simulate

from .addresses import AddressSearch
from .canonical import build_graph
from .collection import collection_paused
from .follow_annotations import follow_annotations
from .graph_passes import graph_passes
from .imported import ImportedModel
from .importer import import_model
from .layer_order import layer_order
from .options import Options, check_options, silent
from .plan_build import build_buffers, build_stages, build_transfers
from .plan_choice import PlanChoice, Planned
from .plan_frontier import FrontierPoint, explore, frontier_point, mark_nondominated, trade_offs
from .plan_summary import partial_types
from .precision import default_precision
from .quantised_products import fold_quantised_products
from .verify_passes import check_graph, check_plan


@dataclass(frozen=True)
class Compiled:
    """A plan that the simulator has accepted, and the simulator's report. frontier: where it was asked for,
    plans between the fewest chips and the fastest, simulated too."""

    plan: Plan
    report: Report
    frontier: tuple[FrontierPoint, ...] = ()


@collection_paused()
def compile_model(
    model: Path,
    *,
    target: Target,
    name: str | None = None,
    batch: int = 1,
    sequence: int | None = None,
    context: int | None = None,
    bind: Mapping[str, int] | None = None,
    pareto: bool = False,
    use_annotations: bool = False,
    progress: Callable[[str], None] = silent,
    **planning: Any,
) -> Compiled:
    """Compile and simulate. `planning` are the fields of `Options`. pareto: schedule and simulate plans
    along the frontier of chips, latency and interval, and choose from them too. use_annotations: the
    multi-device annotations of the file are followed (`follow_annotations`).

    Raises BadInput, Infeasible, or InternalFault when the simulator finds a fault in the plan.
    """
    options = Options(**planning)
    check_options(options, target)
    progress("importing")
    imported = import_model(
        model, name=name, batch=batch, sequence=sequence, context=context, bind=bind or {}
    )
    prepared = _annotated(prepare(imported, target, options), use_annotations)
    choice = PlanChoice(prepared.graph, prepared.target, prepared.options, progress)
    with watching(choice.progress):
        choice.search()
        points = explore(choice) if pareto else []
    found = choice.chosen()
    plan = assemble(prepared, found, found.sharding())
    progress("simulating")
    report = _simulated(plan)
    if not pareto:
        return Compiled(plan, report)
    measured = []
    for number, point in enumerate(trade_offs([found, *points], choice.kept()), 1):
        progress(f"simulating point {number} of the frontier")
        other = assemble(prepared, point, ())
        measured.append(frontier_point(point, other, _simulated(other), is_chosen=point is found))
    return Compiled(plan, report, mark_nondominated(measured))


def _simulated(plan: Plan) -> Report:
    """Raises InternalFault when the simulator finds a fault."""
    report = simulate(plan)
    if not report.ok:
        raise InternalFault(
            [Problem(f"fault_{f.name}", f.message, operator=f.operator) for f in report.faults[:10]]
        )
    return report


def prepare_graph(graph: Graph, precision: str, target: Target, verify: bool = False) -> Graph:
    """Types fixed, work removed, chains fused: the operators that are planned. verify: behind every pass.

    Raises InternalFault where a pass breaks the graph that it was given.
    """
    for name, change in graph_passes(precision, target):
        graph = change(graph)
        if verify:
            check_graph(name, graph)
    return graph


@dataclass(frozen=True)
class Prepared:
    """A graph to plan, and what was asked for, with the precision and the type of partial sums known.
    asked_wire: that type where the user gave it."""

    imported: ImportedModel
    graph: Graph
    target: Target
    options: Options
    precision: str
    asked_wire: str | None


def prepare(imported: ImportedModel, target: Target, options: Options) -> Prepared:
    """The operators that are planned. Raises BadInput where there is nothing to plan."""
    if options.host:
        target = replace(target, chip=replace(target.chip, rules=replace(target.chip.rules, host=True)))
    graph = build_graph(imported)
    if options.verify_each:
        check_graph("build_graph", graph)
    precision = options.precision or default_precision(fold_quantised_products(graph), target.chip)
    graph = prepare_graph(graph, precision, target, options.verify_each)
    _check_plannable(graph, imported.name, options)
    asked_wire = options.wire
    if asked_wire is None and precision != "model":
        options = replace(options, wire="fp16")
    graph = layer_order(graph)
    if options.verify_each:
        check_graph("layer_order", graph)
    return Prepared(imported, graph, target, options, precision, asked_wire)


def _annotated(prepared: Prepared, follow: bool) -> Prepared:
    """As the annotations of the model file say, where there are any and they are to be followed."""
    imported = prepared.imported
    if not follow:
        return prepared
    graph, options = follow_annotations(prepared.graph, prepared.options, imported.path, imported.bindings)
    check_options(options, prepared.target)
    return replace(prepared, graph=graph, options=options)


@collection_paused()
def plan_model(
    imported: ImportedModel, target: Target, options: Options, progress: Callable[[str], None] = silent
) -> Plan:
    """Plan an imported model without simulating it."""
    prepared = prepare(imported, target, options)
    found = PlanChoice(prepared.graph, prepared.target, prepared.options, progress).best()
    return assemble(prepared, found, found.sharding())


def _check_plannable(graph: Graph, name: str, options: Options) -> None:
    """Refuse a graph without work, and users of a model that keeps nothing for them."""
    if not graph.operators:
        message = f"{name}: its outputs are its inputs or constants; there is nothing to plan"
        raise BadInput(Problem("nothing_to_plan", message))
    if options.users > 1 and not graph.states:
        message = f"--users {options.users}: {name} has no resident state; leave --users out"
        raise BadInput(Problem("users_without_state", message))


def assemble(prepared: Prepared, found: Planned, sharding: tuple[ShardingChoice, ...]) -> Plan:
    """What was found, written down as a plan."""
    imported, target, options = prepared.imported, prepared.target, prepared.options
    precision, graph = prepared.precision, found.graph
    if options.verify_each:
        check_graph("build_device_graph", graph)
    names = {tensor: index for index, tensor in enumerate(sorted(graph.tensors))}
    transfers, hops = build_transfers(found.schedule.sent, names)
    search = AddressSearch(inf)
    placed = build_buffers(graph, found.stages, found.schedule, target, options.users, names, search)
    plan = Plan(
        target=target,
        graph=graph,
        stages=build_stages(found.stages, found.schedule),
        transfers=transfers,
        hops=hops,
        buffers=placed.columns,
        latency=Cycle(found.schedule.latency),
        interval=Cycle(found.schedule.interval),
        users=options.users,
        batch=imported.batch,
        sequence=imported.sequence,
        precision=precision,
        objective=options.objective,
        model_fingerprint=imported.fingerprint,
        bounds=found.bounds,
        certificates=(*placed.certificates, *found.certificates),
        assumptions=(*imported.assumptions, *_assumed(prepared, graph)),
        options=_recorded(imported, target, options, precision),
        sharding=sharding,
        tensor_names=tuple(names),
    )
    if options.verify_each:
        check_plan(plan)
    return plan


def _assumed(prepared: Prepared, graph: Graph) -> Iterator[str]:
    """What was decided for the user, and what was asked for and has no effect."""
    options, imported = prepared.options, prepared.imported
    if options.precision is None and prepared.precision != "model":
        yield f"precision {prepared.precision}: the matrix unit has no rule for the model's own type"
    if prepared.asked_wire is not None and not partial_types(graph):
        yield f"--wire {prepared.asked_wire} changes nothing: no partial sums travel"
    if options.stages is not None:
        yield "stages, groups and splits as annotated in the model file"
    elif imported.is_annotated:
        yield "the model file's multi-device annotations are not followed (--use-annotations follows them)"


def _recorded(
    imported: ImportedModel, target: Target, options: Options, precision: str
) -> tuple[tuple[str, str], ...]:
    """The options as text: what it takes to make the same plan, and to import the model again."""
    recorded = {
        "batch": str(imported.batch),
        "chips": str(options.chips or target.topology.chips),
        "objective": options.objective,
        "precision": precision,
        "sequence": str(imported.sequence),
        "users": str(options.users),
    }
    if imported.context is not None:
        recorded["context"] = str(imported.context)
    if options.max_latency is not None:
        recorded["max-latency"] = f"{options.max_latency:g}"
    if options.max_interval is not None:
        recorded["max-interval"] = f"{options.max_interval:g}"
    if options.stages is not None:
        recorded["annotations"] = "followed"
    if options.groups is not None:
        recorded["groups"] = ",".join(map(str, options.groups))
    if options.wire is not None:
        recorded["wire"] = options.wire
    if options.host:
        recorded["host"] = "true"
    recorded |= {f"pin {node}": factor for node, factor in options.pins}
    recorded |= {f"bind {name}": str(value) for name, value in imported.bindings.items()}
    return tuple(sorted(recorded.items()))
