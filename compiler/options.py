"""What a user asks of a plan, besides the model and the target."""

from dataclasses import dataclass, replace

from chiplan.ir import BadInput, Problem, Target

OBJECTIVES = ("throughput", "latency", "chips")

_MOST_USERS = 1 << 20


@dataclass(frozen=True)
class Options:
    """What was asked for besides the model and the target.

    max_latency, max_interval: microseconds that a plan may not exceed. groups: chips of every stage's
    group, in order. pins: (ONNX node, factor) to split. wire: type of partial sums on links.
    """

    objective: str = "throughput"
    chips: int | None = None
    precision: str | None = None
    users: int = 1
    max_latency: float | None = None
    max_interval: float | None = None
    groups: tuple[int, ...] | None = None
    pins: tuple[tuple[str, str], ...] = ()
    wire: str | None = None

    def with_chips(self, chips: int) -> "Options":
        """The same with another limit of chips."""
        return replace(self, chips=chips)


def silent(_: str) -> None:
    """Progress that nobody watches."""


def check_options(options: Options, target: Target) -> None:
    """Refuse an objective, chip count or user count that means nothing on the target."""
    problems = []
    if options.objective not in OBJECTIVES:
        message = f"--objective {options.objective}: expected one of {', '.join(OBJECTIVES)}"
        problems.append(Problem("unknown_objective", message))
    available = target.topology.chips
    if options.chips is not None and not 1 <= options.chips <= available:
        message = f"--chips {options.chips}: target {target.name} has {available}; choose 1 to {available}"
        problems.append(Problem("chips_out_of_range", message, needed=options.chips, available=available))
    if not 1 <= options.users <= _MOST_USERS:
        message = f"--users {options.users}: expected 1 to {_MOST_USERS}"
        problems.append(Problem("users_out_of_range", message))
    if problems:
        raise BadInput(problems)
