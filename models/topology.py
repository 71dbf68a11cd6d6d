"""The registry of topology generators, and the `ir.Topology` that they make."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from chiplan.ir import BadInput, Problem, Topology
from chiplan.ir import Link as DirectedLink

from .cabling import Cables, clique, edges, mesh, ring, torus
from .node_wiring import dragonfly, quadfour


class Kind(Enum):
    """What a parameter's value looks like; the value is how messages describe it."""

    COUNT = "a whole number above 0"
    EXTENTS = "a list of 1 to 6 whole numbers above 0, such as [4, 8]"
    CABLES = "a list of pairs of chips, such as [[0, 1], [1, 2]]"


@dataclass(frozen=True)
class Parameter:
    """One key of `[system.topology]`; `default` None means that it must be given."""

    name: str
    kind: Kind
    meaning: str
    default: int | None = None


@dataclass(frozen=True)
class Generator:
    """A named topology. `cables` takes the parameters by name.

    A generator that `wires_nodes` also takes `chips_per_node`, which the system states for all.
    """

    name: str
    parameters: tuple[Parameter, ...]
    cables: Callable[..., Cables]
    wires_nodes: bool = False


_CHIPS = Parameter("chips", Kind.COUNT, "chips in the system")
_GLOBAL_PORTS = Parameter("global_ports_per_chip", Kind.COUNT, "ports of a chip that leave its node")
_DRAGONFLY = (
    _GLOBAL_PORTS,
    Parameter("nodes", Kind.COUNT, "nodes that are joined all to all (of one rack)"),
    Parameter("links_per_node_pair", Kind.COUNT, "cables between two of these nodes"),
    Parameter("racks", Kind.COUNT, "such racks", default=1),
    Parameter("links_per_rack_pair", Kind.COUNT, "cables between two racks", default=1),
)

GENERATORS: tuple[Generator, ...] = (
    Generator("clique", (_CHIPS,), clique),
    Generator("ring", (_CHIPS,), ring),
    Generator("mesh", (Parameter("dims", Kind.EXTENTS, "chips along each dimension"),), mesh),
    Generator("torus", (Parameter("dims", Kind.EXTENTS, "chips along each dimension"),), torus),
    Generator("dragonfly", _DRAGONFLY, dragonfly, wires_nodes=True),
    Generator(
        "quadfour",
        (_GLOBAL_PORTS, Parameter("nodes", Kind.COUNT, "nodes in the row")),
        quadfour,
        wires_nodes=True,
    ),
    Generator("edges", (_CHIPS, Parameter("edges", Kind.CABLES, "one pair of chips a cable")), edges),
)


def find_generator(name: str) -> Generator | None:
    """The generator of that name, if there is one."""
    return next((generator for generator in GENERATORS if generator.name == name), None)


def build_topology(
    generator: str, parameters: Mapping[str, object], chips_per_node: int, nodes_per_rack: int
) -> Topology:
    """The topology of a registered generator, links sorted by (source, destination, port).

    A link's port is the one it leaves its source by. `parameters` are values of the kinds that the
    registry states. Raises BadInput (`target_value`) for values that cannot be wired, for more than
    65,536 chips or 4,000,000 links, and for an unknown generator.
    """
    known = find_generator(generator)
    if known is None:
        names = ", ".join(entry.name for entry in GENERATORS)
        raise BadInput(Problem("target_value", f"topology {generator}: expected one of {names}"))
    values = dict(parameters) | ({"chips_per_node": chips_per_node} if known.wires_nodes else {})
    cables = known.cables(**values)
    node = np.arange(cables.chips) // chips_per_node
    return Topology(
        generator=known.name,
        chips=cables.chips,
        links=directed_links(cables),
        node_of=tuple(node.tolist()),
        rack_of=tuple((node // nodes_per_rack).tolist()),
    )


def directed_links(cables: Cables) -> tuple[DirectedLink, ...]:
    """Both directions of every cable, sorted by (source, destination, port)."""
    both = np.concatenate([cables.ends[:, [0, 2, 1]], cables.ends[:, [2, 0, 3]]])
    both = both[np.lexsort((both[:, 2], both[:, 1], both[:, 0]))]
    # One integer object a number, not one a link: a third of the memory of a large system.
    numbers = list(range(int(both.max(initial=0)) + 1))
    columns = ([numbers[value] for value in column.tolist()] for column in both.T)
    return tuple(map(DirectedLink, *columns))
