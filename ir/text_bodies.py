"""The scalar operations of an operator in the text form.

    body    = [ "with" operand { "," operand } ":" ] call { ";" call }
    call    = opcode [ ":" dtype ] [ "<" fields ">" ] "(" [ argument { "," argument } ] ")"
    argument= operand | "&" number | "$" number | call
    operand = "%name" view "[" [ index { "," index } ] "]"

Calls count from 0 in the order in which they end, so an inner call counts before its outer one: `$n` is
the value of call n. Operands count in the order in which they are named: `&n` is operand n once more.
`with` names them beforehand, where the order of the calls is another.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from .graph import Attribute, Instruction, Operand, Operator
from .text_factors import FactorNames
from .text_lexer import Line
from .text_names import quoted, tensor_ref
from .text_tensors import read_dtype
from .text_values import fields_text, read_field
from .text_views import read_view, view_text
from .types import DType

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./]*")


class _OutOfOrder(Exception):
    """Operands are not named in their order."""


def body_text(operator: Operator, names: FactorNames, usual: DType) -> str:
    """Operands and instructions; instructions of the type `usual` do not say theirs."""
    for inner in (_straight(operator), frozenset[int]()):
        try:
            return _Writer(operator, names, usual, inner).text(0)
        except _OutOfOrder:
            continue
    operands = ", ".join(operand_text(operand, names) for operand in operator.operands)
    return f"with {operands}: {_Writer(operator, names, usual, frozenset()).text(len(operator.operands))}"


def _straight(operator: Operator) -> frozenset[int]:
    """Instructions whose value the next one takes, once, and nobody else: they stand inside it."""
    used = [value for instruction in operator.body for value in instruction.inputs]
    used += [len(operator.operands) + result.value for result in operator.results]
    first = len(operator.operands)
    return frozenset(
        number
        for number, following in enumerate(operator.body[1:])
        if first + number in following.inputs and used.count(first + number) == 1
    )


def operand_text(operand: Operand, names: FactorNames) -> str:
    return f"{tensor_ref(operand.tensor)}{view_text(operand.view)}{names.indices(operand.axes)}"


@dataclass
class _Writer:
    operator: Operator
    names: FactorNames
    usual: DType
    inner: Collection[int]
    named: int = 0

    def text(self, named: int) -> str:
        """All calls, the first `named` operands known. Raises _OutOfOrder."""
        self.named = named
        outer = (number for number in range(len(self.operator.body)) if number not in self.inner)
        calls = "; ".join([self._call(number) for number in outer])
        if self.named != len(self.operator.operands):
            raise _OutOfOrder
        return calls

    def _call(self, number: int) -> str:
        instruction = self.operator.body[number]
        opcode = instruction.opcode if _is_plain(instruction.opcode) else quoted(instruction.opcode)
        dtype = "" if instruction.dtype is self.usual else f":{instruction.dtype.value}"
        attributes = _attributes_text(instruction.attributes)
        return f"{opcode}{dtype}{attributes}({', '.join(map(self._argument, instruction.inputs))})"

    def _argument(self, value: int) -> str:
        count = len(self.operator.operands)
        if value >= count:
            return self._call(value - count) if value - count in self.inner else f"${value - count}"
        if value < self.named:
            return f"&{value}"
        if value > self.named:
            raise _OutOfOrder
        self.named += 1
        return operand_text(self.operator.operands[value], self.names)


def _is_plain(opcode: str) -> bool:
    return _WORD.fullmatch(opcode) is not None and opcode not in ("with", "for", "split")


def _attributes_text(attributes: tuple[tuple[str, Attribute], ...]) -> str:
    if not attributes:
        return ""
    # A name may come twice in what no dict could hold, so each is a field of its own.
    return f"<{', '.join(fields_text({name: value}) for name, value in attributes)}>"


class _Call(NamedTuple):
    """An instruction as it stands: an input is (whether the value of a call, its number)."""

    opcode: str
    inputs: tuple[tuple[bool, int], ...]
    dtype: DType
    attributes: tuple[tuple[str, Attribute], ...]


class _Reader:
    """The operands and the calls of a body, in the order in which they are named and end."""

    def __init__(self, line: Line, names: FactorNames, usual: DType) -> None:
        self._line, self._names, self._usual = line, names, usual
        self.operands: list[Operand] = []
        self._calls: list[_Call] = []

    def read(self) -> tuple[Instruction, ...]:
        if self._line.accept("with"):
            self._line.items(self._operand)
            self._line.expect(":")
        self._call()
        while self._line.accept(";"):
            self._call()
        # Where "$n" counts from is known when all operands are.
        first = len(self.operands)
        return tuple(
            Instruction(
                call.opcode,
                tuple(number + first if called else number for called, number in call.inputs),
                call.dtype,
                call.attributes,
            )
            for call in self._calls
        )

    def _call(self) -> tuple[bool, int]:
        line = self._line
        opcode = line.string() if line.peek().kind == "text" else line.word("an operation")
        dtype = read_dtype(line) if line.accept(":") else self._usual
        attributes = line.bracketed(self._attribute, "<", ">") if line.peek().text == "<" else ()
        inputs = line.bracketed(self._argument, "(", ")")
        self._calls.append(_Call(opcode, inputs, dtype, attributes))
        return True, len(self._calls) - 1

    def _attribute(self) -> tuple[str, Attribute]:
        name, value = read_field(self._line)
        if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
            return name, tuple(value)
        if not isinstance(value, int | float | str):
            raise self._line.refusal("a number, a text, or numbers in brackets as attribute", str(value))
        return name, value

    def _argument(self) -> tuple[bool, int]:
        if self._line.accept("$"):
            return True, self._line.integer()
        if self._line.accept("&"):
            return False, self._line.integer()
        return self._operand() if self._line.peek().kind == "tensor" else self._call()

    def _operand(self) -> tuple[bool, int]:
        tensor, view = self._line.tensor(), read_view(self._line)
        indices = self._line.bracketed(lambda: self._names.read_index(self._line))
        if any(offset for _, offset in indices):
            raise self._line.refusal("indices without offset; a view says where an operand begins", tensor)
        self.operands.append(Operand(tensor, view, tuple(factor for factor, _ in indices)))
        return False, len(self.operands) - 1


def read_body(line: Line, names: FactorNames, usual: DType) -> tuple[list[Operand], tuple[Instruction, ...]]:
    """Operands and instructions of the body at the cursor."""
    reader = _Reader(line, names, usual)
    body = reader.read()
    return reader.operands, body
