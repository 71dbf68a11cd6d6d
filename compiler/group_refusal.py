"""Why there is no plan of groups: too little SRAM, pins that nothing keeps, more stages than cuts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chiplan.ir import Infeasible, Problem

from .atoms import GraphAtoms
from .group_costs import ShapeCosts
from .memory_check import Shortage
from .pins import pin_names, pins_of
from .quantities import counted, size


@dataclass(frozen=True)
class GroupRefusal:
    """fewest: chips of the smallest plan without limits; None: no number will do. shapes: the groups that
    were tried. shortage: what is known of the model, the options and the chips."""

    fewest: int | None
    shapes: Sequence[ShapeCosts]
    atoms: GraphAtoms
    shortage: Shortage

    def too_small(self) -> Infeasible:
        """Weights and states do not fit into the groups that were asked for."""
        shortage, groups = self.shortage, self.shortage.options.groups
        usable = int(shortage.target.chip.usable_bytes)
        users = shortage.options.users
        needed = min(int(np.sum(s.resident + users * s.states)) * s.size for s in self.shapes)
        why = (
            f"{self._asked('does not hold', 'do not hold')} the model: weights and states take "
            f"{size(needed)} or more, a chip holds {size(usable)}."
        )
        chips = shortage.chips if groups is None else sum(groups)
        return shortage.refusal(why, self._cure(), needed, usable * chips, self.fewest)

    def pins_not_kept(self) -> Infeasible:
        """There would be a plan without pins."""
        pins = sorted(set(self._hopeless())) or sorted(self.shortage.options.pins)
        asked = ", ".join(f"{node}={factor}" for node, factor in pins)
        message = f"{self._asked('cannot keep', 'cannot keep')} --pin {asked}: "
        if all(shape.size == 1 for shape in self.shapes):
            message += "a single chip splits nothing; allow more --chips or larger --groups"
        elif self.fewest is not None:
            message += f"in groups that do, {counted(self.fewest, 'chip')} are needed"
        elif self.shortage.options.groups is not None:
            message += "none of these groups does; ask for others, or leave a pin out"
        else:
            message += "pins contradict each other on every group; leave one of them out"
        return Infeasible(Problem("pins_not_kept", message, smallest_chips=self.fewest))

    def _hopeless(self) -> Iterator[tuple[str, str]]:
        """Pins of operators that no shape can execute as pinned."""
        pins, operators = dict(self.shortage.options.pins), self.shortage.graph.operators
        for index in np.flatnonzero(np.all([shape.unable for shape in self.shapes], axis=0)):
            concerned = pins_of(operators[index], self.atoms.operators[index], pins)
            for name in pin_names(operators[index]):
                if pins.get(name) in concerned:
                    yield name, pins[name]

    def _asked(self, one: str, many: str) -> str:
        """What is there, with the verb for one or many."""
        shortage = self.shortage
        groups, target = shortage.options.groups, shortage.target.name
        if groups is None:
            return f"{counted(shortage.chips, 'chip')} of {target} {many if shortage.chips > 1 else one}"
        if len(groups) == 1:
            return f"a group of {counted(groups[0], 'chip')} of {target} {one}"
        return f"groups of {','.join(map(str, groups))} chips of {target} {many}"

    def _cure(self) -> str:
        if self.fewest is None:
            return "No number of chips fits"
        if self.shortage.options.groups is None:
            return self.shortage.fewest_words(self.fewest, ", in groups")
        least = counted(self.fewest, "chip")
        return f"Ask for more or larger groups: of these sizes, {least} in all are the fewest that fit"


def too_many_stages(shortage: Shortage, asked: int, most: int) -> Infeasible:
    """More stages are asked for than the operators can be cut into."""
    if shortage.options.stages is not None:
        message = (
            f"the annotations ask for {counted(asked, 'stage')}, and {asked - most} of them have nothing to "
            "execute but what every stage computes for itself; leave --use-annotations out"
        )
    else:
        message = (
            f"--groups asks for {counted(asked, 'stage')}, and {shortage.graph.name} can be cut into {most} "
            "at the most; ask for fewer"
        )
    return Infeasible(Problem("too_many_stages", message, needed=asked, available=most))
