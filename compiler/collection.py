"""Python's search for reference cycles, paused while a model is planned.

Planning makes hundreds of thousands of small objects that live until the plan is written and hardly a
cycle among them; looking through all of them again and again takes a fifth of the time.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Inside, and in functions that this decorates, cycles are not searched for. May be nested."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
