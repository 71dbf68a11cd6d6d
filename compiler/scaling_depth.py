"""The same model with another number of layers: its repeated part continued, or cut short.

Layers are found by structure alone: the longest stretch of nodes in which every node looks like the
one a period later. Each further layer is a copy of the last, whose inputs follow those of the two
layers before it: what moved on from layer to layer moves on, what stayed stays. Copied weights are
tensors of their own, with the values of the last layer's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chiplan.ir import BadInput, Problem

from .imported import ImportedModel, ImportedNode, ImportedTensor, StatePair


@dataclass(frozen=True)
class Layers:
    """Nodes [first, first + count * period) of `model` are `count` layers of `period` nodes."""

    model: ImportedModel
    first: int
    period: int
    count: int

    @property
    def end(self) -> int:
        return self.first + self.count * self.period


def find_layers(model: ImportedModel) -> Layers:
    """The repeated layers of a model. Raises BadInput (`no_layers`)."""
    found = [layers for order in (model, _masks_first(model)) if (layers := _in_order(order))]
    if found:
        return max(found, key=lambda layers: layers.count * layers.period)
    message = (
        f"{model.name} has no layers that repeat node by node, so that its depth cannot grow; "
        "use --weak batch"
    )
    raise BadInput(Problem("no_layers", message))


def _in_order(model: ImportedModel) -> Layers | None:
    for first, period, length in _stretches(_kinds(model)):
        for shift in range(min(length % period, period - 1) + 1):
            layers = Layers(model, first + shift, period, (length - shift) // period)
            if layers.count > 1 and _is_chain(layers):
                return layers
    return None


def with_depth(layers: Layers, depth: int) -> ImportedModel:
    """The model with `depth` layers: 1 or more."""
    return _shortened(layers, depth) if depth <= layers.count else _Longer(layers).run(depth)


_WEIGHTED = ("Conv", "DequantizeLinear", "Gather", "Gemm", "MatMul", "MatMulInteger")


def _masks_first(model: ImportedModel) -> ImportedModel:
    """The same nodes, those in front on which no weight matrix and no state has any influence: masks and
    position tables, which exporters put into the first layer that needs them."""
    weighty = {pair.past for pair in model.states}
    for node in model.nodes:
        tensors = [(name, model.tensors[name]) for name in node.inputs if name]
        heavy = node.op_type in _WEIGHTED and any(_is_weight(t) for _, t in tensors)
        if heavy or not weighty.isdisjoint(node.inputs):
            weighty.update(node.outputs)
    front = [node for node in model.nodes if weighty.isdisjoint(node.outputs)]
    behind = [node for node in model.nodes if not weighty.isdisjoint(node.outputs)]
    return replace(model, nodes=(*front, *behind))


def _is_weight(tensor: ImportedTensor) -> bool:
    fixed = tensor.constant is not None or tensor.initializer is not None
    return fixed and len(tensor.shape) > 1 and (tensor.dtype.is_float or tensor.dtype.itemsize == 1)


def _kinds(model: ImportedModel) -> np.ndarray:
    """int64[nodes]: equal numbers for nodes that differ in names alone."""
    given = {name for node in model.nodes for name in node.outputs}.union(model.inputs)
    numbers: dict[object, int] = {}

    def described(name: str) -> object:
        tensor = model.tensors[name] if name else None
        return None if tensor is None else (tensor.shape, tensor.dtype, name in given)

    keys = (
        (
            node.op_type,
            node.domain,
            tuple(sorted(node.attributes.items())),
            tuple(map(described, node.inputs)),
            tuple(map(described, node.outputs)),
        )
        for node in model.nodes
    )
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


_MOST_PERIODS = 8
"""Periods that are looked at, those that cover most nodes first."""


def _stretches(kinds: np.ndarray) -> list[tuple[int, int, int]]:
    """(first, period, length) of the longest stretch of each period, longest first, then by period."""
    found = []
    for period in range(1, len(kinds) // 2 + 1):
        equal = np.concatenate([[False], kinds[period:] == kinds[:-period], [False]])
        edges = np.flatnonzero(equal[1:] != equal[:-1]).reshape(-1, 2)
        if len(edges):
            first, last = edges[np.argmax(edges[:, 1] - edges[:, 0])].tolist()
            if last - first >= period:
                found.append((first, period, last - first + period))
    return sorted(found, key=lambda stretch: (-stretch[2], stretch[1]))[:_MOST_PERIODS]


def _positions(model: ImportedModel) -> dict[str, int]:
    """Position of the node that makes each value."""
    return {name: index for index, node in enumerate(model.nodes) for name in node.outputs if name}


def _is_chain(layers: Layers) -> bool:
    """Whether each layer reads the one before it as that one reads its own, and whether what comes
    after reads the last layer alone."""
    model, made = layers.model, _positions(layers.model)
    pairs = zip(
        model.nodes[layers.first :], model.nodes[layers.first + layers.period : layers.end], strict=False
    )
    follows = all(
        _moves_on(made.get(before), made.get(after), before == after, layers)
        for one, other in pairs
        for before, after in zip(one.inputs, other.inputs, strict=True)
    )
    last = range(layers.first, layers.end - layers.period)
    return follows and all(
        made.get(name) not in last for node in model.nodes[layers.end :] for name in node.inputs
    )


def _moves_on(before: int | None, after: int | None, same: bool, layers: Layers) -> bool:
    """Whether two inputs at one place in neighbouring layers, made by the nodes at `before` and `after`
    (None: no node makes them), are what a further copy can continue."""
    if same or (before is None and after is None):
        return True
    if after is None:
        return False
    entering = before is None or before < layers.first
    into_second = layers.first <= after < layers.first + layers.period
    return into_second if entering else after - (before or 0) == layers.period


def _shortened(layers: Layers, depth: int) -> ImportedModel:
    """The first `depth` layers; what came after the last one reads the last that is left."""
    model = layers.model
    cut = layers.first + depth * layers.period
    gone = {name for node in model.nodes[cut : layers.end] for name in node.outputs}
    last = slice(layers.end - layers.period, layers.end)
    earlier = _renaming(model.nodes[last], model.nodes[cut - layers.period : cut])
    lost = {pair.past for pair in model.states if pair.present in gone}
    presents = {pair.present for pair in model.states}
    outputs = (name if name in presents else earlier.get(name, name) for name in model.outputs)
    return _live(
        replace(
            model,
            nodes=(*model.nodes[:cut], *_reading(model.nodes[layers.end :], earlier)),
            inputs=tuple(name for name in model.inputs if name not in lost),
            outputs=tuple(name for name in outputs if name not in gone),
            states=tuple(pair for pair in model.states if pair.past not in lost),
        )
    )


def _live(model: ImportedModel) -> ImportedModel:
    """The tensors that are still named somewhere."""
    named = {name for node in model.nodes for name in (*node.inputs, *node.outputs)}
    named.update(model.inputs, model.outputs)
    return replace(model, tensors={name: t for name, t in model.tensors.items() if name in named})


class _Longer:
    """Copies of the last layer, one after the other."""

    def __init__(self, layers: Layers) -> None:
        self.layers, model = layers, layers.model
        self.tensors: dict[str, ImportedTensor] = dict(model.tensors)
        self.inputs, self.outputs = dict.fromkeys(model.inputs), list(model.outputs)
        self.states = list(model.states)

    def run(self, depth: int) -> ImportedModel:
        layers, model = self.layers, self.layers.model
        last = model.nodes[layers.end - layers.period : layers.end]
        before = model.nodes[layers.end - 2 * layers.period : layers.end - layers.period]
        now, copies = last, list[ImportedNode]()
        for number in range(layers.count, depth):
            before, now = now, self._copy(before, now, number)
            copies += now
        final = _renaming(last, now)
        presents = {pair.present for pair in model.states}
        self.outputs = [name if name in presents else final.get(name, name) for name in self.outputs]
        return replace(
            model,
            nodes=(*model.nodes[: layers.end], *copies, *_reading(model.nodes[layers.end :], final)),
            tensors=self.tensors,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            states=tuple(self.states),
        )

    def _copy(
        self, before: Sequence[ImportedNode], now: Sequence[ImportedNode], number: int
    ) -> tuple[ImportedNode, ...]:
        """Layer `number`, from the two layers before it."""
        made, names = _renaming(before, now), dict[str, str]()
        further = []
        for one, other in zip(before, now, strict=True):
            pairs = zip(one.inputs, other.inputs, strict=True)
            inputs = tuple(self._moved(*pair, number, made, names) for pair in pairs)
            outputs = tuple(self._new_name(name, number, names) for name in other.outputs)
            called, source = _numbered(other.name, number), _numbered(other.source, number)
            further.append(replace(other, name=called, source=source, inputs=inputs, outputs=outputs))
        for pair in [pair for pair in self.states if pair.past in names and pair.present in names]:
            self.states.append(StatePair(names[pair.past], names[pair.present], pair.axis))
            self.outputs.append(names[pair.present])
        return tuple(further)

    def _moved(self, old: str, name: str, number: int, made: Mapping[str, str], names: dict[str, str]) -> str:
        """What stands in the next layer where `old` and then `name` stand in these two: the same, what
        the layer before made, or what the next layer makes or has itself."""
        if old == name:
            return name
        return made[name] if name in made else self._new_name(name, number, names)

    def _new_name(self, name: str, number: int, names: dict[str, str]) -> str:
        """A tensor like `name` of its own; a model input if that is one. `names` remembers it."""
        if name and name not in names:
            names[name] = _numbered(name, number)
            self.tensors[names[name]] = replace(self.tensors[name], name=names[name])
            if name in self.inputs:
                self.inputs[names[name]] = None
        return names.get(name, name)


def _renaming(old: Sequence[ImportedNode], new: Sequence[ImportedNode]) -> dict[str, str]:
    """What each value of one layer is called in another."""
    pairs = (zip(one.outputs, other.outputs, strict=True) for one, other in zip(old, new, strict=True))
    return {before: after for both in pairs for before, after in both if before}


def _reading(nodes: Sequence[ImportedNode], names: Mapping[str, str]) -> list[ImportedNode]:
    """The nodes with their inputs renamed."""
    return [replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)) for node in nodes]


def _numbered(name: str, number: int) -> str:
    """The name of layer `number`'s copy of `name`."""
    return f"{name.split('+layer')[0]}+layer{number}"
