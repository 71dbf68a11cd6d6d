"""Mutants of the graph that the chips execute: pieces, exchanges, meshes and views."""

from dataclasses import replace

import numpy as np

from chiplan.ir import (
    Cut,
    DType,
    ExchangeKind,
    Operand,
    Own,
    Plan,
    Reshape,
    Role,
    Slice,
    Split,
    Transpose,
    Window,
)  # fmt: skip

from .mutant_editing import Kind, names, pick, some_stage, with_operator, with_stage, with_tensor

PIECES = "wrong_sharding wrong_exchange wrong_group"
DATA = "receive_without_arrival read_before_ready send_before_ready missing_output written_twice"
BYTES = "buffer_missing buffer_too_small weight_not_resident buffer_lifetime wrong_latency output_not_held"
TILES = "not_covered wrong_duration no_cycle_rule unit_overlap accumulation_interrupted"
ANY = f"{PIECES} {DATA} {BYTES} {TILES} broken_route missing_operator"


def _exchange_dropped(plan: Plan, random: np.random.Generator) -> Plan | None:
    exchanges = list(plan.graph.exchanges)
    if not exchanges:
        return None
    del exchanges[pick(random, len(exchanges))]
    return replace(plan, graph=replace(plan.graph, exchanges=tuple(exchanges)))


def _exchange(plan: Plan, random: np.random.Generator) -> Plan | None:
    exchanges = list(plan.graph.exchanges)
    if not exchanges:
        return None
    number = pick(random, len(exchanges))
    old, values = exchanges[number], list(plan.tensor_names)
    match pick(random, 5):
        case 0:
            kinds = [kind for kind in ExchangeKind if kind is not old.kind]
            new = replace(old, kind=kinds[pick(random, len(kinds))])
        case 1:
            new = replace(old, axes=((old.axes[0] + 1) % 2,))
        case 2:
            new = replace(old, by=old.by + int(random.choice([-1, 1])))
        case 3:
            new = replace(old, source=values[pick(random, len(values))])
        case _:
            new = replace(old, target=values[pick(random, len(values))])
    exchanges[number] = new
    return replace(plan, graph=replace(plan.graph, exchanges=tuple(exchanges))) if new != old else None


