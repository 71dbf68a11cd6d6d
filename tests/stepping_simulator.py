"""A second simulator, by brute force: every cycle of a small plan, one after the other.

In each cycle every instance runs one tile at most and loads one block at most, every link carries one flit,
every byte of SRAM belongs to one tensor of one micro-batch, and what is read, sent or given to the host is
there. Several micro-batches run as the plan lets them start, so many that whatever two of them can do to
each other happens. Slow, and meant to be obviously right: `runtime_sim` must agree with it.

What is there is decided here, element by element; whether it has the right value is for numerics.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from math import ceil, lcm

import numpy as np

from chiplan.ir import BadInput, Output, Plan, Role, apply_view, assemble

from .stepping_plan import Buffer, Script, Tile, Touch, Transfer, Wrong, expect

NEVER = 2**62
ARRIVE, READ_OUTPUTS, RELEASE, CLAIM, TAKE_INPUTS, BEGIN, BEGIN_LOAD = range(7)
"""Order of what happens at the start of one cycle."""


@dataclass(frozen=True)
class Stepped:
    """problem: the first thing that cannot be, None for a good plan. latency: cycle of micro-batch 0 in which
    its last output is whole."""

    problem: str | None
    latency: int | None = None
    micro_batches: int = 0


def step(plan: Plan, most: int = 40) -> Stepped:
    """Step the plan through steady state; `most` micro-batches at most."""
    try:
        script = Script(plan)
        count = min(most, micro_batches_needed(script))
        machine = Machine(script, start_cycles(plan, count))
        machine.run()
        steady = [n * plan.interval for n in range(count)]
        if machine.starts != steady:
            # The interval is what units and links bear, also where users wait for their states.
            Machine(script, steady, resources_alone=True).run()
    except (Wrong, BadInput, IndexError, ValueError) as wrong:
        return Stepped(str(wrong))
    return Stepped(None, machine.latency, count)


def start_cycles(plan: Plan, count: int) -> list[int]:
    """One micro-batch an interval; with states, no user's next one before its last one is done."""
    starts: list[int] = []
    for n in range(count):
        start = 0 if n == 0 else starts[n - 1] + plan.interval
        if plan.graph.states and n >= plan.users:
            start = max(start, starts[n - plan.users] + plan.latency)
        starts.append(start)
    return starts


def micro_batches_needed(script: Script) -> int:
    """All that are in flight together, once for every way in which two buffers' copies and the users turn."""
    plan = script.plan
    times = [0, plan.latency]
    times += [cycle for tile in script.tiles for cycle in (tile.start - tile.load, tile.ready)]
    times += [cycle for transfer in script.transfers for cycle in (transfer.start, transfer.arrival)]
    times += [cycle for buffer in script.buffers for cycle in (buffer.birth, buffer.death)]
    copies = sorted({buffer.copies for buffer in script.buffers} | {plan.users if plan.graph.states else 1})
    turn = max((lcm(a, b) for a, b in combinations(copies, 2)), default=copies[0])
    return ceil((max(times) - min(times)) / plan.interval) + turn


class Holding:
    """A tensor of one micro-batch in its bytes on a chip."""

    def __init__(self, buffer: Buffer, micro_batch: int | None) -> None:
        self.buffer, self.micro_batch = buffer, micro_batch
        self.since = np.full(buffer.tensor.elements, NEVER)
        """Cycle in which every element came."""

    @property
    def name(self) -> str:
        return f"{self.buffer.tensor.name} of micro-batch {self.micro_batch} on chip {self.buffer.chip}"


