"""Binds every symbolic dimension: what the user says, what the file fixes, then defaults by role.

The roles are unknowns next to the symbols, and every input axis with a role is an equation
between the two, so one solution of linear equations settles thirty names for one quantity.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from chiplan.ir import BadInput, Problem

from .import_assumptions import Default, assumption_lines, word_of
from .import_positions import PositionTable
from .import_roles import BATCH, CONTEXT, PAST, SEQUENCE, ModelInput, Roles
from .import_symbols import Conflict, Equation, Equations, Expression

DEFAULT_SEQUENCE = 128
DEFAULT_CONTEXT = 2048
LARGEST_DIMENSION = 2**31 - 1
"""What the tools around ONNX take for the extent of an axis; also the limit of a bound value."""
_UNKNOWN = {role: f"<{role}>" for role in (BATCH, SEQUENCE, CONTEXT, PAST)}
"""The symbol that stands for a role in the equations; no exporter writes such a name."""
_THE = ", the "


@dataclass(frozen=True)
class Request:
    """What the user asked for. A batch of 1 and None mean: by default."""

    batch: int
    sequence: int | None
    context: int | None
    bind: Mapping[str, int]


@dataclass(frozen=True)
class Bound:
    """`values` of the symbols; the roles' values (None: the model has no such axis)."""

    values: Mapping[str, int]
    batch: int
    sequence: int | None
    context: int | None
    assumptions: tuple[str, ...]


def bind_dimensions(
    inputs: Sequence[ModelInput], roles: Roles, table: PositionTable | None, request: Request
) -> Bound:
    """Raises BadInput with every unknown, contradictory, unbound or impossible dimension."""
    symbols = list(dict.fromkeys(s for entry in inputs for size in entry.dimensions for s in size.symbols))
    problems = [*_unknown_names(request, symbols), *_meaningless(request, roles)]
    if problems:
        raise BadInput(problems)
    equations = Equations()
    equations.add(_asked(request, symbols))
    equations.add(_of_axes(inputs, roles))
    assumed = _apply_defaults(equations, roles, table)
    problems = _contradictions(equations.conflicts)
    problems += [] if problems else _impossible(equations, inputs, table)
    problems += _unbound(equations, inputs)
    if problems:
        raise BadInput(problems)
    return _bound(equations, symbols, roles, assumed)


def _asked(request: Request, symbols: Sequence[str]) -> Iterator[Equation]:
    options = {BATCH: request.batch, SEQUENCE: request.sequence, CONTEXT: request.context}
    for name, value in request.bind.items():
        if name in symbols:
            yield Equation(Expression(-value, ((name, 1),)), f"--bind {name}={value}")
    for role, given in options.items():
        if given is not None and (role, given) != (BATCH, 1):
            yield Equation(Expression(-given, ((_UNKNOWN[role], 1),)), f"--{role} {given}")


def _of_axes(inputs: Sequence[ModelInput], roles: Roles) -> Iterator[Equation]:
    sizes = {entry.name: entry.dimensions for entry in inputs}
    if PAST in roles.values():
        total = ((_UNKNOWN[PAST], 1), (_UNKNOWN[SEQUENCE], 1), (_UNKNOWN[CONTEXT], -1))
        yield Equation(Expression(0, total), "context = cached tokens + sequence")
    for (name, axis), role in roles.items():
        size = sizes[name][axis]
        text = f"{size.constant} in the file" if not size.terms else "+".join(size.symbols)
        source = f"axis {axis} of input {name} ({text}){_THE}{word_of(role)}"
        yield Equation(size.minus(Expression(0, ((_UNKNOWN[role], 1),))), source)


def _apply_defaults(equations: Equations, roles: Roles, table: PositionTable | None) -> list[Default]:
    """Give a value to each role that is still open, most telling first; returns what was assumed."""
    used = set(roles.values())
    has_cache = PAST in used
    rows = table.rows if table is not None else None
    context, why = _smaller(DEFAULT_CONTEXT, table)
    defaults = [Default(BATCH, 1, "")]
    if has_cache:
        defaults += [Default(SEQUENCE, 1, "the model has cache inputs"), Default(CONTEXT, context, why)]
    else:
        sequence = min(DEFAULT_SEQUENCE, rows or DEFAULT_SEQUENCE)
        reason = f"its position table {table.name} has {rows} rows" if table and rows == sequence else ""
        defaults += [Default(SEQUENCE, sequence, reason)]
    assumed = []
    for default in defaults:
        unknown = _UNKNOWN[default.role]
        if (default.role in used or has_cache) and unknown not in equations.values:
            source = f"the default --{default.role} {default.value}"
            equations.add([Equation(Expression(-default.value, ((unknown, 1),)), source)])
            assumed.append(default)
    return assumed


def _smaller(default: int, table: PositionTable | None) -> tuple[int, str]:
    if table is None:
        return default, "no position table found"
    if table.rows < default:
        return table.rows, f"its position table {table.name} has {table.rows} rows"
    return default, f"its position table {table.name} has room for {table.rows}"


def _bound(equations: Equations, symbols: Sequence[str], roles: Roles, assumed: Sequence[Default]) -> Bound:
    values = {symbol: equations.values[symbol] for symbol in symbols}
    role_values = {role: equations.values.get(unknown) for role, unknown in _UNKNOWN.items()}
    lines = tuple(assumption_lines(assumed, _by_role(equations, symbols)))
    batch = role_values[BATCH]
    context = role_values[CONTEXT] if PAST in roles.values() else None
    return Bound(values, 1 if batch is None else batch, role_values[SEQUENCE], context, lines)


