"""A graph in the text form: a line for each thing, in the order in which a reader needs it.

    graph    = "graph" text [ "reads" "%name" { "," "%name" } ]
               { tensor | operator | exchange | cache | output } { constant }
    exchange = ( "gather" | "scatter" | "shift" ) "%name" "->" "%name" mesh [ "by" number ]
    cache    = "cache" text "->" text "in" "%name" "axis" number        past and present of a state
    output   = "output" text "=" "%name" view

Tensors that several layers share are declared first, others where they are used. The order of declarations
means nothing; a graph that was read has its tensors by name.
"""

from collections.abc import Callable, Iterator, Sequence

from .graph import Graph, Operator, Output, Role, State, Tensor
from .mesh import Exchange, ExchangeKind
from .text_folding import fold_lines, unfold
from .text_lexer import Line, broken, mesh_axes_text, shown
from .text_names import quoted, tensor_ref
from .text_operators import operator_text, read_operator
from .text_tensors import FEW_VALUES, constant_text, made_by, read_constant, read_tensor, tensor_text
from .text_views import read_view, view_text

INDENT = "  "
_ROLES = frozenset(role.value for role in Role)
_EXCHANGES = {kind.value: kind for kind in ExchangeKind}


def graph_text(graph: Graph) -> str:
    """`graph` as text; `read_graph` gives it back."""
    return "\n".join([*graph_lines(graph), *constant_lines(graph)]) + "\n"


def read_graph(text: str) -> Graph:
    """The graph that a text describes. Raises BadInput (`text_broken`)."""
    reader = GraphReader()
    for line in lines_of(text):
        if not reader.accept(line):
            raise line.refusal("a line of a graph")
    return reader.graph()


def lines_of(text: str) -> Iterator[Line]:
    """Lines that mean something, repetitions written out."""
    for number, content in unfold(text.splitlines()):
        if content and not content.startswith("#"):
            yield Line(content, number)


def graph_lines(graph: Graph, brief: bool = False) -> list[str]:
    """All but large constants, repeated layers folded. brief: without the nodes that operators came from,
    and without weights whose values are not few; that cannot be read back."""
    reads = f" reads {', '.join(map(tensor_ref, graph.inputs))}" if graph.inputs else ""
    lines = fold_lines(list(_content(graph, brief)), numbers=False)
    return [f"graph {quoted(graph.name)}{reads}", *(INDENT + line for line in lines)]


def constant_lines(graph: Graph) -> list[str]:
    """Values of large constants, by name."""
    lines = (constant_text(graph.tensors[name]) for name in sorted(graph.tensors))
    return [line for line in lines if line is not None]


def _content(graph: Graph, brief: bool) -> Iterator[str]:
    declared = _Declared(graph, brief)
    yield from declared.lines(declared.shared)
    exchanges = _Placed(graph)
    for operator in graph.operators:
        for exchange in exchanges.before(operator):
            yield from declared.lines((exchange.source, exchange.target))
            yield _exchange_text(exchange)
        yield from declared.lines(_named(operator))
        yield operator_text(operator, brief)
    for exchange in exchanges.left():
        yield _exchange_text(exchange)
    yield from declared.lines(sorted(graph.tensors))
    for state in graph.states:
        past, present = quoted(state.past), quoted(state.present)
        yield f"cache {past} -> {present} in {tensor_ref(state.tensor)} axis {state.axis}"
    for output in graph.outputs:
        yield f"output {quoted(output.name)} = {tensor_ref(output.tensor)}{view_text(output.view)}"


def _named(operator: Operator) -> list[str]:
    return [operand.tensor for operand in operator.operands] + [result.tensor for result in operator.results]


def _exchange_text(exchange: Exchange) -> str:
    ends = f"{tensor_ref(exchange.source)} -> {tensor_ref(exchange.target)}"
    by = f" by {exchange.by}" if exchange.by else ""
    return f"{exchange.kind.value} {ends} {mesh_axes_text(exchange.axes)}{by}"


class _Declared:
    """Which tensors have a line so far, or need none."""

    def __init__(self, graph: Graph, brief: bool) -> None:
        self._tensors = graph.tensors
        first = _first_writers(graph.operators)
        self._done = {
            name
            for name, writer in first.items()
            if name in graph.tensors and _written_first(graph.tensors[name], writer)
        }
        if brief:
            self._done |= {name for name, tensor in graph.tensors.items() if _is_large_weight(tensor)}
        readers: dict[str, int] = {}
        for operator in graph.operators:
            for name in {operand.tensor for operand in operator.operands}:
                readers[name] = readers.get(name, 0) + 1
        self.shared = [
            name
            for name, tensor in sorted(graph.tensors.items())
            if tensor.role is Role.INPUT or (tensor.role is Role.WEIGHT and readers.get(name, 0) > 1)
        ]

    def lines(self, names: Sequence[str]) -> Iterator[str]:
        """Lines of those among `names` that have none yet."""
        for name in names:
            if name not in self._done and name in self._tensors:
                self._done.add(name)
                yield tensor_text(self._tensors[name])


