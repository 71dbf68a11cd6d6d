"""How far two arrays are apart: as a fraction of the largest value that should be there."""

from collections.abc import Mapping

import numpy as np

_SMALLEST_SCALE = 1e-6


def largest(array: np.ndarray) -> float:
    """Largest finite magnitude, at least 1e-6."""
    finite = array[np.isfinite(array)].astype(np.float64)
    return float(np.abs(finite).max(initial=_SMALLEST_SCALE))


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference as a fraction of the largest finite |wanted|; infinite where one is not a number
    and the other is, or where the shapes differ."""
    if found.shape != wanted.shape:
        return float("inf")
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    with np.errstate(all="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
    if not np.isfinite(difference).all():
        return float("inf")
    return float(difference.max()) / largest(b)


def worst_output(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """The output with the largest error among those that both sides have."""
    errors = [(relative_error(found[name], wanted[name]), name) for name in sorted(wanted) if name in found]
    return max(errors, default=(float("inf"), ""))