def _mesh(plan: Plan, random: np.random.Generator) -> Plan | None:
    number, stage = some_stage(plan, random)
    count = len(stage.chips)
    meshes = [(count,), (1, count), (count, 1), (2, count // 2), (count // 2, 2)]
    meshes = [m for m in meshes if np.prod(m) == count and m != stage.mesh and min(m) > 0]
    wide = [m for m in meshes if [e for e in m if e > 1] != [e for e in stage.mesh if e > 1] or m[0] == 1]
    return with_stage(plan, number, mesh=wide[pick(random, len(wide))]) if wide and count > 1 else None


def _members(plan: Plan, random: np.random.Generator) -> Plan | None:
    """Two chips of a group change places, or a chip works for another group as well."""
    number, stage = some_stage(plan, random)
    chips = list(stage.chips)
    if len(chips) > 1 and random.random() < 0.7:
        one, other = random.choice(len(chips), 2, replace=False)
        chips[one], chips[other] = chips[other], chips[one]
    else:
        value = pick(random, plan.target.topology.chips)
        if value in chips and len(chips) == 1:
            return None
        chips[pick(random, len(chips))] = type(chips[0])(value)
    return with_stage(plan, number, chips=tuple(chips)) if tuple(chips) != stage.chips else None


def _split(plan: Plan, random: np.random.Generator) -> Plan | None:
    split = [i for i, operator in enumerate(plan.graph.operators) if operator.splits]
    if not split:
        return None
    index = split[pick(random, len(split))]
    splits = list(plan.graph.operators[index].splits)
    number = pick(random, len(splits))
    old = splits[number]
    match pick(random, 3):
        case 0:
            del splits[number]
        case 1:
            splits[number] = Split(
                old.factor, old.axes, max(1, old.extent + int(random.choice([-3, -1, 1, 2])))
            )
        case _:
            splits[number] = Split(old.factor, ((old.axes[0] + 1) % 2,), old.extent)
    return with_operator(plan, index, splits=tuple(splits)) if splits != [old] else None


def _cut(plan: Plan, random: np.random.Generator) -> Plan | None:
    cut = [name for name, tensor in sorted(plan.graph.tensors.items()) if tensor.sharding is not None]
    if not cut:
        return None
    name = cut[pick(random, len(cut))]
    old = plan.graph.tensors[name].sharding
    cuts = list(old.cuts)
    match pick(random, 4):
        case 0:
            return with_tensor(plan, name, sharding=None)
        case 1 if cuts:
            number = pick(random, len(cuts))
            dimension = (cuts[number].dimension + 1) % len(old.atoms)
            cuts[number] = Cut(dimension, cuts[number].axes)
        case 2 if cuts:
            number = pick(random, len(cuts))
            cuts[number] = Cut(cuts[number].dimension, ((cuts[number].axes[0] + 1) % 2,))
        case _:
            shape = (*old.shape[:-1], old.shape[-1] + 1)
            atoms = (*old.atoms[:-1], old.atoms[-1] + 1)
            return with_tensor(plan, name, sharding=replace(old, shape=shape, atoms=atoms))
    return with_tensor(plan, name, sharding=replace(old, cuts=tuple(cuts)))


def _view(plan: Plan, random: np.random.Generator) -> Plan | None:
    """One step of a view sees something else of the same extents."""
    seen = [
        (i, p, s)
        for i, operator in enumerate(plan.graph.operators)
        for p, operand in enumerate(operator.operands)
        for s in range(len(operand.view))
    ]
    if not seen:
        return None
    index, position, number = seen[pick(random, len(seen))]
    operands = list(plan.graph.operators[index].operands)
    view = list(operands[position].view)
    match view[number]:
        case Transpose(permutation=p):
            new: object = Transpose(tuple(reversed(p)))
        case Reshape(shape=shape):
            new = Reshape(tuple(reversed(shape)))
        case Slice(starts=starts, stops=stops, steps=steps):
            d = pick(random, len(starts))
            by = int(random.choice([-1, 1]))
            moved = [[v + by if i == d else v for i, v in enumerate(values)] for values in (starts, stops)]
            new = Slice(tuple(moved[0]), tuple(moved[1]), steps)
        case Own() as own:
            new = replace(own, shift=own.shift + 1)
        case Window() as window:
            new = replace(window, stride=window.stride + 1)
        case other:
            new = other
    if new == view[number]:
        return None
    view[number] = new
    operands[position] = replace(operands[position], view=tuple(view))
    return with_operator(plan, index, operands=tuple(operands))


def _result(plan: Plan, random: np.random.Generator) -> Plan | None:
    """A result goes to another box, another tensor, or is written by other chips."""
    index = pick(random, len(plan.graph.operators))
    results = list(plan.graph.operators[index].results)
    number = pick(random, len(results))
    old = results[number]
    match pick(random, 4):
        case 0:
            d = pick(random, len(old.offsets)) if old.offsets else None
            if d is None:
                return None
            offsets = list(old.offsets)
            offsets[d] = max(0, offsets[d] + int(random.choice([-1, 1])))
            new = replace(old, offsets=tuple(offsets))
        case 1:
            new = replace(old, own=() if old.own else (0,))
        case 2:
            axis, coordinate = old.only[0] if old.only else (0, -1)
            new = replace(old, only=((axis, coordinate + int(random.choice([-1, 1]))),))
            if not old.only or random.random() < 0.4:
                new = replace(old, only=() if old.only else ((0, 0),))
        case _:
            like = [n for n, t in sorted(plan.graph.tensors.items())
                    if t.shape == plan.graph.tensors[old.tensor].shape and n != old.tensor]  # fmt: skip
            if not like:
                return None
            new = replace(old, tensor=like[pick(random, len(like))])
    results[number] = new
    return with_operator(plan, index, results=tuple(results)) if new != old else None


def _operand(plan: Plan, random: np.random.Generator) -> Plan | None:
    """An operand reads another tensor of the same shape."""
    index = pick(random, len(plan.graph.operators))
    operands = list(plan.graph.operators[index].operands)
    number = pick(random, len(operands))
    old = operands[number]
    shape = plan.graph.tensors[old.tensor].shape
    like = [n for n, t in sorted(plan.graph.tensors.items()) if t.shape == shape and n != old.tensor]
    if not like:
        return None
    operands[number] = Operand(like[pick(random, len(like))], old.view, old.axes)
    return with_operator(plan, index, operands=tuple(operands))


def _resident(plan: Plan, random: np.random.Generator) -> Plan | None:
    states = [n for n, t in sorted(plan.graph.tensors.items()) if t.resident_rows is not None]
    if not states:
        return None
    name = states[pick(random, len(states))]
    axis, count = plan.graph.tensors[name].resident_rows
    return with_tensor(plan, name, resident_rows=(axis, max(0, count + int(random.choice([-2, -1, 1, 2])))))


def _dtype(plan: Plan, random: np.random.Generator) -> Plan:
    name = plan.tensor_names[pick(random, len(plan.tensor_names))]
    old = plan.graph.tensors[name]
    kinds = [k for k in (DType.FP16, DType.FP32, DType.INT8, DType.FP64) if k is not old.dtype]
    return with_tensor(plan, name, dtype=kinds[pick(random, len(kinds))])


def _role(plan: Plan, random: np.random.Generator) -> Plan:
    name = plan.tensor_names[pick(random, len(plan.tensor_names))]
    roles = [role for role in Role if role is not plan.graph.tensors[name].role]
    return with_tensor(plan, name, role=roles[pick(random, len(roles))])


_MODEL = "the graph is another one; what the simulator holds a plan against is its graph"

KINDS = (
    Kind("drop an exchange", _exchange_dropped, names(f"{PIECES} {DATA}"),
         reason="a gather brings elements to where they were: its transfers hold without it"),
    Kind("change an exchange", _exchange, names(f"{PIECES} {DATA} buffer_missing")),
    Kind("change a mesh", _mesh, names(ANY),
         reason="a mesh of other axes that number the pieces alike, or of a group that has no pieces"),
    Kind("change the chips of a group", _members, names(ANY)),
    Kind("change a split", _split, names(ANY), model=True,
         reason="an even split, in which every chip executes all iterations with or without it"),
    Kind("alter a shard", _cut, names(ANY), model=True),
    Kind("change a view", _view, names(ANY), model=True),
    Kind("change a result", _result, names(ANY), model=True,
         reason="written by one chip alone, where one chip is the whole group"),
    Kind("change an operand", _operand, names(ANY), model=True),
    Kind("change resident rows", _resident, names(ANY), model=True),
    Kind("change a tensor's type", _dtype, names(f"{ANY} sram_overflow"), model=True),
    Kind("change a tensor's role", _role, names(f"{ANY} state_copies copies_too_few"), model=True),
)  # fmt: skip