def _first_writers(operators: Sequence[Operator]) -> dict[str, Operator]:
    first: dict[str, Operator] = {}
    for operator in operators:
        for result in operator.results:
            first.setdefault(result.tensor, operator)
    return first


def _written_first(tensor: Tensor, writer: Operator) -> bool:
    """Whether `tensor` is just what its first writer makes of it, and needs no line of its own."""
    return tensor.value is None and tensor == made_by(tensor.name, writer)


def _is_large_weight(tensor: Tensor) -> bool:
    return tensor.role is Role.WEIGHT and tensor.elements > FEW_VALUES


class _Placed:
    """The exchanges in their order, each before the first operator that names its target, if may be."""

    def __init__(self, graph: Graph) -> None:
        self._exchanges, self._next = graph.exchanges, 0
        self._targets = [exchange.target for exchange in graph.exchanges]

    def before(self, operator: Operator) -> Iterator[Exchange]:
        read = {operand.tensor for operand in operator.operands}
        waiting = [n for n in range(self._next, len(self._targets)) if self._targets[n] in read]
        if waiting:
            last = max(waiting) + 1
            yield from self._exchanges[self._next : last]
            self._next = last

    def left(self) -> tuple[Exchange, ...]:
        return self._exchanges[self._next :]


class GraphReader:
    """Takes lines of a graph one by one."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.operators: list[Operator] = []
        self._tensors: dict[str, Tensor] = {}
        self._inputs: tuple[str, ...] = ()
        self._outputs: list[Output] = []
        self._states: list[State] = []
        self._exchanges: list[Exchange] = []
        self._awaited: set[str] = set()

    def accept(self, line: Line) -> bool:
        """Takes a line if it is one of a graph; else leaves it as it is."""
        first = line.peek()
        if first.kind == "tensor" or first.text == "=":
            self.operators.append(read_operator(line))
        elif first.text in _ROLES:
            self._declare(line, *read_tensor(line))
        elif first.text in _EXCHANGES:
            self._exchanges.append(_read_exchange(line))
        elif (read := self._readers().get(first.text)) is not None:
            line.word("what the line is")
            read(line)
            line.end()
        else:
            return False
        return True

    def _readers(self) -> dict[str, Callable[[Line], None]]:
        return {
            "graph": self._read_head,
            "cache": self._read_cache,
            "output": self._read_output,
            "constant": self._read_constant,
        }

    def _declare(self, line: Line, tensor: Tensor, elsewhere: bool) -> None:
        if tensor.name in self._tensors:
            raise line.refusal("a tensor that is not yet declared", tensor.name)
        self._tensors[tensor.name] = tensor
        if elsewhere:
            self._awaited.add(tensor.name)

    def _read_head(self, line: Line) -> None:
        if self.name is not None:
            raise line.refusal("one graph")
        self.name = line.string()
        self._inputs = line.items(line.tensor) if line.accept("reads") else ()

    def _read_cache(self, line: Line) -> None:
        past = line.string()
        line.expect("->")
        present = line.string()
        line.expect("in")
        tensor = line.tensor()
        line.expect("axis")
        self._states.append(State(past, present, tensor, line.integer()))

    def _read_output(self, line: Line) -> None:
        name = line.string()
        line.expect("=")
        tensor = line.tensor()
        self._outputs.append(Output(name, tensor, read_view(line)))

    def _read_constant(self, line: Line) -> None:
        tensor = read_constant(line, self._tensors)
        self._tensors[tensor.name] = tensor
        self._awaited.discard(tensor.name)

    def graph(self) -> Graph:
        """The whole graph. Raises BadInput where a part of it was left out."""
        if self.name is None:
            raise broken('expected a line such as: graph "name", found none')
        if self._awaited:
            raise broken(f"expected a constant line for {shown(min(self._awaited))}, found none")
        tensors = self.tensors()
        return Graph(
            self.name,
            tensors,
            tuple(self.operators),
            self._inputs,
            tuple(self._outputs),
            tuple(self._states),
            tuple(self._exchanges),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, those that no line declares as their first writers make them; by name."""
        tensors = dict(self._tensors)
        for name, writer in _first_writers(self.operators).items():
            if name not in tensors and (made := made_by(name, writer)) is not None:
                tensors[name] = made
        return dict(sorted(tensors.items()))


def _read_exchange(line: Line) -> Exchange:
    kind, source = _EXCHANGES[line.word("an exchange")], line.tensor()
    line.expect("->")
    target, axes = line.tensor(), line.mesh_axes()
    by = line.integer() if line.accept("by") else 0
    line.end()
    return Exchange(source, target, kind, axes, by)
