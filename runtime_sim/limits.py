"""How large a table the simulator makes: a plan of a few rows can ask for more than any machine has.

Plans that chiplan writes stay far below; docs/untrusted-input.md lists the limits.
"""

from chiplan.ir import BadInput, Problem

MOST_ENTRIES = 2**27
"""Rows of one table that is made of pairs or of repetitions."""
MOST_STEPS = 2**33
"""Entries that one rule compares, over all its turns."""


def check_entries(what: str, entries: int, limit: int = MOST_ENTRIES) -> None:
    """Raises BadInput (`plan_too_large`) before a table of more than `limit` entries is made."""
    if entries > limit:
        message = (
            f"to check this plan, {what} would take {entries:,} entries, and at most {limit:,} are made. "
            "Compile it again with fewer chips, users or micro-batches in flight."
        )
        raise BadInput(Problem("plan_too_large", message, needed=entries, available=limit))
