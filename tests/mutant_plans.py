"""The good plans that are broken: small, of every kind, and with as little slack as a good plan can have.

Plans made by hand have no pauses, no idle bytes behind their buffers and the shortest interval that they
bear; the others are compiled from models with weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np

from chiplan.compiler import compile_model
from chiplan.compiler.importer import import_model
from chiplan.compiler.numeric_reference import Reference
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.ir import Bytes, Cycle, Plan, Tensor
from chiplan.models import find_model, load_target
from chiplan.runtime_sim import run_device_graph, simulate

from . import handmade
from .mutant_editing import rows
from .test_simulator_groups import GOOD

Arrays = dict[str, np.ndarray]
MICRO_BATCHES = 8


@dataclass(frozen=True)
class Case:
    """A good plan; inputs of several micro-batches, the weights, and the outputs that must come."""

    name: str
    plan: Plan
    inputs: tuple[Arrays, ...]
    weights: Callable[[Tensor], np.ndarray]
    wanted: tuple[Mapping[str, np.ndarray], ...]
    tolerance: float


def tightened(make: Callable[[], Plan]) -> Plan:
    """A plan made by hand without pauses and margins, in no more bytes and cycles than it needs."""
    with mock.patch.multiple(handmade, PAUSE=0, MARGIN=0):
        plan = make()
    columns = (plan.buffers.death, *(stage.program.tiles.end for stage in plan.stages), plan.hops.end)
    span = max(int(column.max(initial=0)) for column in columns) + 50
    found = next(
        packed
        for interval in range(1, 2 * span)
        if simulate(packed := _packed(replace(plan, interval=Cycle(interval)))).ok
    )
    top = max(memory.peak_bytes for memory in simulate(found).memory)
    chip = found.target.chip
    chip = replace(chip, sram_bytes=Bytes(-(-top // chip.alignment) * chip.alignment + chip.reserved_bytes))
    return replace(found, target=replace(found.target, chip=chip))


def _packed(plan: Plan) -> Plan:
    """As many copies as the interval asks for, one buffer behind the other."""
    b = plan.buffers
    copies = np.where(b.death < 0, b.copies, np.maximum(1, -(-(b.death - b.birth) // plan.interval)))
    alignment = int(plan.target.chip.alignment)
    size = -(-b.nbytes // alignment) * alignment * copies
    address = np.concatenate([
        np.cumsum(size[b.chip == chip]) - size[b.chip == chip] for chip in sorted(set(b.chip.tolist()))
    ])  # fmt: skip
    order = np.argsort(b.chip, kind="stable")
    buffers = replace(rows(b, order), copies=copies[order], address=address)
    return replace(plan, buffers=buffers)


@cache
def hand_case(name: str) -> Case:
    """Its outputs are those of its graph, executed on whole operators without tiles or times."""
    plan = tightened(BY_HAND[name])
    inputs = tuple(_inputs(plan, seed) for seed in range(MICRO_BATCHES))
    stages = [(stage.program.operators, stage.mesh) for stage in plan.stages]
    wanted = tuple(run_device_graph(plan.graph, stages, given, _weights) for given in inputs)
    return Case(name, plan, inputs, _weights, wanted, 1e-5)


def _weights(tensor: Tensor) -> np.ndarray:
    random = np.random.default_rng(len(tensor.name))
    return random.normal(0, 1, tensor.shape).astype(tensor.dtype.numpy)


def _inputs(plan: Plan, seed: int) -> Arrays:
    random = np.random.default_rng(1000 + seed)
    given = {}
    for name in plan.graph.inputs:
        tensor = plan.graph.tensors[name]
        given[name] = random.normal(0, 1, tensor.whole_shape).astype(tensor.dtype.numpy)
    for state in plan.graph.states:
        tensor = plan.graph.tensors[state.tensor]
        shape = list(tensor.whole_shape)
        shape[state.axis] -= tensor.shape[state.axis] - tensor.resident_rows[1]
        if tensor.sharding is not None:
            # One row is appended, whatever padding stands behind it.
            shape[state.axis] = tensor.whole_shape[state.axis] - 1
        given[state.past] = random.normal(0, 1, shape).astype(tensor.dtype.numpy)
    return given


@cache
def compiled_case(model: str, target: str, planning: tuple[tuple[str, object], ...]) -> Case:
    """Its outputs are those of the model file in onnxruntime."""
    path, words = find_model(model), dict(planning)
    shape = {key: words.pop(key) for key in ("sequence", "context") if key in words}
    plan = compile_model(path, target=load_target(target), **shape, **words).plan
    imported = import_model(path, name=path.stem, **shape)
    reference = Reference(path, imported, plan.precision)
    inputs = tuple(random_inputs(imported, seed) for seed in range(MICRO_BATCHES))
    name = f"{Path(model).stem} {' '.join(f'{k}={v}' for k, v in planning)} on {target}"
    return Case(name, plan, inputs, reference.weights, tuple(reference.outputs(inputs)), reference.tolerance)


BY_HAND: dict[str, Callable[[], Plan]] = {
    "pipeline over two hops": lambda: handmade.small_plan(with_state=False),
    "a state, one user": lambda: handmade.small_plan(),
    "a state, three users": lambda: handmade.small_plan(users=3),
    **{f"group: {name}": make for name, make in GOOD.items()},
}

COMPILED: tuple[tuple[str, str, tuple[tuple[str, object], ...]], ...] = (
    ("gpt2-tiny", "tiny-ring", (("sequence", 2), ("groups", (1,)))),
    ("gpt2-tiny", "tiny-ring", (("sequence", 2), ("groups", (1, 1)))),
    ("gpt2-tiny", "tiny-ring", (("sequence", 2), ("groups", (4,)), ("objective", "latency"))),
    ("llama-tiny-gqa-past", "tiny-ring", (("context", 4), ("groups", (2, 2)), ("users", 2))),
    ("llama-tiny-gqa-past", "groq-node", (("context", 4), ("groups", (4,)), ("objective", "latency"))),
)


def by_hand() -> tuple[Case, ...]:
    return tuple(hand_case(name) for name in BY_HAND)


def compiled() -> tuple[Case, ...]:
    return tuple(compiled_case(*words) for words in COMPILED)
