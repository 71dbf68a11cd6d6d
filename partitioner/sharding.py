"""Sharding as plain data: variables with costs a value, and links that say which values go together.

A variable is what an operator splits, how a tensor is held and converted, or how a weight lies in the
chips; its values are the choices. Two operators meet only through the tensors between them, so every link
joins two variables, and the graph of links is nearly a chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Variable:
    """One decision. cycles, nbytes, rank: int64[values]: what each value costs. Cycles are minimised, then
    bytes, then rank (how unusual a choice is); equal values are taken in order."""

    name: str
    cycles: np.ndarray
    nbytes: np.ndarray
    rank: np.ndarray

    @property
    def values(self) -> int:
        return len(self.cycles)


@dataclass(frozen=True)
class Link:
    """Values of two variables that go together: bool[values of `first`, values of `second`]."""

    first: int
    second: int
    allowed: np.ndarray


@dataclass(frozen=True)
class ShardingProblem:
    """capacity: bytes that the chosen values may take together; None for any. price: cycles that a MiB is
    worth, besides. within: which block of a model it is about, in words."""

    name: str
    variables: tuple[Variable, ...]
    links: tuple[Link, ...]
    capacity: int | None = None
    price: int = 0
    within: str = ""

    def titled(self, objective: str) -> str:
        """What a certificate of this objective calls the problem."""
        return f"sharding{self.within}: {objective} of {self.name}"

    def priced_cycles(self, variable: Variable) -> np.ndarray:
        """What is minimised first: int64[values]."""
        priced: np.ndarray = variable.cycles + (variable.nbytes * self.price >> 20)
        return priced

    def totals(self, chosen: Sequence[int]) -> tuple[int, int, int]:
        """Cycles, bytes and rank of a value a variable."""
        pairs = list(zip(self.variables, chosen, strict=True))
        cycles = sum(int(variable.cycles[value]) for variable, value in pairs)
        nbytes = sum(int(variable.nbytes[value]) for variable, value in pairs)
        return cycles, nbytes, sum(int(variable.rank[value]) for variable, value in pairs)

    def cost(self, chosen: Sequence[int]) -> int:
        """Priced cycles of a value a variable."""
        pairs = zip(self.variables, chosen, strict=True)
        return sum(int(self.priced_cycles(variable)[value]) for variable, value in pairs)

    def is_consistent(self, chosen: Sequence[int]) -> bool:
        """Whether every link allows the chosen values."""
        return all(bool(link.allowed[chosen[link.first], chosen[link.second]]) for link in self.links)

    def restricted(self, index: int, values: Sequence[int]) -> "ShardingProblem":
        """The same with only some `values` of one variable, in the order given."""
        kept = np.asarray(values, dtype=np.int64)
        old = self.variables[index]
        variable = Variable(old.name, old.cycles[kept], old.nbytes[kept], old.rank[kept])
        links = tuple(_restricted_link(link, index, kept) for link in self.links)
        variables = (*self.variables[:index], variable, *self.variables[index + 1 :])
        return replace(self, variables=variables, links=links)


def _restricted_link(link: Link, index: int, kept: np.ndarray) -> Link:
    if link.first == index:
        return replace(link, allowed=link.allowed[kept])
    return replace(link, allowed=link.allowed[:, kept]) if link.second == index else link
