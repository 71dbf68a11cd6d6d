"""Are addresses right? One sweep over two turns of the circle; it shares no code with what finds them."""

from bisect import bisect, insort
from collections.abc import Sequence

from .allocation_problem import AllocationProblem


def allocation_fault(problem: AllocationProblem, addresses: Sequence[int]) -> str | None:
    """What is wrong with the address of each buffer, or None.

    Every lifetime is taken twice, one period apart: two that meet on the circle meet in one of them.
    """
    if len(addresses) != len(problem.sizes):
        return f"{len(addresses)} addresses for {len(problem.sizes)} buffers"
    events: list[tuple[int, bool, int, int, int]] = []
    for buffer, address in enumerate(addresses):
        end = address + int(problem.sizes[buffer])
        if address < 0 or end > problem.capacity or address % problem.alignment:
            return f"buffer {buffer} lies at {address}..{end} of {problem.capacity} bytes"
        birth, length = int(problem.births[buffer]) % problem.period, int(problem.lengths[buffer])
        turns = [birth, birth + problem.period]
        if problem.always[buffer]:
            turns, length = [0], 3 * problem.period
        for start in turns:
            events += [(start, True, buffer, address, end), (start + length, False, buffer, address, end)]
    held: list[tuple[int, int, int]] = []
    # Of one cycle the deaths come first: lifetimes are half-open.
    for cycle, born, buffer, address, end in sorted(events):
        if not born:
            held.remove((address, end, buffer))
            continue
        place = bisect(held, (address, end, buffer))
        for low, high, other in held[max(0, place - 1) : place + 1]:
            if low < end and address < high:
                return f"buffers {other} and {buffer} share bytes in cycle {cycle}"
        insort(held, (address, end, buffer))
    return None
