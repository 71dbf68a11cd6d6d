"""Pins: what the user decides that operators split, and which decisions keep that."""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from chiplan.ir import BadInput, Graph, Operator, Problem

from .atoms import Decision, GraphAtoms, OperatorAtoms, splittable
from .sharding_choices import Choice, factor_names


def pin_names(operator: Operator) -> tuple[str, ...]:
    """Names by which a pin may mean an operator: its own, then those of its nodes, which others may share."""
    return tuple(dict.fromkeys((operator.name, *operator.nodes)))


def asks_for_groups(pins: Mapping[str, str]) -> bool:
    """Whether some pin splits something: no single chip keeps it."""
    return any(_split(pin) for pin in pins.values())


def pins_of(operator: Operator, own: OperatorAtoms, pins: Mapping[str, str]) -> tuple[str, ...]:
    """Pins that concern an operator. A node may have become several operators: a pin is for those of them
    that can split what it names."""
    asked = [pins[name] for name in pin_names(operator) if name in pins]
    if not asked:
        return ()
    offered = _offered(operator, own)
    return tuple(pin for pin in asked if offered.issuperset(_split(pin)))


def keeps(operator: Operator, decision: Decision, pin: str) -> bool:
    """A pin is one factor, along some axis of the mesh, or one for each axis."""
    names, wanted = factor_names(operator, decision), tuple(pin.split(","))
    if len(wanted) == len(names):
        return names == wanted
    split = _split(pin)
    return not split.isdisjoint(names) if split else set(names) == {"none"}


def pinned(
    operator: Operator, own: OperatorAtoms, choices: tuple[Choice, ...], pins: Mapping[str, str]
) -> tuple[Choice, ...]:
    """The choices that the user's pins leave, which may be none."""
    asked = pins_of(operator, own, pins)
    return tuple(c for c in choices if all(keeps(operator, c.decision, pin) for pin in asked))


def check_pins(
    graph: Graph, atoms: GraphAtoms, pins: Mapping[str, str], repeated: Collection[int] = ()
) -> None:
    """Refuse pins of nodes that no operator came from, and of factors that none of them can split; those
    that are `repeated` on every chip that needs them split nothing.

    Raises BadInput (`unknown_pin_node`, `unknown_pin_factor`), naming what there is.
    """
    offered: dict[str, list[set[str]]] = {}
    for index, (operator, own) in enumerate(zip(graph.operators, atoms.operators, strict=True)):
        names = set() if index in repeated else _offered(operator, own)
        for node in pin_names(operator):
            offered.setdefault(node, []).append(names)
    problems = list(_unknown(offered, pins))
    if problems:
        raise BadInput(problems)


def _unknown(offered: Mapping[str, list[set[str]]], pins: Mapping[str, str]) -> Iterator[Problem]:
    """offered: for every node what each of its operators can split."""
    for node, factor in sorted(pins.items()):
        text = f"--pin {node}={factor}"
        if node not in offered:
            message = f"{text}: no planned operator comes from a node {node}{_near(node, offered)}"
            yield Problem("unknown_pin_node", message, node=node)
        elif not any(names.issuperset(_split(factor)) for names in offered[node]):
            known = ", ".join(sorted({"none"}.union(*offered[node])))
            message = f"{text}: expected one of the factors of {node}: {known}"
            yield Problem("unknown_pin_factor", message, node=node, dimension=factor)


def _offered(operator: Operator, own: OperatorAtoms) -> set[str]:
    return {operator.factors[factor].name for factor, _ in splittable(operator, own)}


def _split(pin: str) -> set[str]:
    """The factors that a pin splits: without `none`."""
    return set(pin.split(",")) - {"none"}


def _near(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, sorted(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else "; `chiplan show --sharding` lists them"
