"""Everything that chiplan refuses, and the exit code that each refusal has.

A refusal is data: the command line prints it as one line for people or as one object under
`--json`. `code` is a stable name that scripts may rely on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from .memory_peak import MemoryPeak
from .printable import printable

MOST_PROBLEMS = 1000
"""Problems of one refusal: more help nobody, and a file may have a million."""


class ExitCode(IntEnum):
    """What a verb's exit status means."""

    DONE = 0
    CHECK_FAILED = 1
    BAD_INPUT = 2
    INFEASIBLE = 3
    INCOMPARABLE = 4
    BUG = 70


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what was expected, what came, and the cure, in `message`."""

    code: str
    message: str
    node: str | None = None
    operator: str | None = None
    dimension: str | None = None
    needed: int | None = None
    available: int | None = None
    smallest_chips: int | None = None
    memory: MemoryPeak | None = None
    """Of a refusal about memory: the fullest chip and cycle, and what is alive there."""
    cures: tuple[str, ...] = ()
    """Each a thing to change, in words; also in `message`."""

    def __post_init__(self) -> None:
        # Messages quote files that anybody may have made.
        object.__setattr__(self, "message", printable(self.message))


class ChiplanError(Exception):
    """A refusal. Carries every problem found, not only the first, up to MOST_PROBLEMS."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        found = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.problems = found[:MOST_PROBLEMS]
        super().__init__("\n".join(problem.message for problem in self.problems))


class BadInput(ChiplanError):
    """The model, the target, the plan file or an option cannot be used."""

    exit_code = ExitCode.BAD_INPUT


class Infeasible(ChiplanError):
    """What was asked does not fit; the problem says by how much and what would fit."""

    exit_code = ExitCode.INFEASIBLE


class Incomparable(ChiplanError):
    """Two things were compared that do not belong together (a plan and another model)."""

    exit_code = ExitCode.INCOMPARABLE


class InternalFault(ChiplanError):
    """chiplan made a plan that its own simulator refuses: a bug, never the user's fault."""

    exit_code = ExitCode.BUG
