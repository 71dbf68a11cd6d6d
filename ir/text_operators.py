"""Operators in the text form, one line each.

    operator = [ result { "," result } ] "=" unit dtype [ body ]
               [ "for" factor { "," factor } ] [ "split" ref "of" extent mesh { "," ... } ]
               "@name" [ "from" [ "@node" { "," "@node" } ] ]
    result   = "%name" "[" [ index { "," index } ] "]"
               [ "own" mesh ] { "only" mesh "=" coordinate } [ "$" number ]

`%y[m, n] = matrix fp32 MatMul(%x[m, k], %w[k, n]) for m=4, n=8, k=16 sum @proj` reads: for all m and n,
y[m, n] is the sum over k of x[m, k] * w[k, n]. The dtype is that of the calls that say none. A result
without `$` stores the last call's value. Without `from`, the operator came from the ONNX node of its name.
"""

from dataclasses import replace

from .graph import Operator, Result, Unit
from .mesh import Split
from .nest import Factor
from .text_bodies import body_text, read_body
from .text_factors import FactorNames, factor_text, read_factor
from .text_lexer import Line, mesh_axes_text
from .text_names import operator_ref, tensor_ref
from .text_tensors import read_dtype
from .types import DType

_UNITS = {unit.value: unit for unit in Unit}


def operator_text(operator: Operator, brief: bool = False) -> str:
    """The line of an operator. brief: without its nodes."""
    names = FactorNames(operator.factors)
    usual = operator.body[0].dtype if operator.body else DType.FP32
    last = len(operator.body) - 1
    results = ", ".join(_result_text(result, names, last) for result in operator.results)
    parts = [results, "=", operator.unit.value, usual.value]
    if operator.body or operator.operands:
        parts.append(body_text(operator, names, usual))
    if operator.factors:
        parts.append(f"for {', '.join(map(factor_text, operator.factors))}")
    if operator.splits:
        parts.append(f"split {', '.join(_split_text(split, names) for split in operator.splits)}")
    parts.append(operator_ref(operator.name))
    if operator.nodes != (operator.name,) and not brief:
        parts.append(f"from {', '.join(map(operator_ref, operator.nodes))}".rstrip())
    return " ".join(part for part in parts if part)


def _result_text(result: Result, names: FactorNames, last: int) -> str:
    parts = [f"{tensor_ref(result.tensor)}{names.indices(result.axes, result.offsets)}"]
    if result.own:
        parts.append(f"own{mesh_axes_text(result.own)}")
    parts += [f"only{mesh_axes_text((axis,))}={coordinate}" for axis, coordinate in result.only]
    if result.value != last:
        parts.append(f"${result.value}")
    return " ".join(parts)


def _split_text(split: Split, names: FactorNames) -> str:
    return f"{names.ref(split.factor)} of {split.extent}{mesh_axes_text(split.axes)}"


def read_operator(line: Line) -> Operator:
    """The operator of a line."""
    factors, behind = _read_factors(line)
    names = FactorNames(factors)
    results = () if line.peek().text == "=" else line.items(lambda: _read_result(line, names))
    line.expect("=")
    if line.peek().text not in _UNITS:
        raise line.refusal(f"one of the units {', '.join(_UNITS)}")
    unit, usual = _UNITS[line.word("a unit")], read_dtype(line)
    has_body = line.peek().text not in ("for", "split") and line.peek().kind != "at"
    operands, body = read_body(line, names, usual) if has_body else ([], ())
    if line.accept("for"):
        line.move(behind)
    splits = line.items(lambda: _read_split(line, names)) if line.accept("split") else ()
    name = line.at()
    nodes: tuple[str, ...] = (name,)
    if line.accept("from"):
        nodes = line.items(line.at) if line.peek().kind == "at" else ()
    line.end()
    whole = tuple(
        replace(result, value=len(body) - 1 if value is None else value) for result, value in results
    )
    return Operator(name, unit, factors, tuple(operands), whole, body, nodes, splits)


def _read_factors(line: Line) -> tuple[tuple[Factor, ...], int]:
    """The factors, and where the line goes on behind them; the cursor stays, for what stands before them
    refers to them."""
    here = line.position
    if not line.skip_to("for"):
        return (), here
    factors = line.items(lambda: read_factor(line))
    behind = line.position
    line.move(here)
    return factors, behind


def _read_result(line: Line, names: FactorNames) -> tuple[Result, int | None]:
    """A result, and the instruction that it says it stores."""
    tensor = line.tensor()
    indices = line.bracketed(lambda: names.read_index(line))
    axes, offsets = tuple(axis for axis, _ in indices), tuple(offset for _, offset in indices)
    own = line.mesh_axes() if line.accept("own") else ()
    only = []
    while line.accept("only"):
        axes_named = line.mesh_axes()
        line.expect("=")
        only += [(axis, line.integer()) for axis in axes_named[:1]]
    value = line.integer() if line.accept("$") else None
    return Result(tensor, axes, offsets, 0, own, tuple(only)), value


def _read_split(line: Line, names: FactorNames) -> Split:
    factor = names.read(line)
    line.expect("of")
    extent = line.integer()
    return Split(factor, line.mesh_axes(), extent)
