"""How many users a model can have: one a resident state, so that a model without state has one."""

from chiplan.ir import BadInput, Problem

MOST_USERS = 2**20


def check_users(users: int, has_state: bool) -> None:
    """Raises BadInput: `users_out_of_range`, `users_without_state`."""
    if not 1 <= users <= MOST_USERS:
        message = f"the number of users is out of range: expected 1 to {MOST_USERS:,}"
        raise BadInput(Problem("users_out_of_range", message, available=MOST_USERS))
    if users > 1 and not has_state:
        message = (
            f"--users {users}: the model has no state (no KV cache) that a user could own, and a run of it "
            f"leaves nothing behind; leave the option out, or use --batch {users}."
        )
        raise BadInput(Problem("users_without_state", message, needed=users, available=1))
