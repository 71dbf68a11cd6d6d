"""What every single value would cost at best: exact min-marginals of a sharding problem.

Elimination leaves a tree of tables: that of a variable hands its least costs on to the table of the next
of its neighbours to be eliminated. Going back from the last variable to the first, every table learns
what all besides it cost, and so the least cost of the whole with each of its variable's values, without
eliminating once more for each.
"""

from collections.abc import Sequence

import numpy as np

from .sharding import ShardingProblem
from .sharding_elimination import NEVER, Step, eliminate_all


class Marginals:
    """least[variable]: int64[values], the least total cost with each value; `NEVER` and more where there is
    no consistent one."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._place = {step.variable: place for place, step in enumerate(steps)}
        self._parents = [min((self._place[v] for v in step.scope), default=-1) for step in steps]
        self._beliefs: list[np.ndarray] = [step.total for step in steps]
        for place in reversed(range(len(steps))):
            self._beliefs[place] = self._belief(place)
        self.least = {
            step.variable: belief.min(axis=tuple(range(len(step.scope))))
            for step, belief in zip(steps, self._beliefs, strict=True)
        }

    def _belief(self, place: int) -> np.ndarray:
        """The least cost of the whole with every entry of a table."""
        step, parent = self._steps[place], self._parents[place]
        if parent < 0:
            return step.total
        above = self._steps[parent]
        axes = [*above.scope, above.variable]
        others = tuple(d for d, variable in enumerate(axes) if variable not in step.scope)
        whole = self._beliefs[parent].min(axis=others)
        # What remains are the scope's variables, in the order of the table above.
        remaining = [variable for variable in axes if variable in step.scope]
        whole = whole.transpose([remaining.index(variable) for variable in step.scope])
        own = step.total.min(axis=-1)
        beyond = np.where(own < NEVER, whole - own, 0)
        belief: np.ndarray = np.minimum(step.total + beyond[..., None], NEVER)
        return belief

    def best_with(self, variable: int, value: int) -> tuple[int, ...]:
        """The values of least cost among those with `value`; of equal ones the first found."""
        chosen = {variable: value}
        place = self._place[variable]
        while place >= 0:
            self._complete(chosen, place, self._beliefs[place])
            place = self._parents[place]
        for place in reversed(range(len(self._steps))):
            self._complete(chosen, place, self._steps[place].total)
        return tuple(chosen[number] for number in range(len(chosen)))

    def _complete(self, chosen: dict[int, int], place: int, table: np.ndarray) -> None:
        """Give all variables of a table without a value the best that goes with the others."""
        step = self._steps[place]
        axes = [*step.scope, step.variable]
        free = [variable for variable in axes if variable not in chosen]
        if free:
            part = table[tuple(chosen.get(variable, slice(None)) for variable in axes)]
            best = np.unravel_index(int(part.argmin()), part.shape)
            chosen |= dict(zip(free, map(int, best), strict=True))


def find_marginals(problem: ShardingProblem, costs: Sequence[np.ndarray]) -> Marginals | None:
    """None where no values are consistent, or where a table would grow too large; `costs` and what they
    may be as for `eliminate`."""
    steps = eliminate_all(problem, costs)
    return None if steps is None else Marginals(steps)