class Machine:
    """Chips, units, links and SRAM, and the cycle that it is."""

    def __init__(self, script: Script, starts: list[int], resources_alone: bool = False) -> None:
        self.script, self.plan, self.starts, self.alone = script, script.plan, starts, resources_alone
        self.latency: int | None = None
        self.owner: dict[int, dict[int, Holding]] = {}
        self.held: dict[tuple[int, str, int | None], Holding] = {}
        self.executing: dict[tuple[int, str, int], tuple[int, Tile]] = {}
        self.loading: dict[tuple[int, str, int], tuple[int, Tile]] = {}
        self.sums: dict[tuple[int, str, int], tuple[int, Tile, int]] = {}
        self.block_terms: dict[tuple[object, ...], int] = defaultdict(int)
        self.sending: list[tuple[int, Transfer]] = []
        self.writing: list[tuple[int, Tile]] = []
        self.agenda: dict[int, list[tuple[int, int, object, tuple[object, ...]]]] = defaultdict(list)
        self._enter_everything()

    def at(self, cycle: int, kind: int, action: object, *arguments: object) -> None:
        self.agenda[cycle].append((kind, len(self.agenda[cycle]), action, arguments))

    def _enter_everything(self) -> None:
        for n, start in enumerate(self.starts):
            for tile in self.script.tiles:
                if tile.load:
                    self.at(start + tile.start - tile.load, BEGIN_LOAD, self.begin_load, n, tile)
                self.at(start + tile.start, BEGIN, self.begin_tile, n, tile)
                self.at(start + tile.ready, ARRIVE, self.finish_tile, n, tile)
            for transfer in self.script.transfers:
                self.at(start + transfer.start, BEGIN, self.begin_transfer, n, transfer)
                self.at(start + transfer.arrival, ARRIVE, self.finish_transfer, n, transfer)
            if self.alone:
                continue
            for buffer in self.script.buffers:
                if buffer.tensor.role in (Role.INPUT, Role.VALUE):
                    self.at(start + buffer.birth, CLAIM, self.claim, buffer, n, n % buffer.copies)
                    if buffer.death != -1:
                        self.at(start + buffer.death, RELEASE, self.release, buffer, n)
            self.at(start, TAKE_INPUTS, self.take_inputs, n)
            self.at(start + self.plan.latency, READ_OUTPUTS, self.read_outputs, n)

    def run(self) -> None:
        if not self.alone:
            self._place_residents()
        first, last = min(self.agenda, default=0), max(self.agenda, default=0)
        for cycle in range(first, last + 1):
            self.cycle = cycle
            for _, _, action, arguments in sorted(self.agenda.get(cycle, ()), key=lambda entry: entry[:2]):
                action(*arguments)
            self._units_run()
            self._links_carry()

    # SRAM

    def claim(self, buffer: Buffer, micro_batch: int | None, copy: int) -> None:
        """Give a copy's bytes to a micro-batch; nobody else may have any of them."""
        holding = Holding(buffer, micro_batch)
        owners = self.owner.setdefault(buffer.chip, {})
        low = buffer.address + copy * buffer.stride
        for byte in range(low, low + buffer.nbytes):
            if byte in owners:
                raise Wrong(f"cycle {self.cycle}: byte {byte} of {holding.name} is {owners[byte].name}'s")
            owners[byte] = holding
        self.held[buffer.chip, buffer.tensor.name, micro_batch] = holding

    def release(self, buffer: Buffer, micro_batch: int) -> None:
        holding = self.held.pop((buffer.chip, buffer.tensor.name, micro_batch), None)
        if holding is None:
            return
        owners = self.owner[buffer.chip]
        for byte in range(buffer.address, buffer.address + buffer.copies * buffer.stride):
            if owners.get(byte) is holding:
                del owners[byte]

    def _place_residents(self) -> None:
        """Weights for ever, and the bytes of every user's states."""
        self.cycle = min(self.agenda, default=0)
        for buffer in self.script.buffers:
            if buffer.tensor.role is Role.WEIGHT:
                for copy in range(buffer.copies):
                    self.claim(buffer, None, copy)
                self.holding(buffer.chip, buffer.tensor.name, 0).since[:] = self.cycle
            if buffer.tensor.role is Role.STATE:
                for copy in range(buffer.copies):
                    self.claim(buffer, -1 - copy, copy)

    def holding(self, chip: int, tensor: str, micro_batch: int) -> Holding:
        """Where a chip has a micro-batch's tensor now."""
        role = self.plan.graph.tensors[tensor].role
        key = (chip, tensor, None if role is Role.WEIGHT else micro_batch)
        where = f"cycle {self.cycle}: chip {chip} has no bytes for {tensor} of micro-batch {micro_batch}"
        expect(key in self.held, where)
        return self.held[key]

    def has(self, who: str, chip: int, touch: Touch, micro_batch: int) -> None:
        if not self.alone:
            since = self.holding(chip, touch.tensor, micro_batch).since
            what = f"cycle {self.cycle}: {who} needs {touch.tensor} of micro-batch {micro_batch}"
            expect(bool((since[touch.elements] < NEVER).all()), f"{what}, and a part is not there")

    def put(self, chip: int, touch: Touch, micro_batch: int) -> None:
        if not self.alone:
            since = self.holding(chip, touch.tensor, micro_batch).since
            since[touch.elements] = np.minimum(since[touch.elements], self.cycle)

    # Tiles

    def begin_load(self, n: int, tile: Tile) -> None:
        key = (tile.chip, tile.unit, tile.instance)
        _, other = self.loading.get(key, (0, None))
        expect(other is None, f"cycle {self.cycle}: {tile.name} loads while {other and other.name} does")
        self.loading[key] = (n, tile)
        for touch in tile.loads:
            self.has(tile.name, tile.chip, touch, n)

    def begin_tile(self, n: int, tile: Tile) -> None:
        key = (tile.chip, tile.unit, tile.instance)
        # A block that is loaded waits for its own tile; another tile would take its place.
        waiting = self.loading.pop(key, None)
        expect(
            waiting == ((n, tile) if tile.load else None),
            f"cycle {self.cycle}: {tile.name} starts without its block, or during another's load",
        )
        _, other = self.executing.get(key, (0, None))
        expect(other is None, f"cycle {self.cycle}: {tile.name} starts while {other and other.name} runs")
        self.executing[key] = (n, tile)
        self.writing.append((n, tile))
        for touch in tile.reads if tile.load else (*tile.reads, *tile.loads):
            self.has(tile.name, tile.chip, touch, n)
        self._add_to_sum(key, n, tile)

    def _add_to_sum(self, key: tuple[int, str, int], n: int, tile: Tile) -> None:
        """The accumulators of an instance hold one sum until its last term is in."""
        batch, first, terms = self.sums.pop(key, (n, tile, 0))
        same = (batch, first.block) == (n, tile.block)
        expect(same or terms == 0, f"cycle {self.cycle}: {tile.name} interrupts the sum of {first.name}")
        terms = terms + 1 if same else 1
        if terms < tile.terms:
            self.sums[key] = (n, tile, terms)

    def finish_tile(self, n: int, tile: Tile) -> None:
        self.writing.remove((n, tile))
        if tile.block is not None:
            block = (n, *tile.block)
            self.block_terms[block] += 1
            if self.block_terms[block] < tile.terms:
                return
        for touch in tile.writes:
            self.put(tile.chip, touch, n)

    def _units_run(self) -> None:
        """What every instance does in this cycle, and the bytes that it needs while it does."""
        for key, (n, tile) in list(self.executing.items()):
            if self.starts[n] + tile.end == self.cycle + 1:
                del self.executing[key]
            for touch in () if self.alone else (*tile.reads, *tile.loads):
                self.holding(tile.chip, touch.tensor, n)
        for n, tile in self.loading.values():
            for touch in () if self.alone else tile.loads:
                self.holding(tile.chip, touch.tensor, n)
        for n, tile in () if self.alone else self.writing:
            for touch in tile.writes:
                self.holding(tile.chip, touch.tensor, n)

    # Transfers

    def begin_transfer(self, n: int, transfer: Transfer) -> None:
        self.sending.append((n, transfer))
        self.has(transfer.name, transfer.source, transfer.sent, n)

    def finish_transfer(self, n: int, transfer: Transfer) -> None:
        self.sending.remove((n, transfer))
        self.put(transfer.destination, transfer.brought, n)

    def _links_carry(self) -> None:
        """The flit that every link carries in this cycle, and the bytes at both ends."""
        carried: dict[int, str] = {}
        for n, transfer in self.sending:
            now = self.cycle - self.starts[n]
            for hop, link in enumerate(transfer.links):
                if transfer.enters(hop) <= now < transfer.leaves(hop):
                    flit = (now - transfer.enters(hop)) // transfer.cycles_per_flit
                    name = f"flit {flit} of {transfer.name} of micro-batch {n}"
                    expect(link not in carried, f"cycle {self.cycle}: link {link} carries {name} and "
                                                f"{carried.get(link)}")  # fmt: skip
                    carried[link] = name
            if self.alone:
                continue
            if now < transfer.leaves(0):
                self.holding(transfer.source, transfer.sent.tensor, n)
            if now >= transfer.first_arrival:
                self.holding(transfer.destination, transfer.brought.tensor, n)

    # The host

    def take_inputs(self, n: int) -> None:
        for buffer in self.script.buffers:
            tensor = buffer.tensor
            if tensor.role is Role.INPUT:
                given = self.script.given(tensor, buffer.chip)
                if given.any():
                    self.put(buffer.chip, Touch(tensor.name, np.flatnonzero(given)), n)
            if tensor.role is Role.STATE:
                self._hand_over(buffer, n)

    def _hand_over(self, buffer: Buffer, n: int) -> None:
        """A user's state goes on to his next micro-batch."""
        before = [key for key in self.held if key[:2] == (buffer.chip, buffer.tensor.name)]
        (key,) = [key for key in before if key[2] % buffer.copies == self._copy(buffer, n, key[2])]
        holding = self.held.pop(key)
        given = self.script.given(buffer.tensor, buffer.chip)
        holding.micro_batch, holding.since = n, np.where(given, self.cycle, NEVER)
        self.held[buffer.chip, buffer.tensor.name, n] = holding

    def _copy(self, buffer: Buffer, n: int, earlier: int) -> int:
        """What `earlier` leaves by the number of copies if it has the copy of micro-batch n."""
        return n % buffer.copies if earlier >= 0 else (-1 - n % buffer.copies) % buffer.copies

    def read_outputs(self, n: int) -> None:
        """The host finds every output, and every state, whole on one group."""
        finish = [self._find(output, n) for output in self._outputs()]
        if n == 0:
            self.latency = max(finish, default=0)

    def _outputs(self) -> list[Output]:
        return [*self.plan.graph.outputs, *(Output(s.present, s.tensor, ()) for s in self.plan.graph.states)]

    def _find(self, output: Output, n: int) -> int:
        """Cycle in which the first group had all of it that has it still, on all its chips."""
        tensor = self.plan.graph.tensors[output.tensor]
        if tensor.role is Role.WEIGHT:
            return 0
        cycles = []
        for chips in self.script.groups:
            holdings = [self.held.get((chip, output.tensor, n)) for chip in chips]
            if None in holdings:
                continue
            pieces = [holding.since.reshape(tensor.shape) for holding in holdings]
            if tensor.sharding is not None and output in self.plan.graph.outputs:
                pieces = [assemble(pieces, tensor.sharding, self.script.places[chips[0]].mesh)]
            cycles.append(max(int(apply_view(output.view, piece).max()) for piece in pieces))
        what = f"cycle {self.cycle}: no group has output {output.name} of micro-batch {n}"
        expect(min(cycles, default=NEVER) < NEVER, what)
        return min(cycles)
