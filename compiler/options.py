"""What a user asks of a plan, besides the model and the target."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from chiplan.ir import BadInput, Problem, Target

OBJECTIVES = ("throughput", "latency", "chips")

MOST_USERS = 1 << 20
MOST_MICROSECONDS = 1e12


@dataclass(frozen=True)
class Options:
    """What was asked for besides the model and the target.

    max_latency, max_interval: microseconds that a plan may not exceed. groups: chips of every stage's
    group, in order. pins: (ONNX node, factor) to split. wire: type of partial sums on links. host: figures
    include transfers from and to the host. stages: with `groups`, the stage of every operator of the
    prepared graph, ascending; None: as the solver likes. verify_each: run the
    verifier behind every pass.
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
    host: bool = False
    stages: tuple[int, ...] | None = None
    verify_each: bool = False

    def with_chips(self, chips: int) -> "Options":
        """The same with another limit of chips."""
        return replace(self, chips=chips)


def silent(_: str) -> None:
    """Progress that nobody watches."""


def check_options(options: Options, target: Target) -> None:
    """Refuse an objective, chip count, groups, limits, pins or user count that mean nothing on the target."""
    problems: list[Problem] = []
    if options.objective not in OBJECTIVES:
        message = f"--objective {options.objective}: expected one of {', '.join(OBJECTIVES)}"
        problems.append(Problem("unknown_objective", message))
    available = target.topology.chips
    if options.chips is not None and not 1 <= options.chips <= available:
        message = f"--chips {options.chips}: target {target.name} has {available}; choose 1 to {available}"
        problems.append(Problem("chips_out_of_range", message, needed=options.chips, available=available))
    problems += _wrong_groups(options, target)
    if options.host and not target.host.bytes_per_second:
        message = f"--host: target {target.name} has no [host]; give its latency_ns and bytes_per_second"
        problems.append(Problem("no_host_rule", message))
    problems += _wrong_limits(options)
    problems += _wrong_pins(options.pins)
    if not 1 <= options.users <= MOST_USERS:
        message = f"--users {options.users}: expected 1 to {MOST_USERS:,}"
        problems.append(Problem("users_out_of_range", message))
    if problems:
        raise BadInput(problems)


def _wrong_limits(options: Options) -> Iterator[Problem]:
    for name, limit in (("--max-latency", options.max_latency), ("--max-interval", options.max_interval)):
        if limit is not None and not (isfinite(limit) and 0 < limit <= MOST_MICROSECONDS):
            message = f"{name} {limit}: expected microseconds above 0, up to {MOST_MICROSECONDS:,.0f}"
            yield Problem("limit_out_of_range", message)


def _wrong_pins(pins: Sequence[tuple[str, str]]) -> Iterator[Problem]:
    """Two pins of one node that say different things."""
    first: dict[str, str] = {}
    for node, factor in pins:
        if first.setdefault(node, factor) != factor:
            message = f"--pin {node}={first[node]} and --pin {node}={factor} contradict each other; keep one"
            yield Problem("pins_contradict", message, node=node)


def _wrong_groups(options: Options, target: Target) -> Iterator[Problem]:
    """Why the groups asked for cannot be had on the chips allowed, if so."""
    if options.groups is None:
        return
    asked = "--groups" if options.stages is None else "the model file's annotations ask for groups of"
    text = f"{asked} {','.join(map(str, options.groups))}"
    allowed = min(options.chips or target.topology.chips, target.topology.chips)
    needed = sum(options.groups)
    if not options.groups or min(options.groups) < 1:
        yield Problem("wrong_groups", f"{text}: expected chip counts of 1 or more, one a stage")
    elif needed > allowed:
        limit = f"target {target.name} has" if options.chips is None else f"--chips {options.chips} allows"
        message = f"{text}: these are {needed} chips, and {limit} {allowed}; ask for fewer or smaller groups"
        yield Problem("groups_too_large", message, needed=needed, available=allowed)