def _by_role(equations: Equations, symbols: Sequence[str]) -> dict[tuple[str, int], list[str]]:
    """The symbols that got their value from a role, by role and value."""
    roles = {word_of(role): role for role in _UNKNOWN}
    groups: dict[tuple[str, int], list[str]] = {}
    for symbol in symbols:
        word = equations.sources[symbol].rsplit(_THE, 1)[-1]
        if word in roles:
            groups.setdefault((roles[word], equations.values[symbol]), []).append(symbol)
    return groups


def check_limits(request: Request) -> None:
    """Refuse numbers that no axis can have, before anything is computed with them. Raises BadInput."""
    options = {
        f"--{BATCH}": request.batch,
        f"--{SEQUENCE}": request.sequence,
        f"--{CONTEXT}": request.context,
    }
    options |= {f"--bind {name}": value for name, value in request.bind.items()}
    problems = [
        Problem(
            "dimension_too_large",
            f"{option} is beyond {LARGEST_DIMENSION:,}, the most that a dimension can be; give less.",
            dimension=option.split(" ", 1)[-1].removeprefix("--"),
            available=LARGEST_DIMENSION,
        )
        for option, value in options.items()
        if value is not None and abs(value) > LARGEST_DIMENSION
    ]
    if problems:
        raise BadInput(problems)


def _unknown_names(request: Request, symbols: Sequence[str]) -> Iterator[Problem]:
    for name, value in request.bind.items():
        if name in symbols:
            continue
        close = get_close_matches(name, symbols, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has: {', '.join(symbols[:20]) or 'none'}."
        message = f"--bind {name}={value}: the model has no symbolic dimension {name}; {hint}"
        yield Problem("unknown_binding", message, dimension=name)


def _meaningless(request: Request, roles: Roles) -> Iterator[Problem]:
    used = set(roles.values())
    options = ((SEQUENCE, request.sequence, {SEQUENCE, CONTEXT}), (CONTEXT, request.context, {PAST}))
    for role, given, needs in options:
        if given is not None and not used & needs:
            lacking = "no cache inputs" if role == CONTEXT else "no input with a sequence axis"
            message = f"--{role} {given}: the model has {lacking}; leave the option out."
            yield Problem("unknown_binding", message, dimension=role)
    if request.batch != 1 and BATCH not in used:
        message = f"--batch {request.batch}: the model has no input with a batch axis; leave the option out."
        yield Problem("unknown_binding", message, dimension=BATCH)


def _contradictions(conflicts: Sequence[Conflict]) -> list[Problem]:
    """One problem a dimension and reason: a fixed sequence contradicts every input that has one."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for conflict in conflicts:
        symbols = conflict.equation.expression.symbols
        name = ", ".join(symbol.strip("<>") for symbol in symbols)
        groups.setdefault((name, conflict.reasons), []).append(conflict.equation.source)
    return [_contradiction(name, reasons, sources) for (name, reasons), sources in groups.items()]


def _contradiction(name: str, reasons: Sequence[str], sources: Sequence[str]) -> Problem:
    more = f" (and {len(sources) - 1} more)" if len(sources) > 1 else ""
    against = " and ".join(source for source in reasons if source != sources[0]) or "itself"
    message = (
        f"Dimension {name} has two values: {against} contradicts {sources[0]}{more}; "
        "bind it once, or leave one of the options out."
    )
    return Problem("contradictory_binding", message, dimension=name or None)


def _impossible(
    equations: Equations, inputs: Sequence[ModelInput], table: PositionTable | None
) -> Iterator[Problem]:
    values = {role: equations.values.get(unknown) for role, unknown in _UNKNOWN.items()}
    past, context, sequence = values[PAST], values[CONTEXT], values[SEQUENCE]
    if past is not None and past < 1:
        message = (
            f"Context {context} must be larger than sequence {sequence}: the model has cache inputs, and "
            f"they would hold {past} tokens; raise --context, or use an export without a cache."
        )
        needed = (sequence or 0) + 1
        yield Problem("zero_dimension", message, dimension=CONTEXT, needed=needed, available=context)
        return
    yield from _out_of_range(equations, inputs)
    length = context if past is not None else sequence
    if table is not None and length is not None and length > table.rows:
        role = CONTEXT if past is not None else SEQUENCE
        message = (
            f"{role.capitalize()} {length} is more than the {table.rows} positions of the table {table.name} "
            f"that node {table.node} (Gather) reads; use --{role} {table.rows} or less."
        )
        yield Problem("position_table_exceeded", message, table.node, "Gather", role, length, table.rows)


def _out_of_range(equations: Equations, inputs: Sequence[ModelInput]) -> Iterator[Problem]:
    for entry in inputs:
        for axis, size in enumerate(entry.dimensions):
            left = size.substitute(equations.values)
            name = ", ".join(size.symbols) or None
            what = f"Axis {axis} of input {entry.name} ({name or 'fixed in the file'}) is {left.constant}"
            if not left.terms and left.constant < 1:
                message = f"{what}; every dimension must be at least 1."
                yield Problem("zero_dimension", message, dimension=name)
            elif not left.terms and left.constant > LARGEST_DIMENSION:
                message = f"{what}, beyond {LARGEST_DIMENSION:,}, the most that a dimension can be."
                yield Problem("dimension_too_large", message, dimension=name, available=LARGEST_DIMENSION)


def _unbound(equations: Equations, inputs: Sequence[ModelInput]) -> Iterator[Problem]:
    seen: set[str] = set()
    for entry in inputs:
        for axis, size in enumerate(entry.dimensions):
            for symbol, _ in size.substitute(equations.values).terms:
                if symbol not in seen:
                    seen.add(symbol)
                    message = (
                        f"Dimension {symbol} (axis {axis} of input {entry.name}) has no value and no known "
                        f"role; give it one with --bind {symbol}=VALUE."
                    )
                    yield Problem("unbound_dimension", message, dimension=symbol)
